//! The ERNIE 4.5 language model, once, for every backend.
//!
//! [`Decoder`] is generic over [`tensor::Backend`] and covers the dense, the mixture-of-experts and the
//! vision-language models, inference and training. This crate knows no device, file, clock or `cfg`,
//! and nothing of the vision tower: picture rows arrive already embedded.

mod attention;
mod checkpoint;
pub mod config;
mod decoder;
mod export;
mod mlp;
mod moe;
mod mtp;
mod names;
mod rope;

pub use attention::Attention;
pub use checkpoint::{Checkpoint, StoredBytes};
pub use config::{Config, ConfigError};
pub use decoder::{Decoder, DecoderLayer, Ffn, Modalities, Step};
pub use export::{GgufSource, ParameterRows, gguf_tensors};
pub use mlp::{Linear, Mlp};
pub use moe::{Bank, Moe};
pub use mtp::MtpHead;
pub use rope::{Positions, Rope, Span};
