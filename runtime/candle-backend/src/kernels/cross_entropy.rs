//! Softmax and cross-entropy in one pass.

use rayon::prelude::*;

use super::exp::{exp, exp_shifted};
use super::simd::{self, vectorize};

/// `Σ weight · (log Σ e^logit − logit of the target)` over rows of `vocab` logits.
pub(crate) fn loss(logits: &[f32], vocab: usize, targets: &[u32], weights: &[f32]) -> f32 {
    let losses: Vec<f64> = logits
        .par_chunks_exact(vocab)
        .zip(targets)
        .zip(weights)
        .map(|((row, &target), &weight)| match weight {
            0.0 => 0.0,
            _ => vectorize(|| {
                let max = simd::max(row);
                let sum = simd::sum_map(row, |v| exp(v - max));
                f64::from(weight) * (f64::from(sum).ln() + f64::from(max) - f64::from(row[target as usize]))
            }),
        })
        .collect();
    losses.iter().sum::<f64>() as f32
}

/// As [`loss`], and the gradient of the logits.
pub(crate) fn loss_and_gradient(
    logits: &[f32],
    vocab: usize,
    targets: &[u32],
    weights: &[f32],
) -> (f32, Vec<f32>) {
    let mut grad = vec![0.0; logits.len()];
    let losses: Vec<f64> = grad
        .par_chunks_exact_mut(vocab)
        .zip(logits.par_chunks_exact(vocab))
        .zip(targets)
        .zip(weights)
        .map(|(((grad, row), &target), &weight)| match weight {
            0.0 => 0.0,
            _ => vectorize(|| row_gradient(grad, row, target as usize, weight)),
        })
        .collect();
    (losses.iter().sum::<f64>() as f32, grad)
}

#[inline(always)]
fn row_gradient(grad: &mut [f32], row: &[f32], target: usize, weight: f32) -> f64 {
    let max = simd::max(row);
    grad.copy_from_slice(row);
    let sum = exp_shifted(grad, max);
    let scale = weight / sum;
    grad.iter_mut().for_each(|g| *g *= scale);
    grad[target] -= weight;
    f64::from(weight) * (f64::from(sum).ln() + f64::from(max) - f64::from(row[target]))
}
