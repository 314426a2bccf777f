//! [`Backend`] on candle tensors: shape checks, then our kernels or the composed form.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use tensor::{
    Backend, Candidate, Error, ExpertUse, Experts, Gelu, Heads, KvType, Mask, RawTensor, Result, RopePairs,
    Routing, WeightBytes,
};

use crate::kernels::EXACT_ROWS;
use crate::kernels::top_k::top_k;
use crate::packing::Packing;
use crate::{ExpertStore, KvCache, Stored, Weight, composed, ops};

/// A candle device and the form in which operations run on it.
#[derive(Debug, Clone)]
pub struct Candle {
    device: Device,
    composed: bool,
    /// Multiply block-quantised weights in integers, with these instructions.
    integers: Option<::kernels::Path>,
    /// What keys and values are kept as.
    kv_type: KvType,
    /// Holds the routed experts, if not all of them may be in memory.
    experts: Option<Arc<ExpertStore>>,
    /// Memory for packed weights.
    packing: Option<Arc<Packing>>,
}

impl Candle {
    /// The CPU, with our own kernels on weights decoded exactly.
    #[must_use]
    pub fn cpu() -> Self {
        let (device, kv_type) = (Device::Cpu, KvType::F32);
        Self { device, composed: false, integers: None, kv_type, experts: None, packing: None }
    }

    /// As [`cpu`](Self::cpu), but block-quantised weights multiply activations rounded to signed bytes,
    /// one scale for every 32 of them: several times as fast, and about as far from exact as `Q8_0`. Keys and
    /// values are remembered as `F16`.
    ///
    /// # Errors
    /// If the environment asks for instructions that this processor lacks (see [`::kernels::Path`]).
    pub fn cpu_in_integers() -> Result<Self> {
        let path = ::kernels::Path::chosen()
            .map_err(|e| Error::Device { op: "choosing kernels", message: e.to_string() })?;
        Ok(Self { integers: Some(path), kv_type: KvType::F16, ..Self::cpu() })
    }

    /// Remembers keys and values as `kv_type`; composed operations remember them exactly.
    #[must_use]
    pub fn with_kv_type(self, kv_type: KvType) -> Self {
        Self { kv_type, ..self }
    }

    /// The same, with those routed experts that lie in a file in at most `bytes` of memory at a time.
    ///
    /// Results are those without a budget, bit for bit. Products in integers find the experts packed, as
    /// [`with_packed_weights`](Self::with_packed_weights) does it with other weights. Clones share the budget.
    ///
    /// # Errors
    /// If the system gives no threads to read with.
    pub fn with_expert_memory(self, bytes: u64) -> Result<Self> {
        Ok(Self { experts: Some(Arc::new(ExpertStore::new(bytes, self.packs())?)), ..self })
    }

    /// The same, with block-quantised weights laid out once more when they are first multiplied with, so that
    /// products read them straight through: at most `bytes` of them, and no routed experts.
    ///
    /// Results do not change. A weight in a file is read from it without its pages becoming part of this process,
    /// so that as much is resident as without; one in memory is there twice. Clones share the limit. Scalar kernels
    /// have no use for it.
    #[must_use]
    pub fn with_packed_weights(self, bytes: u64) -> Self {
        Self { packing: self.packs().then(|| Arc::new(Packing::new(bytes))), ..self }
    }

    /// The CUDA device `ordinal`, with operations composed from candle's.
    ///
    /// # Errors
    /// If there is no such device.
    #[cfg(feature = "cuda")]
    pub fn cuda(ordinal: usize) -> Result<Self> {
        Ok(Self::composed(Device::new_cuda(ordinal).map_err(device("cuda"))?))
    }

    /// Any candle device, with operations composed from candle's. On the CPU this is a slow twin of
    /// [`cpu`](Self::cpu) for tests.
    #[must_use]
    pub fn composed(device: Device) -> Self {
        Self { device, composed: true, ..Self::cpu() }
    }

