//! Routing and routed experts. Choices are made on the host: they decide which products to record.

use candle_core::{Result, Tensor, bail};
use tensor::Experts;

use super::{linear, softmax, swiglu};
use crate::kernels::{experts::Groups, route::choose};
use crate::{Candle, Weight};

/// The chosen experts and their weights, `[n, top_k]`.
pub(crate) fn route(
    logits: &Tensor,
    bias: Option<&Tensor>,
    top_k: usize,
    norm_min: f32,
) -> Result<(Vec<u32>, Tensor)> {
    let (n, n_experts) = logits.dims2()?;
    let values = logits.flatten_all()?.to_vec1::<f32>()?;
    let bias = bias.map(|bias| bias.to_vec1::<f32>()).transpose()?;
    let chosen = choose(&values, n_experts, bias.as_deref(), top_k);
    let ids = Tensor::from_slice(&chosen, (n, top_k), logits.device())?;
    let p = softmax(logits)?.gather(&ids, 1)?;
    let norm = p.sum_keepdim(1)?.maximum(f64::from(norm_min))?;
    Ok((chosen, p.broadcast_div(&norm)?))
}

/// The experts' mixed output, expert by expert.
pub(crate) fn expert_mlp(
    x: &Tensor,
    expert_ids: &[u32],
    weights: &Tensor,
    experts: &Experts<Candle>,
) -> Result<Tensor> {
    let top_k = weights.dims()[1];
    let groups = Groups::new(expert_ids, experts.gate_proj.len(), top_k);
    let rows = groups.input_rows();
    let weights = weights.reshape((expert_ids.len(), 1))?;
    let mut out = x.zeros_like()?;
    for e in (0..groups.n_experts()).filter(|&e| !groups.rows(e).is_empty()) {
        let list = |ids: &[u32]| Tensor::from_slice(&ids[groups.rows(e)], groups.rows(e).len(), x.device());
        let rows = list(&rows)?;
        let x = x.index_select(&rows, 0)?;
        let gate = linear(&x, dense(&experts.gate_proj[e])?, None)?;
        let up = linear(&x, dense(&experts.up_proj[e])?, None)?;
        let y = linear(&swiglu(&gate, &up)?, dense(&experts.down_proj[e])?, None)?;
        let weights = weights.index_select(&list(&groups.choices)?, 0)?;
        out = out.index_add(&rows, &y.broadcast_mul(&weights)?, 0)?;
    }
    Ok(out)
}

fn dense(w: &Weight) -> Result<&Tensor> {
    match w {
        Weight::Dense(w) => Ok(w),
        Weight::Mapped(w) => bail!("`{}` was not decoded onto the device", w.name),
    }
}
