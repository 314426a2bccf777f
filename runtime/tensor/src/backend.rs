//! The [`Backend`] trait: one device and the coarse operations the models need.

use std::future::Future;

use crate::{Error, ExpertUse, Gelu, Heads, KvType, Mask, RawTensor, Result, RopePairs, WeightBytes};

/// A token and its logit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Token id.
    pub id: u32,
    /// Raw logit, before any penalty or temperature.
    pub logit: f32,
}

/// Which experts each row goes to, and with which weight.
pub struct Routing<B: Backend> {
    /// Chosen experts, `[n * top_k]`, by descending biased probability within a row.
    pub expert_ids: B::Ids,
    /// Mixing weights of the chosen experts, `[n, top_k]`.
    pub weights: B::Tensor,
    /// Experts a row.
    pub top_k: usize,
}

impl<B: Backend> Clone for Routing<B> {
    fn clone(&self) -> Self {
        Self { expert_ids: self.expert_ids.clone(), weights: self.weights.clone(), top_k: self.top_k }
    }
}

/// One bank of routed SwiGLU experts, one weight an expert and projection.
pub struct Experts<B: Backend> {
    /// `[intermediate_size, hidden_size]` each.
    pub gate_proj: Vec<B::Weight>,
    /// `[intermediate_size, hidden_size]` each.
    pub up_proj: Vec<B::Weight>,
    /// `[hidden_size, intermediate_size]` each.
    pub down_proj: Vec<B::Weight>,
}