    /// The candle device.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// `Σ weightᵢ · −log p(targetᵢ)` over the rows of `logits`: a scalar to differentiate.
    ///
    /// # Errors
    /// If there is not one target and one weight a row, or a target is not a column.
    pub fn cross_entropy(&self, logits: &Tensor, targets: &[u32], weights: &[f32]) -> Result<Tensor> {
        let (n, vocab) = self.shape(logits);
        let fits = targets.len() == n && weights.len() == n && targets.iter().all(|&t| (t as usize) < vocab);
        check("cross_entropy", fits, || {
            format!("[{n}, {vocab}] with {} targets and {} weights", targets.len(), weights.len())
        })?;
        match self.composed {
            false => ops::cross_entropy(logits, targets, weights),
            true => composed::cross_entropy(logits, targets, weights),
        }
        .map_err(device("cross_entropy"))
    }

    /// Whether packing is of use.
    fn packs(&self) -> bool {
        self.integers.is_some_and(|path| path != ::kernels::Path::SCALAR)
    }

    /// Packs a weight that is about to be multiplied with.
    fn pack(&self, w: &Stored) -> Result<()> {
        self.packing.as_ref().map_or(Ok(()), |packing| w.pack(packing))
    }

    /// The rows an operation of our kernels is to use, all below `n`.
    fn row_list(op: &'static str, rows: &Tensor, n: usize) -> Result<Vec<u32>> {
        let rows = rows.to_vec1::<u32>().map_err(device(op))?;
        match rows.iter().find(|&&row| row as usize >= n) {
            Some(row) => Err(Error::shape(op, format!("row {row} of {n}"))),
            None => Ok(rows),
        }
    }
}

/// Turns candle's error into ours.
fn device(op: &'static str) -> impl Fn(candle_core::Error) -> Error {
    move |e| Error::Device { op, message: e.to_string() }
}

fn check(op: &'static str, fits: bool, detail: impl FnOnce() -> String) -> Result<()> {
    if fits { Ok(()) } else { Err(Error::shape(op, detail())) }
}

/// Whether queries, keys and values have as many rows, and rows as wide as `heads` says.
fn fit_heads([q, k, v]: [&Tensor; 3], heads: Heads) -> bool {
    let (n, kv_shape) = (q.dims()[0], [q.dims()[0], heads.kv_width()]);
    heads.divide_evenly() && q.dims() == [n, heads.q_width()] && k.dims() == kv_shape && v.dims() == kv_shape
}

fn same_shape(op: &'static str, x: &Tensor, y: &Tensor) -> Result<()> {
    check(op, x.dims() == y.dims(), || format!("{:?} and {:?}", x.dims(), y.dims()))
}

impl Backend for Candle {
    type Tensor = Tensor;
    type Ids = Tensor;
    type Weight = Weight;
    type Cache = KvCache;

    fn weight(&self, raw: RawTensor) -> Result<Weight> {
        match self.composed {
            false => Weight::mapped(raw),
            true => Weight::decoded(raw, &self.device),
        }
    }

    fn weight_bytes(&self, weight: &Weight) -> WeightBytes {
        match weight {
            Weight::Dense(w) => {
                WeightBytes { shared: 0, owned: (w.elem_count() * w.dtype().size_in_bytes()) as u64 }
            }
            Weight::Mapped(raw) if raw.bytes.is_copy() => {
                WeightBytes { shared: 0, owned: raw.bytes.len() as u64 }
            }
            Weight::Mapped(raw) => WeightBytes { shared: raw.bytes.len() as u64, owned: 0 },
        }
    }

    fn repacked_bytes(&self) -> u64 {
        self.packing.as_ref().map_or(0, |packing| packing.used())
    }

    fn tensor(&self, rows: &[f32], cols: usize) -> Result<Tensor> {
        check("tensor", cols > 0 && rows.len().is_multiple_of(cols), || {
            format!("{} values in rows of {cols}", rows.len())
        })?;
        Tensor::from_slice(rows, (rows.len() / cols, cols), &self.device).map_err(device("tensor"))
    }

