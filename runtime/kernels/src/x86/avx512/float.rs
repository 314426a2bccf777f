//! Plain floats.

use std::arch::x86_64::*;

use tensor::DType;

use crate::float::{self, PARTS};
use crate::panel::LANES;

/// Products of rows of `x` with a row of plain floats, added as [`float::finish`] does.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
pub(crate) fn dots(dtype: DType, w: &[u8], x: &[&[f32]], dots: &mut [f32]) {
    match dtype {
        DType::F32 => dots_of::<F32>(w, x, dots),
        DType::F16 => dots_of::<F16>(w, x, dots),
        _ => dots_of::<BF16>(w, x, dots),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
fn dots_of<F: Float>(w: &[u8], x: &[&[f32]], dots: &mut [f32]) {
    let (x_tiles, x_rest) = x.as_chunks::<4>();
    let (dot_tiles, dot_rest) = dots.as_chunks_mut::<4>();
    for (x, dots) in x_tiles.iter().zip(dot_tiles) {
        dots_of_rows::<F, 4>(w, x, dots);
    }
    for (x, dot) in x_rest.iter().zip(dot_rest) {
        dots_of_rows::<F, 1>(w, &[*x], std::array::from_mut(dot));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
fn dots_of_rows<F: Float, const M: usize>(w: &[u8], x: &[&[f32]; M], dots: &mut [f32; M]) {
    const N: usize = PARTS / LANES;
    let size = F::DTYPE.block().bytes;
    let n_cols = w.len() / size;
    for x in x {
        assert_eq!(x.len(), n_cols, "columns of an activation row");
    }
    let end = n_cols / PARTS * PARTS;
    let mut sums = [[_mm512_setzero_ps(); N]; M];
    for start in (0..end).step_by(PARTS) {
        for part in 0..N {
            let at = start + part * LANES;
            // SAFETY: `at` and the rest of its vector are below `end`, and so in every row.
            unsafe {
                let w = F::load(w.as_ptr().add(at * size));
                for row in 0..M {
                    let x = _mm512_loadu_ps(x[row].as_ptr().add(at));
                    sums[row][part] = _mm512_add_ps(sums[row][part], _mm512_mul_ps(x, w));
                }
            }
        }
    }
    for row in 0..M {
        let mut parts = [0.0f32; PARTS];
        for (part, sum) in parts.as_chunks_mut::<LANES>().0.iter_mut().zip(sums[row]) {
            // SAFETY: the array has the size of a vector.
            unsafe { _mm512_storeu_ps(part.as_mut_ptr(), sum) }
        }
        dots[row] = float::finish(F::DTYPE, w, x[row], parts, end);
    }
}

/// Widens halves, each two bytes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
pub(crate) fn widen(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        DType::F16 => widen_of::<F16>(bytes, out),
        _ => widen_of::<BF16>(bytes, out),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
fn widen_of<F: Float>(bytes: &[u8], out: &mut [f32]) {
    let (vectors, rest) = bytes.as_chunks::<{ 2 * LANES }>();
    let (out, out_rest) = out.as_chunks_mut::<LANES>();
    for (bytes, out) in vectors.iter().zip(out) {
        // SAFETY: both have the size of a vector.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), F::load(bytes.as_ptr())) }
    }
    F::DTYPE.dequantize(rest, out_rest).expect("as many floats as halves");
}

/// A type of plain floats.
trait Float {
    const DTYPE: DType;

    /// Sixteen values as `f32`.
    ///
    /// # Safety
    /// They can be read from `at`, and the machine has the instructions of this file.
    unsafe fn load(at: *const u8) -> __m512;
}

struct F32;
struct F16;
struct BF16;

impl Float for F32 {
    const DTYPE: DType = DType::F32;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: the caller keeps it.
        unsafe { _mm512_loadu_ps(at.cast()) }
    }
}

impl Float for F16 {
    const DTYPE: DType = DType::F16;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: the caller keeps it.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }
}

impl Float for BF16 {
    const DTYPE: DType = DType::BF16;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: the caller keeps it. The type is the upper half of an `f32`.
        unsafe {
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()))))
        }
    }
}
