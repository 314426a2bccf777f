//! Products with weights: a few rows one way, many rows another.

use std::array;
use std::cell::RefCell;
use std::rc::Rc;

use tensor::Result;

use crate::device::Wgpu;
use crate::ops::check;
use crate::pipeline::Kernel;
use crate::pool::VIEW_ALIGN;
use crate::recorder::{Dispatch, MAX_GROUPS};
use crate::tensor_node::{Node, Products, View};
use crate::weight::{Part, UNIT};
use crate::{Tensor, Weight};

/// Weights of one product at most: three, with their biases, are the bindings that every device has.
const MAX_SEGMENTS: usize = 3;
/// Rows of `x` from which on a tile is worth its barriers.
pub(super) const MATMUL_ROWS: usize = 12;
/// Rows of `x` that a thread takes at once if there is more than one.
const X_ROWS: usize = 4;
/// Rows of a weight that a task takes.
const BLOCK: usize = 4;

/// A product to be recorded: one weight part, and where its results go.
struct Segment<'a> {
    part: Part,
    bias: Option<View>,
    /// The first value of `out` that it writes.
    base: usize,
    /// From one row of results to the next.
    stride: usize,
    name: &'a str,
}

impl Wgpu {
    /// Products of `x` with several weights, not yet recorded.
    pub(crate) fn later_products<const N: usize>(
        &self,
        op: &'static str,
        x: &Tensor,
        ws: [(&Weight, Option<&Weight>); N],
    ) -> Result<[Tensor; N]> {
        for (w, bias) in ws {
            let (rows, cols) = (w.0.rows, w.0.cols);
            check(op, x.cols == cols, || format!("rows of {} through a weight [{rows}, {cols}]", x.cols))?;
            bias.map(|bias| bias.vector(op, rows)).transpose()?;
        }
        let weights = ws.map(|(w, bias)| (w.clone(), bias.cloned())).to_vec();
        let group = Rc::new(Products { x: x.clone(), weights, outputs: RefCell::default() });
        Ok(array::from_fn(|index| {
            Tensor::new(Node::Product { group: Rc::clone(&group), index }, x.rows, ws[index].0.0.rows)
        }))
    }

    /// The results of a group, recorded now if they were not before.
    pub(crate) fn products(&self, group: &Products) -> Result<Vec<View>> {
        if let Some(outputs) = &*group.outputs.borrow() {
            return Ok(outputs.clone());
        }
        let n = group.x.rows;
        let x = self.view(&group.x)?;
        let align = VIEW_ALIGN as usize / 4;
        let mut bases = Vec::new();
        let mut end = 0;
        for (w, _) in &group.weights {
            bases.push(end);
            end += (n * w.0.rows).next_multiple_of(align);
        }
        let buffer = self.scratch("linear", end)?;
        let out = View::from(&buffer);
        let mut segments = Vec::new();
        for ((w, bias), &base) in group.weights.iter().zip(&bases) {
            let bias = bias.as_ref().map(|bias| bias.vector("linear", w.0.rows)).transpose()?;
            for part in w.0.parts.borrow().iter() {
                let (base, bias) = (base + part.rows.start, bias.clone());
                // A part begins inside the bias, at a place that a view may not begin at.
                let bias = match part.rows.start {
                    0 => bias,
                    start => bias.map(|bias| self.shifted(&bias, start, part.rows.len())).transpose()?,
                };
                segments.push(Segment { part: part.clone(), bias, base, stride: w.0.rows, name: &w.0.name });
            }
        }
        let is_tiled = n >= MATMUL_ROWS && !self.shared.adapter.barrier_free;
        if n > 0 && is_tiled {
            for segment in &segments {
                self.matmul(&x, &group.x, segment, &out)?;
            }
        } else if n > 0 {
            for segments in segments.chunks(MAX_SEGMENTS) {
                self.matvec(&x, &group.x, segments, &out)?;
            }
        }
        let outputs: Vec<View> =
            bases.iter().map(|&base| View { buffer: Rc::clone(&buffer), offset: base as u64 * 4 }).collect();
        *group.outputs.borrow_mut() = Some(outputs.clone());
        Ok(outputs)
    }

