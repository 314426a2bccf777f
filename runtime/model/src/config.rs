//! Sizes and switches of a checkpoint.

mod error;
mod gguf;
mod gguf_write;
mod json;
mod limits;
mod parameters;
mod section;

pub use error::ConfigError;
pub use parameters::PUBLISHED;

use tensor::Heads;

/// Which family a checkpoint belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Dense text.
    Dense,
    /// Mixture-of-experts text.
    Moe,
    /// Vision-language.
    VisionLanguage,
}

impl Architecture {
    /// As `model_type` in published configurations.
    #[must_use]
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Dense => "ernie4_5",
            Self::Moe => "ernie4_5_moe",
            Self::VisionLanguage => "ernie4_5_moe_vl",
        }
    }
}

/// A whole checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The family.
    pub architecture: Architecture,
    /// The language model.
    pub text: TextConfig,
    /// The vision tower, in vision-language models.
    pub vision: Option<VisionConfig>,
    /// Ids with a meaning.
    pub tokens: SpecialTokens,
}

/// How positions turn features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RopeKind {
    /// Pairs `(2k, 2k+1)`, one position.
    Interleaved1d,
    /// Pairs `(2k, 2k+1)`; the first `hw` frequencies alternate height and width, the rest is time.
    InterleavedHwt {
        /// Frequencies of height and width together.
        hw: usize,
    },
    /// Pairs `(k, k + head_dim/2)`; contiguous sections of time, height, width.
    HalvesThw {
        /// Frequencies of each axis.
        sections: [usize; 3],
    },
}

/// Sizes of the language model.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside a dense feed-forward.
    pub intermediate_size: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Base of the rotary angles.
    pub rope_theta: f64,
    /// How positions turn features.
    pub rope: RopeKind,
    /// Of every RMS norm.
    pub rms_norm_eps: f32,
    /// Whether attention and dense feed-forwards have biases.
    pub use_bias: bool,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether an untied head has a bias.
    pub lm_head_bias: bool,
    /// Longest sequence the model was trained for.
    pub max_position_embeddings: usize,
    /// Routed experts.
    pub moe: Option<MoeConfig>,
    /// Whether every layer has a gate of gradient-preserving activation scaling.
    pub gpas: bool,
}

/// Routed experts.
#[derive(Debug, Clone, PartialEq)]
pub struct MoeConfig {
    /// For every layer, whether its feed-forward is routed.
    pub layers: Vec<bool>,
    /// The experts of text tokens.
    pub text: BankConfig,
    /// The experts of picture tokens.
    pub vision: Option<BankConfig>,
    /// Experts a token.
    pub top_k: usize,
    /// Shared experts; 0 for none.
    pub n_shared_experts: usize,
    /// Width of the one feed-forward that the shared experts form.
    pub shared_intermediate_size: usize,
    /// Whether choosing uses a correction bias.
    pub use_correction_bias: bool,
    /// Lower bound of the divisor of the mixing weights.
    pub norm_min: f32,
}

/// One bank of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BankConfig {
    /// Number of experts.
    pub n_experts: usize,
    /// Width of one.
    pub intermediate_size: usize,
}

/// Sizes of the vision tower.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// Number of blocks.
    pub depth: usize,
    /// Width of a patch row.
    pub hidden_size: usize,
    /// Width inside the feed-forward.
    pub intermediate_size: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Colour channels.
    pub in_channels: usize,
    /// Side of the square of patches that becomes one token.
    pub spatial_merge_size: usize,
    /// Frames that become one.
    pub temporal_merge_size: usize,
    /// Of all layer norms.
    pub norm_eps: f32,
    /// Base of the 2-D rotary angles.
    pub rope_theta: f64,
}

/// Token ids with a meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Stands for one merged patch of a picture (and of a video, in original files).
    pub image_placeholder: u32,
    /// Stands for one merged patch of a video in converted files.
    pub video_placeholder: Option<u32>,
    /// Before a picture.
    pub image_start: u32,
    /// After a picture.
    pub image_end: u32,
    /// Before a video.
    pub video_start: u32,
    /// After a video.
    pub video_end: u32,
    /// Tokens that end an answer.
    pub eos: Vec<u32>,
}

impl Default for SpecialTokens {
    /// The ids of the published vocabulary; transformers' own video placeholder is not among them.
    fn default() -> Self {
        Self {
            image_placeholder: 100_295,
            video_placeholder: None,
            image_start: 101_304,
            image_end: 101_305,
            video_start: 101_306,
            video_end: 101_307,
            eos: vec![2],
        }
    }
}

impl TextConfig {
    /// How attention rows divide into heads.
    #[must_use]
    pub fn heads(&self) -> Heads {
        Heads { n_heads: self.n_heads, n_kv_heads: self.n_kv_heads, head_dim: self.head_dim }
    }
}
