//! The executable specification: every operation as plain `f32` loops.
//!
//! Slow on purpose. Sums that decide a result (norms, softmax, dot products) run in `f64`, so the
//! oracle is nearer to the truth than what it judges.

use std::ops::Range;

use crate::{
    Backend, Candidate, Error, Experts, Gelu, Heads, Mask, RawTensor, Result, RopePairs, Routing, WeightBytes,
};

/// The plain-loop backend.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reference;

/// A matrix of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    data: Vec<f32>,
    cols: usize,
}

impl Matrix {
    /// Rows of `cols` values each.
    fn new(data: Vec<f32>, cols: usize) -> Self {
        Self { data, cols }
    }

    /// All values, row after row.
    #[must_use]
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    fn n_rows(&self) -> usize {
        self.data.len() / self.cols.max(1)
    }

    fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.cols..(i + 1) * self.cols]
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks_exact(self.cols)
    }

    /// One new row for each row of `self`.
    fn map_rows(&self, mut f: impl FnMut(&[f32]) -> Vec<f32>) -> Self {
        let mut cols = self.cols;
        let mut data = Vec::with_capacity(self.data.len());
        for row in self.rows() {
            let mapped = f(row);
            cols = mapped.len();
            data.extend(mapped);
        }
        Self { data, cols }
    }

    fn map(&self, f: impl Fn(f32) -> f32) -> Self {
        Self { data: self.data.iter().map(|&v| f(v)).collect(), cols: self.cols }
    }

    fn zip(&self, other: &Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let data = self.data.iter().zip(&other.data).map(|(&a, &b)| f(a, b)).collect();
        Self { data, cols: self.cols }
    }
}

/// A parameter, decoded to `f32`.
#[derive(Debug, Clone)]
pub struct ReferenceWeight {
    rows: usize,
    matrix: Matrix,
}

/// Keys and values of one layer, one row a token.
#[derive(Debug, Clone)]
pub struct ReferenceCache {
    k: Matrix,
    v: Matrix,
}

fn check(op: &'static str, fits: bool, detail: impl FnOnce() -> String) -> Result<()> {
    if fits { Ok(()) } else { Err(Error::shape(op, detail())) }
}

fn same_shape(op: &'static str, x: &Matrix, y: &Matrix) -> Result<()> {
    check(op, x.cols == y.cols && x.data.len() == y.data.len(), || {
        format!("[{}, {}] and [{}, {}]", x.n_rows(), x.cols, y.n_rows(), y.cols)
    })
}

