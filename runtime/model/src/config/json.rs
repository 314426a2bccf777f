//! `config.json` of every family and age.

use serde_json::Value;

use super::section::Section;
use super::{
    Architecture, BankConfig, Config, ConfigError, MoeConfig, RopeKind, SpecialTokens, TextConfig,
    VisionConfig, limits,
};

type Result<T> = std::result::Result<T, ConfigError>;

impl Config {
    /// Reads a `config.json`: original or as transformers writes it, flat or nested.
    ///
    /// # Errors
    /// The first key that is missing, makes no sense, or asks for something unsupported.
    pub fn from_json(json: &str) -> Result<Self> {
        Self::from_json_with_tokens(json, &|_| None)
    }

    /// As [`from_json`](Self::from_json); `token_id` finds the ids of picture markers that the file does
    /// not state, by their text (`<|IMAGE_START|>`).
    ///
    /// # Errors
    /// As for [`from_json`](Self::from_json).
    pub fn from_json_with_tokens(json: &str, token_id: &dyn Fn(&str) -> Option<u32>) -> Result<Self> {
        let value: Value =
            serde_json::from_str(json).map_err(|error| ConfigError::Json(error.to_string()))?;
        let root = Section::root(&value)?;
        let text = root.child("text_config").unwrap_or(root);
        let vision = root.child("vision_config");
        let architecture = architecture(root, text, vision.is_some())?;
        let vision = match architecture {
            Architecture::VisionLanguage => {
                Some(read_vision(root, vision.ok_or_else(|| root.missing("vision_config"))?)?)
            }
            _ => None,
        };
        // Only these have markers; looking them up may mean reading a vocabulary.
        let token_id = match architecture {
            Architecture::VisionLanguage => token_id,
            _ => &|_: &str| None,
        };
        let config = Self {
            architecture,
            text: read_text(root, text, architecture)?,
            vision,
            tokens: read_tokens(root, text, token_id)?,
        };
        config.text.check()?;
        if let Some(vision) = &config.vision {
            vision.check()?;
        }
        Ok(config)
    }
}

fn architecture(root: Section<'_>, text: Section<'_>, has_vision: bool) -> Result<Architecture> {
    match root.text("model_type")? {
        Some("ernie4_5") => Ok(Architecture::Dense),
        Some("ernie4_5_moe") => Ok(Architecture::Moe),
        Some("ernie4_5_moe_vl" | "ernie4_5_vl_moe" | "ernie4_5_vl") => Ok(Architecture::VisionLanguage),
        Some("paddleocr_vl") => Err(ConfigError::Unsupported(
            "this is a PaddleOCR-VL model, whose vision tower is not supported; ERNIE 4.5 VL models are"
                .to_owned(),
        )),
        Some(other) => Err(ConfigError::Unsupported(format!(
            "`model_type` is `{other}`; supported are ernie4_5, ernie4_5_moe, ernie4_5_moe_vl, ernie4_5_vl_moe"
        ))),
        None if has_vision => Ok(Architecture::VisionLanguage),
        None if text.get("moe_num_experts").is_some() => Ok(Architecture::Moe),
        None if text.get("hidden_size").is_some() => Ok(Architecture::Dense),
        None => Err(root.missing("model_type")),
    }
}

fn read_text(root: Section<'_>, text: Section<'_>, architecture: Architecture) -> Result<TextConfig> {
    text.expect_text("hidden_act", "silu")?;
    let hidden_size = text.required("hidden_size", limits::WIDTH)?;
    let n_layers = text.required("num_hidden_layers", limits::LAYERS)?;
    let n_heads = text.required("num_attention_heads", limits::HEADS)?;
    let head_dim = match text.count("head_dim", limits::HEAD_DIM)? {
        Some(head_dim) => head_dim,
        None if hidden_size.is_multiple_of(n_heads) => hidden_size / n_heads,
        None => {
            let expected = format!("a divisor of the width {hidden_size}, unless `head_dim` is stated");
            return Err(ConfigError::value(&text.full("num_attention_heads"), n_heads, expected));
        }
    };
    let use_bias = text.flag("use_bias")?.unwrap_or(false);
    let tied = match root.flag("tie_word_embeddings")? {
        Some(tied) => tied,
        None => text.flag("tie_word_embeddings")?.unwrap_or(true), // transformers' default
    };
    let wants_moe = match architecture {
        Architecture::Dense => false,
        Architecture::Moe => true,
        Architecture::VisionLanguage => text.get("moe_num_experts").is_some(),
    };
    let moe = || read_moe(text, n_layers, architecture);
    Ok(TextConfig {
        hidden_size,
        intermediate_size: text.required("intermediate_size", limits::WIDTH)?,
        vocab_size: text.required("vocab_size", limits::VOCAB)?,
        n_layers,
        n_heads,
        n_kv_heads: text.count("num_key_value_heads", limits::HEADS)?.unwrap_or(n_heads),
        head_dim,
        rope_theta: rope_theta(text)?,
        rope: match architecture {
            Architecture::VisionLanguage => rope_3d(text, head_dim)?,
            _ => RopeKind::Interleaved1d,
        },
        rms_norm_eps: text.positive("rms_norm_eps")?.unwrap_or(1e-5) as f32,
        use_bias,
        tie_word_embeddings: tied,
        lm_head_bias: use_bias && !tied && architecture == Architecture::Moe,
        max_position_embeddings: text.count("max_position_embeddings", limits::POSITIONS)?.unwrap_or(131_072),
        moe: wants_moe.then(moe).transpose()?,
        gpas: text.flag("gpas")?.unwrap_or(false),
    })
}

