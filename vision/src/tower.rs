//! The vision tower: patches → patch features. "DFNRope" ViT of ERNIE 4.5 VL.

use tensor::{Backend, Gelu, Heads, Mask, Result, RopePairs, Taps, Weights};

/// Sizes of the vision tower and the resampler.
#[derive(Debug, Clone, PartialEq)]
pub struct TowerConfig {
    /// Number of blocks.
    pub depth: usize,
    /// Width of a patch row.
    pub hidden_size: usize,
    /// Width inside the feed-forward.
    pub intermediate_size: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Values of a flattened patch: channels × patch side².
    pub patch_values: usize,
    /// Side of the square of patches that becomes one token.
    pub spatial_merge_size: usize,
    /// Frames that become one.
    pub temporal_merge_size: usize,
    /// Of all layer norms.
    pub norm_eps: f32,
    /// Base of the 2-D rotary angles.
    pub rope_theta: f64,
    /// Width of the language model.
    pub text_hidden_size: usize,
    /// Of the last norm of the resampler: the language model's.
    pub text_norm_eps: f32,
}

impl TowerConfig {
    fn heads(&self) -> Heads {
        Heads { n_heads: self.n_heads, n_kv_heads: self.n_heads, head_dim: self.hidden_size / self.n_heads }
    }
}

/// A weight and its bias.
pub(crate) struct Affine<B: Backend> {
    pub(crate) weight: B::Weight,
    pub(crate) bias: B::Weight,
}

impl<B: Backend> Affine<B> {
    /// Loads `{name}.weight` of `shape` and `{name}.bias` as long as its first dimension.
    pub(crate) fn load(w: &dyn Weights<B>, name: &str, shape: &[usize]) -> Result<Self> {
        Ok(Self {
            weight: w.get(&format!("{name}.weight"), shape)?,
            bias: w.get(&format!("{name}.bias"), &shape[..1])?,
        })
    }

    pub(crate) fn linear(&self, b: &B, x: &B::Tensor) -> Result<B::Tensor> {
        b.linear(x, &self.weight, Some(&self.bias))
    }

    pub(crate) fn layer_norm(&self, b: &B, x: &B::Tensor, eps: f32) -> Result<B::Tensor> {
        b.layer_norm(x, &self.weight, &self.bias, eps)
    }
}

/// One pre-norm block.
struct Block<B: Backend> {
    norm1: Affine<B>,
    q_proj: Affine<B>,
    k_proj: Affine<B>,
    v_proj: Affine<B>,
    proj: Affine<B>,
    norm2: Affine<B>,
    fc1: Affine<B>,
    fc2: Affine<B>,
}

impl<B: Backend> Block<B> {
    fn load(w: &dyn Weights<B>, index: usize, config: &TowerConfig) -> Result<Self> {
        let prefix = format!("vision_model.blocks.{index}");
        let (d, inner) = (config.hidden_size, config.intermediate_size);
        let affine = |name: &str, shape: &[usize]| Affine::load(w, &format!("{prefix}.{name}"), shape);
        // The file fuses q, k and v; rows of any storage split for free.
        let part = |i: usize| -> Result<Affine<B>> {
            let (rows, name) = (i * d..(i + 1) * d, format!("{prefix}.attn.qkv"));
            Ok(Affine {
                weight: w.get_rows(&format!("{name}.weight"), &[3 * d, d], rows.clone())?,
                bias: w.get_rows(&format!("{name}.bias"), &[3 * d], rows)?,
            })
        };
        Ok(Self {
            norm1: affine("norm1", &[d])?,
            q_proj: part(0)?,
            k_proj: part(1)?,
            v_proj: part(2)?,
            proj: affine("attn.proj", &[d, d])?,
            norm2: affine("norm2", &[d])?,
            fc1: affine("mlp.fc1", &[inner, d])?,
            fc2: affine("mlp.fc2", &[d, inner])?,
        })
    }

    fn forward(&self, b: &B, x: &B::Tensor, shared: &Shared<'_, B>) -> Result<B::Tensor> {
        let h = self.norm1.layer_norm(b, x, shared.eps)?;
        let [q, k, v] = b.linears(
            &h,
            [&self.q_proj, &self.k_proj, &self.v_proj].map(|proj| (&proj.weight, Some(&proj.bias))),
        )?;
        let q = b.rope(&q, &shared.cos_sin, RopePairs::Halves)?;
        let k = b.rope(&k, &shared.cos_sin, RopePairs::Halves)?;
        let context = b.attention([&q, &k, &v], shared.heads, &shared.mask, None)?;
        let x = b.add(x, &self.proj.linear(b, &context)?)?;

        let h = self.norm2.layer_norm(b, &x, shared.eps)?;
        let h = b.gelu(&self.fc1.linear(b, &h)?, Gelu::Quick)?;
        b.add(&x, &self.fc2.linear(b, &h)?)
    }
}