fn vector<'w>(op: &'static str, w: &'w ReferenceWeight, len: usize) -> Result<&'w [f32]> {
    check(op, w.matrix.data.len() == len, || {
        format!("a vector of {} for rows of {len}", w.matrix.data.len())
    })?;
    Ok(&w.matrix.data)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn softmax(scores: &mut [f64]) {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for s in scores.iter_mut() {
        *s = (*s - max).exp();
        sum += *s;
    }
    for s in scores {
        *s /= sum;
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `x · Φ(x)` by the series and the continued fraction of the error function.
fn gelu_erf(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

/// The error function to double precision: Maclaurin series near zero, continued fraction beyond.
fn erf(x: f64) -> f64 {
    let z = x.abs();
    let value = if z < 2.5 {
        let (mut term, mut sum) = (z, z);
        for n in 1..100 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        // erfc(z) = exp(−z²)/√π · 1/(z + (1/2)/(z + 1/(z + (3/2)/(z + …)))).
        let fraction = (1..60).rev().fold(z, |tail, n| z + f64::from(n) / 2.0 / tail);
        1.0 - (-z * z).exp() / (fraction * std::f64::consts::PI.sqrt())
    };
    value.copysign(x)
}

/// The rows that row `i` of `n` new rows sees, in cache-then-new numbering; `past` rows are cached.
fn visible(mask: &Mask<'_>, i: usize, past: usize) -> Range<usize> {
    match mask {
        Mask::Causal => 0..past + i + 1,
        Mask::Segments { cu_seqlens, causal } => {
            let segment = cu_seqlens.partition_point(|&start| start as usize <= i);
            let start = cu_seqlens[segment - 1] as usize;
            start..if *causal { i + 1 } else { cu_seqlens[segment] as usize }
        }
    }
}

/// Checks that segment bounds are ordered and cover exactly `n` rows.
fn check_mask(mask: &Mask<'_>, n: usize, cached: bool) -> Result<()> {
    let Mask::Segments { cu_seqlens, .. } = mask else { return Ok(()) };
    check("attention", Mask::segments_cover(cu_seqlens, n) && !cached, || {
        format!("segments {cu_seqlens:?} over {n} rows, cached: {cached}")
    })
}

impl Backend for Reference {
    type Tensor = Matrix;
    type Ids = Vec<u32>;
    type Weight = ReferenceWeight;
    type Cache = ReferenceCache;

    fn weight(&self, raw: RawTensor) -> Result<ReferenceWeight> {
        Ok(ReferenceWeight { rows: raw.rows(), matrix: Matrix::new(raw.to_f32()?, raw.cols()) })
    }

    fn weight_bytes(&self, weight: &ReferenceWeight) -> WeightBytes {
        WeightBytes { shared: 0, owned: size_of_val(weight.matrix.data.as_slice()) as u64 }
    }

    fn tensor(&self, rows: &[f32], cols: usize) -> Result<Matrix> {
        check("tensor", cols > 0 && rows.len().is_multiple_of(cols), || {
            format!("{} values in rows of {cols}", rows.len())
        })?;
        Ok(Matrix::new(rows.to_vec(), cols))
    }

    fn ids(&self, ids: &[u32]) -> Result<Vec<u32>> {
        Ok(ids.to_vec())
    }

    fn cache(&self, heads: Heads, _capacity: usize) -> Result<ReferenceCache> {
        let empty = Matrix::new(Vec::new(), heads.kv_width());
        Ok(ReferenceCache { k: empty.clone(), v: empty })
    }

    fn cache_len(&self, cache: &ReferenceCache) -> usize {
        cache.k.n_rows()
    }

    fn truncate(&self, cache: &mut ReferenceCache, len: usize) -> Result<()> {
        check("truncate", len <= cache.k.n_rows(), || format!("{len} of {} rows", cache.k.n_rows()))?;
        for part in [&mut cache.k, &mut cache.v] {
            part.data.truncate(len * part.cols);
        }
        Ok(())
    }

    fn read_cache(&self, cache: &ReferenceCache) -> Result<Option<[Vec<f32>; 2]>> {
        Ok(Some([cache.k.data.clone(), cache.v.data.clone()]))
    }

    fn append_cache(&self, cache: &mut ReferenceCache, k: &[f32], v: &[f32]) -> Result<bool> {
        check("append_cache", k.len() == v.len() && k.len().is_multiple_of(cache.k.cols), || {
            format!("{} keys and {} values in rows of {}", k.len(), v.len(), cache.k.cols)
        })?;
        cache.k.data.extend_from_slice(k);
        cache.v.data.extend_from_slice(v);
        Ok(true)
    }

    fn shape(&self, x: &Matrix) -> (usize, usize) {
        (x.n_rows(), x.cols)
    }

    fn exact_rows(&self) -> usize {
        usize::MAX
    }

    async fn read(&self, x: &Matrix) -> Result<Vec<f32>> {
        Ok(x.data.clone())
    }

    async fn read_ids(&self, ids: &Vec<u32>) -> Result<Vec<u32>> {
        Ok(ids.clone())
    }

    async fn top_k(&self, logits: &Matrix, k: usize) -> Result<Vec<Candidate>> {
        check("top_k", logits.n_rows() == 1, || format!("{} rows", logits.n_rows()))?;
        let mut candidates: Vec<_> =
            (0..).zip(&logits.data).map(|(id, &logit)| Candidate { id, logit }).collect();
        candidates.sort_by(|a, b| b.logit.total_cmp(&a.logit));
        candidates.truncate(k);
        Ok(candidates)
    }

    fn argmax(&self, logits: &Matrix) -> Result<Vec<u32>> {
        let best = |row: &[f32]| (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
        Ok(logits.rows().map(|row| best(row) as u32).collect())
    }

    fn embed(&self, table: &ReferenceWeight, ids: &Vec<u32>) -> Result<Matrix> {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= table.rows) {
            return Err(Error::shape("embed", format!("row {id} of {}", table.rows)));
        }
        self.gather(&table.matrix, ids)
    }

    fn gather(&self, x: &Matrix, rows: &Vec<u32>) -> Result<Matrix> {
        let mut data = Vec::with_capacity(rows.len() * x.cols);
        for &row in rows {
            check("gather", (row as usize) < x.n_rows(), || format!("row {row} of {}", x.n_rows()))?;
            data.extend_from_slice(x.row(row as usize));
        }
        Ok(Matrix::new(data, x.cols))
    }

    fn scatter(&self, x: &Matrix, rows: &Vec<u32>, src: &Matrix) -> Result<Matrix> {
        check("scatter", rows.len() == src.n_rows() && src.cols == x.cols, || {
            format!("{} rows of {} into rows of {}, {} indices", src.n_rows(), src.cols, x.cols, rows.len())
        })?;
        let mut out = x.clone();
        for (&row, values) in rows.iter().zip(src.rows()) {
            check("scatter", (row as usize) < x.n_rows(), || format!("row {row} of {}", x.n_rows()))?;
            out.data[row as usize * x.cols..][..x.cols].copy_from_slice(values);
        }
        Ok(out)
    }

    fn reshape(&self, x: &Matrix, cols: usize) -> Result<Matrix> {
        check("reshape", cols > 0 && x.data.len().is_multiple_of(cols), || {
            format!("{} values in rows of {cols}", x.data.len())
        })?;
        Ok(Matrix::new(x.data.clone(), cols))
    }

    fn add(&self, x: &Matrix, y: &Matrix) -> Result<Matrix> {
        same_shape("add", x, y)?;
        Ok(x.zip(y, |x, y| x + y))
    }

    fn linear(&self, x: &Matrix, w: &ReferenceWeight, bias: Option<&ReferenceWeight>) -> Result<Matrix> {
        check("linear", x.cols == w.matrix.cols, || {
            format!("rows of {} through a weight [{}, {}]", x.cols, w.rows, w.matrix.cols)
        })?;
        let bias = bias.map(|bias| vector("linear", bias, w.rows)).transpose()?;
        let mut y = x.map_rows(|row| w.matrix.rows().map(|w| dot(row, w) as f32).collect());
        y.cols = w.rows;
        if let Some(bias) = bias {
            for row in y.data.chunks_exact_mut(w.rows) {
                row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
            }
        }
        Ok(y)
    }

    fn rms_norm(&self, x: &Matrix, w: &ReferenceWeight, eps: f32) -> Result<Matrix> {
        let w = vector("rms_norm", w, x.cols)?;
        Ok(x.map_rows(|row| {
            let scale = 1.0 / (dot(row, row) / row.len() as f64 + f64::from(eps)).sqrt();
            row.iter().zip(w).map(|(&x, &w)| (f64::from(x) * scale) as f32 * w).collect()
        }))
    }

    fn layer_norm(
        &self,
        x: &Matrix,
        w: &ReferenceWeight,
        bias: &ReferenceWeight,
        eps: f32,
    ) -> Result<Matrix> {
        let (w, bias) = (vector("layer_norm", w, x.cols)?, vector("layer_norm", bias, x.cols)?);
        Ok(x.map_rows(|row| {
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / row.len() as f64;
            let var = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / row.len() as f64;
            let scale = 1.0 / (var + f64::from(eps)).sqrt();
            let normed = row.iter().map(|&x| ((f64::from(x) - mean) * scale) as f32);
            normed.zip(w.iter().zip(bias)).map(|(x, (w, bias))| x * w + bias).collect()
        }))
    }

    fn swiglu(&self, gate: &Matrix, up: &Matrix) -> Result<Matrix> {
        same_shape("swiglu", gate, up)?;
        Ok(gate.zip(up, |gate, up| (f64::from(gate) * sigmoid(f64::from(gate))) as f32 * up))
    }

    fn gelu(&self, x: &Matrix, kind: Gelu) -> Result<Matrix> {
        Ok(x.map(|x| {
            let x = f64::from(x);
            let y = match kind {
                Gelu::Erf => gelu_erf(x),
                Gelu::Tanh => {
                    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                    0.5 * x * (1.0 + inner.tanh())
                }
                Gelu::Quick => x * sigmoid(1.702 * x),
            };
            y as f32
        }))
    }

    fn gpas(&self, x: &Matrix, gpas_gate: &ReferenceWeight) -> Result<Matrix> {
        let g = f64::from(vector("gpas", gpas_gate, 1)?[0]);
        let scale = (1.0 - g * sigmoid(g)) as f32;
        Ok(x.map(|x| x * scale))
    }

    fn rope(&self, x: &Matrix, cos_sin: &Matrix, pairs: RopePairs) -> Result<Matrix> {
        let head_dim = cos_sin.cols;
        let fits = x.n_rows() == cos_sin.n_rows()
            && head_dim.is_multiple_of(2)
            && head_dim > 0
            && x.cols.is_multiple_of(head_dim);
        check("rope", fits, || {
            format!("[{}, {}] by angles [{}, {head_dim}]", x.n_rows(), x.cols, cos_sin.n_rows())
        })?;
        let half = head_dim / 2;
        let mut out = x.clone();
        for (row, angles) in out.data.chunks_exact_mut(x.cols).zip(cos_sin.rows()) {
            let (cos, sin) = angles.split_at(half);
            for head in row.chunks_exact_mut(head_dim) {
                for i in 0..half {
                    let (a, b) = match pairs {
                        RopePairs::Interleaved => (2 * i, 2 * i + 1),
                        RopePairs::Halves => (i, i + half),
                    };
                    (head[a], head[b]) =
                        (head[a] * cos[i] - head[b] * sin[i], head[b] * cos[i] + head[a] * sin[i]);
                }
            }
        }
        Ok(out)
    }

    fn attention(
        &self,
        [q, k, v]: [&Matrix; 3],
        heads: Heads,
        mask: &Mask<'_>,
        cache: Option<&mut ReferenceCache>,
    ) -> Result<Matrix> {
        let n = q.n_rows();
        let fits = heads.divide_evenly()
            && q.cols == heads.q_width()
            && [k.cols, v.cols] == [heads.kv_width(); 2]
            && cache.as_ref().is_none_or(|cache| cache.k.cols == heads.kv_width());
        check("attention", fits && k.n_rows() == n && v.n_rows() == n, || {
            format!(
                "q [{n}, {}], k [{}, {}], v [{}, {}] for {heads:?}",
                q.cols,
                k.n_rows(),
                k.cols,
                v.n_rows(),
                v.cols
            )
        })?;
        check_mask(mask, n, cache.is_some())?;
        let (past, k, v) = match cache {
            Some(cache) => {
                let past = cache.k.n_rows();
                cache.k.data.extend_from_slice(&k.data);
                cache.v.data.extend_from_slice(&v.data);
                (past, &cache.k, &cache.v)
            }
            None => (0, k, v),
        };
        let mut out = Vec::with_capacity(n * heads.q_width());
        for i in 0..n {
            let seen = visible(mask, i, past);
            for head in 0..heads.n_heads {
                let q = &q.row(i)[head * heads.head_dim..][..heads.head_dim];
                let kv = head / (heads.n_heads / heads.n_kv_heads) * heads.head_dim;
                let mut scores: Vec<f64> = seen
                    .clone()
                    .map(|j| dot(q, &k.row(j)[kv..][..heads.head_dim]) * f64::from(heads.scale()))
                    .collect();
                softmax(&mut scores);
                for d in 0..heads.head_dim {
                    let mixed: f64 =
                        seen.clone().zip(&scores).map(|(j, p)| p * f64::from(v.row(j)[kv + d])).sum();
                    out.push(mixed as f32);
                }
            }
        }
        Ok(Matrix::new(out, heads.q_width()))
    }

    fn route(
        &self,
        router_logits: &Matrix,
        bias: Option<&ReferenceWeight>,
        top_k: usize,
        norm_min: f32,
    ) -> Result<Routing<Self>> {
        let n_experts = router_logits.cols;
        check("route", top_k > 0 && top_k <= n_experts, || format!("{top_k} of {n_experts} experts"))?;
        let bias = bias.map(|bias| vector("route", bias, n_experts)).transpose()?;
        let (mut expert_ids, mut weights) = (Vec::new(), Vec::new());
        for row in router_logits.rows() {
            let mut p: Vec<f64> = row.iter().map(|&logit| f64::from(logit)).collect();
            softmax(&mut p);
            let score = |e: usize| p[e] as f32 + bias.map_or(0.0, |bias| bias[e]);
            let mut order: Vec<usize> = (0..n_experts).collect();
            order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
            let sum: f64 = order[..top_k].iter().map(|&e| p[e]).sum();
            for &e in &order[..top_k] {
                expert_ids.push(e as u32);
                weights.push((p[e] / sum.max(f64::from(norm_min))) as f32);
            }
        }
        Ok(Routing { expert_ids, weights: Matrix::new(weights, top_k), top_k })
    }

    fn expert_mlp(&self, x: &Matrix, routing: &Routing<Self>, experts: &Experts<Self>) -> Result<Matrix> {
        let top_k = routing.top_k;
        let fits = routing.weights.cols == top_k
            && routing.weights.n_rows() == x.n_rows()
            && routing.expert_ids.len() == x.n_rows() * top_k;
        check("expert_mlp", fits, || {
            format!("{} choices for {} rows of {top_k}", routing.expert_ids.len(), x.n_rows())
        })?;
        let inputs = experts.gate_proj.iter().chain(&experts.up_proj).map(|w| w.matrix.cols);
        let outputs = experts.down_proj.iter().map(|w| w.rows);
        if let Some(width) = inputs.chain(outputs).find(|&width| width != x.cols) {
            return Err(Error::shape(
                "expert_mlp",
                format!("rows of {} for experts on rows of {width}", x.cols),
            ));
        }
        let mut out = Matrix::new(vec![0.0; x.data.len()], x.cols);
        for (i, row) in x.rows().enumerate() {
            let row = Matrix::new(row.to_vec(), x.cols);
            for slot in i * top_k..(i + 1) * top_k {
                let e = routing.expert_ids[slot] as usize;
                check("expert_mlp", e < experts.gate_proj.len(), || {
                    format!("expert {e} of {}", experts.gate_proj.len())
                })?;
                let gate = self.linear(&row, &experts.gate_proj[e], None)?;
                let up = self.linear(&row, &experts.up_proj[e], None)?;
                let y = self.linear(&self.swiglu(&gate, &up)?, &experts.down_proj[e], None)?;
                let out = &mut out.data[i * x.cols..(i + 1) * x.cols];
                out.iter_mut().zip(&y.data).for_each(|(o, y)| *o += routing.weights.data[slot] * y);
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() < 2e-6 * e.abs().max(1.0), "{found:?} is not {expected:?}");
        }
    }

    #[test]
    fn rope_rotates_interleaved_pairs() {
        let angles: Vec<f64> = (0..64).map(|k| 5.0 * 500_000f64.powf(-2.0 * f64::from(k) / 128.0)).collect();
        let cos_sin: Vec<f32> =
            angles.iter().map(|a| a.cos() as f32).chain(angles.iter().map(|a| a.sin() as f32)).collect();
        let x: Vec<f32> = (1..=128).map(|v| v as f32).collect();
        let y =
            Reference.rope(&Matrix::new(x, 128), &Matrix::new(cos_sin, 128), RopePairs::Interleaved).unwrap();
        close(&y.data[..4], &[2.201_510_7, -0.391_599_9, 1.420_139_4, -4.794_080_1]);
    }

    #[test]
    fn the_correction_bias_chooses_but_does_not_weigh() {
        let logits = Matrix::new(vec![0.1, 2.0, -1.0, 1.5, 0.3, 0.0], 6);
        let bias =
            Reference.weight(RawTensor::from_f32("bias", &[6], &[0.0, -0.5, 0.0, 0.0, 0.6, 0.0])).unwrap();
        let routing = Reference.route(&logits, Some(&bias), 2, 1e-12).unwrap();
        assert_eq!(routing.expert_ids, [4, 3]);
        close(&routing.weights.data, &[0.231_475_2, 0.768_524_8]);
    }

    #[test]
    fn quick_gelu_matches_the_golden_values() {
        let y = Reference.gelu(&Matrix::new(vec![-1.0, 0.5, 2.0], 3), Gelu::Quick).unwrap();
        close(&y.data, &[-0.154_204_2, 0.350_388_4, 1.935_658_6]);
    }

    #[test]
    fn erf_gelu_matches_tabulated_values() {
        for (x, expected) in
            [(0.5, 0.520_499_877_813_046_5), (2.4, 0.999_311_486_103_354_9), (3.0, 0.999_977_909_503_001_4)]
        {
            assert!((erf(x) - expected).abs() < 1e-14, "erf({x}) = {}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
    }
}
