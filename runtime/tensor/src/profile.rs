//! What every operation of a backend takes: time, bytes of parameters, and arithmetic.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::{
    Backend, Candidate, ExpertUse, Experts, Gelu, Heads, Mask, RawTensor, Result, RopePairs, Routing,
    WeightBytes,
};

/// Milliseconds since any fixed moment.
type Clock = dyn Fn() -> f64;

/// All operations of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct OpProfile {
    /// The operation, and the sizes of its parameter.
    pub name: String,
    /// How often it ran.
    pub n_calls: usize,
    /// Milliseconds of all calls.
    pub ms: f64,
    /// Bytes of parameters that the calls read.
    pub bytes: u64,
    /// Multiplications and additions of the calls, where they are known.
    pub operations: u64,
}

/// A backend that measures another one, which must do its work when it is told to: one that only records
/// commands would be measured recording them.
///
/// Everything it measures is in the [`Profile`] that was made with it.
#[derive(Clone)]
pub struct Profiled<B: Backend> {
    backend: B,
    profile: Profile,
}

/// What was measured so far. Cloning shares it.
#[derive(Clone)]
pub struct Profile {
    ops: Rc<RefCell<Vec<OpProfile>>>,
    clock: Rc<Clock>,
}

impl Profile {
    /// Everything since the last call, the operation that took longest first.
    #[must_use]
    pub fn take(&self) -> Vec<OpProfile> {
        let mut ops = self.ops.take();
        ops.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        ops
    }

    /// Runs `op`, and counts it under a name that is made afterwards.
    fn measure<T>(&self, op: impl FnOnce() -> T, account: impl FnOnce(&T) -> (String, u64, u64)) -> T {
        let start = (self.clock)();
        let result = op();
        let ms = (self.clock)() - start;
        self.count(ms, account(&result));
        result
    }

    fn count(&self, ms: f64, (name, bytes, operations): (String, u64, u64)) {
        let mut ops = self.ops.borrow_mut();
        let i = ops.iter().position(|op| op.name == name).unwrap_or_else(|| {
            ops.push(OpProfile { name, n_calls: 0, ms: 0.0, bytes: 0, operations: 0 });
            ops.len() - 1
        });
        let op = &mut ops[i];
        op.n_calls += 1;
        op.ms += ms;
        op.bytes += bytes;
        op.operations += operations;
    }

    /// [`measure`](Self::measure) of an operation without parameters.
    fn plain<T>(&self, name: &str, op: impl FnOnce() -> T) -> T {
        self.measure(op, |_| (name.to_owned(), 0, 0))
    }
}

impl<B: Backend> Profiled<B> {
    /// Measures `backend` by `clock`, in milliseconds.
    pub fn new(backend: B, clock: impl Fn() -> f64 + 'static) -> (Self, Profile) {
        let profile = Profile { ops: Rc::default(), clock: Rc::new(clock) };
        (Self { backend, profile: profile.clone() }, profile)
    }

    /// Counts products of `x` with weights that give `ys`.
    fn linear_account(&self, x: &B::Tensor, ws: &[&B::Weight], ys: &[&B::Tensor]) -> (String, u64, u64) {
        let (n, cols) = self.backend.shape(x);
        let widths: Vec<usize> = ys.iter().map(|y| self.backend.shape(y).1).collect();
        let bytes = ws.iter().map(|w| self.bytes(w)).sum();
        let names: Vec<String> = widths.iter().map(usize::to_string).collect();
        let operations = 2 * n * cols * widths.iter().sum::<usize>();
        (format!("linear {cols} to {}", names.join(" + ")), bytes, operations as u64)
    }

    fn bytes(&self, weight: &B::Weight) -> u64 {
        let WeightBytes { shared, owned } = self.backend.weight_bytes(weight);
        shared + owned
    }
}

/// What an operation that failed counts as.
fn failed(name: &str) -> (String, u64, u64) {
    (format!("{name} failed"), 0, 0)
}

