//! Grouped-query attention with an online softmax.
//!
//! Query vectors of a few rows and of all heads that share a key head go through the keys together, so that
//! each key is read, and decoded if need be, once for all of them. Keys are taken in blocks and spans that begin at fixed
//! tokens: the result for a row depends neither on the rows beside it nor on who computes what.

mod keys;
mod tile;

use std::ops::Range;

use rayon::prelude::*;
use tensor::{Heads, Mask};

use super::exp::exp_shifted;
use super::gemm::{Threads, Tiles, View, matmul, matmul_tile};
use super::simd::{self, vectorize};
use crate::team;

pub(crate) use keys::KeysValues;
use tile::{Partial, Task};

/// Query vectors that go through the keys together.
const BLOCK_QUERIES: usize = 64;
/// Keys whose softmax is computed on its own and then merged: what one thread takes at least.
const SPAN_KEYS: usize = 1024;
/// Rows of one block of the backward pass.
const BACKWARD_ROWS: usize = 64;

/// New rows that see each other, and how many keys come before them.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    /// Query rows.
    rows: Range<usize>,
    /// Keys in front of that of the first query row.
    past: usize,
    /// Whether keys after a query row are hidden from it.
    causal: bool,
}

impl Segment {
    /// The query rows `rows` after `past` keys, each of which sees the keys up to its own.
    pub(crate) fn causal(rows: Range<usize>, past: usize) -> Self {
        Self { rows, past, causal: true }
    }

    /// One past the last key that query row `i` sees.
    fn end(&self, i: usize) -> usize {
        let own = self.past + i - self.rows.start;
        if self.causal { own + 1 } else { self.past + self.rows.len() }
    }

    fn blocks(&self, n_rows: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let rows = self.rows.clone();
        rows.clone().step_by(n_rows).map(move |start| start..(start + n_rows).min(rows.end))
    }

    /// These rows of a matrix with rows of `width`.
    fn of<'a>(&self, x: &'a [f32], width: usize) -> &'a [f32] {
        &x[self.rows.start * width..self.rows.end * width]
    }
}

/// The segments of `n` rows that see each other as `mask` says.
pub(crate) fn segments(mask: &Mask<'_>, n: usize) -> Vec<Segment> {
    match mask {
        Mask::Causal => vec![Segment::causal(0..n, 0)],
        Mask::Segments { cu_seqlens, causal } => cu_seqlens
            .windows(2)
            .map(|bounds| bounds[0] as usize..bounds[1] as usize)
            .filter(|rows| !rows.is_empty())
            .map(|rows| Segment { rows, past: 0, causal: *causal })
            .collect(),
    }
}

/// Attention among the rows of `q` `[n, q_width]`, `k` and `v` `[n, kv_width]` → `[n, q_width]`.
pub(crate) fn among(q: &[f32], k: &[f32], v: &[f32], heads: Heads, segments: &[Segment]) -> Vec<f32> {
    let width = heads.kv_width();
    let keys: Vec<KeysValues> = segments
        .iter()
        .map(|segment| KeysValues::of_rows(heads, segment.of(k, width), segment.of(v, width)))
        .collect();
    let sources: Vec<_> = segments.iter().zip(&keys).collect();
    forward(q, heads, &sources)
}

/// Attention of the rows of each segment to its keys: `q` is `[n, q_width]`, and so is the result.
pub(crate) fn forward(q: &[f32], heads: Heads, sources: &[(&Segment, &KeysValues)]) -> Vec<f32> {
    let (d, q_width) = (heads.head_dim, heads.q_width());
    let group = heads.n_heads / heads.n_kv_heads;
    let mut out = vec![0.0; q.len()];
    let tiles = Tiles::new(&mut out, q_width);
    let mut tasks = Vec::new();
    for &(segment, keys) in sources {
        for rows in segment.blocks((BLOCK_QUERIES / group).max(1)) {
            let end = segment.end(rows.end - 1);
            for kv_head in 0..heads.n_kv_heads {
                tasks.push(Task { segment, keys, rows: rows.clone(), end, kv_head, group });
            }
        }
    }
    let spans = |task: &Task<'_>| (0..task.end).step_by(SPAN_KEYS).map(move |start| start..start + SPAN_KEYS);
    let write = |task: &Task<'_>, parts: &mut dyn Iterator<Item = Partial>| {
        let mut partial = parts.next().expect("there is at least one key");
        parts.for_each(|part| partial.merge(part));
        let cols = task.kv_head * group * d..(task.kv_head + 1) * group * d;
        // SAFETY: every task has its own rows and heads.
        #[expect(unsafe_code, reason = "threads write disjoint tiles")]
        let mut tile = unsafe { tiles.tile(task.rows.clone(), cols) };
        for i in 0..task.rows.len() {
            partial.write(i * group, d, tile.row(i));
        }
    };
    if tasks.len() >= 2 * team::n_threads() || tasks.iter().all(|task| task.end <= SPAN_KEYS) {
        team::for_each(tasks.len(), |i| {
            let task = &tasks[i];
            write(task, &mut spans(task).map(|keys| task.attend(q, heads, keys)));
        });
    } else {
        let pieces: Vec<_> =
            tasks.iter().flat_map(|task| spans(task).map(move |keys| (task, keys))).collect();
        let mut parts =
            team::map(pieces.len(), |i| pieces[i].0.attend(q, heads, pieces[i].1.clone())).into_iter();
        for task in &tasks {
            write(task, &mut parts.by_ref().take(spans(task).count()));
        }
    }
    out
}

