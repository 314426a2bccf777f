//! Which tensor gets which type.

use tensor::DType;
use tensor::weights::{GgufEntry, GgufLayout};

use crate::Result;

/// The version of the block formats, as ggml counts.
const QUANTIZATION_VERSION: u32 = 2;

/// A named mixture of types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// As files are labelled: `q4_k_m`.
    pub name: &'static str,
    /// Of most matrices.
    base: DType,
    /// Of the values and the projections back in those layers where errors weigh most.
    sensitive: DType,
    /// Of the embedding and the head.
    head: DType,
    /// `general.file_type`, as llama.cpp numbers the same mixtures.
    file_type: u32,
}

const fn plain(name: &'static str, base: DType, head: DType, file_type: u32) -> Preset {
    Preset { name, base, sensitive: base, head, file_type }
}

const fn mixed(name: &'static str, base: DType, file_type: u32) -> Preset {
    Preset { name, base, sensitive: DType::Q6_K, head: DType::Q6_K, file_type }
}

impl Preset {
    /// All of them, the nearest to the original first.
    pub const ALL: [Self; 11] = [
        plain("f32", DType::F32, DType::F32, 0),
        plain("bf16", DType::BF16, DType::BF16, 32),
        plain("f16", DType::F16, DType::F16, 1),
        plain("q8_0", DType::Q8_0, DType::Q8_0, 7),
        plain("q6_k", DType::Q6_K, DType::Q8_0, 18),
        mixed("q5_k_m", DType::Q5_K, 17),
        plain("q5_1", DType::Q5_1, DType::Q6_K, 9),
        plain("q5_0", DType::Q5_0, DType::Q6_K, 8),
        mixed("q4_k_m", DType::Q4_K, 15),
        plain("q4_1", DType::Q4_1, DType::Q6_K, 3),
        plain("q4_0", DType::Q4_0, DType::Q6_K, 2),
    ];

    /// The one called `name`, whatever its case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name.eq_ignore_ascii_case(name))
    }

    /// Adds what a file says about its types.
    pub(crate) fn put(&self, layout: &mut GgufLayout) -> Result<()> {
        layout.put("general.file_type", GgufEntry::U32(self.file_type))?;
        Ok(layout.put("general.quantization_version", GgufEntry::U32(QUANTIZATION_VERSION))?)
    }

    /// How this mixture stores the tensor `name` of a GGUF file that is `stored` in some way now.
    #[must_use]
    pub fn stored_as(&self, name: &str, shape: &[usize], n_layers: usize, stored: DType) -> DType {
        nearest(stored, fitting(self.dtype_of(name, shape, n_layers), shape))
    }

    /// The type for the tensor `name` of a GGUF file, if its rows allow it.
    pub(super) fn dtype_of(&self, name: &str, shape: &[usize], n_layers: usize) -> DType {
        let is_vector = shape.iter().filter(|&&dim| dim > 1).count() < 2;
        // The choice of experts must not change, and none of these weighs anything.
        if is_vector || name.contains(".ffn_gate_inp") || name.contains(".exp_probs_b") {
            return DType::F32;
        }
        if !self.base.is_quantized() {
            return self.base;
        }
        if name == "token_embd.weight" || name == "output.weight" {
            return self.head;
        }
        // The tower is small beside the language model, and what it gets wrong nobody can put right.
        if name.starts_with("v.") || name.starts_with("mm.") {
            return DType::Q8_0;
        }
        let layer = || name.strip_prefix("blk.")?.split('.').next()?.parse().ok();
        let is_sensitive = name.contains(".attn_v.") || name.contains(".ffn_down");
        match layer() {
            Some(layer) if is_sensitive && weighs_more(layer, n_layers) => self.sensitive,
            _ => self.base,
        }
    }
}

/// The first and the last eighth of the layers, and every third between: the mixture that llama.cpp calls M.
fn weighs_more(layer: usize, n_layers: usize) -> bool {
    let eighth = n_layers / 8;
    layer < eighth || layer >= 7 * n_layers / 8 || (layer - eighth) % 3 == 2
}