/// How many pairs of a query row and a key row `mask` lets `n` new rows behind `past` others see.
fn pairs_seen(mask: &Mask<'_>, n: usize, past: usize) -> usize {
    match mask {
        Mask::Causal => n * past + n * (n + 1) / 2,
        Mask::Segments { cu_seqlens, causal } => cu_seqlens
            .windows(2)
            .map(|bounds| bounds[1].saturating_sub(bounds[0]) as usize)
            .map(|n| if *causal { n * (n + 1) / 2 } else { n * n })
            .sum(),
    }
}

/// The result of a future that is ready at once, as those of a backend that works when it is told to.
fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

fn unwrapped<B: Backend>(routing: &Routing<Profiled<B>>) -> Routing<B> {
    Routing { expert_ids: routing.expert_ids.clone(), weights: routing.weights.clone(), top_k: routing.top_k }
}

impl<B: Backend> Backend for Profiled<B> {
    type Tensor = B::Tensor;
    type Ids = B::Ids;
    type Weight = B::Weight;
    type Cache = B::Cache;

    fn weight(&self, raw: RawTensor) -> Result<B::Weight> {
        self.backend.weight(raw)
    }

    fn weight_bytes(&self, weight: &B::Weight) -> WeightBytes {
        self.backend.weight_bytes(weight)
    }

    fn expert_use(&self) -> Option<ExpertUse> {
        self.backend.expert_use()
    }

    fn tensor(&self, rows: &[f32], cols: usize) -> Result<B::Tensor> {
        self.backend.tensor(rows, cols)
    }

    fn ids(&self, ids: &[u32]) -> Result<B::Ids> {
        self.backend.ids(ids)
    }

    fn cache(&self, heads: Heads, capacity: usize) -> Result<B::Cache> {
        self.backend.cache(heads, capacity)
    }

    fn cache_len(&self, cache: &B::Cache) -> usize {
        self.backend.cache_len(cache)
    }

    fn repacked_bytes(&self) -> u64 {
        self.backend.repacked_bytes()
    }

    fn cache_row_bytes(&self, heads: Heads) -> usize {
        self.backend.cache_row_bytes(heads)
    }

    fn truncate(&self, cache: &mut B::Cache, len: usize) -> Result<()> {
        self.backend.truncate(cache, len)
    }

    fn shape(&self, x: &B::Tensor) -> (usize, usize) {
        self.backend.shape(x)
    }

    fn exact_rows(&self) -> usize {
        self.backend.exact_rows()
    }

    fn read(&self, x: &B::Tensor) -> impl Future<Output = Result<Vec<f32>>> {
        self.backend.read(x)
    }

    fn read_ids(&self, ids: &B::Ids) -> impl Future<Output = Result<Vec<u32>>> {
        self.backend.read_ids(ids)
    }

    async fn top_k(&self, logits: &B::Tensor, k: usize) -> Result<Vec<Candidate>> {
        let start = (self.profile.clock)();
        let best = self.backend.top_k(logits, k).await;
        self.profile.count((self.profile.clock)() - start, ("top_k".to_owned(), 0, 0));
        best
    }

    fn argmax(&self, logits: &B::Tensor) -> Result<B::Ids> {
        self.profile.plain("argmax", || self.backend.argmax(logits))
    }

    fn embed(&self, table: &B::Weight, ids: &B::Ids) -> Result<B::Tensor> {
        self.profile.plain("embed", || self.backend.embed(table, ids))
    }

    fn gather(&self, x: &B::Tensor, rows: &B::Ids) -> Result<B::Tensor> {
        self.profile.plain("gather", || self.backend.gather(x, rows))
    }

    fn scatter(&self, x: &B::Tensor, rows: &B::Ids, src: &B::Tensor) -> Result<B::Tensor> {
        self.profile.plain("scatter", || self.backend.scatter(x, rows, src))
    }

    fn reshape(&self, x: &B::Tensor, cols: usize) -> Result<B::Tensor> {
        self.profile.plain("reshape", || self.backend.reshape(x, cols))
    }

    fn add(&self, x: &B::Tensor, y: &B::Tensor) -> Result<B::Tensor> {
        self.profile.plain("add", || self.backend.add(x, y))
    }

