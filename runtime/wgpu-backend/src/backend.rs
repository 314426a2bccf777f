//! [`Backend`] by WGSL kernels: shape checks, then what `ops` records.

use std::rc::Rc;

use tensor::{
    Backend, Candidate, Error, Experts, Gelu, Heads, Mask, RawTensor, Result, RopePairs, Routing, WeightBytes,
};

use crate::kv_cache::KvCache;
use crate::ops::check;
use crate::tensor_node::Node;
use crate::{Ids, Tensor, Weight, Wgpu};

fn same_shape(op: &'static str, x: &Tensor, y: &Tensor) -> Result<()> {
    check(op, (x.rows, x.cols) == (y.rows, y.cols), || {
        format!("[{}, {}] and [{}, {}]", x.rows, x.cols, y.rows, y.cols)
    })
}

impl Backend for Wgpu {
    type Tensor = Tensor;
    type Ids = Ids;
    type Weight = Weight;
    type Cache = KvCache;

    fn weight(&self, raw: RawTensor) -> Result<Weight> {
        self.new_weight(raw)
    }

    fn weight_bytes(&self, weight: &Weight) -> WeightBytes {
        let owned = weight.0.parts.borrow().iter().map(|part| part.bytes(part.rows.len())).sum();
        WeightBytes { shared: 0, owned }
    }

    fn tensor(&self, rows: &[f32], cols: usize) -> Result<Tensor> {
        check("tensor", cols > 0 && rows.len().is_multiple_of(cols), || {
            format!("{} values in rows of {cols}", rows.len())
        })?;
        let bytes: Vec<u8> = rows.iter().flat_map(|value| value.to_le_bytes()).collect();
        Ok(Tensor::stored(self.upload("tensor", &bytes)?, rows.len() / cols, cols))
    }

    fn ids(&self, ids: &[u32]) -> Result<Ids> {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        Ok(Ids { view: self.upload("ids", &bytes)?, len: ids.len(), host: Some(Rc::from(ids)) })
    }

    fn cache(&self, heads: Heads, capacity: usize) -> Result<KvCache> {
        self.new_cache(heads, capacity)
    }

    fn cache_len(&self, cache: &KvCache) -> usize {
        cache.rows.len
    }

    fn truncate(&self, cache: &mut KvCache, len: usize) -> Result<()> {
        check("truncate", len <= cache.rows.len, || format!("{len} of {} rows", cache.rows.len))?;
        cache.rows.len = len;
        Ok(())
    }

    fn shape(&self, x: &Tensor) -> (usize, usize) {
        (x.rows, x.cols)
    }

