//! Operations composed from candle's own: any device, differentiable, no kernels of ours.

mod attention;
mod experts;

use candle_core::{D, Result, Tensor};
use tensor::{Gelu, RopePairs};

pub(crate) use attention::attention;
pub(crate) use experts::{expert_mlp, route};

/// `x · wᵀ + bias`.
pub(crate) fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = x.matmul(&w.t()?)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// `w · x / sqrt(mean(x²) + eps)` a row.
pub(crate) fn rms_norm(x: &Tensor, w: &Tensor, eps: f32) -> Result<Tensor> {
    let rms = (x.sqr()?.mean_keepdim(1)? + f64::from(eps))?.sqrt()?;
    x.broadcast_div(&rms)?.broadcast_mul(w)
}

/// `w · (x − mean) / sqrt(var + eps) + bias` a row.
pub(crate) fn layer_norm(x: &Tensor, w: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(1)? + f64::from(eps))?.sqrt()?;
    centred.broadcast_div(&deviation)?.broadcast_mul(w)?.broadcast_add(bias)
}

/// `silu(gate) · up`.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.silu()?.mul(up)
}

/// The Gaussian error linear unit of `kind`.
pub(crate) fn gelu(x: &Tensor, kind: Gelu) -> Result<Tensor> {
    match kind {
        Gelu::Erf => x.gelu_erf(),
        Gelu::Tanh => x.gelu(),
        Gelu::Quick => x.mul(&sigmoid(&(x * 1.702)?)?),
    }
}

/// `x − silu(gpas_gate) · stop_gradient(x)`.
pub(crate) fn gpas(x: &Tensor, gpas_gate: &Tensor) -> Result<Tensor> {
    x.sub(&x.detach().broadcast_mul(&gpas_gate.silu()?)?)
}

/// Rotates every head of `x` by its row of `cos_sin`.
pub(crate) fn rope(x: &Tensor, cos_sin: &Tensor, pairs: RopePairs) -> Result<Tensor> {
    let ((n, cols), head_dim) = (x.dims2()?, cos_sin.dims()[1]);
    let (n_heads, half) = (cols / head_dim, head_dim / 2);
    // The two features of a pair differ along `axis`.
    let (split, axis) = match pairs {
        RopePairs::Interleaved => ((n, n_heads, half, 2), 3),
        RopePairs::Halves => ((n, n_heads, 2, half), 2),
    };
    let angles = |start| cos_sin.narrow(1, start, half)?.unsqueeze(1);
    let (cos, sin) = (angles(0)?, angles(half)?);
    let x = x.reshape(split)?;
    let feature = |i| x.narrow(axis, i, 1)?.squeeze(axis);
    let (a, b) = (feature(0)?, feature(1)?);
    let turned_a = a.broadcast_mul(&cos)?.sub(&b.broadcast_mul(&sin)?)?;
    let turned_b = b.broadcast_mul(&cos)?.add(&a.broadcast_mul(&sin)?)?;
    Tensor::stack(&[turned_a, turned_b], axis)?.reshape((n, cols))
}

/// `x` with row `rows[i]` replaced by row `i` of `src`.
pub(crate) fn scatter(x: &Tensor, rows: &Tensor, src: &Tensor) -> Result<Tensor> {
    let kept = Tensor::ones((x.dims()[0], 1), x.dtype(), x.device())?;
    let replaced = Tensor::ones((src.dims()[0], 1), x.dtype(), x.device())?;
    let kept = kept.index_add(rows, &replaced.neg()?, 0)?;
    x.broadcast_mul(&kept)?.index_add(rows, src, 0)
}

/// `Σ weightᵢ · −log p(targetᵢ)`.
pub(crate) fn cross_entropy(logits: &Tensor, targets: &[u32], weights: &[f32]) -> Result<Tensor> {
    let (n, device) = (targets.len(), logits.device());
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(1)?)?;
    let log_p = shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(1)?.log()?)?;
    let chosen = log_p.gather(&Tensor::from_slice(targets, (n, 1), device)?, 1)?;
    chosen.mul(&Tensor::from_slice(weights, (n, 1), device)?)?.sum_all()?.neg()
}

/// Softmax over the last dimension.
fn softmax(x: &Tensor) -> Result<Tensor> {
    let exp = x.broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}
