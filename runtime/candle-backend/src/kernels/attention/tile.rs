//! One block of query vectors and one span of keys: scores, softmax, weighted values.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use tensor::Heads;

use super::keys::{KeysValues, PANEL, Panel, Scratch, padded_dim};
use super::{Segment, exp_shifted, simd};
use crate::kernels::exp::exp;

/// Keys of one block of scores.
const BLOCK_KEYS: usize = 4 * PANEL;
/// Query vectors whose sums are in registers together.
const TILE: usize = 6;
/// The same with vectors of whole panels, of which there are twice as many registers; the smaller one for a single row
/// of models with eight query heads a key head.
const WIDE_TILES: [usize; 2] = [12, 8];

/// A few query rows, all their heads that share one key head, and the keys they see.
pub(super) struct Task<'a> {
    pub(super) segment: &'a Segment,
    pub(super) keys: &'a KeysValues,
    pub(super) rows: Range<usize>,
    /// One past the last key that any row sees.
    pub(super) end: usize,
    pub(super) kv_head: usize,
    /// Query heads a key head.
    pub(super) group: usize,
}

/// The weighted values of some keys, not yet divided by the sum of weights.
pub(super) struct Partial {
    dim: usize,
    /// `[queries, padded_dim]`
    values: Vec<f32>,
    /// Largest score of each query vector.
    max: Vec<f32>,
    /// Sum of `e^(score − max)` of each query vector.
    sum: Vec<f32>,
}

impl Partial {
    fn new(n_queries: usize, dim: usize) -> Self {
        Self {
            dim,
            values: vec![0.0; n_queries * dim],
            max: vec![f32::NEG_INFINITY; n_queries],
            sum: vec![0.0; n_queries],
        }
    }

    /// Makes `max` at least `seen` for query vector `i`; returns the maximum.
    #[inline(always)]
    fn raise(&mut self, i: usize, seen: f32) -> f32 {
        if seen > self.max[i] {
            let scale = exp(self.max[i] - seen);
            self.max[i] = seen;
            self.sum[i] *= scale;
            self.values[i * self.dim..][..self.dim].iter_mut().for_each(|v| *v *= scale);
        }
        self.max[i]
    }

    /// Adds what the same query vectors found in later keys.
    pub(super) fn merge(&mut self, mut other: Self) {
        for i in 0..self.max.len() {
            let max = self.raise(i, other.max[i]);
            other.raise(i, max);
            self.sum[i] += other.sum[i];
        }
        self.values.iter_mut().zip(&other.values).for_each(|(a, b)| *a += b);
    }

    /// Writes the finished vectors from `first` on to `out` `[group, head_dim]`.
    pub(super) fn write(&self, first: usize, head_dim: usize, out: &mut [f32]) {
        for (i, out) in out.chunks_exact_mut(head_dim).enumerate() {
            let scale = 1.0 / self.sum[first + i];
            let values = &self.values[(first + i) * self.dim..];
            out.iter_mut().zip(values).for_each(|(out, v)| *out = v * scale);
        }
    }
}

impl Task<'_> {
    /// Attends to the keys of `span`, whose start is a multiple of [`BLOCK_KEYS`], as far as there are any.
    pub(super) fn attend(&self, q: &[f32], heads: Heads, span: Range<usize>) -> Partial {
        let (d, width) = (heads.head_dim, heads.q_width());
        let n = self.rows.len() * self.group;
        let mut queries = Vec::with_capacity(n * d);
        for row in self.rows.clone() {
            let q = &q[row * width + self.kv_head * self.group * d..][..self.group * d];
            queries.extend(q.iter().map(|q| q * heads.scale()));
        }
        let partial = Partial::new(n, padded_dim(d));
        let keys = span.start..span.end.min(self.end);
        Arch::new().dispatch(Attend { task: self, head_dim: d, q: &queries, keys, partial })
    }
}

struct Attend<'a> {
    task: &'a Task<'a>,
    head_dim: usize,
    /// `[queries, head_dim]`, scaled.
    q: &'a [f32],
    keys: Range<usize>,
    partial: Partial,
}

