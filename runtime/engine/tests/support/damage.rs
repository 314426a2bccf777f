//! Damage that is the same in every run.

use crate::random::Random;

impl Random {
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
