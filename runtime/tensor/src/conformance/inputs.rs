//! Inputs that look random and are the same everywhere.

use half::{bf16, f16};

use crate::{Backend, DType, RawTensor, Result, SharedBytes};

/// A stream of numbers. Source: SplitMix64, Steele et al. 2014.
pub(super) struct Noise(u64);

impl Noise {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A value in `-1..1`.
    pub(super) fn value(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.value()).collect()
    }
}

/// Rows of random values in `-scale..scale`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    n: usize,
    pub(super) cols: usize,
    scale: f32,
    seed: u64,
    /// Values are rounded to multiples of this, so that many are equal; 0 leaves them.
    step: f32,
}

pub(super) fn rows(n: usize, cols: usize) -> Rows {
    Rows { n, cols, scale: 1.0, seed: 1, step: 0.0 }
}

impl Rows {
    pub(super) fn times(self, scale: f32) -> Self {
        Self { scale, ..self }
    }

    pub(super) fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    pub(super) fn rounded_to(self, step: f32) -> Self {
        Self { step, ..self }
    }

    pub(super) fn values(&self) -> Vec<f32> {
        let mut values = Noise::new(self.seed).values(self.n * self.cols);
        for v in &mut values {
            *v *= self.scale;
            if self.step > 0.0 {
                // Adding zero makes a negative zero positive.
                *v = (*v / self.step).round() * self.step + 0.0;
            }
        }
        values
    }

    pub(super) fn on<B: Backend>(&self, b: &B) -> Result<B::Tensor> {
        b.tensor(&self.values(), self.cols)
    }
}

/// A random parameter.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    dtype: DType,
    shape: Vec<usize>,
    seed: u64,
    /// Bytes in front of the values: files align nothing.
    offset: usize,
}

/// A matrix in any storage.
pub(super) fn matrix(dtype: DType, rows: usize, cols: usize) -> Stored {
    Stored { dtype, shape: vec![rows, cols], seed: 2, offset: 0 }
}

/// An `f32` vector.
pub(super) fn vector(len: usize) -> Stored {
    Stored { dtype: DType::F32, shape: vec![len], seed: 3, offset: 0 }
}

impl Stored {
    pub(super) fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    pub(super) fn offset(self, offset: usize) -> Self {
        Self { offset, ..self }
    }

    /// [`Case::rounded_bound`](super::Case::rounded_bound) of a product with rows of evenly spread values.
    ///
    /// Six times what is expected, because a product of few values may cancel where its noise does not.
    pub(super) fn rounded_bound(&self) -> Option<f64> {
        self.dtype.is_quantized().then_some(1e-4)
    }

    pub(super) fn raw(&self) -> Result<RawTensor> {
        let mut bytes = vec![0; self.offset];
        bytes.extend(self.bytes());
        let end = bytes.len();
        let bytes =
            SharedBytes::new(bytes).slice(self.offset..end).expect("the range ends where the bytes end");
        RawTensor::new("w", self.dtype, self.shape.clone(), bytes)
    }

    pub(super) fn on<B: Backend>(&self, b: &B) -> Result<B::Weight> {
        b.weight(self.raw()?)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut noise = Noise::new(self.seed);
        let n: usize = self.shape.iter().product();
        let block = self.dtype.block();
        // Where a block keeps its factors; all other bytes may be anything.
        let factors = match self.dtype {
            DType::F32 => return noise.values(n).into_iter().flat_map(f32::to_le_bytes).collect(),
            DType::BF16 => {
                return noise.values(n).into_iter().flat_map(|v| bf16::from_f32(v).to_le_bytes()).collect();
            }
            DType::F16 => {
                return noise.values(n).into_iter().flat_map(|v| f16::from_f32(v).to_le_bytes()).collect();
            }
            DType::Q8_0 | DType::Q4_0 | DType::Q5_0 => 0..2,
            DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => 0..4,
            DType::Q6_K => 208..210,
        };
        let mut bytes: Vec<u8> = (0..n / block.values * block.bytes).map(|_| noise.next() as u8).collect();
        for block in bytes.chunks_exact_mut(block.bytes) {
            for factor in block[factors.clone()].chunks_exact_mut(2) {
                factor.copy_from_slice(&f16::from_f32(0.05 * noise.value()).to_le_bytes());
            }
        }
        bytes
    }
}