impl WithSimd for Attend<'_> {
    type Output = Partial;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Partial {
        let Self { task, head_dim, q, keys, mut partial } = self;
        let n = partial.max.len();
        let wide = S::F32_LANES == PANEL;
        let mut scores = vec![0.0; n * BLOCK_KEYS];
        let mut scratch: [Scratch; BLOCK_KEYS / PANEL] = Default::default();
        for start in keys.clone().step_by(BLOCK_KEYS) {
            let end = (start + BLOCK_KEYS).min(keys.end);
            let first_panel = start / PANEL;
            let n_panels = (end - start).div_ceil(PANEL);
            let mut panels = [Panel { keys: &[], values: &[] }; BLOCK_KEYS / PANEL];
            for (i, (panel, scratch)) in panels.iter_mut().zip(&mut scratch).take(n_panels).enumerate() {
                *panel = task.keys.panel(first_panel + i, task.kv_head, scratch);
            }
            let panels = &panels[..n_panels];
            for (first, n_tile) in tiles(n, wide) {
                let q = &q[first * head_dim..(first + n_tile) * head_dim];
                let out = &mut scores[first * BLOCK_KEYS..(first + n_tile) * BLOCK_KEYS];
                match n_tile {
                    1 => score::<S, 1>(simd, q, head_dim, panels, out),
                    2 => score::<S, 2>(simd, q, head_dim, panels, out),
                    3 => score::<S, 3>(simd, q, head_dim, panels, out),
                    4 => score::<S, 4>(simd, q, head_dim, panels, out),
                    5 => score::<S, 5>(simd, q, head_dim, panels, out),
                    8 => score::<S, 8>(simd, q, head_dim, panels, out),
                    12 => score::<S, 12>(simd, q, head_dim, panels, out),
                    _ => score::<S, TILE>(simd, q, head_dim, panels, out),
                }
            }
            for (i, scores) in scores.as_chunks_mut::<BLOCK_KEYS>().0.iter_mut().enumerate() {
                let seen = task.segment.end(task.rows.start + i / task.group).clamp(start, end) - start;
                let (seen, hidden) = scores.split_at_mut(seen);
                hidden.fill(0.0);
                let max = partial.raise(i, simd::max(seen));
                partial.sum[i] += exp_shifted(seen, max);
            }
            for (first, n_tile) in tiles(n, wide) {
                let p = &scores[first * BLOCK_KEYS..(first + n_tile) * BLOCK_KEYS];
                let dim = partial.dim;
                let out = &mut partial.values[first * dim..(first + n_tile) * dim];
                match n_tile {
                    1 => weigh::<S, 1>(simd, p, panels, out),
                    2 => weigh::<S, 2>(simd, p, panels, out),
                    3 => weigh::<S, 3>(simd, p, panels, out),
                    4 => weigh::<S, 4>(simd, p, panels, out),
                    5 => weigh::<S, 5>(simd, p, panels, out),
                    8 => weigh::<S, 8>(simd, p, panels, out),
                    12 => weigh::<S, 12>(simd, p, panels, out),
                    _ => weigh::<S, TILE>(simd, p, panels, out),
                }
            }
        }
        partial
    }
}

/// Cuts `n` query vectors into tiles, the largest ones first if they may be `wide`, the others of nearly one size: first
/// vector and count of each.
fn tiles(n: usize, wide: bool) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let left = n - first;
        let wide = WIDE_TILES.into_iter().find(|&tile| wide && left >= tile);
        let n_tile = wide.unwrap_or(left.div_ceil(left.div_ceil(TILE).max(1)));
        first += n_tile;
        (n_tile > 0).then_some((first - n_tile, n_tile))
    })
}

/// Most vectors that [`PANEL`] values fill, or two panels of one vector each.
const VECTORS: usize = 4;