    fn linear(&self, x: &B::Tensor, w: &B::Weight, bias: Option<&B::Weight>) -> Result<B::Tensor> {
        self.profile.measure(
            || self.backend.linear(x, w, bias),
            |y| y.as_ref().map_or_else(|_| failed("linear"), |y| self.linear_account(x, &[w], &[y])),
        )
    }

    fn rms_norm(&self, x: &B::Tensor, w: &B::Weight, eps: f32) -> Result<B::Tensor> {
        self.profile.plain("rms_norm", || self.backend.rms_norm(x, w, eps))
    }

    fn layer_norm(&self, x: &B::Tensor, w: &B::Weight, bias: &B::Weight, eps: f32) -> Result<B::Tensor> {
        self.profile.plain("layer_norm", || self.backend.layer_norm(x, w, bias, eps))
    }

    fn swiglu(&self, gate: &B::Tensor, up: &B::Tensor) -> Result<B::Tensor> {
        self.profile.plain("swiglu", || self.backend.swiglu(gate, up))
    }

    fn gelu(&self, x: &B::Tensor, kind: Gelu) -> Result<B::Tensor> {
        self.profile.plain("gelu", || self.backend.gelu(x, kind))
    }

    fn gpas(&self, x: &B::Tensor, gpas_gate: &B::Weight) -> Result<B::Tensor> {
        self.profile.plain("gpas", || self.backend.gpas(x, gpas_gate))
    }

    fn rope(&self, x: &B::Tensor, cos_sin: &B::Tensor, pairs: RopePairs) -> Result<B::Tensor> {
        self.profile.plain("rope", || self.backend.rope(x, cos_sin, pairs))
    }

    fn attention(
        &self,
        qkv: [&B::Tensor; 3],
        heads: Heads,
        mask: &Mask<'_>,
        cache: Option<&mut B::Cache>,
    ) -> Result<B::Tensor> {
        let n = self.backend.shape(qkv[0]).0;
        let past = cache.as_ref().map_or(0, |cache| self.backend.cache_len(cache));
        let pairs = pairs_seen(mask, n, past);
        self.profile.measure(
            || self.backend.attention(qkv, heads, mask, cache),
            |_| ("attention".to_owned(), 0, 4 * (pairs * heads.q_width()) as u64),
        )
    }

    fn route(
        &self,
        router_logits: &B::Tensor,
        bias: Option<&B::Weight>,
        top_k: usize,
        norm_min: f32,
    ) -> Result<Routing<Self>> {
        let routing =
            self.profile.plain("route", || self.backend.route(router_logits, bias, top_k, norm_min))?;
        Ok(Routing { expert_ids: routing.expert_ids, weights: routing.weights, top_k: routing.top_k })
    }

    fn expert_mlp(
        &self,
        x: &B::Tensor,
        routing: &Routing<Self>,
        experts: &Experts<Self>,
    ) -> Result<B::Tensor> {
        // Handles only; what they stand for is shared.
        let inner = Experts {
            gate_proj: experts.gate_proj.clone(),
            up_proj: experts.up_proj.clone(),
            down_proj: experts.down_proj.clone(),
        };
        let routing = unwrapped(routing);
        self.profile.measure(
            || self.backend.expert_mlp(x, &routing, &inner),
            |_| {
                let mut chosen = ready(self.backend.read_ids(&routing.expert_ids))
                    .and_then(Result::ok)
                    .unwrap_or_default();
                chosen.sort_unstable();
                chosen.dedup();
                let bytes = |expert: &u32| {
                    let parts = [&inner.gate_proj, &inner.up_proj, &inner.down_proj];
                    parts
                        .iter()
                        .filter_map(|part| part.get(*expert as usize))
                        .map(|w| self.bytes(w))
                        .sum::<u64>()
                };
                // How wide an expert is, a backend does not tell.
                ("expert_mlp".to_owned(), chosen.iter().map(bytes).sum(), 0)
            },
        )
    }

