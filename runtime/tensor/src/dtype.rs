//! Storage types of parameters, their exact conversion to `f32`, and the best conversion back.

use std::fmt;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

mod blocks;
mod encode;

/// How a parameter is stored. Variants are spelt as in GGUF.
#[expect(non_camel_case_types, reason = "the field's spelling")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// Brain float.
    BF16,
    /// 32 values: `f16` scale, 32 × i8.
    Q8_0,
    /// 32 values: `f16` scale, 32 × 4 bits, offset 8.
    Q4_0,
    /// 32 values: `f16` scale and minimum, 32 × 4 bits.
    Q4_1,
    /// 32 values: `f16` scale, 32 × 5 bits, offset 16.
    Q5_0,
    /// 32 values: `f16` scale and minimum, 32 × 5 bits.
    Q5_1,
    /// 256 values in 8 groups with 6-bit scales and minima, 4 bits each.
    Q4_K,
    /// 256 values in 8 groups with 6-bit scales and minima, 5 bits each.
    Q5_K,
    /// 256 values in 16 groups with 8-bit scales, 6 bits each.
    Q6_K,
}

/// Size of the unit a type is stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockShape {
    /// Values in one block; a row holds a whole number of blocks.
    pub values: usize,
    /// Bytes of one block.
    pub bytes: usize,
}

impl DType {
    /// All types.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
    ];

    /// Values and bytes of one block; plain floats are blocks of one.
    #[must_use]
    pub fn block(self) -> BlockShape {
        let (values, bytes) = match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q4_K => (256, 144),
            Self::Q5_K => (256, 176),
            Self::Q6_K => (256, 210),
        };
        BlockShape { values, bytes }
    }

    /// Whether values share scales in blocks.
    #[must_use]
    pub fn is_quantized(self) -> bool {
        self.block().values > 1
    }

    /// Bytes of a tensor of `shape`; `None` if its rows are no whole number of blocks or the size
    /// overflows.
    #[must_use]
    pub fn n_bytes(self, shape: &[usize]) -> Option<usize> {
        let block = self.block();
        let cols = shape.last().copied().unwrap_or(1);
        if cols % block.values != 0 {
            return None;
        }
        let values = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim))?;
        (values / block.values).checked_mul(block.bytes)
    }

    /// Converts stored bytes to `f32` exactly; `out` takes as many values as the bytes hold.
    ///
    /// # Errors
    /// If the bytes are not the whole blocks that fill `out`.
    pub fn dequantize(self, bytes: &[u8], out: &mut [f32]) -> Result<(), &'static str> {
        if self.n_bytes(&[out.len()]) != Some(bytes.len()) {
            return Err("does not fill the rows asked for");
        }
        match self {
            Self::F32 => {
                for (y, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                    *y = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                }
            }
            Self::F16 => f16_to_f32(bytes, out),
            Self::BF16 => {
                // The upper half of an f32. `half` looks for NaNs to quieten, which keeps the loop from
                // being vectorised.
                for (y, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *y = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
                }
            }
            quantized => blocks::dequantize(quantized, bytes, out),
        }
        Ok(())
    }

    /// Converts `values` to stored bytes that [`dequantize`](Self::dequantize) turns into values as near as
    /// the type allows: of the scales that a block can have, those of least squared error.
    ///
    /// - `importance`: how much the squared error of each value counts, for blocks that share scales.
    ///
    /// What is too large for a type becomes its largest finite value. Zeros stay zeros.
    ///
    /// # Errors
    /// If the values are no whole blocks or not what `out` takes, if a value is not finite, or if the
    /// importance is negative, not finite, or not one number a value.
    pub fn quantize(
        self,
        values: &[f32],
        out: &mut [u8],
        importance: Option<&[f32]>,
    ) -> Result<(), &'static str> {
        if self.n_bytes(&[values.len()]) != Some(out.len()) {
            return Err("does not fill the rows asked for");
        }
        if !values.iter().all(|x| x.is_finite()) {
            return Err("holds a value that is no finite number");
        }
        let is_weight = |x: &f32| x.is_finite() && *x >= 0.0;
        if importance.is_some_and(|weights| weights.len() != values.len() || !weights.iter().all(is_weight)) {
            return Err("has an importance that is not one positive number a value");
        }
        match self {
            Self::F32 => {
                for (b, x) in out.as_chunks_mut().0.iter_mut().zip(values) {
                    *b = x.to_le_bytes();
                }
            }
            Self::F16 => {
                for (b, &x) in out.as_chunks_mut().0.iter_mut().zip(values) {
                    *b = encode::nearest_f16(x).to_le_bytes();
                }
            }
            Self::BF16 => {
                for (b, &x) in out.as_chunks_mut().0.iter_mut().zip(values) {
                    let most = bf16::MAX.to_f32();
                    *b = bf16::from_f32(x.clamp(-most, most)).to_le_bytes();
                }
            }
            quantized => encode::quantize(quantized, values, out, importance),
        }
        Ok(())
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The `f16` factor of a block.
fn f16_scale(low: u8, high: u8) -> f32 {
    f16::from_le_bytes([low, high]).to_f32()
}

/// Converts runs through a small buffer, because `half` uses the processor's instruction on slices only.
fn f16_to_f32(bytes: &[u8], out: &mut [f32]) {
    const RUN: usize = 64;
    let mut halves = [f16::ZERO; RUN];
    for (y, bytes) in out.chunks_mut(RUN).zip(bytes.chunks(2 * RUN)) {
        let halves = &mut halves[..y.len()];
        for (half, b) in halves.iter_mut().zip(bytes.chunks_exact(2)) {
            *half = f16::from_le_bytes([b[0], b[1]]);
        }
        halves.convert_to_f32_slice(y);
    }
}
