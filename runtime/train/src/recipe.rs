//! Sizes of the model that is trained, and how it is trained.

use model::config::{BankConfig, MoeConfig, RopeKind, TextConfig};
use serde_json::{Value, json};
use tokenizer::Tokenizer;
use vision::{Preprocessor, TowerConfig};

/// Side of training pictures in pixels: four merged patches a side, sixteen tokens a picture.
pub const PIXELS: u32 = 112;

/// How chats are written: ERNIE 4.5 VL's form, with a line of its own for the answer and no thinking block.
///
/// No piece of our vocabularies crosses a newline, so an answer has the same tokens whether the model has
/// just said it or reads it in a later turn.
pub const CHAT_TEMPLATE: &str = include_str!("chat_template.jinja");

/// Area of the smallest pictures in training; smaller ones are enlarged.
const MIN_PIXELS: u32 = 84 * 84;

/// Sizes of the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Width of the vision tower.
    pub tower_width: usize,
    /// Blocks of the vision tower.
    pub tower_depth: usize,
    /// Width of the decoder.
    pub width: usize,
    /// Layers of the decoder; the first is dense, the others are routed.
    pub depth: usize,
    /// Width of one text expert; a vision expert is half as wide, the shared one twice.
    pub expert_width: usize,
}

impl Shape {
    /// The model that ships: about 10 million parameters.
    pub const SHIPPED: Self =
        Self { tower_width: 160, tower_depth: 6, width: 256, depth: 5, expert_width: 96 };
    /// For tests and pilots.
    pub const TINY: Self = Self { tower_width: 32, tower_depth: 2, width: 32, depth: 2, expert_width: 16 };
}

/// Number of experts in each bank.
const N_EXPERTS: usize = 8;
/// Experts a token.
const TOP_K: usize = 2;
/// Features of a decoder head.
const HEAD_DIM: usize = 64;
/// Of each decoder head's 32 frequencies, those that turn with time; the others alternate height and width.
const TIME_FREQUENCIES: usize = 10;
/// Short sequences need no slower rotation.
const ROPE_THETA: f64 = 10_000.0;
const TEXT_EPS: f32 = 1e-5;
const VISION_EPS: f32 = 1e-6;
/// Longest sequence; training ones have at most about 150 tokens.
const CONTEXT: usize = 2048;

/// The ids that frame pictures and end answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// Begins every prompt.
    pub begin: u32,
    /// Ends every answer.
    pub end_of_sentence: u32,
    /// Ends an answer of the published models; never trained here, but an answer it ends is over.
    pub eos: u32,
    /// One merged patch.
    pub placeholder: u32,
    /// Before a picture.
    pub image_start: u32,
    /// After a picture.
    pub image_end: u32,
    video_start: u32,
    video_end: u32,
}

impl Ids {
    /// Looks the ids up by name.
    ///
    /// # Panics
    /// If the vocabulary was not made by [`train_vocabulary`](crate::data::train_vocabulary).
    #[must_use]
    pub fn new(tokenizer: &Tokenizer) -> Self {
        let id = |token: &str| tokenizer.token_id(token).expect("our vocabularies have all control tokens");
        Self {
            begin: id("<|begin_of_sentence|>"),
            end_of_sentence: id("<|end_of_sentence|>"),
            eos: id("</s>"),
            placeholder: id("<|IMAGE_PLACEHOLDER|>"),
            image_start: id("<|IMAGE_START|>"),
            image_end: id("<|IMAGE_END|>"),
            video_start: id("<|VIDEO_START|>"),
            video_end: id("<|VIDEO_END|>"),
        }
    }
}

impl Shape {
    /// The decoder.
    #[must_use]
    pub fn text(&self, vocab_size: usize, gpas: bool) -> TextConfig {
        let n_heads = self.width / HEAD_DIM.min(self.width / 2);
        TextConfig {
            hidden_size: self.width,
            intermediate_size: 3 * self.width,
            vocab_size,
            n_layers: self.depth,
            n_heads,
            n_kv_heads: n_heads / 2,
            head_dim: self.width / n_heads,
            rope_theta: ROPE_THETA,
            rope: RopeKind::InterleavedHwt { hw: self.width / n_heads / 2 - self.time_frequencies() },
            rms_norm_eps: TEXT_EPS,
            use_bias: false,
            tie_word_embeddings: true,
            lm_head_bias: false,
            max_position_embeddings: CONTEXT,
            moe: Some(MoeConfig {
                layers: (0..self.depth).map(|layer| layer > 0).collect(),
                text: BankConfig { n_experts: N_EXPERTS, intermediate_size: self.expert_width },
                vision: Some(BankConfig { n_experts: N_EXPERTS, intermediate_size: self.expert_width / 2 }),
                top_k: TOP_K,
                n_shared_experts: 2,
                shared_intermediate_size: 2 * self.expert_width,
                use_correction_bias: true,
                norm_min: 1e-12,
            }),
            gpas,
        }
    }

    fn time_frequencies(&self) -> usize {
        let n_heads = self.width / HEAD_DIM.min(self.width / 2);
        let half = self.width / n_heads / 2;
        // Height and width take an even number.
        (half * TIME_FREQUENCIES / 32) & !1
    }

    /// The vision tower and the resampler.
    #[must_use]
    pub fn tower(&self) -> TowerConfig {
        TowerConfig {
            depth: self.tower_depth,
            hidden_size: self.tower_width,
            intermediate_size: 4 * self.tower_width,
            n_heads: self.tower_heads(),
            patch_values: 3 * 14 * 14,
            spatial_merge_size: 2,
            temporal_merge_size: 2,
            norm_eps: VISION_EPS,
            rope_theta: 10_000.0,
            text_hidden_size: self.width,
            text_norm_eps: TEXT_EPS,
        }
    }

