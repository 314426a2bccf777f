//! Grouped-query attention over row-major queries, keys and values.

use std::ops::Range;

use rayon::prelude::*;
use tensor::{Heads, Mask};

use super::exp::{exp, exp_shifted};
use super::gemm::{Threads, Tiles, View, matmul, matmul_tile};
use super::simd::{self, dot, vectorize};

/// Query vectors that share one block of scores.
const BLOCK_QUERIES: usize = 64;
/// Keys that share one block of scores: a block of keys stays in the second-level cache.
const BLOCK_KEYS: usize = 512;
/// Up to this many query vectors reading the keys costs more than multiplying: no packing then.
const FEW_QUERIES: usize = 8;
/// Keys one task takes when there are only few query vectors.
const SPLIT_KEYS: usize = 1024;

/// New rows that see each other, and the key rows in front of them.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    /// Query rows.
    rows: Range<usize>,
    /// First visible key row.
    first_key: usize,
    /// Key row of the first query row itself; rows after a query row are hidden when causal.
    diagonal: usize,
    causal: bool,
}

impl Segment {
    /// Query row `i` alone, which is row `key` of the keys and sees all up to that.
    pub(crate) fn of_row(i: usize, key: usize) -> Self {
        Self { rows: i..i + 1, first_key: 0, diagonal: key, causal: true }
    }

    /// One past the last key that query row `i` sees.
    fn end(&self, i: usize) -> usize {
        let own = self.diagonal + i - self.rows.start;
        if self.causal { own + 1 } else { self.diagonal + self.rows.len() }
    }

    fn blocks(&self, n_rows: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let rows = self.rows.clone();
        rows.clone().step_by(n_rows).map(move |start| start..(start + n_rows).min(rows.end))
    }
}

/// The segments of `n` new rows after `past` cached ones.
pub(crate) fn segments(mask: &Mask<'_>, n: usize, past: usize) -> Vec<Segment> {
    match mask {
        Mask::Causal => vec![Segment { rows: 0..n, first_key: 0, diagonal: past, causal: true }],
        Mask::Segments { cu_seqlens, causal } => cu_seqlens
            .windows(2)
            .map(|bounds| (bounds[0] as usize, bounds[1] as usize))
            .filter(|(start, end)| start < end)
            .map(|(start, end)| Segment {
                rows: start..end,
                first_key: start,
                diagonal: start,
                causal: *causal,
            })
            .collect(),
    }
}

/// The query vectors of one block of rows and one key head, and what they have seen so far.
struct Block<'a> {
    segment: &'a Segment,
    rows: Range<usize>,
    group: usize,
    head_dim: usize,
    /// `[rows * group, head_dim]`, scaled.
    q: Vec<f32>,
}

/// Online softmax: the weighted values of some keys, not yet divided by the sum of weights.
struct Partial {
    /// `[queries, head_dim]`
    values: Vec<f32>,
    /// Largest score of each query vector.
    max: Vec<f32>,
    /// Sum of `e^(score − max)` of each query vector.
    sum: Vec<f32>,
}

impl Partial {
    fn new(n_queries: usize, head_dim: usize) -> Self {
        Self {
            values: vec![0.0; n_queries * head_dim],
            max: vec![f32::NEG_INFINITY; n_queries],
            sum: vec![0.0; n_queries],
        }
    }

    /// Makes `max` at least `seen` for query vector `i`; returns the maximum.
    fn raise(&mut self, i: usize, seen: f32, head_dim: usize) -> f32 {
        if seen > self.max[i] {
            let scale = exp(self.max[i] - seen);
            self.max[i] = seen;
            self.sum[i] *= scale;
            self.values[i * head_dim..][..head_dim].iter_mut().for_each(|v| *v *= scale);
        }
        self.max[i]
    }

    fn merge(mut self, mut other: Self, head_dim: usize) -> Self {
        for i in 0..self.max.len() {
            let max = self.raise(i, other.max[i], head_dim);
            other.raise(i, max, head_dim);
            self.sum[i] += other.sum[i];
        }
        self.values.iter_mut().zip(&other.values).for_each(|(a, b)| *a += b);
        self
    }
}