    fn linears<const N: usize>(
        &self,
        x: &B::Tensor,
        ws: [(&B::Weight, Option<&B::Weight>); N],
    ) -> Result<[B::Tensor; N]> {
        self.profile.measure(
            || self.backend.linears(x, ws),
            |ys| {
                let account =
                    |ys: &[B::Tensor; N]| self.linear_account(x, &ws.map(|(w, _)| w), &ys.each_ref());
                ys.as_ref().map_or_else(|_| failed("linears"), account)
            },
        )
    }

    fn gated(
        &self,
        x: &B::Tensor,
        gate: (&B::Weight, Option<&B::Weight>),
        up: (&B::Weight, Option<&B::Weight>),
    ) -> Result<B::Tensor> {
        self.profile.measure(
            || self.backend.gated(x, gate, up),
            |y| {
                let account = |y| self.linear_account(x, &[gate.0, up.0], &[y, y]);
                y.as_ref().map_or_else(|_| failed("gated"), account)
            },
        )
    }

    fn attention_of_sequences(
        &self,
        qkv: [&B::Tensor; 3],
        heads: Heads,
        cu_seqlens: &[u32],
        caches: &mut [&mut B::Cache],
    ) -> Result<B::Tensor> {
        let lens = cu_seqlens.windows(2).map(|bounds| bounds[1].saturating_sub(bounds[0]) as usize);
        let pairs: usize = lens
            .zip(caches.iter())
            .map(|(n, cache)| pairs_seen(&Mask::Causal, n, self.backend.cache_len(cache)))
            .sum();
        self.profile.measure(
            || self.backend.attention_of_sequences(qkv, heads, cu_seqlens, caches),
            |_| ("attention of sequences".to_owned(), 0, 4 * (pairs * heads.q_width()) as u64),
        )
    }

    fn add_rms_norm(
        &self,
        x: &B::Tensor,
        y: &B::Tensor,
        w: &B::Weight,
        eps: f32,
    ) -> Result<(B::Tensor, B::Tensor)> {
        self.profile.plain("add_rms_norm", || self.backend.add_rms_norm(x, y, w, eps))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::{Reference, conformance};

    fn profiled() -> (Profiled<Reference>, Profile) {
        let ticks = Cell::new(0.0);
        let clock = move || {
            ticks.set(ticks.get() + 1.0);
            ticks.get()
        };
        Profiled::new(Reference, clock)
    }

    #[test]
    fn what_is_measured_is_not_changed() {
        let report = pollster::block_on(conformance::check(&profiled().0));
        assert!(report.passed(), "{report}");
    }

    #[test]
    fn operations_are_counted_by_name() {
        let (b, profile) = profiled();
        let w = b.weight(RawTensor::from_f32("w", &[3, 2], &[1.0; 6])).unwrap();
        let x = b.tensor(&[1.0; 8], 2).unwrap();
        for _ in 0..2 {
            b.linear(&x, &w, None).unwrap();
        }
        b.linears(&x, [(&w, None), (&w, None)]).unwrap();
        b.add(&x, &x).unwrap();
        let ops = profile.take();
        let find = |name: &str| ops.iter().find(|op| op.name == name).unwrap();
        let linear = find("linear 2 to 3");
        assert_eq!((linear.n_calls, linear.ms, linear.operations), (2, 2.0, 2 * 2 * 4 * 2 * 3));
        assert_eq!(linear.bytes, 2 * 6 * 4);
        assert_eq!(find("linear 2 to 3 + 3").operations, 2 * 4 * 2 * 6);
        assert_eq!(find("add").n_calls, 1);
        assert!(profile.take().is_empty());
    }

    #[test]
    fn attention_counts_the_pairs_that_are_seen() {
        assert_eq!(pairs_seen(&Mask::Causal, 3, 10), 11 + 12 + 13);
        let segments = |causal| Mask::Segments { cu_seqlens: &[0, 2, 5], causal };
        assert_eq!(pairs_seen(&segments(false), 5, 0), 4 + 9);
        assert_eq!(pairs_seen(&segments(true), 5, 0), 3 + 6);
    }
}
