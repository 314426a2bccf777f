//! Grouped-query attention.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor};
use tensor::{Heads, Mask};

use super::{output, slice, tensor_like, values};
use crate::KvCache;
use crate::kernels::EXACT_ROWS;
use crate::kernels::attention::{self as kernel, Segment, segments};

/// Attention among the rows of `q`, `k` and `v`.
pub(crate) fn attend([q, k, v]: [&Tensor; 3], heads: Heads, mask: &Mask<'_>) -> Result<Tensor> {
    let segments = segments(mask, q.dims()[0], 0);
    q.apply_op3(k, v, Attention { heads, segments })
}

/// Appends `k` and `v` to `cache`, then attends to all of its rows; no gradient.
pub(crate) fn attend_cached([q, k, v]: [&Tensor; 3], heads: Heads, cache: &mut KvCache) -> Result<Tensor> {
    let (n, past) = (q.dims()[0], cache.n_rows());
    let segments = match n <= EXACT_ROWS {
        true => (0..n).map(|i| Segment::of_row(i, past + i)).collect(),
        false => segments(&Mask::Causal, n, past),
    };
    let (k, v) = cache.append_host(&values(k)?, &values(v)?)?;
    q.apply_op1_no_bwd(&CachedAttention { k, v, heads, segments })
}

struct Attention {
    heads: Heads,
    segments: Vec<Segment>,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        k: &CpuStorage,
        lk: &Layout,
        v: &CpuStorage,
        lv: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let out = kernel::forward(slice(q, lq)?, slice(k, lk)?, slice(v, lv)?, self.heads, &self.segments);
        output(out, lq.shape())
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let [dq, dk, dv] = {
            let (q, k, v) = (values(q)?, values(k)?, values(v)?);
            kernel::backward([&q, &k, &v], &values(&grad)?, self.heads, &self.segments)
        };
        Ok((Some(tensor_like(dq, q)?), Some(tensor_like(dk, k)?), Some(tensor_like(dv, v)?)))
    }
}

struct CachedAttention<'a> {
    k: &'a [f32],
    v: &'a [f32],
    heads: Heads,
    segments: Vec<Segment>,
}

impl CustomOp1 for CachedAttention<'_> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, q: &CpuStorage, lq: &Layout) -> Result<(CpuStorage, Shape)> {
        output(kernel::forward(slice(q, lq)?, self.k, self.v, self.heads, &self.segments), lq.shape())
    }
}