/// One device and the coarse operations the models need.
///
/// Every activation is a matrix of rows `[n, d]` in `f32`; rows are tokens or patches. There are no
/// strides and no broadcasting; head counts travel in [`Heads`]. Linear weights are `[out, in]`.
/// Only reads are async: all other operations run or record. A shape that does not fit is an error
/// that names the operation.
///
/// The plain loops of [`Reference`](crate::Reference) define what each operation computes, and
/// [`conformance`](crate::conformance) checks an implementation against them.
pub trait Backend: Sized + 'static {
    /// Activations `[n, d]`. Cloning shares the storage.
    type Tensor: Clone;
    /// Row or token indices on the device. Cloning shares the storage.
    type Ids: Clone;
    /// A parameter as stored: dense or block-quantised. Cloning shares the storage.
    type Weight: Clone;
    /// Keys and values of one layer.
    type Cache;

    /// Takes over a stored parameter. Its bytes may be shared or repacked, by the backend's choice.
    fn weight(&self, raw: RawTensor) -> Result<Self::Weight>;
    /// Where the bytes of a parameter are.
    fn weight_bytes(&self, weight: &Self::Weight) -> WeightBytes;
    /// Bytes of shared weights that are by now read from a copy in another layout.
    fn repacked_bytes(&self) -> u64 {
        0
    }
    /// Uploads `rows`, a whole number of rows of `cols` values.
    fn tensor(&self, rows: &[f32], cols: usize) -> Result<Self::Tensor>;
    /// Uploads indices.
    fn ids(&self, ids: &[u32]) -> Result<Self::Ids>;
    /// An empty cache. `capacity` is a hint in rows; a cache grows beyond it.
    fn cache(&self, heads: Heads, capacity: usize) -> Result<Self::Cache>;
    /// Number of rows in the cache.
    fn cache_len(&self, cache: &Self::Cache) -> usize;
    /// Bytes that one row of a cache takes.
    fn cache_row_bytes(&self, heads: Heads) -> usize {
        KvType::F32.row_bytes(heads)
    }
    /// Forgets all rows of `cache` from `len` on.
    fn truncate(&self, cache: &mut Self::Cache, len: usize) -> Result<()>;

    /// Keys and values of all cached rows on the host, `[cache_len, kv_width]` each; `None` if this backend keeps
    /// them to itself.
    fn read_cache(&self, cache: &Self::Cache) -> Result<Option<[Vec<f32>; 2]>> {
        let _ = cache;
        Ok(None)
    }
    /// Appends rows that [`read_cache`](Self::read_cache) gave; whether this backend can.
    fn append_cache(&self, cache: &mut Self::Cache, k: &[f32], v: &[f32]) -> Result<bool> {
        let _ = (cache, k, v);
        Ok(false)
    }

    /// Rows and columns of `x`.
    fn shape(&self, x: &Self::Tensor) -> (usize, usize);

    /// Up to so many rows, every operation gives each row bit for bit what it gives that row alone, behind the
    /// same cache: guesses that are computed together do not change an answer. 1 promises nothing.
    fn exact_rows(&self) -> usize {
        1
    }

    /// Reads all values, row after row.
    fn read(&self, x: &Self::Tensor) -> impl Future<Output = Result<Vec<f32>>>;
    /// Reads indices.
    fn read_ids(&self, ids: &Self::Ids) -> impl Future<Output = Result<Vec<u32>>>;
    /// The `k` largest logits of the one row of `logits`, largest first; equal ones by lower id.
    fn top_k(&self, logits: &Self::Tensor, k: usize) -> impl Future<Output = Result<Vec<Candidate>>>;
    /// Index of each row's largest value, the lowest on ties. Stays on the device.
    fn argmax(&self, logits: &Self::Tensor) -> Result<Self::Ids>;

    /// Rows `ids` of a parameter `[vocab, d]` → `[n, d]`.
    fn embed(&self, table: &Self::Weight, ids: &Self::Ids) -> Result<Self::Tensor>;
    /// Rows `rows` of `x`.
    fn gather(&self, x: &Self::Tensor, rows: &Self::Ids) -> Result<Self::Tensor>;
    /// `x` with row `rows[i]` replaced by row `i` of `src`. Rows are distinct.
    fn scatter(&self, x: &Self::Tensor, rows: &Self::Ids, src: &Self::Tensor) -> Result<Self::Tensor>;
    /// The same values in rows of `cols`: the spatial merge.
    fn reshape(&self, x: &Self::Tensor, cols: usize) -> Result<Self::Tensor>;

    /// `x + y`.
    fn add(&self, x: &Self::Tensor, y: &Self::Tensor) -> Result<Self::Tensor>;
    /// `x · wᵀ + bias`: `w` is `[out, in]`, `bias` is `[out]`.
    fn linear(&self, x: &Self::Tensor, w: &Self::Weight, bias: Option<&Self::Weight>)
    -> Result<Self::Tensor>;
    /// `w · x / sqrt(mean(x²) + eps)` a row; `w` is `[d]`.
    fn rms_norm(&self, x: &Self::Tensor, w: &Self::Weight, eps: f32) -> Result<Self::Tensor>;
    /// `w · (x − mean) / sqrt(var + eps) + bias` a row; `w` and `bias` are `[d]`.
    fn layer_norm(
        &self,
        x: &Self::Tensor,
        w: &Self::Weight,
        bias: &Self::Weight,
        eps: f32,
    ) -> Result<Self::Tensor>;
    /// `silu(gate) ⊙ up`.
    fn swiglu(&self, gate: &Self::Tensor, up: &Self::Tensor) -> Result<Self::Tensor>;
    /// The Gaussian error linear unit of `kind`.
    fn gelu(&self, x: &Self::Tensor, kind: Gelu) -> Result<Self::Tensor>;
    /// Gradient-preserving activation scaling: `x − silu(g) · stop_gradient(x)`; `gpas_gate` is `[1]`.
    fn gpas(&self, x: &Self::Tensor, gpas_gate: &Self::Weight) -> Result<Self::Tensor>;
    /// Rotates each pair of features of every head by its row's angle.
    ///
    /// `cos_sin` is `[n, head_dim]`: first half cosines, second half sines, one per pair, in pair
    /// order; one row serves all heads. `x` is any whole number of heads wide.
    fn rope(&self, x: &Self::Tensor, cos_sin: &Self::Tensor, pairs: RopePairs) -> Result<Self::Tensor>;
    /// Grouped-query attention over `[q, k, v]`, softmax in `f32`.
    ///
    /// With a cache, keys and values are appended first and rows see the cached rows too; the mask
    /// must then be [`Mask::Causal`]. Returns `[n, n_heads * head_dim]`.
    fn attention(
        &self,
        qkv: [&Self::Tensor; 3],
        heads: Heads,
        mask: &Mask<'_>,
        cache: Option<&mut Self::Cache>,
    ) -> Result<Self::Tensor>;
    /// Chooses `top_k` experts a row.
    ///
    /// Softmax over all experts in `f32`; `bias` (`[n_experts]`) is added for choosing only, ties go
    /// to the lower index; the chosen, unbiased probabilities are divided by `max(sum, norm_min)`.
    fn route(
        &self,
        router_logits: &Self::Tensor,
        bias: Option<&Self::Weight>,
        top_k: usize,
        norm_min: f32,
    ) -> Result<Routing<Self>>;
    /// `Σ weightₑ · down(silu(gate(x)) ⊙ up(x))` over the chosen experts of each row.
    fn expert_mlp(
        &self,
        x: &Self::Tensor,
        routing: &Routing<Self>,
        experts: &Experts<Self>,
    ) -> Result<Self::Tensor>;

    /// What routed experts cost so far, if they share a budget of memory; most backends hold all.
    fn expert_use(&self) -> Option<ExpertUse> {
        None
    }

    /// [`linear`](Self::linear) of one input with several weights. Backends may fuse.
    fn linears<const N: usize>(
        &self,
        x: &Self::Tensor,
        ws: [(&Self::Weight, Option<&Self::Weight>); N],
    ) -> Result<[Self::Tensor; N]> {
        let ys: Result<Vec<_>> = ws.into_iter().map(|(w, bias)| self.linear(x, w, bias)).collect();
        Ok(ys?.try_into().unwrap_or_else(|_| unreachable!("one output a weight")))
    }

    /// The first half of an MLP: [`swiglu`](Self::swiglu) of [`linears`](Self::linears) through `gate` and `up`.
    /// Backends may do all in one pass.
    fn gated(
        &self,
        x: &Self::Tensor,
        gate: (&Self::Weight, Option<&Self::Weight>),
        up: (&Self::Weight, Option<&Self::Weight>),
    ) -> Result<Self::Tensor> {
        let [gate, up] = self.linears(x, [gate, up])?;
        self.swiglu(&gate, &up)
    }

    /// [`attention`](Self::attention) over rows of several sequences, each with a cache of its own: rows
    /// `cu_seqlens[i]..cu_seqlens[i + 1]` are appended to `caches[i]` and see it up to themselves. Backends
    /// may do all in one pass.
    ///
    /// # Errors
    /// If there is not one cache a segment, or the segments do not cover the rows. Some caches may have grown.
    fn attention_of_sequences(
        &self,
        qkv: [&Self::Tensor; 3],
        heads: Heads,
        cu_seqlens: &[u32],
        caches: &mut [&mut Self::Cache],
    ) -> Result<Self::Tensor> {
        attend_in_turn(self, qkv, heads, cu_seqlens, caches)
    }

    /// `x + y`, and the RMS norm of that sum. Backends may do both in one pass.
    fn add_rms_norm(
        &self,
        x: &Self::Tensor,
        y: &Self::Tensor,
        w: &Self::Weight,
        eps: f32,
    ) -> Result<(Self::Tensor, Self::Tensor)> {
        let sum = self.add(x, y)?;
        let normed = self.rms_norm(&sum, w, eps)?;
        Ok((sum, normed))
    }
}

