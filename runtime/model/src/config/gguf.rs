//! The metadata of a GGUF file as a configuration.
//!
//! Where a key and a tensor disagree the tensor is right: converters write wrong widths.

use std::ops::RangeInclusive;

use tensor::weights::{Gguf, GgufArray, GgufValue};

use super::gguf_write::NORM_MIN;
use super::{
    Architecture, BankConfig, Config, ConfigError, MoeConfig, RopeKind, SpecialTokens, TextConfig,
    VisionConfig, limits,
};

type Result<T> = std::result::Result<T, ConfigError>;

/// The keys below the architecture's name.
struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl Keys<'_> {
    fn count(&self, key: &str, range: RangeInclusive<usize>) -> Result<Option<usize>> {
        let key = format!("{}.{key}", self.architecture);
        let Some(value) = self.gguf.value(&key) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        let number = number.filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| ConfigError::value(&key, brief(value), expected()))
    }

    fn required(&self, key: &str, range: RangeInclusive<usize>) -> Result<usize> {
        self.count(key, range)?.ok_or_else(|| ConfigError::Missing(format!("{}.{key}", self.architecture)))
    }

    fn positive(&self, key: &str) -> Result<Option<f64>> {
        let key = format!("{}.{key}", self.architecture);
        let Some(value) = self.gguf.value(&key) else { return Ok(None) };
        let number = value.as_f64().filter(|x| *x > 0.0 && *x < 1e30);
        number.map(Some).ok_or_else(|| ConfigError::value(&key, brief(value), "a positive number"))
    }

    /// A dimension of a tensor, rows first.
    fn dim(&self, tensor: &str, dim: usize, range: RangeInclusive<usize>) -> Result<usize> {
        let shape = self.gguf.index().shape(tensor).ok_or_else(|| ConfigError::Missing(tensor.to_owned()))?;
        let size = shape.get(dim).copied().filter(|size| range.contains(size));
        size.ok_or_else(|| ConfigError::value(tensor, format!("{shape:?}"), "a shape of this model"))
    }

    fn has(&self, tensor: &str) -> bool {
        self.gguf.index().shape(tensor).is_some()
    }
}

/// A value for a message.
fn brief(value: &GgufValue) -> String {
    match value {
        GgufValue::Unsigned(value) => value.to_string(),
        GgufValue::Signed(value) => value.to_string(),
        GgufValue::Float(value) => value.to_string(),
        GgufValue::Bool(value) => value.to_string(),
        GgufValue::String(_) => "a text".to_owned(),
        GgufValue::Array(array) => format!("a list of {}", array.len()),
    }
}

impl Config {
    /// Reads the metadata of a model: architecture `ernie4_5`, `ernie4_5-moe`, `llama`, or `ernie4_5-vl-moe`
    /// as `docs/gguf.md` describes it.
    ///
    /// # Errors
    /// The first key that is missing, makes no sense, or asks for something unsupported.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let stated = gguf.value("general.architecture").and_then(GgufValue::as_str);
        let name = stated.ok_or_else(|| ConfigError::Missing("general.architecture".to_owned()))?;
        let architecture = match name {
            "ernie4_5" | "llama" => Architecture::Dense,
            "ernie4_5-moe" => Architecture::Moe,
            "ernie4_5-vl-moe" => Architecture::VisionLanguage,
            other => {
                let known = "supported are ernie4_5, ernie4_5-moe, ernie4_5-vl-moe and llama";
                return Err(ConfigError::Unsupported(format!("the GGUF architecture is `{other}`; {known}")));
            }
        };
        let keys = Keys { gguf, architecture: name };
        refuse_unsupported(&keys)?;
        let config = Self {
            architecture,
            text: read_text(&keys, architecture)?,
            vision: (architecture == Architecture::VisionLanguage).then(|| read_vision(&keys)).transpose()?,
            tokens: read_tokens(&keys)?,
        };
        config.text.check()?;
        if let Some(vision) = &config.vision {
            vision.check()?;
        }
        Ok(config)
    }
}

