//! A loaded model behind one object: prompt in, candidates and text out.
//!
//! [`LanguageModel`] is what everything above sees: no backend, no tensor. [`ModelInput`] is a prompt
//! as the model takes it, token ids with the patches of its pictures beside them.

mod error;
pub mod files;
mod language_model;

pub use error::{Error, Result};
pub use files::{GenerationDefaults, ModelFiles};
pub use language_model::{LanguageModel, LocalFuture, Memory, ModelInput, Visual};
