//! What can be wrong with a vocabulary file.

/// The result of loading a vocabulary.
pub type Result<T> = std::result::Result<T, TokenizerError>;

/// Why a vocabulary could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file's bytes make no sense.
    #[error("damaged tokenizer file: {0}")]
    Damaged(String),
    /// The file is sound, but asks for something this crate does not do.
    #[error("unsupported tokenizer: {0}")]
    Unsupported(String),
    /// Two parts of the vocabulary contradict each other.
    #[error("inconsistent vocabulary: {0}")]
    Inconsistent(String),
}

pub(crate) fn damaged(what: impl Into<String>) -> TokenizerError {
    TokenizerError::Damaged(what.into())
}

pub(crate) fn unsupported(what: impl Into<String>) -> TokenizerError {
    TokenizerError::Unsupported(what.into())
}

pub(crate) fn inconsistent(what: impl Into<String>) -> TokenizerError {
    TokenizerError::Inconsistent(what.into())
}
