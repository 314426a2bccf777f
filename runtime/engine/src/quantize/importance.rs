//! How much each column of a matrix matters: the mean square of what it is multiplied with.
//!
//! An error in a weight adds to the results in proportion to the activation of its column, so a type's codes
//! are best spent where activations are large.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tensor::{
    Backend, Candidate, Experts, Gelu, Heads, Mask, RawTensor, Result as TensorResult, RopePairs, Routing,
    WeightBytes, Weights,
};

use crate::{Capture, Loaded, ModelFiles, ModelInput, Result, Traceable};

/// Rows of a prompt that are computed at once.
const CHUNK: usize = 512;
/// Importance of a column that the sample hardly uses, as a share of the mean: other texts may use it.
const LEAST: f64 = 0.01;

/// What a sample of prompts puts through each parameter.
#[derive(Debug, Clone, Default)]
pub struct Importance {
    /// Sums of the squares of each column.
    parameters: BTreeMap<String, Vec<f64>>,
}

impl Importance {
    /// Runs each of `prompts` through the model alone, on `backend`, and watches its matrices.
    ///
    /// `progress` hears how many prompts are done.
    ///
    /// # Errors
    /// If the model cannot be loaded, or a prompt is not for it.
    pub fn measure<B: Backend + Clone>(
        files: &ModelFiles,
        backend: B,
        prompts: &[ModelInput],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self> {
        let checkpoint = files.checkpoint()?;
        let watched = Watched { inner: backend, seen: Rc::default() };
        let weights = checkpoint.weights(&watched.inner);
        let mut model =
            Loaded::load(watched.clone(), &Named { weights: &weights }, checkpoint.config.clone())?;
        for (i, prompt) in prompts.iter().enumerate() {
            // The logits of all rows: the head is a matrix like any other.
            let rows: Vec<usize> = (0..prompt.token_ids.len()).collect();
            pollster::block_on(model.trace(prompt, CHUNK, &rows, Capture::default()))?;
            progress(i + 1);
        }
        Ok(Self { parameters: watched.seen.take() })
    }

    /// How much each column of the parameter `name` matters; nothing if no row came by, as happens to experts.
    #[must_use]
    pub fn columns(&self, name: &str) -> Option<Vec<f32>> {
        let squares = self.parameters.get(name)?;
        let mean = squares.iter().sum::<f64>() / squares.len().max(1) as f64;
        let scale = if mean > 0.0 && mean.is_finite() { mean.recip() } else { return None };
        Some(squares.iter().map(|square| (square * scale).max(LEAST) as f32).collect())
    }

    /// How many parameters were met.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parameters.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }
}

/// A backend that remembers what its matrices are multiplied with.
#[derive(Clone)]
struct Watched<B> {
    inner: B,
    seen: Rc<RefCell<BTreeMap<String, Vec<f64>>>>,
}

/// A parameter that knows its name.
struct NamedWeight<B: Backend> {
    name: Rc<str>,
    weight: B::Weight,
}

impl<B: Backend> Clone for NamedWeight<B> {
    fn clone(&self) -> Self {
        Self { name: Rc::clone(&self.name), weight: self.weight.clone() }
    }
}

/// Gives parameters their names on the way.
struct Named<'a, B: Backend> {
    weights: &'a dyn Weights<B>,
}

impl<B: Backend + Clone> Weights<Watched<B>> for Named<'_, B> {
    fn get(&self, name: &str, shape: &[usize]) -> TensorResult<NamedWeight<B>> {
        Ok(NamedWeight { name: name.into(), weight: self.weights.get(name, shape)? })
    }

    fn get_rows(
        &self,
        name: &str,
        shape: &[usize],
        rows: std::ops::Range<usize>,
    ) -> TensorResult<NamedWeight<B>> {
        Ok(NamedWeight { name: name.into(), weight: self.weights.get_rows(name, shape, rows)? })
    }

    fn has(&self, name: &str) -> bool {
        self.weights.has(name)
    }
}