    fn ids(&self, ids: &[u32]) -> Result<Tensor> {
        Tensor::from_slice(ids, ids.len(), &self.device).map_err(device("ids"))
    }

    fn cache(&self, heads: Heads, capacity: usize) -> Result<KvCache> {
        match self.composed {
            false => Ok(KvCache::host(heads, self.kv_type, capacity)),
            true => KvCache::device(heads, capacity, &self.device).map_err(device("cache")),
        }
    }

    fn cache_len(&self, cache: &KvCache) -> usize {
        cache.n_rows()
    }

    fn cache_row_bytes(&self, heads: Heads) -> usize {
        match self.composed {
            false => self.kv_type.row_bytes(heads),
            true => KvType::F32.row_bytes(heads),
        }
    }

    fn truncate(&self, cache: &mut KvCache, len: usize) -> Result<()> {
        check("truncate", len <= cache.n_rows(), || format!("{len} of {} rows", cache.n_rows()))?;
        cache.truncate(len);
        Ok(())
    }

    fn read_cache(&self, cache: &KvCache) -> Result<Option<[Vec<f32>; 2]>> {
        cache.read().map(Some).map_err(device("read_cache"))
    }

    fn append_cache(&self, cache: &mut KvCache, k: &[f32], v: &[f32]) -> Result<bool> {
        let width = cache.heads.kv_width();
        check("append_cache", k.len() == v.len() && k.len().is_multiple_of(width), || {
            format!("{} keys and {} values in rows of {width}", k.len(), v.len())
        })?;
        match self.composed {
            false => drop(cache.append_host(k, v).map_err(device("append_cache"))?),
            true if k.is_empty() => {}
            true => {
                let rows =
                    |values: &[f32]| Tensor::from_slice(values, (values.len() / width, width), &self.device);
                let (k, v) =
                    (rows(k).map_err(device("append_cache"))?, rows(v).map_err(device("append_cache"))?);
                cache.append_device(&k, &v).map_err(device("append_cache"))?;
            }
        }
        Ok(true)
    }

    fn shape(&self, x: &Tensor) -> (usize, usize) {
        match *x.dims() {
            [rows, cols] => (rows, cols),
            _ => (1, x.elem_count()),
        }
    }

    fn exact_rows(&self) -> usize {
        if self.composed { 1 } else { EXACT_ROWS }
    }

    async fn read(&self, x: &Tensor) -> Result<Vec<f32>> {
        x.flatten_all().and_then(|x| x.to_vec1()).map_err(device("read"))
    }

    async fn read_ids(&self, ids: &Tensor) -> Result<Vec<u32>> {
        ids.to_vec1().map_err(device("read_ids"))
    }

    async fn top_k(&self, logits: &Tensor, k: usize) -> Result<Vec<Candidate>> {
        check("top_k", self.shape(logits).0 == 1, || format!("{} rows", self.shape(logits).0))?;
        match self.composed {
            false => Ok(top_k(&ops::values(logits).map_err(device("top_k"))?, k)),
            true => Ok(top_k(&self.read(logits).await?, k)),
        }
    }

    fn argmax(&self, logits: &Tensor) -> Result<Tensor> {
        check("argmax", self.shape(logits).1 > 0, || "rows are empty".to_owned())?;
        match self.composed {
            false => ops::argmax(logits),
            true => logits.argmax(1),
        }
        .map_err(device("argmax"))
    }

    fn embed(&self, table: &Weight, ids: &Tensor) -> Result<Tensor> {
        let n = table.shape().0;
        match table {
            Weight::Dense(w) if self.composed => w.index_select(ids, 0),
            Weight::Dense(w) => ops::gather(w, Self::row_list("embed", ids, n)?),
            Weight::Mapped(w) => ops::decode_rows(w, &Self::row_list("embed", ids, n)?),
        }
        .map_err(device("embed"))
    }

