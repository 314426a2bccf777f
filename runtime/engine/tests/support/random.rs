//! Damage that is the same in every run.

/// SplitMix64: the same damage in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    /// `file` with a few bits flipped, half of them in its first bytes, or cut short.
    pub(crate) fn damage(&mut self, file: &[u8], head: usize) -> Vec<u8> {
        let mut damaged = file.to_vec();
        if self.below(5) == 0 {
            damaged.truncate(self.below(file.len()));
            return damaged;
        }
        for _ in 0..1 + self.below(4) {
            let range = if self.below(2) == 0 { file.len().min(head) } else { file.len() };
            damaged[self.below(range)] ^= 1 << self.below(8);
        }
        damaged
    }
}