/// Scores of `M` query vectors `q` with the keys `[head_dim, PANEL]` of each of `panels` → `out` `[M, BLOCK_KEYS]`.
#[inline(always)]
fn score<S: Simd, const M: usize>(simd: S, q: &[f32], d: usize, panels: &[Panel<'_>], out: &mut [f32]) {
    if S::F32_LANES * VECTORS < PANEL {
        for (i, panel) in panels.iter().enumerate() {
            let mut sums = [[0.0; PANEL]; M];
            for (j, keys) in panel.keys.as_chunks::<PANEL>().0.iter().enumerate() {
                for m in 0..M {
                    (0..PANEL).for_each(|lane| sums[m][lane] += q[m * d + j] * keys[lane]);
                }
            }
            for m in 0..M {
                out[m * BLOCK_KEYS + i * PANEL..][..PANEL].copy_from_slice(&sums[m]);
            }
        }
        return;
    }
    // Of whole panels in a vector, two at a time share what is read of the queries.
    let (pairs, rest) = match S::F32_LANES == PANEL {
        true => panels.as_chunks::<2>(),
        false => (&[][..], panels),
    };
    for (i, [a, b]) in pairs.iter().enumerate() {
        score_panels::<S, M, 2>(simd, q, d, [a.keys, b.keys], &mut out[2 * i * PANEL..]);
    }
    for (i, panel) in rest.iter().enumerate() {
        score_panels::<S, M, 1>(simd, q, d, [panel.keys], &mut out[(2 * pairs.len() + i) * PANEL..]);
    }
}

/// [`score`] for `P` panels side by side.
#[inline(always)]
fn score_panels<S: Simd, const M: usize, const P: usize>(
    simd: S,
    q: &[f32],
    d: usize,
    keys: [&[f32]; P],
    out: &mut [f32],
) {
    let q: [&[f32]; M] = std::array::from_fn(|m| &q[m * d..][..d]);
    let keys: [&[[f32; PANEL]]; P] = keys.map(|keys| &keys.as_chunks::<PANEL>().0[..d]);
    let n_vectors = PANEL / S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; M];
    for j in 0..d {
        for m in 0..M {
            let q = simd.splat_f32s(q[m][j]);
            for p in 0..P {
                let keys = S::as_simd_f32s(&keys[p][j]).0;
                for v in 0..n_vectors {
                    let sum = &mut sums[m][p * n_vectors + v];
                    *sum = simd.mul_add_e_f32s(q, keys[v], *sum);
                }
            }
        }
    }
    for m in 0..M {
        let out = S::as_mut_simd_f32s(&mut out[m * BLOCK_KEYS..][..P * PANEL]).0;
        out.copy_from_slice(&sums[m][..P * n_vectors]);
    }
}

/// Adds the values of all tokens of `panels`, times their weights `p` `[M, BLOCK_KEYS]`, to `out` `[M, dim]`.
#[inline(always)]
fn weigh<S: Simd, const M: usize>(simd: S, p: &[f32], panels: &[Panel<'_>], out: &mut [f32]) {
    let dim = out.len() / M;
    if S::F32_LANES * VECTORS < PANEL {
        for (i, panel) in panels.iter().enumerate() {
            for (lane, values) in panel.values.chunks_exact(dim).enumerate() {
                for m in 0..M {
                    let p = p[m * BLOCK_KEYS + i * PANEL + lane];
                    out[m * dim..][..dim].iter_mut().zip(values).for_each(|(out, v)| *out += p * v);
                }
            }
        }
        return;
    }
    let mut col = 0;
    while S::F32_LANES == PANEL && col + 2 * PANEL <= dim {
        weigh_columns::<S, M, 2>(simd, p, panels, col, out);
        col += 2 * PANEL;
    }
    while col < dim {
        weigh_columns::<S, M, 1>(simd, p, panels, col, out);
        col += PANEL;
    }
}

/// [`weigh`] for `P` times [`PANEL`] columns from `col`.
#[inline(always)]
fn weigh_columns<S: Simd, const M: usize, const P: usize>(
    simd: S,
    p: &[f32],
    panels: &[Panel<'_>],
    col: usize,
    out: &mut [f32],
) {
    let dim = out.len() / M;
    let n_vectors = P * PANEL / S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; M];
    for m in 0..M {
        let out = S::as_simd_f32s(&out[m * dim + col..][..P * PANEL]).0;
        sums[m][..n_vectors].copy_from_slice(out);
    }
    for (i, panel) in panels.iter().enumerate() {
        let weights: [&[f32; PANEL]; M] = std::array::from_fn(|m| {
            p[m * BLOCK_KEYS + i * PANEL..].first_chunk().expect("a block has whole panels")
        });
        for (lane, values) in panel.values.chunks_exact(dim).enumerate() {
            let values = S::as_simd_f32s(&values[col..][..P * PANEL]).0;
            for m in 0..M {
                let p = simd.splat_f32s(weights[m][lane]);
                for v in 0..n_vectors {
                    sums[m][v] = simd.mul_add_e_f32s(p, values[v], sums[m][v]);
                }
            }
        }
    }
    for m in 0..M {
        let out = S::as_mut_simd_f32s(&mut out[m * dim + col..][..P * PANEL]).0;
        out.copy_from_slice(&sums[m][..n_vectors]);
    }
}
