//! The names of GGUF files, in both directions; `docs/gguf.md` lists them.

/// A name in GGUF, and the canonical one.
type Names = (&'static str, &'static str);

/// Tensors that occur once, without `.weight` or `.bias`.
const WHOLE: [Names; 16] = [
    ("token_embd", "model.embed_tokens"),
    ("output_norm", "model.norm"),
    ("output", "lm_head"),
    ("mtp.0.emb_norm", "model.mtp_emb_norm.0"),
    ("mtp.0.hidden_norm", "model.mtp_hidden_norm.0"),
    ("mtp.0.proj", "model.mtp_linear_proj.0"),
    ("v.patch_embd", "vision_model.patch_embed.proj"),
    ("v.post_ln", "vision_model.ln"),
    ("mm.spatial.0", "model.resampler_model.spatial_linear.0"),
    ("mm.spatial.2", "model.resampler_model.spatial_linear.2"),
    ("mm.spatial.3", "model.resampler_model.spatial_linear.3"),
    ("mm.temporal.0", "model.resampler_model.temporal_linear.0"),
    ("mm.temporal.2", "model.resampler_model.temporal_linear.2"),
    ("mm.temporal.3", "model.resampler_model.temporal_linear.3"),
    ("mm.fc", "model.resampler_model.mlp"),
    ("mm.post_norm", "model.resampler_model.after_norm"),
];

/// Tensors of each block, by the prefixes of both sides.
const BLOCKS: [(&str, &str, &[Names]); 3] = [
    (
        "blk.",
        "model.layers.",
        &[
            ("attn_norm", "input_layernorm"),
            ("ffn_norm", "post_attention_layernorm"),
            ("attn_q", "self_attn.q_proj"),
            ("attn_k", "self_attn.k_proj"),
            ("attn_v", "self_attn.v_proj"),
            ("attn_output", "self_attn.o_proj"),
            ("ffn_gate", "mlp.gate_proj"),
            ("ffn_up", "mlp.up_proj"),
            ("ffn_down", "mlp.down_proj"),
            ("ffn_gate_inp", "mlp.gate"),
            ("ffn_gate_shexp", "mlp.shared_experts.gate_proj"),
            ("ffn_up_shexp", "mlp.shared_experts.up_proj"),
            ("ffn_down_shexp", "mlp.shared_experts.down_proj"),
            ("ffn_gate_exps", "mlp.experts.gate_proj"),
            ("ffn_up_exps", "mlp.experts.up_proj"),
            ("ffn_down_exps", "mlp.experts.down_proj"),
            ("ffn_gate_inp_vis", "mlp.vision_moe.gate"),
            ("ffn_gate_exps_vis", "mlp.vision_moe.experts.gate_proj"),
            ("ffn_up_exps_vis", "mlp.vision_moe.experts.up_proj"),
            ("ffn_down_exps_vis", "mlp.vision_moe.experts.down_proj"),
        ],
    ),
    (
        "mtp.",
        "model.mtp_block.",
        &[
            ("attn_norm", "input_layernorm"),
            ("ffn_norm", "post_attention_layernorm"),
            ("attn_q", "self_attn.q_proj"),
            ("attn_k", "self_attn.k_proj"),
            ("attn_v", "self_attn.v_proj"),
            ("attn_output", "self_attn.o_proj"),
            ("ffn_gate", "mlp.gate_proj"),
            ("ffn_up", "mlp.up_proj"),
            ("ffn_down", "mlp.down_proj"),
        ],
    ),
    (
        "v.blk.",
        "vision_model.blocks.",
        &[
            ("ln1", "norm1"),
            ("attn_qkv", "attn.qkv"),
            ("attn_out", "attn.proj"),
            ("ln2", "norm2"),
            ("ffn_up", "mlp.fc1"),
            ("ffn_down", "mlp.fc2"),
        ],
    ),
];

const CORRECTION_BIAS: &str = "moe_statics.e_score_correction_bias";

/// The canonical name behind one of GGUF. Stacked experts become `experts.{gate,up,down}_proj.weight`, and
/// what belongs to picture tokens is below `vision_moe.`.
pub(super) fn canonical(name: &str) -> Option<String> {
    if let Some((layer, rest)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        match rest.strip_suffix(".bias").unwrap_or(rest) {
            "exp_probs_b" => return Some(format!("model.layers.{layer}.mlp.{CORRECTION_BIAS}")),
            "exp_probs_b_vis" => {
                return Some(format!("model.layers.{layer}.mlp.vision_moe.{CORRECTION_BIAS}"));
            }
            _ => {}
        }
    }
    let (tensor, kind) = name.rsplit_once('.')?;
    if let Some((_, whole)) = WHOLE.iter().find(|(gguf, _)| *gguf == tensor) {
        return Some(format!("{whole}.{kind}"));
    }
    BLOCKS.iter().find_map(|(from, to, tensors)| {
        let (block, tensor) = tensor.strip_prefix(from)?.split_once('.')?;
        let (_, renamed) = tensors.iter().find(|(gguf, _)| *gguf == tensor)?;
        Some(format!("{to}{block}.{renamed}.{kind}"))
    })
}

