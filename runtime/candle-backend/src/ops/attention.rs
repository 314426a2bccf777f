//! Grouped-query attention.

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor};
use tensor::{Heads, Mask};

use super::{output, slice, tensor_like, values};
use crate::KvCache;
use crate::kernels::attention::{self as kernel, Segment, segments};

/// Attention among the rows of `q`, `k` and `v`.
pub(crate) fn attend([q, k, v]: [&Tensor; 3], heads: Heads, mask: &Mask<'_>) -> Result<Tensor> {
    let segments = segments(mask, q.dims()[0]);
    q.apply_op3(k, v, Attention { heads, segments })
}

/// Appends `k` and `v` to `cache`, then attends to all of its rows; no gradient.
pub(crate) fn attend_cached(qkv: [&Tensor; 3], heads: Heads, cache: &mut KvCache) -> Result<Tensor> {
    let n = qkv[0].dims()[0] as u32;
    attend_sequences(qkv, heads, &[0, n], &mut [cache])
}

/// [`attend_cached`] for rows `cu_seqlens[i]..cu_seqlens[i + 1]` and each of `caches`, all at once.
pub(crate) fn attend_sequences(
    [q, k, v]: [&Tensor; 3],
    heads: Heads,
    cu_seqlens: &[u32],
    caches: &mut [&mut KvCache],
) -> Result<Tensor> {
    let width = heads.kv_width();
    let (k, v) = (values(k)?, values(v)?);
    let mut sources = Vec::new();
    for (bounds, cache) in cu_seqlens.windows(2).zip(caches) {
        let rows = bounds[0] as usize..bounds[1] as usize;
        if rows.is_empty() {
            continue;
        }
        let segment = Segment::causal(rows.clone(), cache.n_rows());
        let values = rows.start * width..rows.end * width;
        sources.push((segment, cache.append_host(&k[values.clone()], &v[values])?));
    }
    let sources: Vec<_> = sources.iter().map(|(segment, keys)| (segment, *keys)).collect();
    let context = kernel::forward(&values(q)?, heads, &sources);
    Tensor::from_vec(context, q.shape(), &Device::Cpu)
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
        let out = kernel::among(slice(q, lq)?, slice(k, lk)?, slice(v, lv)?, self.heads, &self.segments);
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
