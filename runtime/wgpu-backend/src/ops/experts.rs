//! Routing, and gated MLPs: the experts of a bank, or one alone.

use std::rc::Rc;

use tensor::{DType, Error, Experts, Result, Routing};

use crate::device::Wgpu;
use crate::ops::check;
use crate::pipeline::Kernel;
use crate::recorder::{Dispatch, MAX_GROUPS};
use crate::tensor_node::{Node, Products, Routed, View};
use crate::weight::{Run, UNIT};
use crate::{Ids, Tensor, Weight};

pub(super) const OP: &str = "expert_mlp";

/// Rows that slots stand for: `x`, and how many slots have the same row.
pub(super) struct Slots<'a> {
    pub(super) x: &'a Tensor,
    pub(super) ids: View,
    pub(super) per_row: usize,
    pub(super) n: usize,
}

impl Wgpu {
    pub(crate) fn choose(
        &self,
        router_logits: &Tensor,
        bias: Option<&Weight>,
        top_k: usize,
        norm_min: f32,
    ) -> Result<Routing<Self>> {
        let (n, n_experts) = (router_logits.rows, router_logits.cols);
        let bias = bias.map(|bias| bias.vector("route", n_experts)).transpose()?;
        if let Some(routing) = self.choose_for_one_row(router_logits, bias.as_ref(), top_k, norm_min)? {
            return Ok(routing);
        }
        let ids = View::from(&self.scratch("route", n * top_k)?);
        let (out, weights) = self.output("route", n, top_k)?;
        let params =
            [n as u32, n_experts as u32, top_k as u32, u32::from(bias.is_some()), norm_min.to_bits()];
        let views = [self.view(router_logits)?, bias.unwrap_or_else(|| self.nothing()), ids.clone(), out];
        self.each_sum("route", Kernel::Route, &views, &params, n)?;
        Ok(Routing { expert_ids: Ids { view: ids, len: n * top_k, host: None }, weights, top_k })
    }

    /// `silu(gate) ⊙ up` of the two products of one row.
    pub(crate) fn gate_up(&self, group: &Products) -> Result<View> {
        const OP: &str = "swiglu";
        let whole = |i: usize| {
            let (w, _) = &group.weights[i];
            let part = w.whole().ok_or_else(|| Error::shape(OP, format!("`{}` is in pieces", w.0.name)))?;
            Ok(Run { experts: 0..1, part })
        };
        let (gate, up) = (whole(0)?, whole(1)?);
        let inner = gate.part.rows.len();
        let out = View::from(&self.scratch(OP, inner)?);
        let slots = Slots { x: &group.x, ids: self.nothing(), per_row: 1, n: 1 };
        self.gate_and_up(OP, &slots, [&gate, &up], inner, false, &out)?;
        Ok(out)
    }

    pub(crate) fn routed(
        &self,
        x: &Tensor,
        routing: &Routing<Self>,
        experts: &Experts<Self>,
    ) -> Result<Tensor> {
        let (top_k, n_slots) = (routing.top_k, x.rows * routing.top_k);
        let inner = experts.down_proj.first().map_or(0, |down| down.0.cols);
        let rows_fit = experts.gate_proj.iter().chain(&experts.up_proj).all(|w| w.0.rows == inner);
        check(OP, rows_fit && experts.down_proj.iter().all(|w| w.0.cols == inner), || {
            format!("experts are not all {inner} wide inside")
        })?;
        if n_slots == 0 {
            return Ok(self.output(OP, x.rows, x.cols)?.1);
        }
        let gates = self.shared.runs(OP, &experts.gate_proj)?;
        let ups = self.shared.runs(OP, &experts.up_proj)?;
        let downs = self.shared.runs(OP, &experts.down_proj)?;
        let ids = routing.expert_ids.view.clone();
        if let (1, [gate], [up], [down]) = (x.rows, &gates[..], &ups[..], &downs[..]) {
            let runs = [gate, up, down].map(Run::clone);
            let (x, weights) = (x.clone(), routing.weights.clone());
            let (rows, cols) = (x.rows, x.cols);
            let routed = Routed { x, ids, weights, top_k, inner, runs };
            return Ok(Tensor::new(Node::Routed(Rc::new(routed)), rows, cols));
        }
        let slots = Slots { x, ids, per_row: top_k, n: n_slots };
        let weights = self.view(&routing.weights)?;
        if self.tiles_pay(x.rows, experts.gate_proj.len()) {
            let n_experts = experts.gate_proj.len();
            let out = self.mixed_in_tiles(&slots, &weights, n_experts, inner, [&gates, &ups, &downs])?;
            return Ok(Tensor::stored(out, x.rows, x.cols));
        }
        check(OP, n_slots as u64 <= MAX_GROUPS, || {
            format!("{n_slots} choices in one pass; use a shorter prompt chunk")
        })?;
        let out = self.mixed(&slots, &weights, inner, [&gates, &ups, &downs])?;
        Ok(Tensor::stored(out, x.rows, x.cols))
    }

