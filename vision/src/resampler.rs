//! The variable-resolution resampler: patch features → rows of the language model.

use tensor::{Backend, Error, Gelu, Result, Taps, Weights};

use crate::tower::{Affine, TowerConfig};

/// Two linear maps with an exact GELU between and a layer norm after.
struct Merge<B: Backend> {
    fc1: Affine<B>,
    fc2: Affine<B>,
    norm: Affine<B>,
}

impl<B: Backend> Merge<B> {
    fn load(w: &dyn Weights<B>, name: &str, input: usize, out: usize) -> Result<Self> {
        let affine = |part: &str, shape: &[usize]| {
            Affine::load(w, &format!("model.resampler_model.{name}.{part}"), shape)
        };
        Ok(Self {
            fc1: affine("0", &[out, input])?,
            fc2: affine("2", &[out, out])?,
            norm: affine("3", &[out])?,
        })
    }

    fn forward(&self, b: &B, x: &B::Tensor, eps: f32) -> Result<B::Tensor> {
        let h = b.gelu(&self.fc1.linear(b, x)?, Gelu::Erf)?;
        self.norm.layer_norm(b, &self.fc2.linear(b, &h)?, eps)
    }
}

/// Merges squares of patches in space and pairs of frames in time.
pub struct Resampler<B: Backend> {
    spatial: Merge<B>,
    temporal: Merge<B>,
    mlp: Affine<B>,
    after_norm: B::Weight,
    config: TowerConfig,
}

impl<B: Backend> Resampler<B> {
    /// Loads every parameter below `model.resampler_model.`.
    ///
    /// # Errors
    /// The first tensor that is missing or has another shape, by name.
    pub fn load(w: &dyn Weights<B>, config: &TowerConfig) -> Result<Self> {
        let square = config.spatial_merge_size * config.spatial_merge_size;
        let d = config.hidden_size * square;
        Ok(Self {
            spatial: Merge::load(w, "spatial_linear", d, d)?,
            temporal: Merge::load(w, "temporal_linear", d * config.temporal_merge_size, d)?,
            mlp: Affine::load(w, "model.resampler_model.mlp", &[config.text_hidden_size, d])?,
            after_norm: w.get("model.resampler_model.after_norm.weight", &[config.text_hidden_size])?,
            config: config.clone(),
        })
    }

    /// Tower output `[n_patches, hidden_size]` → `[n_tokens, text_hidden_size]`, items in order.
    ///
    /// # Errors
    /// If a video has a number of frames that is no multiple of the temporal merge; pad it first.
    pub fn forward(
        &self,
        b: &B,
        features: &B::Tensor,
        grids: &[[u32; 3]],
        taps: Option<&Taps<B>>,
    ) -> Result<B::Tensor> {
        let config = &self.config;
        let square = config.spatial_merge_size * config.spatial_merge_size;
        let x = b.reshape(features, config.hidden_size * square)?;
        let x = self.spatial.forward(b, &x, config.norm_eps)?;

        let pairs = b.ids(&frame_pairs(grids, square as u32, config.temporal_merge_size as u32)?)?;
        let x =
            b.reshape(&b.gather(&x, &pairs)?, config.hidden_size * square * config.temporal_merge_size)?;
        let x = self.temporal.forward(b, &x, config.norm_eps)?;

        let x = b.rms_norm(&self.mlp.linear(b, &x)?, &self.after_norm, config.text_norm_eps)?;
        if let Some(taps) = taps {
            taps.rows("resampler_out", &x);
        }
        Ok(x)
    }
}

/// For each output row, the `merge` rows of consecutive frames that form it, earlier frame first.
/// The one frame of a picture is paired with itself.
fn frame_pairs(grids: &[[u32; 3]], square: u32, merge: u32) -> Result<Vec<u32>> {
    let mut rows = Vec::new();
    let mut start = 0;
    for &[t, h, w] in grids {
        let tokens = h * w / square;
        if t != 1 && t % merge != 0 {
            return Err(Error::shape(
                "resampler",
                format!("{t} frames do not form groups of {merge}; pad the video"),
            ));
        }
        for group in 0..t.div_ceil(merge) {
            for token in 0..tokens {
                let frame = |i: u32| (group * merge + i).min(t - 1);
                rows.extend((0..merge).map(|i| start + frame(i) * tokens + token));
            }
        }
        start += t * tokens;
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_paired_with_itself_and_frames_in_time_order() {
        assert_eq!(frame_pairs(&[[1, 2, 4]], 4, 2).unwrap(), [0, 0, 1, 1]);
        assert_eq!(frame_pairs(&[[1, 2, 2], [4, 2, 2]], 4, 2).unwrap(), [0, 0, 1, 2, 3, 4]);
    }

    #[test]
    fn an_odd_video_is_refused() {
        assert!(frame_pairs(&[[3, 2, 2]], 4, 2).is_err());
    }
}
