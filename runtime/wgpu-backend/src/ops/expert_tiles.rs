//! Routed experts over many rows: slots are sorted by expert, so that a tile decodes the weight of one expert once.

use tensor::Result;

use super::experts::{OP, Slots, params};
use super::linear::MATMUL_ROWS;
use crate::Tensor;
use crate::device::Wgpu;
use crate::pipeline::Kernel;
use crate::recorder::{Dispatch, MAX_GROUPS};
use crate::tensor_node::View;
use crate::weight::{Run, UNIT};

/// Slots of a tile, and rows of a weight.
const X_TILE: usize = 32;
const W_TILE: usize = 64;
/// Experts that `sort_slots.wgsl` has counters for.
const MAX_EXPERTS: usize = 256;

/// Slots by expert.
struct Sorted {
    /// Slots of each tile.
    order: View,
    /// The expert of each tile.
    experts: View,
    n_tiles: usize,
}

impl Wgpu {
    /// Whether to sort the slots of `n` rows.
    pub(super) fn tiles_pay(&self, n: usize, n_experts: usize) -> bool {
        n >= MATMUL_ROWS && n_experts <= MAX_EXPERTS && !self.shared.adapter.barrier_free
    }

    pub(super) fn mixed_in_tiles(
        &self,
        slots: &Slots<'_>,
        weights: &View,
        n_experts: usize,
        inner: usize,
        [gates, ups, downs]: [&[Run]; 3],
    ) -> Result<View> {
        let sorted = self.sorted(slots, n_experts)?;
        let gate = self.tiled(slots.x, slots.per_row, &sorted, gates, inner, slots.n)?;
        let up = self.tiled(slots.x, slots.per_row, &sorted, ups, inner, slots.n)?;
        let (hidden, h) = self.output(OP, slots.n, inner)?;
        let n = slots.n * inner;
        self.each(OP, Kernel::SwiGlu, &[gate, up, hidden], &[n as u32, 0, 0, 0], n)?;
        let cols = slots.x.cols;
        let down = self.tiled(&h, 1, &sorted, downs, cols, slots.n)?;
        let out = View::from(&self.scratch(OP, slots.x.rows * cols)?);
        let params = [slots.x.rows as u32, cols as u32, slots.per_row as u32, 0];
        let views = [down, weights.clone(), out.clone()];
        self.each(OP, Kernel::MixSlots, &views, &params, slots.x.rows * cols)?;
        Ok(out)
    }

    fn sorted(&self, slots: &Slots<'_>, n_experts: usize) -> Result<Sorted> {
        // Each expert may leave one tile that is not full.
        let n_tiles = slots.n.div_ceil(X_TILE) + n_experts;
        super::check(OP, n_tiles as u64 <= MAX_GROUPS, || {
            format!("{} choices in one pass; use a shorter prompt chunk", slots.n)
        })?;
        let order = View::from(&self.scratch(OP, n_tiles * X_TILE)?);
        let experts = View::from(&self.scratch(OP, n_tiles)?);
        let dispatch = Dispatch {
            kernel: Kernel::SortSlots,
            views: &[slots.ids.clone(), order.clone(), experts.clone()],
            params: &[slots.n as u32, n_experts as u32, n_tiles as u32, 0],
            grid: [1, 1, 1],
            weight_bytes: 0,
        };
        self.shared.dispatch(OP, &dispatch)?;
        Ok(Sorted { order, experts, n_tiles })
    }

    /// One projection to `rows` values a slot.
    fn tiled(
        &self,
        x: &Tensor,
        per_row: usize,
        sorted: &Sorted,
        runs: &[Run],
        rows: usize,
        n_slots: usize,
    ) -> Result<View> {
        let out = View::from(&self.scratch(OP, n_slots * rows)?);
        for run in runs {
            let views =
                [self.view(x)?, sorted.order.clone(), sorted.experts.clone(), run.part.view(), out.clone()];
            let params = params(x, per_row, run, rows, 0, [run, run]);
            let weight = run.part.storage.layout.dtype;
            let kernel = Kernel::ExpertMatMul { weight, aligned: x.cols.is_multiple_of(UNIT) };
            let grid = [rows.div_ceil(W_TILE) as u32, sorted.n_tiles as u32, 1];
            // About one tile an expert is not full; all tiles are counted.
            let weight_bytes = run.part.bytes(rows) * (sorted.n_tiles / runs.len()) as u64;
            let dispatch = Dispatch { kernel, views: &views, params: &params, grid, weight_bytes };
            self.shared.dispatch(OP, &dispatch)?;
        }
        Ok(out)
    }
}