/// Features of other `llama` models that would silently change the answer.
fn refuse_unsupported(keys: &Keys<'_>) -> Result<()> {
    let no = |what: &str| {
        Err(ConfigError::Unsupported(format!("this GGUF model has {what}, which is not supported")))
    };
    if keys.architecture == "llama" && keys.count("expert_count", 0..=usize::MAX)?.unwrap_or(0) > 0 {
        return no("routed experts of llama");
    }
    let scaling =
        keys.gguf.value(&format!("{}.rope.scaling.type", keys.architecture)).and_then(GgufValue::as_str);
    if keys.has("rope_freqs.weight") || scaling.is_some_and(|kind| kind != "none") {
        return no("scaled rotary frequencies");
    }
    Ok(())
}

fn read_text(keys: &Keys<'_>, architecture: Architecture) -> Result<TextConfig> {
    let hidden_size = keys.required("embedding_length", limits::WIDTH)?;
    let n_layers = keys.required("block_count", limits::LAYERS)?;
    let n_heads = keys.required("attention.head_count", limits::HEADS)?;
    let head_dim = keys.count("attention.key_length", limits::HEAD_DIM)?.unwrap_or(hidden_size / n_heads);
    for key in ["attention.value_length", "rope.dimension_count"] {
        if let Some(found) = keys.count(key, 0..=usize::MAX)?
            && found != head_dim
        {
            let expected = format!("the {head_dim} features of a head");
            return Err(ConfigError::value(&format!("{}.{key}", keys.architecture), found, expected));
        }
    }
    let default_theta = if keys.architecture == "llama" { 10_000.0 } else { 500_000.0 };
    let eps = keys.positive("attention.layer_norm_rms_epsilon")?;
    let wants_moe = match architecture {
        Architecture::Dense => false,
        Architecture::Moe => true,
        Architecture::VisionLanguage => keys.count("expert_count", limits::EXPERTS)?.is_some(),
    };
    let moe = || read_moe(keys, n_layers, architecture);
    Ok(TextConfig {
        hidden_size,
        intermediate_size: keys.required("feed_forward_length", limits::WIDTH)?,
        vocab_size: keys.dim("token_embd.weight", 0, limits::VOCAB)?,
        n_layers,
        n_heads,
        n_kv_heads: keys.count("attention.head_count_kv", limits::HEADS)?.unwrap_or(n_heads),
        head_dim,
        rope_theta: keys.positive("rope.freq_base")?.unwrap_or(default_theta),
        // Converters permute the rows of llama's q and k, so that these rotate in neighbouring pairs too.
        rope: read_rope(keys, head_dim)?,
        rms_norm_eps: eps.unwrap_or(1e-5) as f32,
        use_bias: keys.has("blk.0.attn_q.bias"),
        tie_word_embeddings: !keys.has("output.weight"),
        lm_head_bias: keys.has("output.weight") && keys.has("output.bias"),
        max_position_embeddings: keys.count("context_length", limits::POSITIONS)?.unwrap_or(131_072),
        moe: wants_moe.then(moe).transpose()?,
        gpas: false,
    })
}

/// Sections of height, width and time, where a model has them.
fn read_rope(keys: &Keys<'_>, head_dim: usize) -> Result<RopeKind> {
    let key = format!("{}.rope.dimension_sections", keys.architecture);
    let Some(value) = keys.gguf.value(&key) else { return Ok(RopeKind::Interleaved1d) };
    // Anything but whole numbers that add up is refused; a float holds those of a head exactly.
    let sections = value.as_array().filter(|array| array.len() == 4).and_then(GgufArray::numbers);
    match sections.as_deref() {
        Some(&[h, w, t, 0.0])
            if h == w && h >= 0.0 && t >= 0.0 && h.fract() == 0.0 && 2.0 * h + t == (head_dim / 2) as f64 =>
        {
            Ok(RopeKind::InterleavedHwt { hw: 2 * h as usize })
        }
        _ => {
            let expected = format!("as many for height as for width, with time {} together", head_dim / 2);
            Err(ConfigError::value(&key, brief(value), expected))
        }
    }
}

