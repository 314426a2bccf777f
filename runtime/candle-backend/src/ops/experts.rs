//! Routed experts.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, Device, Error, Layout, Result, Shape, Tensor, bail};
use tensor::Experts;

use super::{output, slice, swiglu, tensor_like, values};
use crate::kernels::experts::{self as kernel, Groups};
use crate::kernels::gemm::Threads;
use crate::kernels::{linear, pointwise, rows};
use crate::{Candle, ExpertStore, Weight, team};

/// The experts' mixed output, straight from their weights; no gradient.
///
/// Weights of experts that nobody chose are not touched. With a `store`, those that are in memory are computed
/// while it reads the others.
pub(crate) fn expert_mlp(
    x: &Tensor,
    expert_ids: &[u32],
    weights: &Tensor,
    experts: &Experts<Candle>,
    integers: Option<::kernels::Path>,
    store: Option<&ExpertStore>,
) -> Result<Tensor> {
    let (n, cols) = x.dims2()?;
    let top_k = expert_ids.len() / n.max(1);
    let groups = Groups::new(expert_ids, experts.gate_proj.len(), top_k.max(1));
    let (x, weights) = (values(x)?, values(weights)?);
    let input_rows = groups.input_rows();
    let one = |e: usize, [gate, up, down]: [&Weight; 3]| -> Result<Vec<f32>> {
        let x = rows::gather(&x, cols, &input_rows[groups.rows(e)]);
        let inner = match (gate.blocks(), up.blocks(), integers) {
            (Some(gate), Some(up), Some(path)) => {
                linear::gated_in_integers(&x, (gate, None), (up, None), path, Threads::All)
            }
            _ => pointwise::swiglu(&linear_of(&x, gate, integers)?, &linear_of(&x, up, integers)?),
        };
        linear_of(&inner, down, integers)
    };
    let chosen: Vec<(usize, usize)> =
        (0..groups.n_experts()).map(|e| (e, groups.rows(e).len())).filter(|&(_, n)| n > 0).collect();
    let outputs: Vec<Vec<f32>> = match store.and_then(|store| store.lease(experts, &chosen, n)) {
        None => {
            let parts = |e: usize| [&experts.gate_proj[e], &experts.up_proj[e], &experts.down_proj[e]];
            for_each_expert(chosen.len(), |i| one(chosen[i].0, parts(chosen[i].0)))?
        }
        Some(mut lease) => {
            let mut outputs = vec![Vec::new(); chosen.len()];
            loop {
                let ready = lease.ready().map_err(Error::wrap)?;
                if ready.is_empty() {
                    break outputs;
                }
                let done = for_each_expert(ready.len(), |j| {
                    let (i, expert) = &ready[j];
                    one(chosen[*i].0, expert.weights.each_ref())
                });
                ready.iter().zip(done?).for_each(|((i, _), y)| outputs[*i] = y);
            }
        }
    };
    let out = kernel::combine(&outputs.concat(), &weights, cols, &groups);
    Tensor::from_vec(out, (n, cols), &Device::Cpu)
}

/// What `f` gives for each of `n` experts. Each has a thread where that keeps all threads busy; else all threads work on
/// one after the other.
fn for_each_expert(n: usize, f: impl Fn(usize) -> Result<Vec<f32>> + Sync) -> Result<Vec<Vec<f32>>> {
    let n_threads = team::n_threads();
    match n.is_multiple_of(n_threads) || n >= 4 * n_threads {
        true => team::map(n, f).into_iter().collect(),
        false => (0..n).map(f).collect(),
    }
}

fn linear_of(x: &[f32], w: &Weight, integers: Option<::kernels::Path>) -> Result<Vec<f32>> {
    Ok(match w {
        Weight::Dense(w) => linear::dense(x, &values(w)?, None, w.dims2()?.1, Threads::All),
        Weight::Mapped(w) => linear::stored(x, w, None, integers, Threads::All),
    })
}

/// The experts' mixed output with gradients for rows, mixing weights and experts.
pub(crate) fn expert_mlp_with_gradient(
    x: &Tensor,
    expert_ids: &[u32],
    weights: &Tensor,
    experts: &Experts<Candle>,
) -> Result<Tensor> {
    let top_k = (expert_ids.len() / x.dims()[0].max(1)).max(1);
    let groups = Arc::new(Groups::new(expert_ids, experts.gate_proj.len(), top_k));
    let rows = super::gather(x, groups.input_rows())?;
    let grouped =
        |x: &Tensor, w: &[Weight]| x.apply_op2(&stack(w)?, GroupedLinear { groups: Arc::clone(&groups) });
    let inner = swiglu(&grouped(&rows, &experts.gate_proj)?, &grouped(&rows, &experts.up_proj)?)?;
    grouped(&inner, &experts.down_proj)?.apply_op2(weights, Combine { groups: Arc::clone(&groups) })
}

/// One projection of all experts below one another, by an operation that candle differentiates.
fn stack(weights: &[Weight]) -> Result<Tensor> {
    let dense = weights.iter().map(|w| match w {
        Weight::Dense(w) => Ok(w.clone()),
        Weight::Mapped(w) => bail!("`{}` is stored as {} and has no gradient", w.name, w.dtype),
    });
    Tensor::cat(&dense.collect::<Result<Vec<_>>>()?, 0)
}

/// Sorted rows through their expert's part of a weight `[n_experts * out, in]`.
struct GroupedLinear {
    groups: Arc<Groups>,
}

impl CustomOp2 for GroupedLinear {
    fn name(&self) -> &'static str {
        "grouped_linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, (all_rows, cols)) = (lx.dims()[0], lw.shape().dims2()?);
        let rows = all_rows / self.groups.n_experts();
        output(kernel::linear(slice(x, lx)?, slice(w, lw)?, rows, cols, &self.groups), (n, rows))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (grad, (all_rows, cols)) = (grad.contiguous()?, w.dims2()?);
        let rows = all_rows / self.groups.n_experts();
        let [dx, dw] =
            kernel::linear_backward(&values(x)?, &values(w)?, &values(&grad)?, rows, cols, &self.groups);
        Ok((Some(tensor_like(dx, x)?), Some(tensor_like(dw, w)?)))
    }
}

/// Sorted rows times their mixing weights, summed into the rows they came from.
struct Combine {
    groups: Arc<Groups>,
}

impl CustomOp2 for Combine {
    fn name(&self) -> &'static str {
        "combine_experts"
    }

    fn cpu_fwd(
        &self,
        y: &CpuStorage,
        ly: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, cols) = (lw.dims()[0], ly.dims()[1]);
        output(kernel::combine(slice(y, ly)?, slice(w, lw)?, cols, &self.groups), (n, cols))
    }

    fn bwd(
        &self,
        y: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (grad, cols) = (grad.contiguous()?, y.dims()[1]);
        let [dy, dw] =
            kernel::combine_backward(&values(y)?, &values(w)?, &values(&grad)?, cols, &self.groups);
        Ok((Some(tensor_like(dy, y)?), Some(tensor_like(dw, w)?)))
    }
}
