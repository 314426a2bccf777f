//! Choosing experts.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{output, slice, tensor_like, values};
use crate::kernels::route as kernel;

/// The chosen experts and their weights, `[n, top_k]`. Choices have no gradient, weights have.
pub(crate) fn route(
    logits: &Tensor,
    bias: Option<&Tensor>,
    top_k: usize,
    norm_min: f32,
) -> Result<(Vec<u32>, Tensor)> {
    let bias = bias.map(values).transpose()?;
    let chosen = kernel::choose(&values(logits)?, logits.dims()[1], bias.as_deref(), top_k);
    let weights = logits.apply_op1(RouteWeights { chosen: chosen.clone(), top_k, norm_min })?;
    Ok((chosen, weights))
}

struct RouteWeights {
    chosen: Vec<u32>,
    top_k: usize,
    norm_min: f32,
}

impl CustomOp1 for RouteWeights {
    fn name(&self) -> &'static str {
        "route"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, n_experts) = l.shape().dims2()?;
        let weights = kernel::weights(slice(logits, l)?, n_experts, &self.chosen, self.top_k, self.norm_min);
        output(weights, (n, self.top_k))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (grad, n_experts) = (grad.contiguous()?, logits.dims()[1]);
        let (values, grad) = (values(logits)?, values(&grad)?);
        let d_logits = kernel::backward(&values, n_experts, &self.chosen, self.top_k, self.norm_min, &grad);
        Ok(Some(tensor_like(d_logits, logits)?))
    }
}
