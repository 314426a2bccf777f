//! Grouped-query self-attention of one layer.

use tensor::{Backend, Heads, Mask, Result, RopePairs, Weights};

use crate::config::{RopeKind, TextConfig};
use crate::decoder::Step;
use crate::mlp::Linear;

/// Grouped-query self-attention of one layer.
pub struct Attention<B: Backend> {
    /// `[n_heads * head_dim, hidden_size]`
    pub q_proj: Linear<B>,
    /// `[n_kv_heads * head_dim, hidden_size]`
    pub k_proj: Linear<B>,
    /// `[n_kv_heads * head_dim, hidden_size]`
    pub v_proj: Linear<B>,
    /// `[hidden_size, n_heads * head_dim]`
    pub o_proj: Linear<B>,
    heads: Heads,
    rope_pairs: RopePairs,
}

impl<B: Backend> Attention<B> {
    pub(crate) fn load(w: &dyn Weights<B>, prefix: &str, config: &TextConfig) -> Result<Self> {
        let heads = config.heads();
        let (hidden, bias) = (config.hidden_size, config.use_bias);
        let linear = |name: &str, shape| Linear::load(w, &format!("{prefix}.{name}"), shape, bias);
        Ok(Self {
            q_proj: linear("q_proj", [heads.q_width(), hidden])?,
            k_proj: linear("k_proj", [heads.kv_width(), hidden])?,
            v_proj: linear("v_proj", [heads.kv_width(), hidden])?,
            o_proj: linear("o_proj", [hidden, heads.q_width()])?,
            heads,
            rope_pairs: match config.rope {
                RopeKind::HalvesThw { .. } => RopePairs::Halves,
                _ => RopePairs::Interleaved,
            },
        })
    }

    /// `x` and the result are `[n, hidden_size]`; keys and values are appended to `caches`, one a sequence.
    pub(crate) fn forward(
        &self,
        step: &Step<'_, B>,
        x: &B::Tensor,
        caches: &mut [&mut B::Cache],
    ) -> Result<B::Tensor> {
        let b = step.backend;
        let [q, k, v] = b.linears(x, [self.q_proj.parts(), self.k_proj.parts(), self.v_proj.parts()])?;
        let q = b.rope(&q, &step.cos_sin, self.rope_pairs)?;
        let k = b.rope(&k, &step.cos_sin, self.rope_pairs)?;
        let qkv = [&q, &k, &v];
        let context = match (caches, &step.mask) {
            ([], mask) => b.attention(qkv, self.heads, mask, None)?,
            (caches, Mask::Segments { cu_seqlens, .. }) => {
                b.attention_of_sequences(qkv, self.heads, cu_seqlens, caches)?
            }
            ([cache, ..], Mask::Causal) => b.attention(qkv, self.heads, &Mask::Causal, Some(cache))?,
        };
        self.o_proj.forward(b, &context)
    }
}