/// Gradients of `q`, `k` and `v` from the gradient of the output; no cache.
pub(crate) fn backward(
    [q, k, v]: [&[f32]; 3],
    grad: &[f32],
    heads: Heads,
    segments: &[Segment],
) -> [Vec<f32>; 3] {
    let (d, q_width, kv_width) = (heads.head_dim, heads.q_width(), heads.kv_width());
    let group = heads.n_heads / heads.n_kv_heads;
    let [mut dq, mut dk, mut dv] = [vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]];
    let (dq_tiles, dk_tiles, dv_tiles) =
        (Tiles::new(&mut dq, q_width), Tiles::new(&mut dk, kv_width), Tiles::new(&mut dv, kv_width));
    let tasks: Vec<_> =
        segments.iter().flat_map(|segment| (0..heads.n_kv_heads).map(move |head| (segment, head))).collect();
    tasks.into_par_iter().for_each(|(segment, kv_head)| {
        let kv_cols = kv_head * d..(kv_head + 1) * d;
        let (mut p, mut ds) = (Vec::new(), Vec::new());
        for rows in segment.blocks(BACKWARD_ROWS) {
            let first_key = segment.rows.start;
            let keys = first_key..first_key + segment.end(rows.end - 1);
            let kv_at = keys.start * kv_width + kv_cols.start;
            let k_view = View::strided(&k[kv_at..], keys.len(), d, kv_width);
            let v_view = View::strided(&v[kv_at..], keys.len(), d, kv_width);
            // SAFETY: every task has its own segment and key head, and uses one tile of each at a time.
            #[expect(unsafe_code, reason = "threads write disjoint tiles")]
            let (mut dk, mut dv) = unsafe {
                (dk_tiles.tile(keys.clone(), kv_cols.clone()), dv_tiles.tile(keys.clone(), kv_cols.clone()))
            };
            for head in kv_head * group..(kv_head + 1) * group {
                let q_at = rows.start * q_width + head * d;
                let q_view = View::strided(&q[q_at..], rows.len(), d, q_width);
                let grad_view = View::strided(&grad[q_at..], rows.len(), d, q_width);
                p.resize(rows.len() * keys.len(), 0.0);
                ds.resize(rows.len() * keys.len(), 0.0);
                matmul(&mut p, q_view, k_view.t(), false, Threads::One);
                matmul(&mut ds, grad_view, v_view.t(), false, Threads::One);
                vectorize(|| {
                    let scores = p.chunks_exact_mut(keys.len()).zip(ds.chunks_exact_mut(keys.len()));
                    for (i, (p, ds)) in rows.clone().zip(scores) {
                        softmax_backward(p, ds, segment.end(i), heads.scale());
                    }
                });
                let p_view = View::new(&p, rows.len(), keys.len());
                let ds_view = View::new(&ds, rows.len(), keys.len());
                matmul_tile(&mut dv, p_view.t(), grad_view, true, Threads::One);
                matmul_tile(&mut dk, ds_view.t(), q_view, true, Threads::One);
                // SAFETY: every task has its own rows and heads.
                #[expect(unsafe_code, reason = "threads write disjoint tiles")]
                let mut dq = unsafe { dq_tiles.tile(rows.clone(), head * d..(head + 1) * d) };
                matmul_tile(&mut dq, ds_view, k_view, false, Threads::One);
            }
        }
    });
    [dq, dk, dv]
}

/// Turns unscaled scores into probabilities and their gradient into that of the unscaled scores.
#[inline(always)]
fn softmax_backward(p: &mut [f32], ds: &mut [f32], n_seen: usize, scale: f32) {
    p[n_seen..].fill(0.0);
    ds[n_seen..].fill(0.0);
    let (p, ds) = (&mut p[..n_seen], &mut ds[..n_seen]);
    p.iter_mut().for_each(|p| *p *= scale);
    let max = simd::max(p);
    let norm = 1.0 / exp_shifted(p, max);
    p.iter_mut().for_each(|p| *p *= norm);
    let mean = simd::sum_zip(p, ds, |p, ds| p * ds);
    for (ds, p) in ds.iter_mut().zip(p.iter()) {
        *ds = p * (*ds - mean) * scale;
    }
}
