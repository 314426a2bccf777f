//! Grouped-query attention as products and a softmax.

use candle_core::{Result, Tensor};
use tensor::{Heads, Mask};

use super::softmax;
use crate::KvCache;

/// Attention over `[q, k, v]`, appending to `cache` if there is one.
pub(crate) fn attention(
    [q, k, v]: [&Tensor; 3],
    heads: Heads,
    mask: &Mask<'_>,
    cache: Option<&mut KvCache>,
) -> Result<Tensor> {
    match (mask, cache) {
        (Mask::Causal, Some(cache)) => {
            let (k, v) = cache.append_device(k, v)?;
            attend(q, &k, &v, heads, true)
        }
        (Mask::Segments { cu_seqlens, causal }, _) => {
            let mut parts = Vec::new();
            for bounds in cu_seqlens.windows(2).filter(|bounds| bounds[0] < bounds[1]) {
                let rows = |x: &Tensor| x.narrow(0, bounds[0] as usize, (bounds[1] - bounds[0]) as usize);
                parts.push(attend(&rows(q)?, &rows(k)?, &rows(v)?, heads, *causal)?);
            }
            if parts.is_empty() { Ok(q.clone()) } else { Tensor::cat(&parts, 0) }
        }
        (Mask::Causal, None) => attend(q, k, v, heads, true),
    }
}

/// The last rows of `k` and `v` belong to the rows of `q`.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, causal: bool) -> Result<Tensor> {
    let Heads { n_heads, n_kv_heads, head_dim } = heads;
    let (n, n_keys) = (q.dims()[0], k.dims()[0]);
    let by_head = |x: &Tensor| {
        let group = n_heads / n_kv_heads;
        let x = x.reshape((n_keys, n_kv_heads, 1, head_dim))?.transpose(0, 1)?.transpose(1, 2)?;
        x.broadcast_as((n_kv_heads, group, n_keys, head_dim))?.reshape((n_heads, n_keys, head_dim))
    };
    let q = (q.reshape((n, n_heads, head_dim))?.transpose(0, 1)?.contiguous()? * f64::from(heads.scale()))?;
    let scores = q.matmul(&by_head(k)?.transpose(1, 2)?.contiguous()?)?;
    let scores = if causal && n > 1 {
        let past = n_keys - n;
        let hidden = |at| if at % n_keys > past + at / n_keys { f32::NEG_INFINITY } else { 0.0 };
        let mask: Vec<f32> = (0..n * n_keys).map(hidden).collect();
        scores.broadcast_add(&Tensor::from_vec(mask, (n, n_keys), q.device())?)?
    } else {
        scores
    };
    softmax(&scores)?.matmul(&by_head(v)?)?.transpose(0, 1)?.reshape((n, n_heads * head_dim))
}
