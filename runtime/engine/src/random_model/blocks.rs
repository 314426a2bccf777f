//! Random values in stored form. Blocks of the common types are made of random bits, without any encoding.

use tensor::DType;

/// Numbers that look random; streams of different tensors and rows are independent.
pub(super) struct Random {
    state: u64,
}

/// SplitMix64. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    pub(super) fn new(seed: u64, tensor: u64, row: u64) -> Self {
        Self { state: mix(mix(mix(seed) ^ tensor) ^ row) }
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// Nearly normal, of deviation 1: four uniform numbers together.
    pub(super) fn normal(&mut self) -> f32 {
        let bits = self.bits();
        let sum: u64 = (0..4).map(|i| bits >> (16 * i) & 0xffff).sum();
        // A sum of four has the deviation √(4/12) of its range.
        (sum as f32 / 65_535.0 - 2.0) * 3f32.sqrt()
    }

    pub(super) fn shuffle(&mut self, values: &mut [f32]) {
        for i in (1..values.len()).rev() {
            values.swap(i, (self.bits() % (i as u64 + 1)) as usize);
        }
    }

    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.bits().to_le_bytes()[..chunk.len()]);
        }
    }

    /// Around 1, so that blocks differ.
    fn jitter(&mut self) -> f32 {
        0.9 + 0.2 * (self.bits() >> 40) as f32 / (1u32 << 24) as f32
    }

    fn sign(&mut self) -> f32 {
        if self.bits() >> 63 == 0 { 1.0 } else { -1.0 }
    }

    /// `n` values, whole blocks, of mean 0 and about the deviation `std`.
    pub(super) fn blocks(&mut self, dtype: DType, n: usize, std: f32) -> Vec<u8> {
        let mut bytes = vec![0; dtype.n_bytes(&[n]).expect("whole blocks")];
        let blocks = bytes.chunks_exact_mut(dtype.block().bytes);
        match dtype {
            // d · (q − 8): of deviation 4.64 d. Its mean is not 0, so that half of the scales are negative, or
            // else all rows would lean the same way.
            DType::Q4_0 => blocks.for_each(|block| {
                let scale = self.sign() * self.jitter() * std / 4.64;
                block[..2].copy_from_slice(&half(scale));
                self.fill(&mut block[2..]);
            }),
            // d · q: of deviation 73.9 d.
            DType::Q8_0 => blocks.for_each(|block| {
                let scale = self.jitter() * std / 73.9;
                block[..2].copy_from_slice(&half(scale));
                self.fill(&mut block[2..]);
                // No encoder writes -128.
                block[2..].iter_mut().filter(|code| **code == 0x80).for_each(|code| *code = 0);
            }),
            // d · s · q − dmin · m with dmin = 7.5 d and m = s, of deviation 4.61 d s; s is 32..63.
            DType::Q4_K => blocks.for_each(|block| {
                let scale = self.jitter() * std / (4.61 * 47.5);
                block[..2].copy_from_slice(&half(scale));
                block[2..4].copy_from_slice(&half(7.5 * scale));
                let scales: [u8; 8] = self.bits().to_le_bytes().map(|byte| 32 + byte % 32);
                for i in 0..4 {
                    let (low, high) = (scales[i], scales[i + 4]);
                    block[4 + i] = low | (high >> 4) << 6;
                    block[8 + i] = low | (high >> 4) << 6;
                    block[12 + i] = (high & 15) | (high & 15) << 4;
                }
                self.fill(&mut block[16..]);
            }),
            // d · s · (q − 32): of deviation 18.5 d s; s is ±64..±127.
            DType::Q6_K => blocks.for_each(|block| {
                self.fill(&mut block[..192]);
                for scale in &mut block[192..208] {
                    let bits = self.bits();
                    let size = 64 + (bits % 64) as i8;
                    *scale = (if bits >> 63 == 0 { size } else { -size }) as u8;
                }
                let scale = self.jitter() * std / (18.5 * 97.0);
                block[208..].copy_from_slice(&half(scale));
            }),
            _ => {
                let values: Vec<f32> = (0..n).map(|_| std * self.normal()).collect();
                dtype.quantize(&values, &mut bytes, None).expect("finite values in whole blocks");
            }
        }
        bytes
    }
}

fn half(value: f32) -> [u8; 2] {
    let mut bytes = [0; 2];
    DType::F16.quantize(&[value], &mut bytes, None).expect("one finite value");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_type_have_their_deviation() {
        for dtype in DType::ALL {
            let mut values = vec![0.0; 1 << 16];
            let bytes = Random::new(1, 2, 3).blocks(dtype, values.len(), 0.02);
            dtype.dequantize(&bytes, &mut values).unwrap();
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            let std = (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
            assert!(mean.abs() < 0.001 && (std - 0.02).abs() < 0.001, "{dtype}: {mean} ± {std}");
        }
    }
}
