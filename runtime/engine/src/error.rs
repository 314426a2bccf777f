//! What can go wrong between a model file and an answer.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor, an operation or a weight file.
    #[error(transparent)]
    Tensor(#[from] tensor::Error),
    /// A picture or a video.
    #[error(transparent)]
    Vision(#[from] vision::Error),
    /// Text, or the vocabulary.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::TokenizerError),
    /// A configuration.
    #[error(transparent)]
    Config(#[from] model::ConfigError),
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Where it is.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Files that form no model.
    #[error("{name}: {detail}")]
    Model {
        /// The folder or file.
        name: String,
        /// What is missing or damaged.
        detail: String,
    },
    /// An error with the file that it is about.
    #[error("{name}: {source}")]
    InFile {
        /// The file.
        name: String,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// A prompt that this model cannot take.
    #[error("the prompt does not fit the model: {0}")]
    Prompt(String),
    /// The chat template, or a conversation that it refuses.
    #[error("chat template: {0}")]
    Template(String),
    /// An option that makes no sense.
    #[error("{0}")]
    Options(String),
    /// A form of the answer that cannot be had.
    #[error("the answer cannot have the form that is asked for: {0}")]
    Constraint(String),
    /// A cache of an earlier process that cannot be taken.
    #[error("the snapshot of the conversation cannot be used: {0}")]
    Snapshot(String),
    /// Numbers that no token can be chosen from: damaged weights, or a bug of a backend.
    #[error("{0}; are the weights damaged?")]
    Logits(String),
    /// More tokens than the model was trained for.
    #[error("the prompt has {prompt} tokens, but the model takes {limit}; shorten the conversation")]
    ContextTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens that fit.
        limit: usize,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}
