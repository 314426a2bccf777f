//! What each operation records. Operations that only lead to another one are put off: [`Wgpu::view`] makes up for it
//! where nobody fused them.

mod attention;
mod expert_tiles;
mod experts;
mod linear;
mod norm;
mod pointwise;
mod rows;
mod select;
mod shared_experts;

use std::rc::Rc;

use tensor::{Error, Result};

use crate::device::Wgpu;
use crate::pipeline::Kernel;
use crate::pool::{Buffer, Shelf};
use crate::recorder::{Dispatch, grid_of};
use crate::tensor_node::{Node, View};
use crate::{Ids, Tensor};

/// Threads of a workgroup.
const GROUP: u64 = 64;

pub(crate) fn check(op: &'static str, fits: bool, detail: impl FnOnce() -> String) -> Result<()> {
    if fits { Ok(()) } else { Err(Error::shape(op, detail())) }
}

impl Ids {
    /// That all are below `n`, as far as the host knows them.
    pub(crate) fn check(&self, op: &'static str, n: usize) -> Result<()> {
        match self.host.iter().flat_map(|ids| ids.iter()).find(|&&id| id as usize >= n) {
            Some(id) => Err(Error::shape(op, format!("row {id} of {n}"))),
            None => Ok(()),
        }
    }
}

impl Wgpu {
    /// Room for `n` values of four bytes.
    fn scratch(&self, op: &'static str, n: usize) -> Result<Rc<Buffer>> {
        self.shared.buffer(op, Shelf::Scratch, n as u64 * 4)
    }

    /// A new tensor `[rows, cols]` whose values a kernel will write.
    fn output(&self, op: &'static str, rows: usize, cols: usize) -> Result<(View, Tensor)> {
        let view = View::from(&self.scratch(op, rows * cols)?);
        Ok((view.clone(), Tensor::stored(view, rows, cols)))
    }

    /// Writes `bytes` to a buffer that nothing recorded uses.
    pub(crate) fn upload(&self, op: &'static str, bytes: &[u8]) -> Result<View> {
        let buffer = self.shared.buffer(op, Shelf::Upload, bytes.len() as u64)?;
        if !bytes.is_empty() {
            self.shared.queue.write_buffer(&buffer.raw, 0, bytes);
        }
        self.shared.count(|counters| counters.bytes_uploaded += bytes.len() as u64);
        Ok(View::from(&buffer))
    }

    /// What stands in for an input that a call lacks.
    fn nothing(&self) -> View {
        View::from(&self.shared.nothing)
    }

    /// Records a kernel of which each thread has one of `tasks`.
    fn each(
        &self,
        op: &'static str,
        kernel: Kernel,
        views: &[View],
        params: &[u32],
        tasks: usize,
    ) -> Result<()> {
        let grid = grid_of(tasks as u64, GROUP);
        self.shared.dispatch(op, &Dispatch { kernel, views, params, grid, weight_bytes: 0 })
    }

    /// Records a kernel that sums over each of `tasks`, together or alone as the tier does.
    fn each_sum(
        &self,
        op: &'static str,
        kernel: Kernel,
        views: &[View],
        params: &[u32],
        tasks: usize,
    ) -> Result<()> {
        let grid = grid_of(tasks as u64, self.tasks_per_group());
        self.shared.dispatch(op, &Dispatch { kernel, views, params, grid, weight_bytes: 0 })
    }

    /// Sums of one workgroup.
    fn tasks_per_group(&self) -> u64 {
        if self.shared.adapter.barrier_free { GROUP } else { 1 }
    }

    /// Where the values of `x` are, once what was put off has been recorded.
    pub(crate) fn view(&self, x: &Tensor) -> Result<View> {
        let node = x.node.borrow().clone();
        let view = match node {
            Node::Stored(view) => return Ok(view),
            Node::Sum(a, b) => self.sum(&a, &b)?,
            Node::Product { group, index } => self.products(&group)?[index].clone(),
            Node::Rotated { x, cos_sin, pairs } => self.rotated(&x, &cos_sin, pairs)?,
            Node::Gated(group) => self.gate_up(&group)?,
            Node::Routed(routed) => self.experts_of_one_row(&routed)?,
        };
        *x.node.borrow_mut() = Node::Stored(view.clone());
        Ok(view)
    }
}