fn read_moe(keys: &Keys<'_>, n_layers: usize, architecture: Architecture) -> Result<MoeConfig> {
    // No key says where routed layers end, so the tensors say which these are.
    let layers: Vec<bool> =
        (0..n_layers).map(|l| keys.has(&format!("blk.{l}.ffn_gate_inp.weight"))).collect();
    let first = layers.iter().position(|&routed| routed);
    let first = first.ok_or_else(|| ConfigError::Missing("blk.*.ffn_gate_inp.weight".to_owned()))?;
    let bank = |of: &str| {
        let experts = format!("blk.{first}.ffn_gate_exps{of}.weight");
        Ok(BankConfig {
            n_experts: keys.dim(&experts, 0, limits::EXPERTS)?,
            intermediate_size: keys.dim(&experts, 1, limits::WIDTH)?,
        })
    };
    let shared = format!("blk.{first}.ffn_gate_shexp.weight");
    let has_shared = keys.has(&shared);
    let n_shared = keys.count("expert_shared_count", limits::SHARED_EXPERTS)?.unwrap_or(0);
    Ok(MoeConfig {
        layers,
        text: bank("")?,
        vision: (architecture == Architecture::VisionLanguage).then(|| bank("_vis")).transpose()?,
        top_k: keys.required("expert_used_count", limits::EXPERTS)?,
        n_shared_experts: if has_shared { n_shared.max(1) } else { 0 },
        shared_intermediate_size: if has_shared { keys.dim(&shared, 0, limits::WIDTH)? } else { 0 },
        use_correction_bias: keys.has(&format!("blk.{first}.exp_probs_b.bias"))
            || keys.has(&format!("blk.{first}.exp_probs_b")),
        norm_min: keys.positive("expert_weights_norm_min")?.map_or(NORM_MIN, |least| least as f32),
    })
}

fn read_vision(keys: &Keys<'_>) -> Result<VisionConfig> {
    let norm_eps = keys.positive("vision.attention.layer_norm_epsilon")?;
    Ok(VisionConfig {
        depth: keys.required("vision.block_count", limits::LAYERS)?,
        hidden_size: keys.required("vision.embedding_length", limits::WIDTH)?,
        intermediate_size: keys.required("vision.feed_forward_length", limits::WIDTH)?,
        n_heads: keys.required("vision.attention.head_count", limits::HEADS)?,
        patch_size: keys.required("vision.patch_size", limits::PATCH)?,
        in_channels: keys.count("vision.channel_count", limits::CHANNELS)?.unwrap_or(3),
        spatial_merge_size: keys.required("vision.spatial_merge_size", limits::MERGE)?,
        temporal_merge_size: keys.required("vision.temporal_merge_size", limits::MERGE)?,
        norm_eps: norm_eps.unwrap_or(1e-6) as f32,
        rope_theta: keys.positive("vision.rope.freq_base")?.unwrap_or(10_000.0),
    })
}

fn read_tokens(keys: &Keys<'_>) -> Result<SpecialTokens> {
    let id =
        |key: &str| keys.gguf.value(key).and_then(GgufValue::as_u64).and_then(|id| u32::try_from(id).ok());
    let eos =
        ["eos", "eot", "eom"].into_iter().filter_map(|name| id(&format!("tokenizer.ggml.{name}_token_id")));
    let mut eos: Vec<u32> = eos.collect();
    eos.dedup();
    let default = SpecialTokens::default();
    let marker = |key: &str| -> Result<Option<u32>> {
        Ok(keys.count(&format!("vision.token.{key}"), 0..=u32::MAX as usize)?.map(|id| id as u32))
    };
    Ok(SpecialTokens {
        image_placeholder: marker("image_placeholder")?.unwrap_or(default.image_placeholder),
        video_placeholder: marker("video_placeholder")?,
        image_start: marker("image_start")?.unwrap_or(default.image_start),
        image_end: marker("image_end")?.unwrap_or(default.image_end),
        video_start: marker("video_start")?.unwrap_or(default.video_start),
        video_end: marker("video_end")?.unwrap_or(default.video_end),
        eos: if eos.is_empty() { default.eos } else { eos },
    })
}
