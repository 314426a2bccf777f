//! Routing and routed experts.

use super::inputs::{Rows, matrix, rows};
use super::{Case, Suite, Values};
use crate::{Backend, DType, Experts, RawTensor, Result, Routing};

pub(super) async fn cases<B: Backend>(suite: &mut Suite<'_, B>) {
    for (n, n_experts, top_k) in [(1, 1, 1), (1, 6, 2), (9, 8, 1), (40, 64, 6), (5, 8, 8), (130, 5, 2)] {
        for scale in [0.1, 3.0] {
            let router_logits = rows(n, n_experts).times(scale);
            for norm_min in [1e-12, 0.7] {
                let bias = rows(1, n_experts).seed(13);
                suite.agree(Route { router_logits, bias: None, top_k, norm_min }).await;
                suite.agree(Route { router_logits, bias: Some(bias), top_k, norm_min }).await;
            }
        }
        // Equal probabilities: the lower index wins.
        let router_logits = rows(n, n_experts).rounded_to(1.0);
        suite.agree(Route { router_logits, bias: None, top_k, norm_min: 1e-12 }).await;
    }
    let route = |top_k, bias: Option<Rows>| Route { router_logits: rows(3, 4), bias, top_k, norm_min: 1e-12 };
    suite.refuse(route(0, None)).await;
    suite.refuse(route(5, None)).await;
    suite.refuse(route(2, Some(rows(1, 3)))).await;

    for (n, n_experts, top_k, n_used) in
        [(1, 2, 1, 2), (1, 16, 2, 3), (9, 4, 2, 4), (33, 6, 3, 4), (70, 4, 1, 1)]
    {
        for (dtype, hidden, inner) in [(DType::F32, 5, 7), (DType::BF16, 33, 16), (DType::Q8_0, 64, 32)] {
            let size = Size { n_experts, hidden, inner, dtype };
            suite.agree(ExpertMlp::new(n, top_k, n_used, size)).await;
        }
    }
    for dtype in DType::ALL {
        suite.agree(ExpertMlp::new(3, 2, 3, Size { n_experts: 4, hidden: 256, inner: 256, dtype })).await;
    }
    let size = Size { n_experts: 4, hidden: 8, inner: 6, dtype: DType::F32 };
    let good = ExpertMlp::new(3, 2, 4, size);
    suite.refuse(ExpertMlp { x: rows(3, 9), ..good.clone() }).await;
    suite.refuse(ExpertMlp { x: rows(2, 8), ..good.clone() }).await;
    suite.refuse(ExpertMlp { weights: rows(3, 1), ..good.clone() }).await;
    suite.refuse(ExpertMlp { expert_ids: vec![0, 1, 2], ..good.clone() }).await;
    suite.refuse(ExpertMlp { expert_ids: vec![0, 1, 2, 3, 4, 0], ..good }).await;
}

#[derive(Debug)]
struct Route {
    router_logits: Rows,
    bias: Option<Rows>,
    top_k: usize,
    norm_min: f32,
}

impl Case for Route {
    const OPS: &'static [&'static str] = &["route"];

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let weight = |bias: &Rows| b.weight(RawTensor::from_f32("bias", &[bias.cols], &bias.values()));
        let bias = self.bias.as_ref().map(weight).transpose()?;
        let routing = b.route(&self.router_logits.on(b)?, bias.as_ref(), self.top_k, self.norm_min)?;
        let top_k = Values::Indices(vec![routing.top_k as u32]);
        Ok(vec![
            top_k,
            Values::indices(b, &routing.expert_ids).await?,
            Values::rows(b, &routing.weights).await?,
        ])
    }
}

#[derive(Debug, Clone, Copy)]
struct Size {
    n_experts: usize,
    hidden: usize,
    inner: usize,
    dtype: DType,
}

#[derive(Debug, Clone)]
struct ExpertMlp {
    x: Rows,
    expert_ids: Vec<u32>,
    weights: Rows,
    top_k: usize,
    size: Size,
}

impl ExpertMlp {
    /// The first `n_used` experts get rows, the others stay idle.
    fn new(n: usize, top_k: usize, n_used: usize, size: Size) -> Self {
        let choice = |i: usize| ((i / top_k * 7 + i % top_k) % n_used) as u32;
        let expert_ids = (0..n * top_k).map(choice).collect();
        Self { x: rows(n, size.hidden), expert_ids, weights: rows(n, top_k).seed(17), top_k, size }
    }
}

impl Case for ExpertMlp {
    const OPS: &'static [&'static str] = &["expert_mlp"];

    /// Activations are rounded twice, and the second time they are products of two sums, half of them near zero:
    /// the largest of 32 is four to five times their root mean square, which makes 1.1e-4 of noise, beside
    /// 3e-5 from the factors. Again six times that.
    fn rounded_bound(&self) -> Option<f64> {
        self.size.dtype.is_quantized().then_some(8e-4)
    }

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let Size { n_experts, hidden, inner, dtype } = self.size;
        let bank = |seed: u64, rows: usize, cols: usize| -> Result<Vec<B::Weight>> {
            (0..n_experts as u64).map(|e| matrix(dtype, rows, cols).seed(seed + e).on(b)).collect()
        };
        let experts = Experts {
            gate_proj: bank(100, inner, hidden)?,
            up_proj: bank(200, inner, hidden)?,
            down_proj: bank(300, hidden, inner)?,
        };
        let (expert_ids, weights) = (b.ids(&self.expert_ids)?, self.weights.on(b)?);
        let routing = Routing { expert_ids, weights, top_k: self.top_k };
        Ok(vec![Values::rows(b, &b.expert_mlp(&self.x.on(b)?, &routing, &experts)?).await?])
    }
}
