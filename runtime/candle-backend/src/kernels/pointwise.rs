//! Functions of single values, and their derivatives.

use rayon::prelude::*;
use tensor::Gelu;

use super::exp::{erfc, exp, sigmoid};
use super::rows::{for_chunks, for_chunks2};
use super::simd::vectorize;

/// `f(x)` of every value.
pub(crate) fn map(x: &[f32], f: impl Fn(f32) -> f32 + Sync) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for_chunks(&mut out, 1, |start, out| {
        for (out, &x) in out.iter_mut().zip(&x[start..]) {
            *out = f(x);
        }
    });
    out
}

/// `f(x, y)` of every pair of values.
pub(crate) fn zip(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for_chunks(&mut out, 1, |start, out| {
        for ((out, &x), &y) in out.iter_mut().zip(&x[start..]).zip(&y[start..]) {
            *out = f(x, y);
        }
    });
    out
}

/// `silu(gate) · up`.
pub(crate) fn swiglu(gate: &[f32], up: &[f32]) -> Vec<f32> {
    zip(gate, up, gated)
}

/// [`swiglu`] in the place of `gate`, on this thread.
pub(crate) fn swiglu_in_place(gate: &mut [f32], up: &[f32]) {
    vectorize(|| gate.iter_mut().zip(up).for_each(|(gate, &up)| *gate = gated(*gate, up)));
}

#[inline(always)]
fn gated(gate: f32, up: f32) -> f32 {
    gate * sigmoid(gate) * up
}

/// Gradients of `gate` and `up`.
pub(crate) fn swiglu_backward(gate: &[f32], up: &[f32], grad: &[f32]) -> [Vec<f32>; 2] {
    let (mut d_gate, mut d_up) = (vec![0.0; grad.len()], vec![0.0; grad.len()]);
    for_chunks2([&mut d_gate, &mut d_up], 1, |start, d_gate, d_up| {
        let inputs = gate[start..].iter().zip(&up[start..]).zip(&grad[start..]);
        for ((d_gate, d_up), ((&gate, &up), &grad)) in d_gate.iter_mut().zip(d_up).zip(inputs) {
            let s = sigmoid(gate);
            *d_gate = grad * up * s * (1.0 + gate * (1.0 - s));
            *d_up = grad * gate * s;
        }
    });
    [d_gate, d_up]
}

// √(2/π)
const TANH_SCALE: f32 = 0.797_884_6;
const TANH_CUBE: f32 = 0.044_715;
const QUICK_SCALE: f32 = 1.702;

/// The Gaussian error linear unit of `kind`.
pub(crate) fn gelu(x: &[f32], kind: Gelu) -> Vec<f32> {
    match kind {
        Gelu::Erf => map(x, |x| 0.5 * x * erfc(-x * std::f32::consts::FRAC_1_SQRT_2)),
        // (1 + tanh u) / 2 = σ(2u)
        Gelu::Tanh => map(x, |x| x * sigmoid(2.0 * TANH_SCALE * (x + TANH_CUBE * x * x * x))),
        Gelu::Quick => map(x, |x| x * sigmoid(QUICK_SCALE * x)),
    }
}

/// Gradient of `x`.
pub(crate) fn gelu_backward(x: &[f32], grad: &[f32], kind: Gelu) -> Vec<f32> {
    // 1/√(2π)
    const DENSITY: f32 = 0.398_942_3;
    match kind {
        Gelu::Erf => zip(x, grad, |x, grad| {
            let density = DENSITY * exp(-0.5 * x * x);
            grad * (0.5 * erfc(-x * std::f32::consts::FRAC_1_SQRT_2) + x * density)
        }),
        Gelu::Tanh => zip(x, grad, |x, grad| {
            let s = sigmoid(2.0 * TANH_SCALE * (x + TANH_CUBE * x * x * x));
            let slope = 2.0 * TANH_SCALE * (1.0 + 3.0 * TANH_CUBE * x * x);
            grad * (s + x * s * (1.0 - s) * slope)
        }),
        Gelu::Quick => zip(x, grad, |x, grad| {
            let s = sigmoid(QUICK_SCALE * x);
            grad * (s + QUICK_SCALE * x * s * (1.0 - s))
        }),
    }
}

/// `Σ x · y` over all values, summed in chunks.
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let parts: Vec<f64> = x
        .par_chunks(1 << 12)
        .zip(y.par_chunks(1 << 12))
        .map(|(x, y)| f64::from(super::simd::dot(x, y)))
        .collect();
    parts.iter().sum::<f64>() as f32
}