/// Where a GGUF file keeps a canonical parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Name of the tensor.
    pub(crate) tensor: String,
    /// Which expert of a stack it is.
    pub(crate) expert: Option<usize>,
}

/// The places of the canonical parameter `name`, of which a table of correction biases has one for each of
/// its rows; `None` if GGUF has no name for it. `n_text_experts` come before those of pictures.
pub(crate) fn places(name: &str, n_text_experts: usize) -> Option<Vec<Place>> {
    if let Some(prefix) = name.strip_suffix(CORRECTION_BIAS) {
        let layer = prefix.strip_prefix("model.layers.")?.strip_suffix(".mlp.")?;
        let place = |bank| Place { tensor: format!("blk.{layer}.exp_probs_b{bank}.bias"), expert: None };
        return Some(vec![place(""), place("_vis")]);
    }
    let (name, expert) = match name.split_once(".mlp.experts.") {
        Some((layer, rest)) => {
            let (expert, projection) = rest.split_once('.')?;
            let expert: usize = expert.parse().ok()?;
            match expert.checked_sub(n_text_experts) {
                Some(expert) => (format!("{layer}.mlp.vision_moe.experts.{projection}"), Some(expert)),
                None => (format!("{layer}.mlp.experts.{projection}"), Some(expert)),
            }
        }
        None => (name.replace(".mlp.gate.weight_1", ".mlp.vision_moe.gate.weight"), None),
    };
    let (parameter, kind) = name.rsplit_once('.')?;
    let whole = WHOLE.iter().find(|(_, canonical)| *canonical == parameter);
    let tensor = whole.map(|(gguf, _)| format!("{gguf}.{kind}")).or_else(|| {
        BLOCKS.iter().find_map(|(to, from, tensors)| {
            let (block, parameter) = parameter.strip_prefix(from)?.split_once('.')?;
            let (renamed, _) = tensors.iter().find(|(_, canonical)| *canonical == parameter)?;
            Some(format!("{to}{block}.{renamed}.{kind}"))
        })
    })?;
    Some(vec![Place { tensor, expert }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_there_and_back() {
        for (gguf, parameter) in WHOLE {
            let name = format!("{gguf}.weight");
            assert_eq!(canonical(&name), Some(format!("{parameter}.weight")));
            let place = Place { tensor: name, expert: None };
            assert_eq!(places(&format!("{parameter}.weight"), 4), Some(vec![place]));
        }
        for (parameter, tensor, expert) in [
            ("model.layers.12.self_attn.v_proj.bias", "blk.12.attn_v.bias", None),
            ("model.layers.1.mlp.gate.weight", "blk.1.ffn_gate_inp.weight", None),
            ("model.layers.1.mlp.gate.weight_1", "blk.1.ffn_gate_inp_vis.weight", None),
            ("model.layers.1.mlp.experts.3.up_proj.weight", "blk.1.ffn_up_exps.weight", Some(3)),
            ("model.layers.1.mlp.experts.5.up_proj.weight", "blk.1.ffn_up_exps_vis.weight", Some(1)),
            ("model.mtp_block.0.mlp.up_proj.weight", "mtp.0.ffn_up.weight", None),
            ("vision_model.blocks.31.attn.qkv.bias", "v.blk.31.attn_qkv.bias", None),
        ] {
            let place = Place { tensor: tensor.to_owned(), expert };
            assert_eq!(places(parameter, 4), Some(vec![place]), "{parameter}");
        }
        assert_eq!(canonical("v.blk.31.attn_qkv.bias").unwrap(), "vision_model.blocks.31.attn.qkv.bias");
        assert_eq!(
            canonical("blk.1.exp_probs_b_vis.bias").unwrap(),
            "model.layers.1.mlp.vision_moe.moe_statics.e_score_correction_bias"
        );
        let biases = places("model.layers.2.mlp.moe_statics.e_score_correction_bias", 4).unwrap();
        assert_eq!(biases[1].tensor, "blk.2.exp_probs_b_vis.bias");
        assert_eq!((places("model.layers.0.gpas_gate", 4), canonical("rope_freqs.weight")), (None, None));
    }
}