impl<B: Backend + Clone> Watched<B> {
    /// Remembers the rows `x` that go through `w`.
    fn watch(&self, x: &B::Tensor, w: &NamedWeight<B>) -> TensorResult<()> {
        let (_, cols) = self.inner.shape(x);
        let values = pollster::block_on(self.inner.read(x))?;
        let mut seen = self.seen.borrow_mut();
        let squares = seen.entry(w.name.to_string()).or_default();
        squares.resize(cols, 0.0);
        for row in values.chunks_exact(cols.max(1)) {
            squares.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v) * f64::from(v));
        }
        Ok(())
    }

    /// Remembers the rows that each expert of a bank gets, and what its own product makes of them.
    fn watch_experts(
        &self,
        x: &B::Tensor,
        routing: &Routing<Self>,
        experts: &Experts<Self>,
    ) -> TensorResult<()> {
        let b = &self.inner;
        let expert_ids = pollster::block_on(b.read_ids(&routing.expert_ids))?;
        for (e, (gate_proj, up_proj)) in experts.gate_proj.iter().zip(&experts.up_proj).enumerate() {
            let chosen = expert_ids.iter().enumerate().filter(|&(_, &id)| id as usize == e);
            let rows: Vec<u32> = chosen.map(|(i, _)| (i / routing.top_k) as u32).collect();
            if rows.is_empty() {
                continue;
            }
            let x = b.gather(x, &b.ids(&rows)?)?;
            self.watch(&x, gate_proj)?;
            self.watch(&x, up_proj)?;
            let [gate, up] = b.linears(&x, [(&gate_proj.weight, None), (&up_proj.weight, None)])?;
            self.watch(&b.swiglu(&gate, &up)?, &experts.down_proj[e])?;
        }
        Ok(())
    }
}

fn inner<B: Backend>(weight: Option<&NamedWeight<B>>) -> Option<&B::Weight> {
    weight.map(|weight| &weight.weight)
}

impl<B: Backend + Clone> Backend for Watched<B> {
    type Tensor = B::Tensor;
    type Ids = B::Ids;
    type Weight = NamedWeight<B>;
    type Cache = B::Cache;

    fn weight(&self, raw: RawTensor) -> TensorResult<NamedWeight<B>> {
        Ok(NamedWeight { name: raw.name.as_str().into(), weight: self.inner.weight(raw)? })
    }

    fn linear(
        &self,
        x: &B::Tensor,
        w: &NamedWeight<B>,
        bias: Option<&NamedWeight<B>>,
    ) -> TensorResult<B::Tensor> {
        self.watch(x, w)?;
        self.inner.linear(x, &w.weight, inner(bias))
    }

    fn expert_mlp(
        &self,
        x: &B::Tensor,
        routing: &Routing<Self>,
        experts: &Experts<Self>,
    ) -> TensorResult<B::Tensor> {
        self.watch_experts(x, routing, experts)?;
        let bank = |weights: &[NamedWeight<B>]| weights.iter().map(|w| w.weight.clone()).collect();
        let experts = Experts {
            gate_proj: bank(&experts.gate_proj),
            up_proj: bank(&experts.up_proj),
            down_proj: bank(&experts.down_proj),
        };
        let Routing { expert_ids, weights, top_k } = routing.clone();
        self.inner.expert_mlp(x, &Routing { expert_ids, weights, top_k }, &experts)
    }

    // All else is what it is.

    fn weight_bytes(&self, weight: &NamedWeight<B>) -> WeightBytes {
        self.inner.weight_bytes(&weight.weight)
    }

    fn tensor(&self, rows: &[f32], cols: usize) -> TensorResult<B::Tensor> {
        self.inner.tensor(rows, cols)
    }

    fn ids(&self, ids: &[u32]) -> TensorResult<B::Ids> {
        self.inner.ids(ids)
    }

