//! From the blocks of a file to planes of words.
//!
//! Eight values of a row are a *unit*, the least that a kernel decodes at once; rows are padded to whole units. The
//! plane of codes has, row after row:
//!
//! - `F32`, `F16`, `BF16`: the values, 8 or 4 words a unit;
//! - `Q8_0`: 2 words of signed bytes a unit;
//! - `Q4_*`: a word a unit, value `i` in bits `4i..4i + 4`;
//! - `Q5_*`: for 32 values, 4 such words and one with the fifth bit of value `i` in bit `i`;
//! - `Q6_K`: for 32 values, 4 such words and two with the upper two bits of value `i` in bits `2i..2i + 2`.
//!
//! The plane of factors has, for a row:
//!
//! - `Q8_0`, `Q4_0`, `Q5_0`: an `f16` for 32 values, padded to a word;
//! - `Q4_1`, `Q5_1`: the `f16`s of scale and minimum for 32 values;
//! - `Q4_K`, `Q5_K`: for 256 values the `f16`s of both, and four words with the bytes scale, minimum of 8 groups;
//! - `Q6_K`: for 256 values the `f16`, padded to a word, and four words with the 16 signed scales.
//!
//! The bytes are those of the file but for padding, 3 % at most where a row has 256 values.

use tensor::DType;

/// Values that are decoded at once.
pub(crate) const UNIT: usize = 8;

/// How a row lies in the two planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) dtype: DType,
    pub(crate) cols: usize,
    /// Words of codes a row.
    pub(crate) code_words: usize,
    /// Words of factors a row.
    pub(crate) factor_words: usize,
}

impl Layout {
    pub(crate) fn new(dtype: DType, cols: usize) -> Self {
        let (units, groups, supers) = (cols.div_ceil(UNIT), cols / 32, cols / 256);
        let (code_words, factor_words) = match dtype {
            DType::F32 => (8 * units, 0),
            DType::F16 | DType::BF16 => (4 * units, 0),
            DType::Q8_0 => (2 * units, groups.div_ceil(2)),
            DType::Q4_0 => (units, groups.div_ceil(2)),
            DType::Q4_1 => (units, groups),
            DType::Q5_0 => (5 * groups, groups.div_ceil(2)),
            DType::Q5_1 => (5 * groups, groups),
            DType::Q4_K => (units, 5 * supers),
            DType::Q5_K => (5 * groups, 5 * supers),
            DType::Q6_K => (6 * groups, 5 * supers),
            // The type is of another crate; a new one is first met here.
            other => unreachable!("{other} has no layout"),
        };
        Self { dtype, cols, code_words, factor_words }
    }

    /// Words of a row in both planes.
    pub(crate) fn row_words(&self) -> usize {
        self.code_words + self.factor_words
    }

    /// Codes and factors of `rows` rows of stored bytes.
    pub(crate) fn repack(&self, stored: &[u8], rows: usize) -> (Vec<u32>, Vec<u32>) {
        let mut codes = Vec::with_capacity(rows * self.code_words);
        let mut factors = Vec::with_capacity(rows * self.factor_words);
        if rows == 0 || stored.is_empty() {
            return (codes, factors);
        }
        for row in stored.chunks_exact(stored.len() / rows) {
            match self.dtype {
                DType::F32 | DType::F16 | DType::BF16 => {
                    codes.extend(row.chunks(4).map(word));
                }
                _ => {
                    let block = self.dtype.block().bytes;
                    let mut halves = Vec::new();
                    for block in row.chunks_exact(block) {
                        self.block(block, &mut codes, &mut factors, &mut halves);
                    }
                    factors.extend(halves.chunks(2).map(|pair| pair[0] | pair.get(1).map_or(0, |h| h << 16)));
                }
            }
            // Rows end with whole units, and those of floats need not.
            codes.resize(codes.len().next_multiple_of(self.code_words.max(1)), 0);
        }
        (codes, factors)
    }