/// The sections that newer and older files keep rotary numbers in.
fn rope_sections(text: Section<'_>) -> impl Iterator<Item = Section<'_>> {
    ["rope_parameters", "rope_scaling"].into_iter().filter_map(move |key| text.child(key))
}

fn rope_theta(text: Section<'_>) -> Result<f64> {
    let mut theta = text.positive("rope_theta")?;
    for section in rope_sections(text) {
        for key in ["rope_type", "type"] {
            section.expect_text(key, "default")?;
        }
        theta = theta.or(section.positive("rope_theta")?);
    }
    Ok(theta.unwrap_or(500_000.0))
}

fn rope_3d(text: Section<'_>, head_dim: usize) -> Result<RopeKind> {
    let half = head_dim / 2;
    if text.flag("rope_3d")? == Some(false) {
        return Ok(RopeKind::Interleaved1d);
    }
    for section in rope_sections(text) {
        let Some(counts) = section.counts("mrope_section", 0..=half)? else { continue };
        let [h, w, t] = counts[..] else {
            return Err(ConfigError::value("mrope_section", format!("{counts:?}"), "three numbers"));
        };
        if h != w || h + w + t != half {
            let expected = format!("as many for height as for width, {half} together");
            return Err(ConfigError::value("mrope_section", format!("{counts:?}"), expected));
        }
        return Ok(RopeKind::InterleavedHwt { hw: h + w });
    }
    let time = text.count("freq_allocation", 0..=half)?.unwrap_or(20); // the original class's default
    match half.checked_sub(time) {
        Some(hw) if hw % 2 == 0 => Ok(RopeKind::InterleavedHwt { hw }),
        _ => {
            let expected = format!("such that an even number of the {half} frequencies is left");
            Err(ConfigError::value(&text.full("freq_allocation"), time, expected))
        }
    }
}

fn read_moe(text: Section<'_>, n_layers: usize, architecture: Architecture) -> Result<MoeConfig> {
    text.expect_text("moe_gate", "topk")?;
    text.expect_text("moe_gate_act", "softmax")?;
    let pair = |key: &str, range| text.one_or_two(key, range)?.ok_or_else(|| text.missing(key));
    let n_experts = pair("moe_num_experts", limits::EXPERTS)?;
    let widths = pair("moe_intermediate_size", limits::WIDTH)?;
    let [text_bank, vision_bank] =
        [0, 1].map(|i| BankConfig { n_experts: n_experts[i], intermediate_size: widths[i] });
    let n_shared = text.count("moe_num_shared_experts", limits::SHARED_EXPERTS)?.unwrap_or(0);
    Ok(MoeConfig {
        layers: moe_layers(text, n_layers)?,
        text: text_bank,
        vision: (architecture == Architecture::VisionLanguage).then_some(vision_bank),
        top_k: text.required("moe_k", limits::EXPERTS)?,
        n_shared_experts: n_shared,
        shared_intermediate_size: n_shared * text_bank.intermediate_size,
        use_correction_bias: text.flag("moe_use_aux_free")?.unwrap_or(true),
        norm_min: text.positive("moe_norm_min")?.unwrap_or(1e-12) as f32,
    })
}

/// For every layer, whether it is routed: as listed, or by start, end and interval.
fn moe_layers(text: Section<'_>, n_layers: usize) -> Result<Vec<bool>> {
    if let Some(value) = text.get("mlp_layer_types") {
        let kind = |kind: &Value| match kind.as_str() {
            Some("dense") => Some(false),
            Some("sparse") => Some(true),
            _ => None,
        };
        let kinds = value.as_array().filter(|kinds| kinds.len() == n_layers);
        let layers: Option<Vec<bool>> = kinds.and_then(|kinds| kinds.iter().map(kind).collect());
        let expected = || format!("`dense` or `sparse` for each of the {n_layers} layers");
        return layers
            .ok_or_else(|| ConfigError::value(&text.full("mlp_layer_types"), "another list", expected()));
    }
    let interval = text.count("moe_layer_interval", 1..=n_layers)?.unwrap_or(1);
    let starts = text.one_or_two("moe_layer_start_index", 0..=usize::MAX)?.unwrap_or([1, 1]); // transformers' default
    let start = starts[0].min(starts[1]);
    let end = text.ends("moe_layer_end_index")?.into_iter().max().unwrap_or(usize::MAX);
    Ok((0..n_layers).map(|l| (l + 1) % interval == 0 && (start..=end).contains(&l)).collect())
}

fn read_vision(root: Section<'_>, vision: Section<'_>) -> Result<VisionConfig> {
    vision.expect_text("hidden_act", "quick_gelu")?;
    // Each size has the key of the original file and that of transformers.
    let either = |keys: [&str; 2], range: std::ops::RangeInclusive<usize>| -> Result<Option<usize>> {
        Ok(vision.count(keys[0], range.clone())?.or(vision.count(keys[1], range)?))
    };
    let merge = |key: &str, old_key: &str| -> Result<usize> {
        Ok(vision.count(key, limits::MERGE)?.or(root.count(old_key, limits::MERGE)?).unwrap_or(2))
    };
    let hidden_size =
        either(["hidden_size", "embed_dim"], limits::WIDTH)?.ok_or_else(|| vision.missing("hidden_size"))?;
    let intermediate_size = match vision.count("intermediate_size", limits::WIDTH)? {
        Some(size) => size,
        None => {
            let ratio = vision.positive("mlp_ratio")?.unwrap_or(4.0);
            let size = hidden_size as f64 * ratio;
            if size.fract() != 0.0 || !limits::WIDTH.contains(&(size as usize)) {
                return Err(ConfigError::value(
                    "vision_config.mlp_ratio",
                    ratio,
                    "such that the width is whole",
                ));
            }
            size as usize
        }
    };
    Ok(VisionConfig {
        depth: vision.required("depth", limits::LAYERS)?,
        hidden_size,
        intermediate_size,
        n_heads: vision.required("num_heads", limits::HEADS)?,
        patch_size: either(["patch_size", "spatial_patch_size"], limits::PATCH)?.unwrap_or(14),
        in_channels: either(["in_channels", "in_chans"], limits::CHANNELS)?.unwrap_or(3),
        spatial_merge_size: merge("spatial_merge_size", "spatial_conv_size")?,
        temporal_merge_size: merge("temporal_merge_size", "temporal_conv_size")?,
        norm_eps: vision.positive("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        rope_theta: vision.positive("rope_theta")?.unwrap_or(10_000.0),
    })
}

fn read_tokens(
    root: Section<'_>,
    text: Section<'_>,
    token_id: &dyn Fn(&str) -> Option<u32>,
) -> Result<SpecialTokens> {
    let default = SpecialTokens::default();
    let id = |key: &str, token: &str, default: u32| -> Result<u32> {
        Ok(root.token_id(key)?.or_else(|| token_id(token)).unwrap_or(default))
    };
    let image_placeholder = match root.token_id("im_patch_id")? {
        Some(id) => id,
        None => id("image_token_id", "<|IMAGE_PLACEHOLDER|>", default.image_placeholder)?,
    };
    let eos = match text.token_ids("eos_token_id")? {
        Some(ids) => Some(ids),
        None => root.token_ids("eos_token_id")?,
    };
    Ok(SpecialTokens {
        image_placeholder,
        video_placeholder: root.token_id("video_token_id")?.filter(|&id| id != image_placeholder),
        image_start: id("image_start_token_id", "<|IMAGE_START|>", default.image_start)?,
        image_end: id("image_end_token_id", "<|IMAGE_END|>", default.image_end)?,
        video_start: id("video_start_token_id", "<|VIDEO_START|>", default.video_start)?,
        video_end: id("video_end_token_id", "<|VIDEO_END|>", default.video_end)?,
        eos: eos.unwrap_or(default.eos),
    })
}
