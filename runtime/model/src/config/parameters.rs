//! How many numbers a model is made of.

use super::{Config, TextConfig, VisionConfig};

/// Published models and the numbers in them, as their shapes add up; without prediction heads and
/// without the copy of a tied head.
pub const PUBLISHED: [(&str, u64); 5] = [
    ("ERNIE-4.5-0.3B", 360_748_032),
    ("ERNIE-4.5-21B-A3B", 21_825_437_888),
    ("ERNIE-4.5-300B-A47B", 299_484_163_264),
    ("ERNIE-4.5-VL-28B-A3B", 29_399_294_336),
    ("ERNIE-4.5-VL-424B-A47B", 423_526_285_184),
];

impl Config {
    /// Parameters of the whole model, without a head that predicts further tokens.
    #[must_use]
    pub fn n_parameters(&self) -> u64 {
        let vision = self.vision.as_ref().map_or(0, |vision| vision.n_parameters(self.text.hidden_size));
        self.text.n_parameters() + vision
    }

    /// The published model that has exactly as many parameters.
    #[must_use]
    pub fn published_name(&self) -> Option<&'static str> {
        let n = self.n_parameters();
        PUBLISHED.iter().find(|(_, published)| *published == n).map(|(name, _)| *name)
    }
}

/// Parameters of a linear map.
fn linear(out: usize, input: usize, bias: bool) -> u64 {
    out as u64 * (input as u64 + u64::from(bias))
}

impl TextConfig {
    /// Parameters of the language model.
    #[must_use]
    pub fn n_parameters(&self) -> u64 {
        let (hidden, bias, heads) = (self.hidden_size, self.use_bias, self.heads());
        let mlp = |inner: usize, bias: bool| 2 * linear(inner, hidden, bias) + linear(hidden, inner, bias);
        let attention = linear(heads.q_width(), hidden, bias)
            + 2 * linear(heads.kv_width(), hidden, bias)
            + linear(hidden, heads.q_width(), bias);
        let norms = 2 * hidden as u64;
        let routed = self.moe.as_ref().map_or(0, |moe| {
            let banks = [Some(moe.text), moe.vision].into_iter().flatten().map(|bank| {
                let n = bank.n_experts as u64;
                n * (hidden as u64 + u64::from(moe.use_correction_bias) + mlp(bank.intermediate_size, false))
            });
            let shared = if moe.n_shared_experts > 0 { mlp(moe.shared_intermediate_size, bias) } else { 0 };
            banks.sum::<u64>() + shared
        });
        let ffn = |layer: usize| match &self.moe {
            Some(moe) if moe.layers[layer] => routed,
            _ => mlp(self.intermediate_size, bias),
        };
        let layers: u64 = (0..self.n_layers).map(|l| attention + norms + ffn(l) + u64::from(self.gpas)).sum();
        let head =
            if self.tie_word_embeddings { 0 } else { linear(self.vocab_size, hidden, self.lm_head_bias) };
        linear(self.vocab_size, hidden, false) + layers + hidden as u64 + head
    }
}

impl VisionConfig {
    /// Parameters of tower and resampler before a language model `text_hidden_size` wide.
    #[must_use]
    pub fn n_parameters(&self, text_hidden_size: usize) -> u64 {
        let d = self.hidden_size;
        let norm = |width: usize| 2 * width as u64;
        let block = linear(3 * d, d, true)
            + linear(d, d, true)
            + linear(self.intermediate_size, d, true)
            + linear(d, self.intermediate_size, true)
            + 2 * norm(d);
        let patch = self.in_channels * self.patch_size * self.patch_size;
        let tower = linear(d, patch, false) + self.depth as u64 * block + norm(d);
        let merged = d * self.spatial_merge_size * self.spatial_merge_size;
        let merge = |input: usize| linear(merged, input, true) + linear(merged, merged, true) + norm(merged);
        let resampler = merge(merged)
            + merge(merged * self.temporal_merge_size)
            + linear(text_hidden_size, merged, true)
            + text_hidden_size as u64;
        tower + resampler
    }
}