    /// Takes one block apart. Factors that share a word with their neighbour's go to `halves`.
    fn block(&self, block: &[u8], codes: &mut Vec<u32>, factors: &mut Vec<u32>, halves: &mut Vec<u32>) {
        match self.dtype {
            DType::Q8_0 => {
                halves.push(half(block));
                codes.extend(block[2..].chunks(4).map(word));
            }
            DType::Q4_0 => {
                halves.push(half(block));
                push_low_then_high(codes, &block[2..]);
            }
            DType::Q4_1 => {
                factors.push(word(block));
                push_low_then_high(codes, &block[4..]);
            }
            DType::Q5_0 => {
                halves.push(half(block));
                push_low_then_high(codes, &block[6..]);
                codes.push(word(&block[2..]));
            }
            DType::Q5_1 => {
                factors.push(word(block));
                push_low_then_high(codes, &block[8..]);
                codes.push(word(&block[4..]));
            }
            DType::Q4_K => {
                factors.push(word(block));
                factors.extend(k_factors(&block[4..16]));
                for run in block[16..].chunks(32) {
                    push_low_then_high(codes, run);
                }
            }
            DType::Q5_K => {
                factors.push(word(block));
                factors.extend(k_factors(&block[4..16]));
                let high = &block[16..48];
                for (pair, run) in block[48..].chunks(32).enumerate() {
                    for (group, shift) in [0, 4].into_iter().enumerate() {
                        push_nibbles(codes, run, shift);
                        let bit = |i: usize| u32::from(high[i] >> (2 * pair + group) & 1) << i;
                        codes.push((0..32).map(bit).sum());
                    }
                }
            }
            DType::Q6_K => {
                factors.push(half(&block[208..]));
                factors.extend(block[192..208].chunks(4).map(word));
                for (low, high) in block[..128].chunks(64).zip(block[128..192].chunks(32)) {
                    for run in 0..4 {
                        push_nibbles(codes, &low[run % 2 * 32..][..32], run as u32 / 2 * 4);
                        for high in high.chunks(16) {
                            let pair = |(i, byte): (usize, &u8)| u32::from(byte >> (2 * run) & 3) << (2 * i);
                            codes.push(high.iter().enumerate().map(pair).sum());
                        }
                    }
                }
            }
            other => unreachable!("{other} has no blocks"),
        }
    }
}

/// The first four bytes, or what there is of them.
fn word(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).zip([0, 8, 16, 24]).map(|(&byte, shift)| u32::from(byte) << shift).sum()
}

fn half(bytes: &[u8]) -> u32 {
    word(&bytes[..2])
}

/// Words of the low halves of all bytes, then of the high ones.
fn push_low_then_high(codes: &mut Vec<u32>, bytes: &[u8]) {
    push_nibbles(codes, bytes, 0);
    push_nibbles(codes, bytes, 4);
}

/// Words of the halves of all bytes that begin at bit `shift`, eight a word.
fn push_nibbles(codes: &mut Vec<u32>, bytes: &[u8], shift: u32) {
    for bytes in bytes.as_chunks::<8>().0 {
        let word = bytes.iter().rev().fold(0, |word, byte| word << 4 | u32::from(byte >> shift & 15));
        codes.push(word);
    }
}

/// Scale and minimum of the eight groups of a K block, unpacked from six bits to a byte each.
fn k_factors(packed: &[u8]) -> [u32; 4] {
    let factors = |group: usize| -> u32 {
        let (scale, min) = match group {
            0..4 => (packed[group] & 63, packed[group + 4] & 63),
            _ => {
                let low = packed[group + 4];
                (low & 15 | packed[group - 4] >> 6 << 4, low >> 4 | packed[group] >> 6 << 4)
            }
        };
        u32::from(scale) | u32::from(min) << 8
    };
    std::array::from_fn(|i| factors(2 * i) | factors(2 * i + 1) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_about_as_small_as_the_file() {
        for dtype in DType::ALL {
            for cols in [256, 1024, 2560] {
                let (stored, planes) =
                    (dtype.n_bytes(&[cols]).unwrap(), Layout::new(dtype, cols).row_words() * 4);
                assert!(planes >= stored && planes * 100 <= stored * 103, "{dtype}: {planes} for {stored}");
            }
        }
    }

    #[test]
    fn a_row_fills_its_words() {
        for dtype in DType::ALL {
            let cols = 3 * dtype.block().values;
            let layout = Layout::new(dtype, cols);
            let stored = vec![0xa5; dtype.n_bytes(&[2, cols]).unwrap()];
            let (codes, factors) = layout.repack(&stored, 2);
            assert_eq!(
                (codes.len(), factors.len()),
                (2 * layout.code_words, 2 * layout.factor_words),
                "{dtype}"
            );
        }
    }
}
