//! Loops compiled for the widest vectors of the machine they run on.

use pulp::{Arch, Simd, WithSimd};

/// Runs `f` compiled for the widest vectors of this machine.
#[inline(always)]
pub(crate) fn vectorize<R>(f: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(f)
}

/// The dot product of two rows of one length.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "dot product of rows of different lengths");
    Arch::new().dispatch(Dot { a, b })
}

struct Dot<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl WithSimd for Dot<'_> {
    type Output = f32;

    /// Four accumulators hide the latency of the multiply-add.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (a, a_tail) = S::as_simd_f32s(self.a);
        let (b, b_tail) = S::as_simd_f32s(self.b);
        let mut sums = [simd.splat_f32s(0.0); 4];
        let (a_blocks, a_rest) = a.as_chunks::<4>();
        let (b_blocks, b_rest) = b.as_chunks::<4>();
        for (a, b) in a_blocks.iter().zip(b_blocks) {
            for i in 0..4 {
                sums[i] = simd.mul_add_e_f32s(a[i], b[i], sums[i]);
            }
        }
        for (i, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
            sums[i] = simd.mul_add_e_f32s(*a, *b, sums[i]);
        }
        let sum = simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]));
        let tail: f32 = a_tail.iter().zip(b_tail).map(|(a, b)| a * b).sum();
        simd.reduce_sum_f32s(sum) + tail
    }
}

/// The sum of `row` in sixteen interleaved parts, so that it vectorises and rounds less.
#[inline(always)]
pub(crate) fn sum(row: &[f32]) -> f32 {
    fold(row, 0.0, |a, b| a + b)
}

/// The largest value of `row`.
#[inline(always)]
pub(crate) fn max(row: &[f32]) -> f32 {
    fold(row, f32::NEG_INFINITY, |a, b| if a > b { a } else { b })
}

/// The sum of `f(x)` over a row, added as in [`sum`].
#[inline(always)]
pub(crate) fn sum_map(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    sum_zip(row, row, |x, _| f(x))
}

/// The sum of `f(x, y)` over two rows, added as in [`sum`].
#[inline(always)]
pub(crate) fn sum_zip(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; 16];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<16>(), y.as_chunks::<16>());
    for (x, y) in x.iter().zip(y) {
        for i in 0..16 {
            lanes[i] += f(x[i], y[i]);
        }
    }
    let rest: f32 = x_rest.iter().zip(y_rest).map(|(&x, &y)| f(x, y)).sum();
    lanes.iter().sum::<f32>() + rest
}

#[inline(always)]
fn fold(row: &[f32], start: f32, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; 16];
    let (chunks, rest) = row.as_chunks::<16>();
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane = f(*lane, *v);
        }
    }
    rest.iter().chain(&lanes).fold(start, |a, &b| f(a, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_sum_and_max_take_every_value_once() {
        for n in 0..200 {
            let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
            assert_eq!(dot(&a, &a), (0..n).map(|i| i * i).sum::<i32>() as f32);
            assert_eq!(sum(&a), (0..n).sum::<i32>() as f32);
            assert_eq!(max(&a), a.last().copied().unwrap_or(f32::NEG_INFINITY));
        }
    }
}