    fn tower_heads(&self) -> usize {
        (self.tower_width / 40).max(2)
    }

    /// `config.json` of the exported model, in the layout of the published vision-language models.
    #[must_use]
    pub fn config_json(&self, vocab_size: usize, ids: Ids) -> Value {
        let text = self.text(vocab_size, false);
        let tower = self.tower();
        json!({
            "architectures": ["Ernie4_5_VLMoeForConditionalGeneration"],
            "model_type": "ernie4_5_moe_vl",
            "torch_dtype": "bfloat16",
            "bos_token_id": ids.begin,
            "eos_token_id": [ids.eos, ids.end_of_sentence],
            "pad_token_id": 0,
            "im_patch_id": ids.placeholder,
            "image_start_token_id": ids.image_start,
            "image_end_token_id": ids.image_end,
            "video_start_token_id": ids.video_start,
            "video_end_token_id": ids.video_end,
            "vocab_size": vocab_size,
            "hidden_size": text.hidden_size,
            "intermediate_size": text.intermediate_size,
            "num_hidden_layers": text.n_layers,
            "num_attention_heads": text.n_heads,
            "num_key_value_heads": text.n_kv_heads,
            "head_dim": text.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": ROPE_THETA,
            "rope_3d": true,
            "rope_scaling": null,
            "freq_allocation": self.time_frequencies(),
            "max_position_embeddings": CONTEXT,
            "use_bias": false,
            "tie_word_embeddings": true,
            "moe_num_experts": [N_EXPERTS, N_EXPERTS],
            "moe_k": TOP_K,
            "moe_intermediate_size": [self.expert_width, self.expert_width / 2],
            "moe_layer_start_index": [1, 1],
            "moe_layer_end_index": [self.depth - 1, self.depth - 1],
            "moe_layer_interval": 1,
            "moe_num_shared_experts": 2,
            "moe_use_aux_free": true,
            "moe_norm_min": 1e-12,
            "pixel_hidden_size": tower.hidden_size,
            "spatial_conv_size": 2,
            "temporal_conv_size": 2,
            "vision_config": {
                "model_type": "DFNRope_vision_transformer",
                "depth": tower.depth,
                "embed_dim": tower.hidden_size,
                "hidden_size": tower.hidden_size,
                "num_heads": tower.n_heads,
                "mlp_ratio": 4,
                "hidden_act": "quick_gelu",
                "patch_size": 14,
                "spatial_patch_size": 14,
                "spatial_merge_size": 2,
                "in_channels": 3,
                "in_chans": 3,
            },
        })
    }
}

/// `preprocessor_config.json`: every picture becomes about as large as the training ones.
///
/// The upper limit is a little above the largest of them: common photographs then become
/// 140 × 84 or 84 × 140, which training shows, and square ones 112 × 112.
#[must_use]
pub fn preprocessor_json() -> Value {
    let pixels = PIXELS * (PIXELS + 28);
    json!({
        "do_resize": true,
        "do_rescale": true,
        "do_normalize": true,
        "resample": 3,
        "rescale_factor": 1.0 / 255.0,
        "patch_size": 14,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "min_pixels": MIN_PIXELS,
        "max_pixels": pixels,
        "image_mean": [0.481_454_66, 0.457_827_5, 0.408_210_73],
        "image_std": [0.268_629_54, 0.261_302_58, 0.275_777_11],
        // Videos have many frames, so that each may be small.
        "video_processor": { "size": { "min_pixels": MIN_PIXELS, "max_pixels": pixels } },
    })
}

/// The preprocessor that [`preprocessor_json`] describes.
///
/// # Panics
/// Never: the text is ours.
#[must_use]
pub fn preprocessor() -> Preprocessor {
    Preprocessor::from_json(&preprocessor_json().to_string()).expect("our own configuration is valid")
}

/// How the model is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Training {
    /// Chats a step.
    pub batch: usize,
    /// Learning rate after the warm-up.
    pub lr: f32,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// Share of the run, at its end, in which the learning rate falls.
    pub tail: f32,
    /// Decoupled weight decay of matrices.
    pub weight_decay: f32,
    /// Decay of the moving average of the weights. While the rate is high weights move fast, and an average
    /// over more than about a hundred steps is worse than its last term.
    pub ema_decay: f32,
    /// Step of the routers' correction bias against uneven load.
    pub balance_step: f32,
    /// Weight of the routers' orthogonality, applied beside the optimiser and without learning rate.
    pub orthogonality: f32,
    /// Supervised tokens of an average batch: losses are divided by this constant, so that a token
    /// weighs the same in every batch.
    pub tokens_per_batch: f32,
    /// What the cells of a picture weigh beside its answers.
    pub cells_weight: f32,
    /// Seed of the initial weights.
    pub seed: u64,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            batch: 32,
            lr: 1.5e-3,
            warmup: 200,
            tail: 0.2,
            weight_decay: 0.1,
            ema_decay: 0.99,
            balance_step: 1e-3,
            orthogonality: 3e-4,
            tokens_per_batch: 500.0,
            cells_weight: 0.5,
            seed: 1,
        }
    }
}

impl Training {
    /// The learning rate at step `step`, when `progress` (0–1) of the run is done.
    ///
    /// Warm-up, constant, and a tail that falls as one minus a square root.
    #[must_use]
    pub fn lr_at(&self, step: u64, progress: f32) -> f32 {
        let warm = ((step + 1) as f32 / self.warmup.max(1) as f32).min(1.0);
        let into_tail = ((progress - (1.0 - self.tail)) / self.tail.max(1e-6)).clamp(0.0, 1.0);
        self.lr * warm * (1.0 - into_tail.sqrt()).max(0.02)
    }
}
