//! A loaded model behind one object: prompt in, candidates and text out.
//!
//! [`LanguageModel`] is what everything above sees: no backend, no tensor. [`ModelInput`] is a prompt
//! as the model takes it, token ids with the patches of its pictures beside them.

pub mod answer;
mod cache_keys;
mod chat_format;
pub mod chat_template;
mod divergence;
mod engine;
mod error;
pub mod eval;
pub mod files;
mod generate;
mod guide;
mod language_model;
mod layout;
mod load;
mod loaded;
mod logprobs;
mod lookahead;
mod prompt;
pub mod quantize;
#[cfg(feature = "candle")]
#[doc(hidden)]
pub mod random_model;
pub mod sampler;
#[doc(hidden)]
pub mod scripted;
mod snapshot;
mod tools;
mod trace;

#[cfg(feature = "candle")]
pub use candle_backend::Team;
pub use chat_format::ChatFormat;
pub use divergence::Divergence;
pub use engine::{Batch, Clock, Engine, EngineParts};
pub use error::{Error, Result};
pub use files::{GenerationDefaults, ModelFiles};
pub use generate::{Answer, Event, GenerateOptions, Speculation, StopReason};
pub use guide::Constraint;
pub use language_model::{LanguageModel, LocalFuture, Memory, ModelInput, Sequences, Visual};
#[cfg(feature = "candle")]
pub use load::load_profiled;
pub use load::{
    Device, LoadOptions, load, load_on, load_sequences, load_sequences_on, load_traceable, load_traceable_on,
    measure_importance,
};
pub use loaded::{Loaded, tower_config};
pub use logprobs::TokenLogprobs;
pub use lookahead::Guesses;
pub use prompt::{Message, Part, Prompt, Role};
pub use snapshot::CachedRows;
pub use tensor::{ExpertUse, KvType, OpProfile, Profile};
pub use tools::{Tool, ToolCall, ToolChoice};
pub use trace::{Capture, Captured, Trace, Traceable, Values};
#[cfg(feature = "wgpu")]
pub use wgpu_backend::{Adapter, Counters, Options as GpuOptions, Tier, Wgpu as Gpu};

/// What asks for a caption: the question that the trainer teaches most and `ocelli caption` asks.
pub const CAPTION_PROMPT: &str = "Describe this picture.";
