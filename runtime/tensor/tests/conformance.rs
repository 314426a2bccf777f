//! The suite notices mistakes: a backend with one mistake in one operation never passes.

use tensor::{
    Backend, Candidate, DType, Experts, Gelu, Heads, Mask, Matrix, RawTensor, Reference, ReferenceCache,
    ReferenceWeight, Result, RopePairs, Routing, WeightBytes, conformance,
};

/// The reference with one mistake.
struct Broken(Mistake);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mistake {
    /// The reference as it is.
    Nothing,
    /// The results of this operation are off by a thousandth.
    Off(&'static str),
    /// Weights of this type are off by a thousandth.
    Decoding(DType),
    TensorTakesAnything,
    ShapeTransposed,
    TruncateForgetsNothing,
    CacheIgnored,
    TopKPrefersHigherIds,
    ArgmaxPrefersHigherIds,
    GatherClampsRows,
    ScatterReversed,
    ReshapeKeepsShape,
    LinearWithoutBias,
    LinearDropsLastInput,
    RmsNormWithoutEps,
    LayerNormWithoutBias,
    LayerNormWithoutEps,
    SwiGluSwapped,
    GeluAlwaysErf,
    GeluAlwaysTanh,
    RopeOtherPairs,
    RopeBackwards,
    SegmentsJoined,
    SegmentsAlwaysCausal,
    SegmentsNeverCausal,
    HeadsInterleaved,
    RouteWithoutBias,
    RouteWithoutNorm,
    ExpertsUnweighted,
    ExpertsRotated,
    LinearsSwapped,
    AddRmsNormWithoutSum,
}

use Mistake::*;

const R: Reference = Reference;

/// The values of `x`, changed.
fn map(x: &Matrix, f: impl FnOnce(&mut Vec<f32>)) -> Matrix {
    let (mut values, cols) = (x.data().to_vec(), R.shape(x).1);
    f(&mut values);
    R.tensor(&values, cols).unwrap()
}

impl Broken {
    /// `x`, a thousandth off if `op` is the one that is.
    fn off(&self, op: &'static str, x: Matrix) -> Matrix {
        match self.0 == Off(op) {
            true => map(&x, |values| values.iter_mut().for_each(|v| *v *= 1.001)),
            false => x,
        }
    }

    fn has(&self, mistake: Mistake) -> bool {
        self.0 == mistake
    }
}

fn zeros(len: usize) -> ReferenceWeight {
    R.weight(RawTensor::from_f32("zeros", &[len], &vec![0.0; len])).unwrap()
}

impl Backend for Broken {
    type Tensor = Matrix;
    type Ids = Vec<u32>;
    type Weight = ReferenceWeight;
    type Cache = ReferenceCache;

    fn weight(&self, raw: RawTensor) -> Result<ReferenceWeight> {
        if self.has(Off("weight")) || self.has(Decoding(raw.dtype)) {
            let values: Vec<f32> = raw.to_f32()?.iter().map(|v| v * 1.001).collect();
            return R.weight(RawTensor::from_f32("off", &raw.shape, &values));
        }
        R.weight(raw)
    }

    fn weight_bytes(&self, weight: &ReferenceWeight) -> WeightBytes {
        let bytes = R.weight_bytes(weight);
        WeightBytes { owned: bytes.owned + u64::from(self.has(Off("weight_bytes"))), ..bytes }
    }

    fn tensor(&self, rows: &[f32], cols: usize) -> Result<Matrix> {
        match self.has(TensorTakesAnything) {
            true => R.tensor(&rows[..rows.len() / cols.max(1) * cols.max(1)], cols.max(1)),
            false => Ok(self.off("tensor", R.tensor(rows, cols)?)),
        }
    }

    fn ids(&self, ids: &[u32]) -> Result<Vec<u32>> {
        match self.has(Off("ids")) {
            true => Ok(ids.iter().map(|id| id ^ 1).collect()),
            false => R.ids(ids),
        }
    }

    fn cache(&self, heads: Heads, capacity: usize) -> Result<ReferenceCache> {
        R.cache(heads, capacity)
    }

    fn cache_len(&self, cache: &ReferenceCache) -> usize {
        R.cache_len(cache) + usize::from(self.has(Off("cache_len")))
    }

