//! What can go wrong below the models.

use crate::DType;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a tensor operation or a weight file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation was given matrices that do not fit together: a bug of the caller.
    #[error("{op}: {detail}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What does not fit.
        detail: String,
    },
    /// A weight has another shape than the model's configuration needs.
    #[error(
        "tensor `{name}` has shape {found:?}, but the config needs {expected:?}; is this checkpoint for another model size?"
    )]
    WeightShape {
        /// Name in the file.
        name: String,
        /// Shape the configuration needs.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A weight is not in the file.
    #[error("tensor `{name}` is not in the checkpoint; nearest name there: `{nearest}`")]
    MissingWeight {
        /// The name asked for.
        name: String,
        /// The most similar name the file has.
        nearest: String,
    },
    /// A weight is stored in a type that this operation or backend cannot read.
    #[error("tensor `{name}` is stored as {dtype}, which {context}")]
    DType {
        /// Name in the file.
        name: String,
        /// Stored type.
        dtype: DType,
        /// Why that is a problem.
        context: &'static str,
    },
    /// A tensor is of a type that holds no weights, or that this program does not know.
    #[error("tensor `{name}` is stored as {dtype}, which is no type of weights that this program knows")]
    UnknownType {
        /// Name in the file.
        name: String,
        /// The type, as the file format calls it.
        dtype: String,
    },
    /// A weight file is damaged or is not what it claims to be.
    #[error("{format} file is not valid: {detail}")]
    Format {
        /// `GGUF` or `safetensors`.
        format: &'static str,
        /// What was found, and where.
        detail: String,
    },
    /// A request would exceed a stated limit.
    #[error("{what} is {found}, above the limit of {limit}")]
    Limit {
        /// The quantity.
        what: String,
        /// Its value.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// The device or its library failed.
    #[error("{op}: {message}")]
    Device {
        /// The operation.
        op: &'static str,
        /// The library's message.
        message: String,
    },
}

impl Error {
    /// A mismatch inside operation `op`.
    pub fn shape(op: &'static str, detail: impl Into<String>) -> Self {
        Self::Shape { op, detail: detail.into() }
    }

    /// A damaged `format` file.
    pub fn format(format: &'static str, detail: impl Into<String>) -> Self {
        Self::Format { format, detail: detail.into() }
    }
}
