//! What can go wrong before a product begins.

use tensor::DType;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operand that does not fit, or a path that this machine does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not the matrix they are said to be.
    #[error("a {dtype} matrix [{n_rows}, {n_cols}] has {found} bytes, but needs {}", bytes_needed(*.needed))]
    Bytes {
        /// Stored type.
        dtype: DType,
        /// Rows of the matrix.
        n_rows: usize,
        /// Columns of the matrix.
        n_cols: usize,
        /// Bytes given.
        found: usize,
        /// Bytes of such a matrix; none if its rows are no whole blocks.
        needed: Option<usize>,
    },
    /// Operands of a product do not fit together: a bug of the caller.
    #[error("{op}: {what} is {found}, but must be {expected}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The size that does not fit.
        what: &'static str,
        /// Its value.
        found: usize,
        /// The value that fits.
        expected: usize,
    },
    /// Activations that were not rounded to bytes met a block-quantised weight.
    #[error("a {0} matrix needs quantized activations, but these are plain")]
    Plain(DType),
    /// Rows of plain floats were to be packed.
    #[error("rows of {0} cannot be packed: only block-quantised ones can")]
    NotPacked(DType),
    /// `OCELLI_KERNELS` names no path of this machine.
    #[error("OCELLI_KERNELS is `{found}`; this machine has: {supported}")]
    UnknownPath {
        /// The value found.
        found: String,
        /// Names of the paths that would work.
        supported: String,
    },
}

fn bytes_needed(bytes: Option<usize>) -> String {
    bytes.map_or_else(|| "whole blocks in each row".into(), |bytes| bytes.to_string())
}

/// Checks one size of an operand.
pub(crate) fn expect(op: &'static str, what: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected { Ok(()) } else { Err(Error::Shape { op, what, found, expected }) }
}