/// The definition of [`Backend::attention_of_sequences`]: one sequence after another.
///
/// # Errors
/// As there.
pub fn attend_in_turn<B: Backend>(
    b: &B,
    qkv: [&B::Tensor; 3],
    heads: Heads,
    cu_seqlens: &[u32],
    caches: &mut [&mut B::Cache],
) -> Result<B::Tensor> {
    let n = b.shape(qkv[0]).0;
    if cu_seqlens.len() != caches.len() + 1 || !Mask::segments_cover(cu_seqlens, n) {
        let n_caches = caches.len();
        return Err(Error::shape(
            "attention_of_sequences",
            format!("segments {cu_seqlens:?} over {n} rows and {n_caches} caches"),
        ));
    }
    let mut context = qkv[0].clone();
    for (bounds, cache) in cu_seqlens.windows(2).zip(caches) {
        if bounds[0] == bounds[1] {
            continue;
        }
        let rows = b.ids(&(bounds[0]..bounds[1]).collect::<Vec<_>>())?;
        let [q, k, v] = [b.gather(qkv[0], &rows)?, b.gather(qkv[1], &rows)?, b.gather(qkv[2], &rows)?];
        let attended = b.attention([&q, &k, &v], heads, &Mask::Causal, Some(cache))?;
        context = b.scatter(&context, &rows, &attended)?;
    }
    Ok(context)
}
