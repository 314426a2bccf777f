//! Bounds of everything that sizes an allocation or a loop, and what must fit together.

use std::ops::RangeInclusive;

use super::{ConfigError, TextConfig, VisionConfig};

/// Well above 300B (54 layers, 8192 wide, 64 experts), well below what could hurt.
pub(super) const LAYERS: RangeInclusive<usize> = 1..=1024;
pub(super) const WIDTH: RangeInclusive<usize> = 1..=1 << 18;
pub(super) const VOCAB: RangeInclusive<usize> = 1..=1 << 22;
pub(super) const HEADS: RangeInclusive<usize> = 1..=4096;
pub(super) const HEAD_DIM: RangeInclusive<usize> = 1..=4096;
pub(super) const EXPERTS: RangeInclusive<usize> = 1..=4096;
pub(super) const SHARED_EXPERTS: RangeInclusive<usize> = 0..=64;
pub(super) const POSITIONS: RangeInclusive<usize> = 1..=1 << 30;
pub(super) const PATCH: RangeInclusive<usize> = 1..=64;
pub(super) const CHANNELS: RangeInclusive<usize> = 1..=16;
pub(super) const MERGE: RangeInclusive<usize> = 1..=8;

impl TextConfig {
    /// Refuses sizes that contradict each other, whatever file they come from.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            let expected = format!("a divisor of the {} query heads", self.n_heads);
            return Err(ConfigError::value("num_key_value_heads", self.n_kv_heads, expected));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ConfigError::value("head_dim", self.head_dim, "even"));
        }
        let Some(moe) = &self.moe else { return Ok(()) };
        for bank in [Some(moe.text), moe.vision].into_iter().flatten() {
            if moe.top_k > bank.n_experts {
                let expected = format!("at most the {} experts", bank.n_experts);
                return Err(ConfigError::value("moe_k", moe.top_k, expected));
            }
        }
        Ok(())
    }
}

impl VisionConfig {
    /// As for the text.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        // Each head turns a quarter of its features by the row of a patch and a quarter by its column.
        if !self.hidden_size.is_multiple_of(self.n_heads * 4) {
            let expected = format!("a multiple of 4 × {} heads", self.n_heads);
            return Err(ConfigError::value("vision_config.hidden_size", self.hidden_size, expected));
        }
        Ok(())
    }
}