    fn gather(&self, x: &Tensor, rows: &Tensor) -> Result<Tensor> {
        match self.composed {
            false => ops::gather(x, Self::row_list("gather", rows, self.shape(x).0)?),
            true => x.index_select(rows, 0),
        }
        .map_err(device("gather"))
    }

    fn scatter(&self, x: &Tensor, rows: &Tensor, src: &Tensor) -> Result<Tensor> {
        let ((n, cols), (n_src, src_cols), n_rows) = (self.shape(x), self.shape(src), rows.elem_count());
        check("scatter", n_rows == n_src && cols == src_cols, || {
            format!("{n_src} rows of {src_cols} into rows of {cols}, {n_rows} indices")
        })?;
        match self.composed {
            false => ops::scatter(x, Self::row_list("scatter", rows, n)?, src),
            true => composed::scatter(x, rows, src),
        }
        .map_err(device("scatter"))
    }

    fn reshape(&self, x: &Tensor, cols: usize) -> Result<Tensor> {
        let n = x.elem_count();
        check("reshape", cols > 0 && n.is_multiple_of(cols), || format!("{n} values in rows of {cols}"))?;
        x.reshape((n / cols, cols)).map_err(device("reshape"))
    }

    fn add(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        same_shape("add", x, y)?;
        match self.composed {
            false => ops::add(x, y),
            true => x.add(y),
        }
        .map_err(device("add"))
    }

    fn linear(&self, x: &Tensor, w: &Weight, bias: Option<&Weight>) -> Result<Tensor> {
        let ((_, cols), (rows, inputs)) = (self.shape(x), w.shape());
        check("linear", cols == inputs, || format!("rows of {cols} through a weight [{rows}, {inputs}]"))?;
        let bias = bias.map(|bias| bias.vector("linear", rows)).transpose()?;
        match w {
            Weight::Dense(w) if self.composed => composed::linear(x, w, bias.as_ref()),
            Weight::Dense(w) => ops::linear(x, w, bias.as_ref()),
            Weight::Mapped(w) => {
                self.pack(w)?;
                ops::linear_stored(x, w, bias.as_ref(), self.integers)
            }
        }
        .map_err(device("linear"))
    }

    fn linears<const N: usize>(
        &self,
        x: &Tensor,
        ws: [(&Weight, Option<&Weight>); N],
    ) -> Result<[Tensor; N]> {
        let blocks: Vec<&Stored> = ws.iter().filter_map(|(w, _)| w.blocks()).collect();
        let Some(path) = self.integers.filter(|_| blocks.len() == N) else {
            let ys: Vec<Tensor> =
                ws.into_iter().map(|(w, bias)| self.linear(x, w, bias)).collect::<Result<_>>()?;
            return Ok(ys.try_into().expect("one output a weight"));
        };
        let mut biases = Vec::new();
        for (w, bias) in ws {
            let ((_, cols), (rows, inputs)) = (self.shape(x), w.shape());
            check("linears", cols == inputs, || {
                format!("rows of {cols} through a weight [{rows}, {inputs}]")
            })?;
            biases.push(bias.map(|bias| bias.vector("linears", rows)).transpose()?);
        }
        blocks.iter().try_for_each(|w| self.pack(w))?;
        let ws = std::array::from_fn(|i| (blocks[i], biases[i].as_ref()));
        ops::linears_in_integers(x, ws, path).map_err(device("linears"))
    }