    fn cache(&self, heads: Heads, capacity: usize) -> TensorResult<B::Cache> {
        self.inner.cache(heads, capacity)
    }

    fn cache_len(&self, cache: &B::Cache) -> usize {
        self.inner.cache_len(cache)
    }

    fn truncate(&self, cache: &mut B::Cache, len: usize) -> TensorResult<()> {
        self.inner.truncate(cache, len)
    }

    fn shape(&self, x: &B::Tensor) -> (usize, usize) {
        self.inner.shape(x)
    }

    async fn read(&self, x: &B::Tensor) -> TensorResult<Vec<f32>> {
        self.inner.read(x).await
    }

    async fn read_ids(&self, ids: &B::Ids) -> TensorResult<Vec<u32>> {
        self.inner.read_ids(ids).await
    }

    async fn top_k(&self, logits: &B::Tensor, k: usize) -> TensorResult<Vec<Candidate>> {
        self.inner.top_k(logits, k).await
    }

    fn argmax(&self, logits: &B::Tensor) -> TensorResult<B::Ids> {
        self.inner.argmax(logits)
    }

    fn embed(&self, table: &NamedWeight<B>, ids: &B::Ids) -> TensorResult<B::Tensor> {
        self.inner.embed(&table.weight, ids)
    }

    fn gather(&self, x: &B::Tensor, rows: &B::Ids) -> TensorResult<B::Tensor> {
        self.inner.gather(x, rows)
    }

    fn scatter(&self, x: &B::Tensor, rows: &B::Ids, src: &B::Tensor) -> TensorResult<B::Tensor> {
        self.inner.scatter(x, rows, src)
    }

    fn reshape(&self, x: &B::Tensor, cols: usize) -> TensorResult<B::Tensor> {
        self.inner.reshape(x, cols)
    }

    fn add(&self, x: &B::Tensor, y: &B::Tensor) -> TensorResult<B::Tensor> {
        self.inner.add(x, y)
    }

    fn rms_norm(&self, x: &B::Tensor, w: &NamedWeight<B>, eps: f32) -> TensorResult<B::Tensor> {
        self.inner.rms_norm(x, &w.weight, eps)
    }

    fn layer_norm(
        &self,
        x: &B::Tensor,
        w: &NamedWeight<B>,
        bias: &NamedWeight<B>,
        eps: f32,
    ) -> TensorResult<B::Tensor> {
        self.inner.layer_norm(x, &w.weight, &bias.weight, eps)
    }

    fn swiglu(&self, gate: &B::Tensor, up: &B::Tensor) -> TensorResult<B::Tensor> {
        self.inner.swiglu(gate, up)
    }

    fn gelu(&self, x: &B::Tensor, kind: Gelu) -> TensorResult<B::Tensor> {
        self.inner.gelu(x, kind)
    }

    fn gpas(&self, x: &B::Tensor, gpas_gate: &NamedWeight<B>) -> TensorResult<B::Tensor> {
        self.inner.gpas(x, &gpas_gate.weight)
    }

    fn rope(&self, x: &B::Tensor, cos_sin: &B::Tensor, pairs: RopePairs) -> TensorResult<B::Tensor> {
        self.inner.rope(x, cos_sin, pairs)
    }

    fn attention(
        &self,
        qkv: [&B::Tensor; 3],
        heads: Heads,
        mask: &Mask<'_>,
        cache: Option<&mut B::Cache>,
    ) -> TensorResult<B::Tensor> {
        self.inner.attention(qkv, heads, mask, cache)
    }

    fn route(
        &self,
        router_logits: &B::Tensor,
        bias: Option<&NamedWeight<B>>,
        top_k: usize,
        norm_min: f32,
    ) -> TensorResult<Routing<Self>> {
        let Routing { expert_ids, weights, top_k } =
            self.inner.route(router_logits, inner(bias), top_k, norm_min)?;
        Ok(Routing { expert_ids, weights, top_k })
    }
}
