//! Rows sorted by expert, and what is done to them.

use std::ops::Range;

use rayon::prelude::*;

use super::gemm::{Threads, Tiles, View, matmul_tile};
use super::simd::{dot, vectorize};

/// Rows sorted by the expert they go to; within an expert in row order.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    /// Choice (`row * top_k + slot`) behind every sorted row.
    pub(crate) choices: Vec<u32>,
    /// Sorted row of every choice.
    pub(crate) places: Vec<u32>,
    /// Sorted rows of expert `e`: `bounds[e]..bounds[e + 1]`.
    bounds: Vec<usize>,
    top_k: usize,
}

impl Groups {
    /// Sorts the choices `expert_ids` `[n * top_k]`, all below `n_experts`.
    pub(crate) fn new(expert_ids: &[u32], n_experts: usize, top_k: usize) -> Self {
        let mut bounds = vec![0; n_experts + 1];
        for &e in expert_ids {
            bounds[e as usize + 1] += 1;
        }
        for e in 0..n_experts {
            bounds[e + 1] += bounds[e];
        }
        let mut next = bounds.clone();
        let mut choices = vec![0; expert_ids.len()];
        let mut places = Vec::with_capacity(expert_ids.len());
        for (choice, &e) in (0..).zip(expert_ids) {
            let place = &mut next[e as usize];
            choices[*place] = choice;
            places.push(*place as u32);
            *place += 1;
        }
        Self { choices, places, bounds, top_k }
    }

    /// Number of experts.
    pub(crate) fn n_experts(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Sorted rows of expert `e`.
    pub(crate) fn rows(&self, e: usize) -> Range<usize> {
        self.bounds[e]..self.bounds[e + 1]
    }

    /// Row of the input behind every sorted row.
    pub(crate) fn input_rows(&self) -> Vec<u32> {
        self.choices.iter().map(|choice| choice / self.top_k as u32).collect()
    }
}

/// Sorted rows `x` through their expert's part of `w` `[n_experts * rows, cols]`.
pub(crate) fn linear(x: &[f32], w: &[f32], rows: usize, cols: usize, groups: &Groups) -> Vec<f32> {
    let mut y = vec![0.0; groups.choices.len() * rows];
    each_group(&mut y, rows, groups, |e, y| {
        let range = groups.rows(e);
        let x = View::new(&x[range.start * cols..range.end * cols], range.len(), cols);
        let w = View::new(&w[e * rows * cols..][..rows * cols], rows, cols);
        matmul_tile(y, x, w.t(), false, Threads::All);
    });
    y
}

/// Gradients of the sorted rows and of all experts' weights.
pub(crate) fn linear_backward(
    x: &[f32],
    w: &[f32],
    grad: &[f32],
    rows: usize,
    cols: usize,
    groups: &Groups,
) -> [Vec<f32>; 2] {
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    let grad_of =
        |range: &Range<usize>| View::new(&grad[range.start * rows..range.end * rows], range.len(), rows);
    each_group(&mut dx, cols, groups, |e, dx| {
        let w = View::new(&w[e * rows * cols..][..rows * cols], rows, cols);
        matmul_tile(dx, grad_of(&groups.rows(e)), w, false, Threads::All);
    });
    dw.par_chunks_mut(rows * cols).enumerate().for_each(|(e, dw)| {
        let range = groups.rows(e);
        let x = View::new(&x[range.start * cols..range.end * cols], range.len(), cols);
        super::gemm::matmul(dw, grad_of(&range).t(), x, false, Threads::All);
    });
    [dx, dw]
}

/// Calls `f` with every expert and its sorted rows of `y`.
fn each_group(
    y: &mut [f32],
    cols: usize,
    groups: &Groups,
    f: impl Fn(usize, &mut super::gemm::TileMut<'_>) + Sync,
) {
    let tiles = Tiles::new(y, cols);
    (0..groups.n_experts()).into_par_iter().for_each(|e| {
        // SAFETY: experts have disjoint sorted rows.
        #[expect(unsafe_code, reason = "threads write disjoint rows")]
        let mut tile = unsafe { tiles.tile(groups.rows(e), 0..cols) };
        f(e, &mut tile);
    });
}

/// Row `i` is the sum of its choices' sorted rows, times their weights, in the order of the choices.
pub(crate) fn combine(y: &[f32], weights: &[f32], cols: usize, groups: &Groups) -> Vec<f32> {
    let mut out = vec![0.0; weights.len() / groups.top_k * cols];
    super::rows::for_chunks(&mut out, cols, |start, out| {
        for (i, out) in out.chunks_exact_mut(cols).enumerate() {
            let choices = (start + i) * groups.top_k..(start + i + 1) * groups.top_k;
            for choice in choices {
                let y = &y[groups.places[choice] as usize * cols..][..cols];
                let weight = weights[choice];
                out.iter_mut().zip(y).for_each(|(out, y)| *out += weight * y);
            }
        }
    });
    out
}

/// Gradients of the sorted rows and of the weights.
pub(crate) fn combine_backward(
    y: &[f32],
    weights: &[f32],
    grad: &[f32],
    cols: usize,
    groups: &Groups,
) -> [Vec<f32>; 2] {
    let mut dy = vec![0.0; y.len()];
    let grad_of = |choice: usize| &grad[choice / groups.top_k * cols..][..cols];
    super::rows::for_chunks(&mut dy, cols, |start, dy| {
        for (dy, &choice) in dy.chunks_exact_mut(cols).zip(&groups.choices[start..]) {
            let weight = weights[choice as usize];
            dy.iter_mut().zip(grad_of(choice as usize)).for_each(|(dy, grad)| *dy = weight * grad);
        }
    });
    let d_weights = vectorize(|| {
        let place = |choice: usize| groups.places[choice] as usize * cols;
        (0..weights.len()).map(|choice| dot(grad_of(choice), &y[place(choice)..][..cols])).collect()
    });
    [dy, d_weights]
}
