//! RMS norm and layer norm, forward and backward.

use super::rows::{for_chunks, sum_chunks};
use super::simd;

/// `1 / sqrt(mean(x²) + eps)`.
#[inline(always)]
fn inverse_rms(row: &[f32], eps: f32) -> f32 {
    1.0 / (simd::sum_map(row, |x| x * x) / row.len() as f32 + eps).sqrt()
}

/// Mean and `1 / sqrt(var + eps)`.
#[inline(always)]
fn moments(row: &[f32], eps: f32) -> (f32, f32) {
    let n = row.len() as f32;
    let mean = simd::sum(row) / n;
    let var = simd::sum_map(row, |x| (x - mean) * (x - mean)) / n;
    (mean, 1.0 / (var + eps).sqrt())
}

/// `w · x / sqrt(mean(x²) + eps)`.
pub(crate) fn rms(x: &[f32], w: &[f32], eps: f32) -> Vec<f32> {
    let d = w.len();
    let mut out = vec![0.0; x.len()];
    for_chunks(&mut out, d, |start, out| {
        for (out, x) in out.chunks_exact_mut(d).zip(x[start * d..].chunks_exact(d)) {
            let scale = inverse_rms(x, eps);
            for ((out, x), w) in out.iter_mut().zip(x).zip(w) {
                *out = x * scale * w;
            }
        }
    });
    out
}

/// Gradients of `x` and `w`.
pub(crate) fn rms_backward(x: &[f32], w: &[f32], grad: &[f32], eps: f32) -> [Vec<f32>; 2] {
    let d = w.len();
    let mut dx = vec![0.0; x.len()];
    for_chunks(&mut dx, d, |start, dx| {
        let inputs = x[start * d..].chunks_exact(d).zip(grad[start * d..].chunks_exact(d));
        for (dx, (x, grad)) in dx.chunks_exact_mut(d).zip(inputs) {
            let scale = inverse_rms(x, eps);
            for ((dx, grad), w) in dx.iter_mut().zip(grad).zip(w) {
                *dx = grad * w;
            }
            let along = simd::sum_zip(dx, x, |g, x| g * x) * scale * scale / d as f32;
            for (dx, x) in dx.iter_mut().zip(x) {
                *dx = scale * (*dx - x * along);
            }
        }
    });
    let dw = sum_chunks(x, d, |start, x, dw| {
        for (x, grad) in x.chunks_exact(d).zip(grad[start * d..].chunks_exact(d)) {
            let scale = inverse_rms(x, eps);
            for ((dw, x), grad) in dw.iter_mut().zip(x).zip(grad) {
                *dw += grad * x * scale;
            }
        }
    });
    [dx, dw]
}

/// `w · (x − mean) / sqrt(var + eps) + bias`.
pub(crate) fn layer(x: &[f32], w: &[f32], bias: &[f32], eps: f32) -> Vec<f32> {
    let d = w.len();
    let mut out = vec![0.0; x.len()];
    for_chunks(&mut out, d, |start, out| {
        for (out, x) in out.chunks_exact_mut(d).zip(x[start * d..].chunks_exact(d)) {
            let (mean, scale) = moments(x, eps);
            for (((out, x), w), bias) in out.iter_mut().zip(x).zip(w).zip(bias) {
                *out = (x - mean) * scale * w + bias;
            }
        }
    });
    out
}

/// Gradients of `x`, `w` and `bias`.
pub(crate) fn layer_backward(x: &[f32], w: &[f32], grad: &[f32], eps: f32) -> [Vec<f32>; 3] {
    let d = w.len();
    let mut dx = vec![0.0; x.len()];
    for_chunks(&mut dx, d, |start, dx| {
        let inputs = x[start * d..].chunks_exact(d).zip(grad[start * d..].chunks_exact(d));
        for (dx, (x, grad)) in dx.chunks_exact_mut(d).zip(inputs) {
            let (mean, scale) = moments(x, eps);
            for ((dx, grad), w) in dx.iter_mut().zip(grad).zip(w) {
                *dx = grad * w;
            }
            let level = simd::sum(dx) / d as f32;
            let along = simd::sum_zip(dx, x, |g, x| g * (x - mean)) * scale * scale / d as f32;
            for (dx, x) in dx.iter_mut().zip(x) {
                *dx = scale * (*dx - level - (x - mean) * along);
            }
        }
    });
    let dw = sum_chunks(x, d, |start, x, dw| {
        for (x, grad) in x.chunks_exact(d).zip(grad[start * d..].chunks_exact(d)) {
            let (mean, scale) = moments(x, eps);
            for ((dw, x), grad) in dw.iter_mut().zip(x).zip(grad) {
                *dw += grad * (x - mean) * scale;
            }
        }
    });
    [dx, dw, super::rows::column_sums(grad, d)]
}
