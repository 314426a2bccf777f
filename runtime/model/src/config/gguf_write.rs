//! A configuration as the metadata of a GGUF file; the reader is beside it.

use tensor::weights::{GgufEntry, GgufLayout};

use super::{Architecture, Config, ConfigError, MoeConfig, RopeKind, VisionConfig};

/// What `moe_norm_min` is in every published model, and in files that do not state it.
pub(super) const NORM_MIN: f32 = 1e-12;

/// Writes the keys below the name of the architecture.
struct Keys<'a> {
    layout: &'a mut GgufLayout,
    architecture: &'a str,
}

impl Keys<'_> {
    fn put(&mut self, key: &str, value: GgufEntry<'_>) -> Result<(), ConfigError> {
        let key = format!("{}.{key}", self.architecture);
        self.layout.put(&key, value).map_err(|error| ConfigError::Unsupported(error.to_string()))
    }

    fn count(&mut self, key: &str, value: usize) -> Result<(), ConfigError> {
        let too_large = || ConfigError::value(key, value, "a number of 32 bits");
        self.put(key, GgufEntry::U32(u32::try_from(value).map_err(|_| too_large())?))
    }

    fn number(&mut self, key: &str, value: f64) -> Result<(), ConfigError> {
        self.put(key, GgufEntry::F32(value as f32))
    }
}

impl Config {
    /// `general.architecture` of a GGUF file with this model.
    #[must_use]
    pub fn gguf_architecture(&self) -> &'static str {
        match self.architecture {
            Architecture::Dense => "ernie4_5",
            Architecture::Moe => "ernie4_5-moe",
            Architecture::VisionLanguage => "ernie4_5-vl-moe",
        }
    }

    /// Adds everything that [`from_gguf`](Self::from_gguf) reads, but for what tensors show and for the
    /// tokens that end an answer, which belong to the vocabulary.
    ///
    /// # Errors
    /// If such a file cannot express the model.
    pub fn put_gguf(&self, architecture: &str, layout: &mut GgufLayout) -> Result<(), ConfigError> {
        let text = &self.text;
        let unsupported = |what: &str| {
            Err(ConfigError::Unsupported(format!("a model with {what} cannot be written as GGUF")))
        };
        if text.gpas {
            return unsupported("gates of gradient-preserving activation scaling");
        }
        let mut keys = Keys { layout, architecture };
        keys.count("block_count", text.n_layers)?;
        keys.count("context_length", text.max_position_embeddings)?;
        keys.count("embedding_length", text.hidden_size)?;
        keys.count("feed_forward_length", text.intermediate_size)?;
        keys.count("vocab_size", text.vocab_size)?;
        keys.count("attention.head_count", text.n_heads)?;
        keys.count("attention.head_count_kv", text.n_kv_heads)?;
        keys.count("attention.key_length", text.head_dim)?;
        keys.count("attention.value_length", text.head_dim)?;
        keys.number("attention.layer_norm_rms_epsilon", text.rms_norm_eps.into())?;
        keys.count("rope.dimension_count", text.head_dim)?;
        keys.number("rope.freq_base", text.rope_theta)?;
        match text.rope {
            RopeKind::Interleaved1d => {}
            RopeKind::InterleavedHwt { hw } if self.architecture == Architecture::VisionLanguage => {
                let (side, time) = ((hw / 2) as i32, (text.head_dim / 2 - hw) as i32);
                keys.put("rope.dimension_sections", GgufEntry::I32s(&[side, side, time, 0]))?;
            }
            _ => return unsupported("such rotary positions"),
        }
        if let Some(moe) = &text.moe {
            put_moe(&mut keys, moe)?;
        }
        if let Some(vision) = &self.vision {
            put_vision(&mut keys, vision)?;
            let tokens = &self.tokens;
            for (key, id) in [
                ("image_placeholder", Some(tokens.image_placeholder)),
                ("video_placeholder", tokens.video_placeholder),
                ("image_start", Some(tokens.image_start)),
                ("image_end", Some(tokens.image_end)),
                ("video_start", Some(tokens.video_start)),
                ("video_end", Some(tokens.video_end)),
            ] {
                if let Some(id) = id {
                    keys.put(&format!("vision.token.{key}"), GgufEntry::U32(id))?;
                }
            }
        }
        Ok(())
    }
}

fn put_moe(keys: &mut Keys<'_>, moe: &MoeConfig) -> Result<(), ConfigError> {
    keys.count("expert_count", moe.text.n_experts)?;
    keys.count("expert_used_count", moe.top_k)?;
    keys.count("expert_feed_forward_length", moe.text.intermediate_size)?;
    keys.count("expert_shared_count", moe.n_shared_experts)?;
    keys.count("expert_shared_feed_forward_length", moe.shared_intermediate_size)?;
    // Other readers derive from these two which layers are routed; ours looks for the routers.
    let (dense, step) = routed_layers(&moe.layers);
    keys.count("leading_dense_block_count", dense)?;
    keys.count("interleave_moe_layer_step", step)?;
    if moe.norm_min != NORM_MIN {
        keys.number("expert_weights_norm_min", moe.norm_min.into())?;
    }
    Ok(())
}

/// How many dense layers come first, and every which layer is routed from there on. Where the routed layers
/// are not so regular, the numbers are those of the first one.
fn routed_layers(layers: &[bool]) -> (usize, usize) {
    let first = layers.iter().position(|&routed| routed).unwrap_or(layers.len());
    let fits = |dense: usize, step: usize| {
        let routed = |l: usize| l >= dense && (l + 1).is_multiple_of(step);
        layers.iter().enumerate().all(|(l, &is)| is == routed(l))
    };
    (1..=layers.len()).find(|&step| fits(first, step)).map_or((first, 1), |step| (first, step))
}

fn put_vision(keys: &mut Keys<'_>, vision: &VisionConfig) -> Result<(), ConfigError> {
    keys.count("vision.block_count", vision.depth)?;
    keys.count("vision.embedding_length", vision.hidden_size)?;
    keys.count("vision.feed_forward_length", vision.intermediate_size)?;
    keys.count("vision.attention.head_count", vision.n_heads)?;
    keys.number("vision.attention.layer_norm_epsilon", vision.norm_eps.into())?;
    keys.number("vision.rope.freq_base", vision.rope_theta)?;
    keys.count("vision.patch_size", vision.patch_size)?;
    keys.count("vision.channel_count", vision.in_channels)?;
    keys.count("vision.spatial_merge_size", vision.spatial_merge_size)?;
    keys.count("vision.temporal_merge_size", vision.temporal_merge_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_patterns_of_routed_layers_are_told_by_two_numbers() {
        let (d, r) = (false, true);
        assert_eq!(routed_layers(&[d, r, r, r]), (1, 1));
        assert_eq!(routed_layers(&[d, d, d, r, r]), (3, 1));
        assert_eq!(routed_layers(&[d, r, d, r]), (1, 2));
        assert_eq!(routed_layers(&[d, r, d, r, d, d]), (1, 1));
    }
}
