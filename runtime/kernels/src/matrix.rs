//! A weight where it lies.

use std::ops::Range;

use tensor::DType;

use crate::panel::{LANES, Rows};
use crate::{Error, Result};

/// A weight `[n_rows, n_cols]` in stored blocks, row after row; the bytes need no alignment.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    dtype: DType,
    bytes: &'a [u8],
    n_rows: usize,
    n_cols: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix over `bytes`.
    ///
    /// # Errors
    /// If the bytes are not exactly `n_rows` rows of whole blocks.
    pub fn new(dtype: DType, bytes: &'a [u8], n_rows: usize, n_cols: usize) -> Result<Self> {
        let needed = dtype.n_bytes(&[n_rows, n_cols]);
        if needed != Some(bytes.len()) {
            return Err(Error::Bytes { dtype, n_rows, n_cols, found: bytes.len(), needed });
        }
        Ok(Self { dtype, bytes, n_rows, n_cols })
    }

    /// Stored type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Number of rows: outputs of the product.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Number of columns: inputs of the product.
    #[must_use]
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// The bytes of row `i`.
    pub(crate) fn row(&self, i: usize) -> &'a [u8] {
        let len = self.row_bytes();
        &self.bytes[i * len..][..len]
    }

    /// The [`LANES`] rows from `first`, and the lane in which row `first` is.
    ///
    /// The rows `ahead` of them are asked for while these are read. Near the end these are the last rows of the matrix, so that no read leaves it.
    pub(crate) fn rows(&self, first: usize, ahead: usize) -> (Rows<'a>, usize) {
        let start = first.min(self.n_rows - LANES);
        let len = self.row_bytes();
        (Rows::new(&self.bytes[start * len..], len, ahead), first - start)
    }

    /// Where the values `columns` lie in the bytes of a row; they are whole blocks.
    pub(crate) fn row_range(&self, columns: Range<usize>) -> Range<usize> {
        let block = self.dtype.block();
        columns.start / block.values * block.bytes..columns.end / block.values * block.bytes
    }

    /// The bytes of all rows, and zeros up to [`LANES`] rows.
    pub(crate) fn padded_bytes(&self) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        bytes.resize(LANES * self.row_bytes(), 0);
        bytes
    }

    fn row_bytes(&self) -> usize {
        self.bytes.len() / self.n_rows.max(1)
    }
}