    fn gated(
        &self,
        x: &Tensor,
        gate: (&Weight, Option<&Weight>),
        up: (&Weight, Option<&Weight>),
    ) -> Result<Tensor> {
        let (Some(path), Some(gate_blocks), Some(up_blocks)) =
            (self.integers, gate.0.blocks(), up.0.blocks())
        else {
            let [gate, up] = self.linears(x, [gate, up])?;
            return self.swiglu(&gate, &up);
        };
        let ((_, cols), (rows, inputs)) = (self.shape(x), gate.0.shape());
        check("gated", cols == inputs && up.0.shape() == (rows, inputs), || {
            let (up_rows, up_inputs) = up.0.shape();
            format!("rows of {cols} through weights [{rows}, {inputs}] and [{up_rows}, {up_inputs}]")
        })?;
        let bias = |bias: Option<&Weight>| bias.map(|bias| bias.vector("gated", rows)).transpose();
        let (gate_bias, up_bias) = (bias(gate.1)?, bias(up.1)?);
        self.pack(gate_blocks)?;
        self.pack(up_blocks)?;
        let ws = [(gate_blocks, gate_bias.as_ref()), (up_blocks, up_bias.as_ref())];
        ops::gated_in_integers(x, ws, path).map_err(device("gated"))
    }

    fn rms_norm(&self, x: &Tensor, w: &Weight, eps: f32) -> Result<Tensor> {
        let w = w.vector("rms_norm", self.shape(x).1)?;
        match self.composed {
            false => ops::rms_norm(x, &w, eps),
            true => composed::rms_norm(x, &w, eps),
        }
        .map_err(device("rms_norm"))
    }

    fn layer_norm(&self, x: &Tensor, w: &Weight, bias: &Weight, eps: f32) -> Result<Tensor> {
        let cols = self.shape(x).1;
        let (w, bias) = (w.vector("layer_norm", cols)?, bias.vector("layer_norm", cols)?);
        match self.composed {
            false => ops::layer_norm(x, &w, &bias, eps),
            true => composed::layer_norm(x, &w, &bias, eps),
        }
        .map_err(device("layer_norm"))
    }

    fn swiglu(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        same_shape("swiglu", gate, up)?;
        match self.composed {
            false => ops::swiglu(gate, up),
            true => composed::swiglu(gate, up),
        }
        .map_err(device("swiglu"))
    }

    fn gelu(&self, x: &Tensor, kind: Gelu) -> Result<Tensor> {
        match self.composed {
            false => ops::gelu(x, kind),
            true => composed::gelu(x, kind),
        }
        .map_err(device("gelu"))
    }

    fn gpas(&self, x: &Tensor, gpas_gate: &Weight) -> Result<Tensor> {
        let gpas_gate = gpas_gate.vector("gpas", 1)?;
        match self.composed {
            false => ops::gpas(x, &gpas_gate),
            true => composed::gpas(x, &gpas_gate),
        }
        .map_err(device("gpas"))
    }

    fn rope(&self, x: &Tensor, cos_sin: &Tensor, pairs: RopePairs) -> Result<Tensor> {
        let ((n, cols), (n_angles, head_dim)) = (self.shape(x), self.shape(cos_sin));
        let fits = n == n_angles && head_dim > 0 && head_dim % 2 == 0 && cols % head_dim == 0;
        check("rope", fits, || format!("[{n}, {cols}] by angles [{n_angles}, {head_dim}]"))?;
        match self.composed {
            false => ops::rope(x, cos_sin, pairs),
            true => composed::rope(x, cos_sin, pairs),
        }
        .map_err(device("rope"))
    }

    fn attention(
        &self,
        [q, k, v]: [&Tensor; 3],
        heads: Heads,
        mask: &Mask<'_>,
        cache: Option<&mut KvCache>,
    ) -> Result<Tensor> {
        let n = q.dims()[0];
        check("attention", fit_heads([q, k, v], heads), || {
            format!("q {:?}, k {:?}, v {:?} for {heads:?}", q.dims(), k.dims(), v.dims())
        })?;
        if let Mask::Segments { cu_seqlens, .. } = mask {
            let covers = Mask::segments_cover(cu_seqlens, n);
            check("attention", covers && cache.is_none(), || {
                format!("segments {cu_seqlens:?} over {n} rows, cached: {}", cache.is_some())
            })?;
        }
        if let Some(cache) = &cache {
            check("attention", cache.heads == heads, || {
                format!("{heads:?} with a cache of {:?}", cache.heads)
            })?;
        }
        match (self.composed, cache) {
            (false, None) => ops::attend([q, k, v], heads, mask),
            (false, Some(cache)) => ops::attend_cached([q, k, v], heads, cache),
            (true, cache) => composed::attention([q, k, v], heads, mask, cache),
        }
        .map_err(device("attention"))
    }

