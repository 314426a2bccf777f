//! The names that checkpoints give to their tensors, turned into the canonical ones.
//!
//! Canonical is the published `-PT` spelling with every linear weight `[out, in]`. Known besides it:
//! vision-language files as transformers converts them (older and newer spelling, experts stacked or
//! apart), transformers' own text files with stacked experts, Paddle files (prefix `ernie.`, fused
//! projections, `[in, out]`), and GGUF.

mod gguf;

use std::ops::Range;

pub(crate) use gguf::places;

use crate::config::Config;

/// A canonical parameter, or some rows of one, inside a tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Canonical name.
    pub(crate) name: String,
    /// First row of the canonical parameter that this part holds; only a table can have several parts.
    pub(crate) first_row: usize,
    /// Rows of the file's tensor, after transposing; all of them if `None`.
    pub(crate) rows: Option<Range<usize>>,
    /// Whether the file has it `[in, out]`.
    pub(crate) transposed: bool,
}

/// How the file at hand lays out its matrices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// All linear weights are `[in, out]`.
    paddle: bool,
    /// Square routers are `[in, out]`; others show it by their shape.
    original_vision: bool,
}

impl Layout {
    pub(crate) fn of<'a>(mut names: impl Iterator<Item = &'a str> + Clone) -> Self {
        Self {
            paddle: names.clone().any(|name| name.starts_with("ernie.")),
            original_vision: names.any(|name| name.ends_with(".mlp.gate.weight_1")),
        }
    }
}

/// Why a tensor that no parameter needs may be there.
pub(crate) fn known_extra(name: &str) -> Option<&'static str> {
    if name.contains("mtp_") {
        Some("head that predicts further tokens")
    } else if name.contains("rotary_emb.inv_freq") {
        Some("table that is computed")
    } else if name.contains("vision_model.head.") || name.contains("packing_position_embedding") {
        Some("part of the vision model that plays no role")
    } else if name == "lm_head.weight" || name == "output.weight" {
        Some("copy of the embedding, to which the head is tied")
    } else {
        None
    }
}

/// The layer and the number of the routed expert that a canonical parameter belongs to.
pub(crate) fn routed_expert(name: &str) -> Option<(&str, usize)> {
    let (layer, rest) = name.split_once(".mlp.experts.")?;
    Some((layer, rest.split('.').next()?.parse().ok()?))
}

/// Which part of the canonical parameter `name` decoding one text token reads, on average over tokens.
pub(crate) fn decode_share(name: &str, config: &Config) -> f64 {
    let is_seeing = name.starts_with("vision_model.") || name.starts_with("model.resampler_model.");
    let is_bank_of_vision = name.ends_with(".mlp.gate.weight_1");
    let is_looked_up = name == "model.embed_tokens.weight" && !config.text.tie_word_embeddings;
    let is_for_guesses = name.contains("mtp_");
    if is_seeing || is_bank_of_vision || is_looked_up || is_for_guesses {
        return 0.0;
    }
    let expert = routed_expert(name).map(|(_, expert)| expert);
    match (expert, &config.text.moe) {
        (Some(expert), Some(moe)) if expert < moe.text.n_experts => {
            (moe.top_k as f64 / moe.text.n_experts as f64).min(1.0)
        }
        (Some(_), _) => 0.0,
        (None, _) => 1.0,
    }
}

/// The parameters that the tensor `name` of `shape` holds.
pub(crate) fn parts(name: &str, shape: &[usize], layout: Layout, config: &Config) -> Vec<Part> {
    let name = match gguf::canonical(name) {
        Some(name) => name,
        None => prefixes(name),
    };
    let transposed = is_transposed(&name, shape, layout, config);
    let part = |name: String, rows: Option<Range<usize>>| Part { name, first_row: 0, rows, transposed };
    if let Some(fused) = fused(&name, config) {
        return fused.into_iter().map(|(name, rows)| part(name, Some(rows))).collect();
    }
    if let Some((layer, rest)) = split_layer(&name)
        && let Some(rest) = rest.strip_prefix("mlp.")
    {
        return mlp_parts(&format!("model.layers.{layer}.mlp"), rest, shape, transposed, config);
    }
    vec![part(name, None)]
}

/// `model.layers.3.rest` → `("3", "rest")`.
fn split_layer(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("model.layers.")?.split_once('.')
}

/// Brings all families under one root, and undoes transformers' names of the resampler's layers.
fn prefixes(name: &str) -> String {
    const RULES: [(&str, &str); 8] = [
        ("model.language_model.", "model."),
        ("language_model.model.", "model."),
        ("language_model.lm_head.", "lm_head."),
        ("model.vision_tower.", "vision_model."),
        ("model.vision_model.", "vision_model."),
        ("ernie.vision_model.", "vision_model."),
        ("ernie.", "model."),
        ("resampler_model.", "model.resampler_model."),
    ];
    let renamed = RULES.iter().find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
    let name = renamed.unwrap_or_else(|| name.to_owned());
    if !name.starts_with("model.resampler_model.") {
        return name;
    }
    name.replace("_linear.fc1.", "_linear.0.")
        .replace("_linear.fc2.", "_linear.2.")
        .replace("_linear.ln.", "_linear.3.")
}

fn is_transposed(name: &str, shape: &[usize], layout: Layout, config: &Config) -> bool {
    let [rows, cols] = *shape else { return false };
    if name.ends_with(".gate.weight") || name.ends_with(".gate.weight_1") {
        // A router: `[hidden, experts]` in Paddle and in original vision-language files.
        let hidden = config.text.hidden_size;
        return rows == hidden && (cols != hidden || layout.paddle || layout.original_vision);
    }
    if name.ends_with(".weight") && name.contains("mtp_linear_proj") {
        // Early exporters left it `[2 * hidden, hidden]`, as Paddle has it.
        return rows > cols;
    }
    layout.paddle && name.ends_with(".weight") && name != "model.embed_tokens.weight"
}

