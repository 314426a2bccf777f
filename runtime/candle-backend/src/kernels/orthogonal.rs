//! The orthogonal matrix nearest to a matrix, roughly: all singular values become about one.

use super::gemm::{Threads, View, matmul};
use super::simd::{dot, vectorize};

/// Coefficients of the odd quintic that brings singular values between 0 and 1 near 1 the fastest.
///
/// Source: Muon, Keller Jordan 2024: what it reaches lies between 0.69 and 1.2, which is near enough.
const QUINTIC: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// After five steps values above a hundredth of the norm have arrived.
const N_STEPS: usize = 5;

/// `x`, `[rows, cols]`, with singular values of about one; zeros stay zeros.
pub(crate) fn orthogonalized(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    assert_eq!(x.len(), rows * cols, "matrix size");
    let norm = dot(x, x).sqrt().max(f32::MIN_POSITIVE);
    let mut x: Vec<f32> = x.iter().map(|v| v / norm).collect();
    let [a, b, c] = QUINTIC;
    // Products are cheapest on the short side.
    let n = rows.min(cols);
    let (mut gram, mut square, mut next) = (vec![0.0; n * n], vec![0.0; n * n], vec![0.0; rows * cols]);
    for _ in 0..N_STEPS {
        let view = View::new(&x, rows, cols);
        let (left, right) = if rows <= cols { (view, view.t()) } else { (view.t(), view) };
        matmul(&mut gram, left, right, false, Threads::One);
        matmul(&mut square, View::new(&gram, n, n), View::new(&gram, n, n), false, Threads::One);
        vectorize(|| {
            for (gram, square) in gram.iter_mut().zip(&square) {
                *gram = b * *gram + c * square;
            }
        });
        let polynomial = View::new(&gram, n, n);
        match rows <= cols {
            true => matmul(&mut next, polynomial, view, false, Threads::One),
            false => matmul(&mut next, view, polynomial, false, Threads::One),
        }
        vectorize(|| {
            for (x, next) in x.iter_mut().zip(&next) {
                *x = a * *x + next;
            }
        });
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singular_values_become_about_one() {
        for (rows, cols) in [(6, 6), (4, 9), (9, 4), (1, 5)] {
            // Far from singular: values much smaller than the largest take more steps to arrive.
            let value = |i: usize| (i as f32 * 1.7).sin() + if i / cols == i % cols { 3.0 } else { 0.0 };
            let x: Vec<f32> = (0..rows * cols).map(value).collect();
            let y = orthogonalized(&x, rows, cols);
            // The Gram matrix on the short side is near the identity: its trace is the sum of squares.
            let mean_square = dot(&y, &y) / rows.min(cols) as f32;
            assert!((0.48..1.5).contains(&mean_square), "{rows} by {cols}: {mean_square}");
            assert!(dot(&x, &y) > 0.0, "no reflection");
        }
        assert!(orthogonalized(&[0.0; 6], 2, 3).iter().all(|v| *v == 0.0));
    }
}
