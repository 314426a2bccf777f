//! What can go wrong between a model file and an answer.

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
    /// A prompt that this model cannot take.
    #[error("the prompt does not fit the model: {0}")]
    Prompt(String),
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}