    fn truncate(&self, cache: &mut ReferenceCache, len: usize) -> Result<()> {
        match self.has(TruncateForgetsNothing) {
            true => Ok(()),
            false => R.truncate(cache, len),
        }
    }

    fn shape(&self, x: &Matrix) -> (usize, usize) {
        let (rows, cols) = R.shape(x);
        if self.has(ShapeTransposed) { (cols, rows) } else { (rows, cols) }
    }

    async fn read(&self, x: &Matrix) -> Result<Vec<f32>> {
        R.read(&self.off("read", x.clone())).await
    }

    async fn read_ids(&self, ids: &Vec<u32>) -> Result<Vec<u32>> {
        let mut ids = R.read_ids(ids).await?;
        if self.has(Off("read_ids")) {
            ids.reverse();
        }
        Ok(ids)
    }

    async fn top_k(&self, logits: &Matrix, k: usize) -> Result<Vec<Candidate>> {
        let mut candidates = R.top_k(logits, k).await?;
        if self.has(TopKPrefersHigherIds) {
            candidates.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(b.id.cmp(&a.id)));
        }
        if self.has(Off("top_k")) {
            candidates.pop();
        }
        Ok(candidates)
    }

    fn argmax(&self, logits: &Matrix) -> Result<Vec<u32>> {
        let cols = R.shape(logits).1;
        let last =
            |row: &[f32]| (0..cols).fold(0, |best, i| if row[i] >= row[best] { i } else { best }) as u32;
        match self.has(ArgmaxPrefersHigherIds) {
            true => Ok(logits.data().chunks_exact(cols).map(last).collect()),
            false => R.argmax(logits),
        }
    }

    fn embed(&self, table: &ReferenceWeight, ids: &Vec<u32>) -> Result<Matrix> {
        Ok(self.off("embed", R.embed(table, ids)?))
    }

    fn gather(&self, x: &Matrix, rows: &Vec<u32>) -> Result<Matrix> {
        if self.has(GatherClampsRows) {
            let last = R.shape(x).0 as u32 - 1;
            return R.gather(x, &rows.iter().map(|&row| row.min(last)).collect());
        }
        Ok(self.off("gather", R.gather(x, rows)?))
    }

    fn scatter(&self, x: &Matrix, rows: &Vec<u32>, src: &Matrix) -> Result<Matrix> {
        if self.has(ScatterReversed) {
            return R.scatter(x, &rows.iter().rev().copied().collect(), src);
        }
        Ok(self.off("scatter", R.scatter(x, rows, src)?))
    }

    fn reshape(&self, x: &Matrix, cols: usize) -> Result<Matrix> {
        let y = R.reshape(x, cols)?;
        Ok(if self.has(ReshapeKeepsShape) { x.clone() } else { self.off("reshape", y) })
    }

    fn add(&self, x: &Matrix, y: &Matrix) -> Result<Matrix> {
        Ok(self.off("add", R.add(x, y)?))
    }

    fn linear(&self, x: &Matrix, w: &ReferenceWeight, bias: Option<&ReferenceWeight>) -> Result<Matrix> {
        let y = R.linear(x, w, bias)?;
        if self.has(LinearDropsLastInput) {
            let cols = R.shape(x).1;
            let x = map(x, |values| values.chunks_exact_mut(cols).for_each(|row| row[cols - 1] = 0.0));
            return R.linear(&x, w, bias);
        }
        match self.has(LinearWithoutBias) {
            true => R.linear(x, w, None),
            false => Ok(self.off("linear", y)),
        }
    }

    fn rms_norm(&self, x: &Matrix, w: &ReferenceWeight, eps: f32) -> Result<Matrix> {
        let eps = if self.has(RmsNormWithoutEps) { 0.0 } else { eps };
        Ok(self.off("rms_norm", R.rms_norm(x, w, eps)?))
    }

    fn layer_norm(
        &self,
        x: &Matrix,
        w: &ReferenceWeight,
        bias: &ReferenceWeight,
        eps: f32,
    ) -> Result<Matrix> {
        let eps = if self.has(LayerNormWithoutEps) { 1e-12 } else { eps };
        let y = R.layer_norm(x, w, bias, eps)?;
        match self.has(LayerNormWithoutBias) {
            true => R.layer_norm(x, w, &zeros(R.shape(x).1), eps),
            false => Ok(self.off("layer_norm", y)),
        }
    }