/// `wanted`, or the next better type whose blocks fill rows of this shape.
pub(super) fn fitting(wanted: DType, shape: &[usize]) -> DType {
    if wanted.n_bytes(shape).is_some() {
        return wanted;
    }
    match wanted {
        DType::Q4_K => fitting(DType::Q5_0, shape),
        DType::Q5_K => fitting(DType::Q5_1, shape),
        DType::Q6_K => fitting(DType::Q8_0, shape),
        _ => DType::F16,
    }
}

/// `wanted`, unless what is `stored` is no larger already.
pub(super) fn nearest(stored: DType, wanted: DType) -> DType {
    if is_no_larger(stored, wanted) { stored } else { wanted }
}

/// Whether blocks of `stored` take no more bytes than those of `wanted`. Encoding them once more would only lose.
fn is_no_larger(stored: DType, wanted: DType) -> bool {
    let (stored, wanted) = (stored.block(), wanted.block());
    stored.values > 1 && wanted.values > 1 && stored.bytes * wanted.values <= wanted.bytes * stored.values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(preset: &str, name: &str, shape: &[usize], expected: DType) {
        let preset = Preset::named(preset).unwrap();
        assert_eq!(fitting(preset.dtype_of(name, shape, 28), shape), expected, "{} {name}", preset.name);
    }

    #[test]
    fn what_chooses_experts_stays_exact() {
        for preset in Preset::ALL {
            for (name, shape) in [
                ("blk.3.ffn_gate_inp.weight", &[64, 2560][..]),
                ("blk.3.ffn_gate_inp_vis.weight", &[64, 2560]),
                ("blk.3.exp_probs_b.bias", &[64]),
                ("blk.3.attn_norm.weight", &[2560]),
                ("v.blk.3.attn_qkv.bias", &[3840]),
            ] {
                check(preset.name, name, shape, DType::F32);
            }
        }
    }

    #[test]
    fn mixtures_spend_bits_where_errors_weigh() {
        check("q4_k_m", "blk.0.attn_v.weight", &[512, 2560], DType::Q6_K);
        check("q4_k_m", "blk.4.attn_v.weight", &[512, 2560], DType::Q4_K);
        check("q4_k_m", "blk.27.ffn_down_exps.weight", &[64, 2560, 1536], DType::Q6_K);
        check("q4_k_m", "blk.27.ffn_up_exps.weight", &[64, 1536, 2560], DType::Q4_K);
        check("q4_0", "blk.0.attn_v.weight", &[512, 2560], DType::Q4_0);
        check("q4_0", "token_embd.weight", &[103_424, 1024], DType::Q6_K);
        check("q8_0", "output.weight", &[103_424, 1024], DType::Q8_0);
        check("q4_0", "v.blk.0.ffn_up.weight", &[5120, 1280], DType::Q8_0);
        check("bf16", "v.blk.0.ffn_up.weight", &[5120, 1280], DType::BF16);
    }

    #[test]
    fn rows_that_are_no_whole_blocks_get_a_better_type() {
        check("q4_k_m", "blk.4.ffn_up.weight", &[256, 96], DType::Q5_0);
        check("q5_k_m", "blk.4.ffn_up.weight", &[256, 96], DType::Q5_1);
        check("q6_k", "token_embd.weight", &[200, 96], DType::Q8_0);
        check("q4_k_m", "blk.4.ffn_up.weight", &[256, 48], DType::F16);
        check("q8_0", "v.patch_embd.weight", &[1280, 588], DType::F16);
    }

    #[test]
    fn blocks_are_not_encoded_again_to_become_larger() {
        assert!(is_no_larger(DType::Q4_1, DType::Q5_0) && is_no_larger(DType::Q4_0, DType::Q4_K));
        assert!(!is_no_larger(DType::Q5_0, DType::Q4_K));
        // Floats are asked for by those who want floats.
        assert!(!is_no_larger(DType::Q4_0, DType::F16) && !is_no_larger(DType::BF16, DType::Q8_0));
    }
}
