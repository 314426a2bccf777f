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
    let mut product = 0.0;
    dots(a, b, |_, dot| product = dot);
    product
}

/// Gives `f` the number of each row of `x` and its dot product with `w`, whatever the other rows are.
pub(crate) fn dots(x: &[f32], w: &[f32], f: impl FnMut(usize, f32)) {
    Arch::new().dispatch(Dots { x, w, f });
}

struct Dots<'a, F> {
    x: &'a [f32],
    w: &'a [f32],
    f: F,
}

impl<F: FnMut(usize, f32)> WithSimd for Dots<'_, F> {
    type Output = ();

    /// Three rows at a time share what is loaded of `w`, with as many sums as there are registers for.
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut rows = self.x.chunks_exact(self.w.len().max(1));
        let mut i = 0;
        let mut tell = |products: &[f32]| {
            for &product in products {
                (self.f)(i, product);
                i += 1;
            }
        };
        loop {
            match [rows.next(), rows.next(), rows.next()] {
                [Some(a), Some(b), Some(c)] => tell(&products(simd, [a, b, c], self.w)),
                [Some(a), Some(b), None] => return tell(&products(simd, [a, b], self.w)),
                [Some(a), ..] => return tell(&products(simd, [a], self.w)),
                _ => return,
            }
        }
    }
}

/// The dot product of each row with `w`. Four accumulators hide the latency of the multiply-add.
#[inline(always)]
fn products<S: Simd, const N: usize>(simd: S, rows: [&[f32]; N], w: &[f32]) -> [f32; N] {
    let rows = rows.map(|row| S::as_simd_f32s(&row[..w.len()]));
    let (w, w_tail) = S::as_simd_f32s(w);
    let mut sums = [[simd.splat_f32s(0.0); 4]; N];
    let (w_blocks, w_rest) = w.as_chunks::<4>();
    for (block, w) in w_blocks.iter().enumerate() {
        for (sums, (row, _)) in sums.iter_mut().zip(&rows) {
            let row = &row[4 * block..][..4];
            for i in 0..4 {
                sums[i] = simd.mul_add_e_f32s(row[i], w[i], sums[i]);
            }
        }
    }
    let mut products = [0.0; N];
    for ((product, sums), (row, tail)) in products.iter_mut().zip(&mut sums).zip(&rows) {
        for (i, (a, w)) in row[4 * w_blocks.len()..].iter().zip(w_rest).enumerate() {
            sums[i] = simd.mul_add_e_f32s(*a, *w, sums[i]);
        }
        let sum = simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]));
        let tail: f32 = tail.iter().zip(w_tail).map(|(a, w)| a * w).sum();
        *product = simd.reduce_sum_f32s(sum) + tail;
    }
    products
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

    #[test]
    fn dots_of_many_rows_are_those_of_each() {
        for cols in [1, 7, 8, 31, 64, 257] {
            let value = |i: usize| ((i * 7919 % 1000) as f32 - 500.0) / 300.0;
            let w: Vec<f32> = (0..cols).map(|i| value(i + 13)).collect();
            for n in 0..10 {
                let x: Vec<f32> = (0..n * cols).map(value).collect();
                let mut found = Vec::new();
                dots(&x, &w, |i, product| found.push((i, product)));
                let expected: Vec<_> = x.chunks_exact(cols).map(|row| dot(row, &w)).enumerate().collect();
                assert_eq!(found, expected, "{n} rows of {cols}");
            }
        }
    }
}