    fn swiglu(&self, gate: &Matrix, up: &Matrix) -> Result<Matrix> {
        match self.has(SwiGluSwapped) {
            true => R.swiglu(up, gate),
            false => Ok(self.off("swiglu", R.swiglu(gate, up)?)),
        }
    }

    fn gelu(&self, x: &Matrix, kind: Gelu) -> Result<Matrix> {
        let kind = match self.0 {
            GeluAlwaysErf => Gelu::Erf,
            GeluAlwaysTanh if kind == Gelu::Erf => Gelu::Tanh,
            _ => kind,
        };
        Ok(self.off("gelu", R.gelu(x, kind)?))
    }

    fn gpas(&self, x: &Matrix, gpas_gate: &ReferenceWeight) -> Result<Matrix> {
        Ok(self.off("gpas", R.gpas(x, gpas_gate)?))
    }

    fn rope(&self, x: &Matrix, cos_sin: &Matrix, pairs: RopePairs) -> Result<Matrix> {
        let other = match pairs {
            RopePairs::Interleaved => RopePairs::Halves,
            RopePairs::Halves => RopePairs::Interleaved,
        };
        let head_dim = R.shape(cos_sin).1;
        match self.0 {
            RopeOtherPairs => R.rope(x, cos_sin, other),
            RopeBackwards => {
                let negate = |row: &mut [f32]| row[head_dim / 2..].iter_mut().for_each(|sin| *sin = -*sin);
                let back = map(cos_sin, |values| values.chunks_exact_mut(head_dim).for_each(negate));
                R.rope(x, &back, pairs)
            }
            _ => Ok(self.off("rope", R.rope(x, cos_sin, pairs)?)),
        }
    }

    fn attention(
        &self,
        [q, k, v]: [&Matrix; 3],
        heads: Heads,
        mask: &Mask<'_>,
        cache: Option<&mut ReferenceCache>,
    ) -> Result<Matrix> {
        let n = R.shape(q).0 as u32;
        let whole = [0, n];
        let mask = match (self.0, *mask) {
            (SegmentsJoined, Mask::Segments { causal, .. }) => Mask::Segments { cu_seqlens: &whole, causal },
            (SegmentsAlwaysCausal, Mask::Segments { cu_seqlens, .. }) => {
                Mask::Segments { cu_seqlens, causal: true }
            }
            (SegmentsNeverCausal, Mask::Segments { cu_seqlens, .. }) => {
                Mask::Segments { cu_seqlens, causal: false }
            }
            (_, mask) => mask,
        };
        if self.has(CacheIgnored) && cache.is_some() {
            R.attention([q, k, v], heads, &mask, cache)?;
            return R.attention([q, k, v], heads, &mask, None);
        }
        let y = R.attention([q, k, v], heads, &mask, cache)?;
        if self.has(HeadsInterleaved) {
            let d = heads.head_dim;
            let rotate = |row: &mut [f32]| row.rotate_left(d);
            return Ok(map(&y, |values| values.chunks_exact_mut(heads.q_width()).for_each(rotate)));
        }
        Ok(self.off("attention", y))
    }

    fn route(
        &self,
        router_logits: &Matrix,
        bias: Option<&ReferenceWeight>,
        top_k: usize,
        norm_min: f32,
    ) -> Result<Routing<Self>> {
        let routing = R.route(router_logits, bias, top_k, norm_min)?;
        let routing = match self.0 {
            RouteWithoutBias => R.route(router_logits, None, top_k, norm_min)?,
            RouteWithoutNorm => R.route(router_logits, bias, top_k, 1.0)?,
            _ => routing,
        };
        let Routing { expert_ids, weights, top_k } = routing;
        Ok(Routing { expert_ids, weights: self.off("route", weights), top_k })
    }