    /// A copy of `n` values of `vector` from `start` on.
    fn shifted(&self, vector: &View, start: usize, n: usize) -> Result<View> {
        let buffer = self.scratch("linear", n)?;
        let from = (&*vector.buffer, vector.offset + start as u64 * 4);
        self.shared.copy(from, (&buffer.raw, 0), n as u64 * 4);
        Ok(View::from(&buffer))
    }

    fn matvec(&self, x: &View, shape: &Tensor, segments: &[Segment<'_>], out: &View) -> Result<()> {
        let n = shape.rows;
        let x_rows = if n == 1 { 1 } else { X_ROWS };
        let mut weights = [None; MAX_SEGMENTS];
        let mut views = vec![x.clone()];
        views.extend(vec![self.nothing(); 2 * MAX_SEGMENTS]);
        views.push(out.clone());
        let mut fields = Fields::new(shape);
        let (mut tasks, mut weight_bytes) = (0, 0);
        for (i, segment) in segments.iter().enumerate() {
            let rows = segment.part.rows.len();
            weights[i] = Some(segment.part.storage.layout.dtype);
            views[1 + i] = segment.part.view();
            if let Some(bias) = &segment.bias {
                views[1 + MAX_SEGMENTS + i] = bias.clone();
            }
            fields.set(i, segment);
            tasks += rows.div_ceil(BLOCK);
            weight_bytes += segment.part.bytes(rows) * n.div_ceil(x_rows) as u64;
        }
        let groups = (tasks as u64).div_ceil(self.tasks_per_group());
        fits_grid(groups, segments)?;
        let kernel =
            Kernel::MatVec { weights, x_rows: x_rows as u32, aligned: shape.cols.is_multiple_of(UNIT) };
        let grid = [groups as u32, n.div_ceil(x_rows) as u32, 1];
        let params = &fields.words();
        self.shared.dispatch("linear", &Dispatch { kernel, views: &views, params, grid, weight_bytes })
    }

    fn matmul(&self, x: &View, shape: &Tensor, segment: &Segment<'_>, out: &View) -> Result<()> {
        const X_TILE: usize = 32;
        const W_TILE: usize = 64;
        let (n, rows) = (shape.rows, segment.part.rows.len());
        let weight = segment.part.storage.layout.dtype;
        let bias = segment.bias.clone().unwrap_or_else(|| self.nothing());
        let views = [x.clone(), segment.part.view(), bias, out.clone()];
        let mut fields = Fields::new(shape);
        fields.set(0, segment);
        let kernel = Kernel::MatMul { weight, aligned: shape.cols.is_multiple_of(UNIT) };
        let tiles = n.div_ceil(X_TILE);
        let weight_bytes = segment.part.bytes(rows) * tiles as u64;
        let grid = [rows.div_ceil(W_TILE) as u32, tiles as u32, 1];
        let params = &fields.words();
        self.shared.dispatch("linear", &Dispatch { kernel, views: &views, params, grid, weight_bytes })
    }
}

fn fits_grid(groups: u64, segments: &[Segment<'_>]) -> Result<()> {
    check("linear", groups <= MAX_GROUPS, || {
        let names: Vec<&str> = segments.iter().map(|segment| segment.name).collect();
        format!("{names:?} have more rows together than one dispatch reaches")
    })
}

/// The parameters of both kernels: six vectors of four.
struct Fields([[u32; 4]; 6]);

impl Fields {
    fn new(x: &Tensor) -> Self {
        let mut fields = [[0; 4]; 6];
        fields[0] = [x.cols.div_ceil(UNIT) as u32, x.rows as u32, x.cols as u32, 0];
        Self(fields)
    }

    fn set(&mut self, i: usize, segment: &Segment<'_>) {
        let [shape, rows, codes, factors, base, stride] = &mut self.0;
        shape[3] |= u32::from(segment.bias.is_some()) << i;
        rows[i] = segment.part.rows.len() as u32;
        codes[i] = segment.part.codes();
        factors[i] = segment.part.factors();
        base[i] = segment.base as u32;
        stride[i] = segment.stride as u32;
    }

    fn words(&self) -> Vec<u32> {
        self.0.concat()
    }
}