/// The projections inside a fused one: canonical name and rows.
fn fused(name: &str, config: &Config) -> Option<Vec<(String, Range<usize>)>> {
    let heads = config.text.heads();
    let (prefix, kind) = name.rsplit_once('.')?;
    if let Some(prefix) = prefix.strip_suffix("qkv_proj") {
        let (q, kv) = (heads.q_width(), heads.kv_width());
        let rows = [("q_proj", 0..q), ("k_proj", q..q + kv), ("v_proj", q + kv..q + 2 * kv)];
        return Some(rows.into_iter().map(|(part, rows)| (format!("{prefix}{part}.{kind}"), rows)).collect());
    }
    let prefix = prefix.strip_suffix("up_gate_proj")?;
    let inner = inner_width(prefix, config)?;
    let rows = [("gate_proj", 0..inner), ("up_proj", inner..2 * inner)];
    Some(rows.into_iter().map(|(part, rows)| (format!("{prefix}{part}.{kind}"), rows)).collect())
}

/// Width inside the feed-forward whose projections begin with `prefix`.
fn inner_width(prefix: &str, config: &Config) -> Option<usize> {
    let (_, rest) =
        split_layer(prefix).or_else(|| prefix.strip_prefix("model.mtp_block.")?.split_once('.'))?;
    let moe = || config.text.moe.as_ref();
    match rest.strip_prefix("mlp.")? {
        "" => Some(config.text.intermediate_size),
        "shared_experts." => Some(moe()?.shared_intermediate_size),
        expert => {
            let index: usize = expert.strip_prefix("experts.")?.strip_suffix('.')?.parse().ok()?;
            let moe = moe()?;
            let bank = if index < moe.text.n_experts { moe.text } else { moe.vision? };
            Some(bank.intermediate_size)
        }
    }
}

/// Everything below `{prefix} = model.layers.L.mlp`: routers, their biases, experts stacked or apart.
fn mlp_parts(prefix: &str, rest: &str, shape: &[usize], transposed: bool, config: &Config) -> Vec<Part> {
    const BIAS: &str = "moe_statics.e_score_correction_bias";
    let moe = config.text.moe.as_ref();
    let (bank, rest) = match (rest.strip_prefix("text_moe."), rest.strip_prefix("vision_moe.")) {
        (Some(rest), _) => (0, rest),
        (_, Some(rest)) => (1, rest),
        _ => (0, rest),
    };
    let first_expert = if bank == 0 { 0 } else { moe.map_or(0, |moe| moe.text.n_experts) };
    let part = |rest: &str, first_row: usize, rows: Option<Range<usize>>| Part {
        name: format!("{prefix}.{rest}"),
        first_row,
        rows,
        transposed,
    };
    if rest.strip_prefix("gate.").unwrap_or(rest) == BIAS {
        return vec![part(BIAS, bank, None)];
    }
    if rest == "gate.weight" && bank == 1 {
        return vec![part("gate.weight_1", 0, None)];
    }
    let Some(experts) = rest.strip_prefix("experts.") else { return vec![part(rest, 0, None)] };
    if let Some((index, projection)) = experts.split_once('.')
        && let Ok(index) = index.parse::<usize>()
    {
        return vec![part(&format!("experts.{}.{projection}", first_expert.saturating_add(index)), 0, None)];
    }
    // Stacked: `[n_experts, out, in]`, rows of one expert after those of the other.
    let [n, out, _] = *shape else { return vec![part(rest, 0, None)] };
    let mut parts = Vec::new();
    for expert in
        0..n.min(moe.map_or(0, |moe| moe.text.n_experts.max(moe.vision.map_or(0, |bank| bank.n_experts))))
    {
        let mut push = |projection: &str, rows: Range<usize>| {
            let name = format!("experts.{}.{projection}.weight", first_expert + expert);
            let start = expert * out;
            parts.push(part(&name, 0, Some(start + rows.start..start + rows.end)));
        };
        match experts.strip_suffix(".weight").unwrap_or(experts) {
            "gate_up_proj" => {
                push("gate_proj", 0..out / 2);
                push("up_proj", out / 2..out);
            }
            projection @ ("gate_proj" | "up_proj" | "down_proj") => push(projection, 0..out),
            _ => return vec![part(rest, 0, None)],
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_text_reads_the_chosen_experts_and_nothing_of_the_eye() {
        let json = include_str!("../../../tests/recorded/vl_image/config.json");
        let tied = Config::from_json(json).unwrap();
        let mut untied = tied.clone();
        untied.text.tie_word_embeddings = false;
        for (name, share) in [
            ("model.layers.0.mlp.up_proj.weight", 1.0),
            ("model.layers.1.mlp.gate.weight", 1.0),
            ("model.layers.1.mlp.gate.weight_1", 0.0),
            ("model.layers.1.mlp.shared_experts.up_proj.weight", 1.0),
            ("model.layers.1.mlp.experts.7.up_proj.weight", 3.0 / 8.0),
            ("model.layers.1.mlp.experts.8.up_proj.weight", 0.0),
            ("vision_model.blocks.0.attn.qkv.weight", 0.0),
            ("model.resampler_model.mlp.weight", 0.0),
            ("model.embed_tokens.weight", 1.0),
        ] {
            assert_eq!(decode_share(name, &tied), share, "{name}");
        }
        assert_eq!(decode_share("model.embed_tokens.weight", &untied), 0.0);
        assert_eq!(decode_share("lm_head.weight", &untied), 1.0);
    }
}