    fn expert_mlp(&self, x: &Matrix, routing: &Routing<Self>, experts: &Experts<Self>) -> Result<Matrix> {
        let Routing { expert_ids, weights, top_k } = routing.clone();
        let weights = match self.has(ExpertsUnweighted) {
            true => map(&weights, |values| values.fill(1.0)),
            false => weights,
        };
        let mut down_proj = experts.down_proj.clone();
        if self.has(ExpertsRotated) {
            down_proj.rotate_left(1);
        }
        let (gate_proj, up_proj) = (experts.gate_proj.clone(), experts.up_proj.clone());
        let (routing, experts) =
            (Routing { expert_ids, weights, top_k }, Experts { gate_proj, up_proj, down_proj });
        Ok(self.off("expert_mlp", R.expert_mlp(x, &routing, &experts)?))
    }

    fn linears<const N: usize>(
        &self,
        x: &Matrix,
        ws: [(&ReferenceWeight, Option<&ReferenceWeight>); N],
    ) -> Result<[Matrix; N]> {
        let mut ys = R.linears(x, ws)?;
        if self.has(LinearsSwapped) {
            ys.reverse();
        }
        Ok(ys.map(|y| self.off("linears", y)))
    }

    fn add_rms_norm(
        &self,
        x: &Matrix,
        y: &Matrix,
        w: &ReferenceWeight,
        eps: f32,
    ) -> Result<(Matrix, Matrix)> {
        let (sum, normed) = R.add_rms_norm(x, y, w, eps)?;
        let sum = if self.has(AddRmsNormWithoutSum) { x.clone() } else { sum };
        Ok((sum, self.off("add_rms_norm", normed)))
    }
}

/// The cases that judge `ops` fail, some for each.
#[track_caller]
fn check(mistake: Mistake, ops: &[&str]) {
    let report = pollster::block_on(conformance::check_ops(&Broken(mistake), ops));
    for op in ops {
        assert!(report.failures().any(|failure| failure.ops.contains(op)), "{mistake:?} passed as {op}");
    }
}

#[test]
fn without_a_mistake_it_passes() {
    let report = pollster::block_on(conformance::check(&Broken(Nothing)));
    assert!(report.passed(), "{report}");
    assert_eq!(report.largest_error(), 0.0);
}

#[test]
fn a_thousandth_is_noticed_in_every_operation() {
    for op in [
        "weight",
        "weight_bytes",
        "tensor",
        "ids",
        "cache_len",
        "read",
        "read_ids",
        "top_k",
        "embed",
        "gather",
        "scatter",
        "reshape",
        "add",
        "linear",
        "rms_norm",
        "layer_norm",
        "swiglu",
        "gelu",
        "gpas",
        "rope",
        "attention",
        "route",
        "expert_mlp",
        "linears",
        "add_rms_norm",
    ] {
        check(Off(op), &[op]);
    }
}

#[test]
fn every_storage_type_is_decoded() {
    for dtype in DType::ALL {
        check(Decoding(dtype), &["weight", "embed", "linear", "expert_mlp"]);
    }
}

#[test]
fn every_wrong_idea_is_noticed() {
    for (mistake, op) in [
        (TensorTakesAnything, "tensor"),
        (ShapeTransposed, "shape"),
        (TruncateForgetsNothing, "truncate"),
        (CacheIgnored, "cache"),
        (TopKPrefersHigherIds, "top_k"),
        (ArgmaxPrefersHigherIds, "argmax"),
        (GatherClampsRows, "gather"),
        (ScatterReversed, "scatter"),
        (ReshapeKeepsShape, "reshape"),
        (LinearWithoutBias, "linear"),
        (LinearDropsLastInput, "linear"),
        (RmsNormWithoutEps, "rms_norm"),
        (LayerNormWithoutBias, "layer_norm"),
        (LayerNormWithoutEps, "layer_norm"),
        (SwiGluSwapped, "swiglu"),
        (GeluAlwaysErf, "gelu"),
        (GeluAlwaysTanh, "gelu"),
        (RopeOtherPairs, "rope"),
        (RopeBackwards, "rope"),
        (SegmentsJoined, "attention"),
        (SegmentsAlwaysCausal, "attention"),
        (SegmentsNeverCausal, "attention"),
        (HeadsInterleaved, "attention"),
        (RouteWithoutBias, "route"),
        (RouteWithoutNorm, "route"),
        (ExpertsUnweighted, "expert_mlp"),
        (ExpertsRotated, "expert_mlp"),
        (LinearsSwapped, "linears"),
        (AddRmsNormWithoutSum, "add_rms_norm"),
    ] {
        check(mistake, &[op]);
    }
}