impl Block<'_> {
    fn n_queries(&self) -> usize {
        self.rows.len() * self.group
    }

    /// Attends to the keys `keys`; `k` and `v` start at the features of this block's head.
    fn attend(&self, k: &[f32], v: &[f32], kv_width: usize, keys: Range<usize>) -> Partial {
        let (n, d) = (self.n_queries(), self.head_dim);
        let mut partial = Partial::new(n, d);
        let mut scores = vec![0.0; n * keys.len().min(BLOCK_KEYS)];
        for start in keys.clone().step_by(BLOCK_KEYS) {
            let n_keys = (keys.end - start).min(BLOCK_KEYS);
            let scores = &mut scores[..n * n_keys];
            let (k, v) = (&k[start * kv_width..], &v[start * kv_width..]);
            if n <= FEW_QUERIES {
                for (j, k) in k.chunks(kv_width).take(n_keys).enumerate() {
                    for (i, q) in self.q.chunks_exact(d).enumerate() {
                        scores[i * n_keys + j] = dot(q, &k[..d]);
                    }
                }
            } else {
                let k = View::strided(k, n_keys, d, kv_width);
                matmul(scores, View::new(&self.q, n, d), k.t(), false, Threads::One);
            }
            vectorize(|| {
                for (i, scores) in scores.chunks_exact_mut(n_keys).enumerate() {
                    let end = self.segment.end(self.rows.start + i / self.group);
                    let (seen, hidden) = scores.split_at_mut(end.clamp(start, start + n_keys) - start);
                    hidden.fill(0.0);
                    let max = partial.raise(i, simd::max(seen), d);
                    partial.sum[i] += exp_shifted(seen, max);
                }
            });
            if n <= FEW_QUERIES {
                vectorize(|| {
                    for (j, v) in v.chunks(kv_width).take(n_keys).enumerate() {
                        for (i, out) in partial.values.chunks_exact_mut(d).enumerate() {
                            let p = scores[i * n_keys + j];
                            out.iter_mut().zip(v).for_each(|(o, v)| *o += p * v);
                        }
                    }
                });
            } else {
                let (p, v) = (View::new(scores, n, n_keys), View::strided(v, n_keys, d, kv_width));
                matmul(&mut partial.values, p, v, true, Threads::One);
            }
        }
        partial
    }
}

/// `q` is `[n, q_width]`, `k` and `v` are `[cached + n, kv_width]`; returns `[n, q_width]`.
pub(crate) fn forward(q: &[f32], k: &[f32], v: &[f32], heads: Heads, segments: &[Segment]) -> Vec<f32> {
    let (d, q_width, kv_width) = (heads.head_dim, heads.q_width(), heads.kv_width());
    let group = heads.n_heads / heads.n_kv_heads;
    let mut out = vec![0.0; q.len()];
    let tiles = Tiles::new(&mut out, q_width);
    let block_rows = (BLOCK_QUERIES / group).max(1);
    let tasks: Vec<_> = segments
        .iter()
        .flat_map(|segment| segment.blocks(block_rows).map(move |rows| (segment, rows)))
        .flat_map(|(segment, rows)| {
            (0..heads.n_kv_heads).map(move |kv_head| (segment, rows.clone(), kv_head))
        })
        .collect();
    tasks.into_par_iter().for_each(|(segment, rows, kv_head)| {
        let cols = kv_head * group * d..(kv_head + 1) * group * d;
        let q = rows.clone().flat_map(|row| &q[row * q_width..][cols.clone()]);
        let q = q.map(|q| q * heads.scale()).collect();
        let keys = segment.first_key..segment.end(rows.end - 1);
        let block = Block { segment, rows: rows.clone(), group, head_dim: d, q };
        let (k, v) = (&k[kv_head * d..], &v[kv_head * d..]);
        let partial = if block.n_queries() <= FEW_QUERIES && keys.len() > SPLIT_KEYS {
            let starts: Vec<usize> = keys.clone().step_by(SPLIT_KEYS).collect();
            let parts: Vec<Partial> = starts
                .into_par_iter()
                .map(|start| block.attend(k, v, kv_width, start..(start + SPLIT_KEYS).min(keys.end)))
                .collect();
            parts.into_iter().reduce(|a, b| a.merge(b, d)).expect("there is at least one key")
        } else {
            block.attend(k, v, kv_width, keys)
        };
        // SAFETY: every task has its own rows and heads.
        #[expect(unsafe_code, reason = "threads write disjoint tiles")]
        let mut tile = unsafe { tiles.tile(rows.clone(), cols) };
        let rows_of_values = partial.values.chunks_exact(group * d).zip(partial.sum.chunks_exact(group));
        for (i, (values, sums)) in rows_of_values.enumerate() {
            for (out, (values, sum)) in tile.row(i).chunks_exact_mut(d).zip(values.chunks_exact(d).zip(sums))
            {
                let scale = 1.0 / sum;
                out.iter_mut().zip(values).for_each(|(out, v)| *out = v * scale);
            }
        }
    });
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
        for rows in segment.blocks(BLOCK_QUERIES) {
            let keys = segment.first_key..segment.end(rows.end - 1);
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
                        softmax_backward(p, ds, segment.end(i) - keys.start, heads.scale());
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