    /// Routed experts of one row, if nobody computed them with the shared ones.
    pub(crate) fn experts_of_one_row(&self, routed: &Routed) -> Result<View> {
        let Routed { x, ids, weights, top_k, inner, runs: [gate, up, down] } = routed;
        let slots = Slots { x, ids: ids.clone(), per_row: *top_k, n: *top_k };
        let weights = self.view(weights)?;
        self.mixed(&slots, &weights, *inner, [gate, up, down].map(std::slice::from_ref))
    }

    fn mixed(
        &self,
        slots: &Slots<'_>,
        weights: &View,
        inner: usize,
        [gates, ups, downs]: [&[Run]; 3],
    ) -> Result<View> {
        let Slots { x, per_row: top_k, n: n_slots, .. } = *slots;
        let out = View::from(&self.scratch(OP, x.rows * x.cols)?);
        let (hidden, h) = self.output(OP, n_slots, inner)?;
        let alike = gates.len() == ups.len() && gates.iter().zip(ups).all(|(a, b)| a.experts == b.experts);
        if alike {
            for (gate, up) in gates.iter().zip(ups) {
                self.gate_and_up(OP, slots, [gate, up], inner, true, &hidden)?;
            }
        } else {
            let (gate, up) =
                (self.projected(OP, slots, gates, inner)?, self.projected(OP, slots, ups, inner)?);
            let n = n_slots * inner;
            self.each(OP, Kernel::SwiGlu, &[gate, up, hidden.clone()], &[n as u32, 0, 0, 0], n)?;
        }
        for (i, down) in downs.iter().enumerate() {
            let views = [hidden.clone(), slots.ids.clone(), weights.clone(), down.part.view(), out.clone()];
            let params = params(&h, top_k, down, x.cols, u32::from(i > 0), [down, down]);
            let weight = down.part.storage.layout.dtype;
            let kernel = Kernel::ExpertDown { weight, aligned: inner.is_multiple_of(UNIT) };
            let groups = (x.cols.div_ceil(4) as u64).div_ceil(self.tasks_per_group());
            let grid = [groups as u32, x.rows as u32, 1];
            let weight_bytes = down.part.bytes(x.cols) * n_slots as u64 / downs.len() as u64;
            let dispatch = Dispatch { kernel, views: &views, params: &params, grid, weight_bytes };
            self.shared.dispatch(OP, &dispatch)?;
        }
        Ok(out)
    }

    fn gate_and_up(
        &self,
        op: &'static str,
        slots: &Slots<'_>,
        [gate, up]: [&Run; 2],
        inner: usize,
        experts: bool,
        out: &View,
    ) -> Result<()> {
        let views = [self.view(slots.x)?, slots.ids.clone(), gate.part.view(), up.part.view(), out.clone()];
        let params = params(slots.x, slots.per_row, gate, inner, slots.n as u32, [gate, up]);
        let [a, b]: [DType; 2] = [gate, up].map(|run| run.part.storage.layout.dtype);
        let kernel = Kernel::GateUp { gate: a, up: b, experts, aligned: slots.x.cols.is_multiple_of(UNIT) };
        let groups = (inner.div_ceil(2) as u64).div_ceil(self.tasks_per_group());
        let weight_bytes = (gate.part.bytes(inner) + up.part.bytes(inner)) * slots.n as u64;
        let grid = [groups as u32, slots.n as u32, 1];
        self.shared.dispatch(op, &Dispatch { kernel, views: &views, params: &params, grid, weight_bytes })
    }

    /// One projection of every slot.
    fn projected(&self, op: &'static str, slots: &Slots<'_>, runs: &[Run], inner: usize) -> Result<View> {
        let out = View::from(&self.scratch(op, slots.n * inner)?);
        for run in runs {
            let views = [self.view(slots.x)?, slots.ids.clone(), run.part.view(), out.clone()];
            let params = params(slots.x, slots.per_row, run, inner, slots.n as u32, [run, run]);
            let weight = run.part.storage.layout.dtype;
            let kernel = Kernel::ExpertLinear { weight, aligned: slots.x.cols.is_multiple_of(UNIT) };
            let groups = (inner.div_ceil(4) as u64).div_ceil(self.tasks_per_group());
            let grid = [groups as u32, slots.n as u32, 1];
            let weight_bytes = run.part.bytes(inner) * slots.n as u64 / runs.len() as u64;
            let dispatch = Dispatch { kernel, views: &views, params: &params, grid, weight_bytes };
            self.shared.dispatch(op, &dispatch)?;
        }
        Ok(out)
    }
}

/// The parameters of the kernels of experts: shape, experts, codes, factors.
pub(super) fn params(
    x: &Tensor,
    top_k: usize,
    run: &Run,
    rows: usize,
    last: u32,
    weights: [&Run; 2],
) -> Vec<u32> {
    let [codes, factors] = [|run: &Run| run.part.codes(), |run: &Run| run.part.factors()]
        .map(|of: fn(&Run) -> u32| weights.map(of));
    [
        [x.cols.div_ceil(UNIT) as u32, x.rows as u32, x.cols as u32, top_k as u32],
        [rows as u32, run.experts.start as u32, run.experts.len() as u32, last],
        [codes[0], codes[1], 0, 0],
        [factors[0], factors[1], 0, 0],
    ]
    .concat()
}