/// What every block of one pass shares.
struct Shared<'a, B: Backend> {
    heads: Heads,
    eps: f32,
    cos_sin: B::Tensor,
    mask: Mask<'a>,
}

/// The vision tower.
pub struct Tower<B: Backend> {
    patch_embed: B::Weight,
    blocks: Vec<Block<B>>,
    ln: Affine<B>,
    config: TowerConfig,
}

impl<B: Backend> Tower<B> {
    /// Loads every parameter below `vision_model.`.
    ///
    /// # Errors
    /// The first tensor that is missing or has another shape, by name.
    pub fn load(w: &dyn Weights<B>, config: &TowerConfig) -> Result<Self> {
        let d = config.hidden_size;
        Ok(Self {
            patch_embed: w.get("vision_model.patch_embed.proj.weight", &[d, config.patch_values])?,
            blocks: (0..config.depth).map(|i| Block::load(w, i, config)).collect::<Result<_>>()?,
            ln: Affine::load(w, "vision_model.ln", &[d])?,
            config: config.clone(),
        })
    }

    /// Features of every patch: `[n_patches, patch_values]` → `[n_patches, hidden_size]`.
    ///
    /// `grids` lists the pictures and videos in `patches`, each `(t, h, w)` in patches, whose rows are in
    /// merge-block order. Attention stays inside one frame of one picture.
    ///
    /// # Errors
    /// If the grids do not add up to the rows.
    pub fn forward(
        &self,
        b: &B,
        patches: &B::Tensor,
        grids: &[[u32; 3]],
        taps: Option<&Taps<B>>,
    ) -> Result<B::Tensor> {
        let heads = self.config.heads();
        let cu_seqlens = frame_bounds(grids);
        let shared = Shared {
            heads,
            eps: self.config.norm_eps,
            cos_sin: b.tensor(&self.cos_sin(grids), heads.head_dim)?,
            mask: Mask::Segments { cu_seqlens: &cu_seqlens, causal: false },
        };
        let mut x = b.linear(patches, &self.patch_embed, None)?;
        for block in &self.blocks {
            x = block.forward(b, &x, &shared)?;
        }
        let out = self.ln.layer_norm(b, &x, self.config.norm_eps)?;
        if let Some(taps) = taps {
            taps.rows("vision_out", &out);
        }
        Ok(out)
    }

    /// `cos‖sin` rows `[n_patches, head_dim]`: the first half of the pairs turns with the row of the
    /// patch, the second with its column.
    fn cos_sin(&self, grids: &[[u32; 3]]) -> Vec<f32> {
        let head_dim = self.config.heads().head_dim;
        let quarter = head_dim / 4;
        let freqs: Vec<f32> = (0..quarter)
            .map(|i| {
                let exponent = (2 * i) as f32 / (head_dim / 2) as f32;
                (1.0 / self.config.rope_theta.powf(f64::from(exponent))) as f32
            })
            .collect();
        let mut rows = Vec::new();
        for &[t, h, w] in grids {
            let frame = rows.len();
            for (y, x) in merge_block_order(h, w, self.config.spatial_merge_size as u32) {
                let angles =
                    || freqs.iter().map(move |f| y as f32 * f).chain(freqs.iter().map(move |f| x as f32 * f));
                rows.extend(angles().map(f32::cos));
                rows.extend(angles().map(f32::sin));
            }
            let frame = frame..rows.len();
            for _ in 1..t {
                rows.extend_from_within(frame.clone());
            }
        }
        rows
    }
}

/// Segment bounds of all frames of all items.
fn frame_bounds(grids: &[[u32; 3]]) -> Vec<u32> {
    let mut bounds = vec![0];
    for &[t, h, w] in grids {
        for _ in 0..t {
            bounds.push(bounds[bounds.len() - 1] + h * w);
        }
    }
    bounds
}

/// Patch coordinates `(y, x)` in row order: merge blocks row by row, and row by row inside each.
fn merge_block_order(h: u32, w: u32, merge: u32) -> impl Iterator<Item = (u32, u32)> {
    (0..h / merge).flat_map(move |block_y| {
        (0..w / merge).flat_map(move |block_x| {
            (0..merge).flat_map(move |y| (0..merge).map(move |x| (block_y * merge + y, block_x * merge + x)))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_numbered_in_merge_blocks() {
        let order: Vec<_> = merge_block_order(4, 4, 2).collect();
        let first_row = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)];
        assert_eq!(order[..8], first_row);
        assert_eq!(order[8..10], [(2, 0), (2, 1)]);
        assert_eq!(order.len(), 16);
    }

    #[test]
    fn attention_never_crosses_frames() {
        assert_eq!(frame_bounds(&[[1, 4, 6], [3, 2, 2]]), [0, 24, 28, 32, 36]);
    }
}
