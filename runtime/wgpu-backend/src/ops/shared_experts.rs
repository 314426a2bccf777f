//! A routed layer of one row in three dispatches: router with its choice, both halves of routed and shared experts.

use std::rc::Rc;

use tensor::{DType, Result, Routing};

use crate::device::Wgpu;
use crate::pipeline::Kernel;
use crate::recorder::{Dispatch, grid_of};
use crate::tensor_node::{Node, Products, Routed, View};
use crate::weight::{Part, UNIT};
use crate::{Ids, Tensor};

/// Experts whose logits `router.wgsl` has room for.
const MAX_EXPERTS: usize = 256;

impl Wgpu {
    /// Router and choice at once, if the logits are a product of one row that was put off.
    pub(crate) fn choose_for_one_row(
        &self,
        router_logits: &Tensor,
        bias: Option<&View>,
        top_k: usize,
        norm_min: f32,
    ) -> Result<Option<Routing<Self>>> {
        let n_experts = router_logits.cols;
        let Some((x, router)) = only_product(router_logits) else { return Ok(None) };
        if x.rows != 1 || n_experts > MAX_EXPERTS {
            return Ok(None);
        }
        let ids = View::from(&self.scratch("route", top_k)?);
        let (out, weights) = self.output("route", 1, top_k)?;
        let bias_view = bias.cloned().unwrap_or_else(|| self.nothing());
        let views = [self.view(&x)?, router.view(), bias_view, ids.clone(), out];
        let params = [
            [x.cols.div_ceil(UNIT) as u32, 1, x.cols as u32, 0],
            [n_experts as u32, top_k as u32, norm_min.to_bits(), u32::from(bias.is_some())],
            [router.codes(), 0, 0, 0],
            [router.factors(), 0, 0, 0],
        ]
        .concat();
        let dispatch = Dispatch {
            kernel: Kernel::Router {
                weight: router.storage.layout.dtype,
                aligned: x.cols.is_multiple_of(UNIT),
            },
            views: &views,
            params: &params,
            grid: [1, 1, 1],
            weight_bytes: router.bytes(n_experts),
        };
        self.shared.dispatch("route", &dispatch)?;
        Ok(Some(Routing { expert_ids: Ids { view: ids, len: top_k, host: None }, weights, top_k }))
    }

    /// `routed + shared` of one row at once, if `x` is routed experts and `y` the shared ones of the same row, and
    /// nobody has computed either.
    pub(crate) fn routed_and_shared(&self, x: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
        let node = x.node.borrow();
        let Node::Routed(routed) = &*node else { return Ok(None) };
        let Some(shared) = Shared::of(y) else { return Ok(None) };
        let fits = Rc::ptr_eq(&shared.gate_up.x.node, &routed.x.node)
            && routed.inner.is_multiple_of(UNIT)
            && shared.inner().is_multiple_of(UNIT);
        if !fits {
            return Ok(None);
        }
        let h = self.both_first_halves(routed, &shared)?;
        let out = self.both_second_halves(routed, &shared, h)?;
        Ok(Some(Tensor::stored(out, 1, y.cols)))
    }

    fn both_first_halves(&self, routed: &Routed, shared: &Shared) -> Result<View> {
        let op = "expert_mlp";
        let Routed { x, ids, top_k, inner, runs: [gate, up, _], .. } = routed;
        let out = View::from(&self.scratch(op, top_k * inner + shared.inner())?);
        let parts = [&gate.part, &up.part, &shared.gate, &shared.up];
        let mut views = vec![self.view(x)?, ids.clone()];
        views.extend(parts.map(Part::view));
        views.push(out.clone());
        let params = [
            [x.cols.div_ceil(UNIT) as u32, 1, x.cols as u32, *top_k as u32],
            [*inner as u32, gate.experts.len() as u32, shared.inner() as u32, 0],
            parts.map(Part::codes),
            parts.map(Part::factors),
        ]
        .concat();
        let tasks = (*inner).max(shared.inner()).div_ceil(2) as u64;
        let [groups, ..] = grid_of(tasks, self.tasks_per_group());
        let routed_bytes = (gate.part.bytes(*inner) + up.part.bytes(*inner)) * *top_k as u64;
        let dispatch = Dispatch {
            kernel: Kernel::GateUpShared {
                weights: parts.map(|part| part.storage.layout.dtype),
                aligned: x.cols.is_multiple_of(UNIT),
            },
            views: &views,
            params: &params,
            grid: [groups, *top_k as u32 + 1, 1],
            weight_bytes: routed_bytes + 2 * shared.gate.bytes(shared.inner()),
        };
        self.shared.dispatch(op, &dispatch)?;
        Ok(out)
    }

    fn both_second_halves(&self, routed: &Routed, shared: &Shared, h: View) -> Result<View> {
        let op = "expert_mlp";
        let Routed { x, ids, weights, top_k, inner, runs: [.., down] } = routed;
        let out = View::from(&self.scratch(op, x.cols)?);
        let parts = [&down.part, &shared.down];
        let views = [h, ids.clone(), self.view(weights)?, down.part.view(), shared.down.view(), out.clone()];
        let words = |of: fn(&Part) -> u32| [of(parts[0]), of(parts[1]), 0, 0];
        let params = [
            [(inner / UNIT) as u32, (shared.inner() / UNIT) as u32, x.cols as u32, *top_k as u32],
            [down.experts.len() as u32, 0, 0, 0],
            words(Part::codes),
            words(Part::factors),
        ]
        .concat();
        let tasks = x.cols.div_ceil(4) as u64;
        let dispatch = Dispatch {
            kernel: Kernel::DownShared { weights: parts.map(|part| -> DType { part.storage.layout.dtype }) },
            views: &views,
            params: &params,
            grid: grid_of(tasks, self.tasks_per_group()),
            weight_bytes: down.part.bytes(x.cols) * *top_k as u64 + shared.down.bytes(x.cols),
        };
        self.shared.dispatch(op, &dispatch)?;
        Ok(out)
    }
}

/// The MLP that every row passes, put off.
struct Shared {
    gate_up: Rc<Products>,
    gate: Part,
    up: Part,
    down: Part,
}

impl Shared {
    fn of(y: &Tensor) -> Option<Self> {
        let (gated, down) = only_product(y)?;
        let node = gated.node.borrow();
        let Node::Gated(gate_up) = &*node else { return None };
        let [(gate, None), (up, None)] = &gate_up.weights[..] else { return None };
        Some(Self { gate: gate.whole()?, up: up.whole()?, down, gate_up: Rc::clone(gate_up) })
    }

    fn inner(&self) -> usize {
        self.gate.rows.len()
    }
}

/// The input and the weight of a product, if it stands alone, has no bias, and nobody has computed it.
fn only_product(y: &Tensor) -> Option<(Tensor, Part)> {
    let node = y.node.borrow();
    let Node::Product { group, index: 0 } = &*node else { return None };
    let [(weight, None)] = &group.weights[..] else { return None };
    let part = weight.whole()?;
    group.outputs.borrow().is_none().then(|| (group.x.clone(), part))
}