    async fn read(&self, x: &Tensor) -> Result<Vec<f32>> {
        let view = self.view(x)?;
        let bytes = self.shared.read_bytes("read", &view, x.n_bytes()).await?;
        Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    async fn read_ids(&self, ids: &Ids) -> Result<Vec<u32>> {
        if let Some(host) = &ids.host {
            return Ok(host.to_vec());
        }
        let bytes = self.shared.read_bytes("read_ids", &ids.view, ids.len as u64 * 4).await?;
        Ok(bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect())
    }

    async fn top_k(&self, logits: &Tensor, k: usize) -> Result<Vec<Candidate>> {
        check("top_k", logits.rows == 1, || format!("{} rows", logits.rows))?;
        self.best_logits(logits, k).await
    }

    fn argmax(&self, logits: &Tensor) -> Result<Ids> {
        check("argmax", logits.cols > 0, || "rows are empty".to_owned())?;
        self.best_columns(logits)
    }

    fn embed(&self, table: &Weight, ids: &Ids) -> Result<Tensor> {
        ids.check("embed", table.0.rows)?;
        self.decode_rows(table, ids)
    }

    fn gather(&self, x: &Tensor, rows: &Ids) -> Result<Tensor> {
        rows.check("gather", x.rows)?;
        self.gather_rows(x, rows)
    }

    fn scatter(&self, x: &Tensor, rows: &Ids, src: &Tensor) -> Result<Tensor> {
        check("scatter", rows.len == src.rows && src.cols == x.cols, || {
            format!("{} rows of {} into rows of {}, {} indices", src.rows, src.cols, x.cols, rows.len)
        })?;
        rows.check("scatter", x.rows)?;
        self.scatter_rows(x, rows, src)
    }

    fn reshape(&self, x: &Tensor, cols: usize) -> Result<Tensor> {
        let n = x.rows * x.cols;
        check("reshape", cols > 0 && n.is_multiple_of(cols), || format!("{n} values in rows of {cols}"))?;
        Ok(Tensor::stored(self.view(x)?, n / cols, cols))
    }

    fn add(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        same_shape("add", x, y)?;
        self.later_sum(x, y)
    }

    fn linear(&self, x: &Tensor, w: &Weight, bias: Option<&Weight>) -> Result<Tensor> {
        let [y] = self.later_products("linear", x, [(w, bias)])?;
        Ok(y)
    }

    fn linears<const N: usize>(
        &self,
        x: &Tensor,
        ws: [(&Weight, Option<&Weight>); N],
    ) -> Result<[Tensor; N]> {
        self.later_products("linears", x, ws)
    }

    fn rms_norm(&self, x: &Tensor, w: &Weight, eps: f32) -> Result<Tensor> {
        self.normed(x, w, eps)
    }

    fn add_rms_norm(&self, x: &Tensor, y: &Tensor, w: &Weight, eps: f32) -> Result<(Tensor, Tensor)> {
        same_shape("add_rms_norm", x, y)?;
        let sum = self.later_sum(x, y)?;
        let normed = self.normed(&sum, w, eps)?;
        Ok((sum, normed))
    }

    fn layer_norm(&self, x: &Tensor, w: &Weight, bias: &Weight, eps: f32) -> Result<Tensor> {
        self.layer_normed(x, w, bias, eps)
    }

    fn swiglu(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        same_shape("swiglu", gate, up)?;
        self.gated(gate, up)
    }

    fn gelu(&self, x: &Tensor, kind: Gelu) -> Result<Tensor> {
        self.gelu_of(x, kind)
    }

    fn gpas(&self, x: &Tensor, gpas_gate: &Weight) -> Result<Tensor> {
        self.scaled(x, gpas_gate)
    }

    fn rope(&self, x: &Tensor, cos_sin: &Tensor, pairs: RopePairs) -> Result<Tensor> {
        let head_dim = cos_sin.cols;
        let fits = x.rows == cos_sin.rows
            && head_dim > 0
            && head_dim.is_multiple_of(2)
            && x.cols.is_multiple_of(head_dim);
        check("rope", fits, || format!("[{}, {}] by angles [{}, {head_dim}]", x.rows, x.cols, cos_sin.rows))?;
        let node = Node::Rotated { x: x.clone(), cos_sin: cos_sin.clone(), pairs };
        Ok(Tensor::new(node, x.rows, x.cols))
    }

    fn attention(
        &self,
        qkv: [&Tensor; 3],
        heads: Heads,
        mask: &Mask<'_>,
        cache: Option<&mut KvCache>,
    ) -> Result<Tensor> {
        check_attention(qkv, heads, cache.as_deref())?;
        if let Mask::Segments { cu_seqlens, .. } = mask {
            let covers = Mask::segments_cover(cu_seqlens, qkv[0].rows);
            check("attention", covers && cache.is_none(), || {
                format!("segments {cu_seqlens:?} over {} rows, cached: {}", qkv[0].rows, cache.is_some())
            })?;
        }
        match cache {
            Some(cache) => self.attend_cached(qkv, heads, &[0, qkv[0].rows], &mut [cache]),
            None => self.attend(qkv, heads, mask),
        }
    }

    fn attention_of_sequences(
        &self,
        qkv: [&Tensor; 3],
        heads: Heads,
        cu_seqlens: &[u32],
        caches: &mut [&mut KvCache],
    ) -> Result<Tensor> {
        let (n, n_caches) = (qkv[0].rows, caches.len());
        let covers = cu_seqlens.len() == n_caches + 1 && Mask::segments_cover(cu_seqlens, n);
        check("attention_of_sequences", covers, || {
            format!("segments {cu_seqlens:?} over {n} rows and {n_caches} caches")
        })?;
        for cache in caches.iter() {
            check_attention(qkv, heads, Some(cache))?;
        }
        let bounds: Vec<usize> = cu_seqlens.iter().map(|&bound| bound as usize).collect();
        self.attend_cached(qkv, heads, &bounds, caches)
    }

    fn route(
        &self,
        router_logits: &Tensor,
        bias: Option<&Weight>,
        top_k: usize,
        norm_min: f32,
    ) -> Result<Routing<Self>> {
        let n_experts = router_logits.cols;
        check("route", top_k > 0 && top_k <= n_experts, || format!("{top_k} of {n_experts} experts"))?;
        self.choose(router_logits, bias, top_k, norm_min)
    }

    fn expert_mlp(&self, x: &Tensor, routing: &Routing<Self>, experts: &Experts<Self>) -> Result<Tensor> {
        let top_k = routing.top_k;
        let fits =
            routing.expert_ids.len == x.rows * top_k && self.shape(&routing.weights) == (x.rows, top_k);
        check("expert_mlp", fits, || {
            format!("{} choices for {} rows of {top_k}", routing.expert_ids.len, x.rows)
        })?;
        let inputs = experts.gate_proj.iter().chain(&experts.up_proj).map(|w| w.0.cols);
        let outputs = experts.down_proj.iter().map(|w| w.0.rows);
        if let Some(width) = inputs.chain(outputs).find(|&width| width != x.cols) {
            return Err(Error::shape(
                "expert_mlp",
                format!("rows of {} for experts on rows of {width}", x.cols),
            ));
        }
        routing.expert_ids.check("expert_mlp", experts.gate_proj.len())?;
        self.routed(x, routing, experts)
    }
}

fn check_attention([q, k, v]: [&Tensor; 3], heads: Heads, cache: Option<&KvCache>) -> Result<()> {
    let n = q.rows;
    let fits = heads.divide_evenly()
        && q.cols == heads.q_width()
        && [(k.rows, k.cols), (v.rows, v.cols)] == [(n, heads.kv_width()); 2];
    check("attention", fits, || {
        format!("q [{n}, {}], k [{}, {}], v [{}, {}] for {heads:?}", q.cols, k.rows, k.cols, v.rows, v.cols)
    })?;
    check("attention", cache.is_none_or(|cache| cache.heads == heads), || {
        format!("{heads:?} with a cache of {:?}", cache.map(|cache| cache.heads))
    })
}