    fn attention_of_sequences(
        &self,
        [q, k, v]: [&Tensor; 3],
        heads: Heads,
        cu_seqlens: &[u32],
        caches: &mut [&mut KvCache],
    ) -> Result<Tensor> {
        if self.composed {
            return tensor::attend_in_turn(self, [q, k, v], heads, cu_seqlens, caches);
        }
        let n = q.dims()[0];
        let covers = cu_seqlens.len() == caches.len() + 1 && Mask::segments_cover(cu_seqlens, n);
        let fits = fit_heads([q, k, v], heads) && caches.iter().all(|cache| cache.heads == heads);
        check("attention_of_sequences", covers && fits, || {
            let n_caches = caches.len();
            format!("segments {cu_seqlens:?} over {n} rows for {heads:?} and {n_caches} caches")
        })?;
        ops::attend_sequences([q, k, v], heads, cu_seqlens, caches).map_err(device("attention_of_sequences"))
    }

    fn route(
        &self,
        router_logits: &Tensor,
        bias: Option<&Weight>,
        top_k: usize,
        norm_min: f32,
    ) -> Result<Routing<Self>> {
        let n_experts = self.shape(router_logits).1;
        check("route", top_k > 0 && top_k <= n_experts, || format!("{top_k} of {n_experts} experts"))?;
        let bias = bias.map(|bias| bias.vector("route", n_experts)).transpose()?;
        let (expert_ids, weights) = match self.composed {
            false => ops::route(router_logits, bias.as_ref(), top_k, norm_min),
            true => composed::route(router_logits, bias.as_ref(), top_k, norm_min),
        }
        .map_err(device("route"))?;
        Ok(Routing { expert_ids: self.ids(&expert_ids)?, weights, top_k })
    }

    fn expert_mlp(&self, x: &Tensor, routing: &Routing<Self>, experts: &Experts<Self>) -> Result<Tensor> {
        let expert_ids = Self::row_list("expert_mlp", &routing.expert_ids, experts.gate_proj.len())?;
        let ((n, cols), top_k) = (self.shape(x), routing.top_k);
        let fits = expert_ids.len() == n * top_k && self.shape(&routing.weights) == (n, top_k);
        check("expert_mlp", fits, || format!("{} choices for {n} rows of {top_k}", expert_ids.len()))?;
        let inputs = experts.gate_proj.iter().chain(&experts.up_proj).map(|w| w.shape().1);
        let outputs = experts.down_proj.iter().map(|w| w.shape().0);
        if let Some(width) = inputs.chain(outputs).find(|&width| width != cols) {
            return Err(Error::shape("expert_mlp", format!("rows of {cols} for experts on rows of {width}")));
        }
        let projections = [&experts.gate_proj, &experts.up_proj, &experts.down_proj];
        let mut parameters = projections.into_iter().flatten();
        let train = x.track_op() || routing.weights.track_op() || parameters.any(Weight::tracks_gradient);
        match (self.composed, train) {
            (true, _) => composed::expert_mlp(x, &expert_ids, &routing.weights, experts),
            (false, true) => ops::expert_mlp_with_gradient(x, &expert_ids, &routing.weights, experts),
            (false, false) => {
                let store = self.experts.as_deref();
                ops::expert_mlp(x, &expert_ids, &routing.weights, experts, self.integers, store)
            }
        }
        .map_err(device("expert_mlp"))
    }

    fn expert_use(&self) -> Option<ExpertUse> {
        self.experts.as_ref().map(|store| store.usage())
    }
}
