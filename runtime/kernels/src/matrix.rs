//! A weight where it lies.

use std::ops::Range;

use tensor::DType;

use crate::error::expect;
use crate::panel::{self, LANES, Packed, Rows};
use crate::{Error, Result};

/// A weight `[n_rows, n_cols]` in stored blocks, row after row or packed; the bytes need no alignment.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    dtype: DType,
    bytes: &'a [u8],
    n_rows: usize,
    n_cols: usize,
    packed: bool,
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
        Ok(Self { dtype, bytes, n_rows, n_cols, packed: false })
    }

    /// A matrix over bytes that [`pack`](Self::pack) laid out.
    ///
    /// # Errors
    /// If the bytes are not those of so many rows, or such rows cannot be packed.
    pub fn packed(dtype: DType, bytes: &'a [u8], n_rows: usize, n_cols: usize) -> Result<Self> {
        expect("packed matrix", "rows beyond the last panel", n_rows % Self::PANEL_ROWS, 0)?;
        if !dtype.is_quantized() {
            return Err(Error::NotPacked(dtype));
        }
        Ok(Self { packed: true, ..Self::new(dtype, bytes, n_rows, n_cols)? })
    }

    /// Rows that are packed together.
    pub const PANEL_ROWS: usize = LANES;

    /// Lays [`PANEL_ROWS`](Self::PANEL_ROWS) rows of whole blocks out so that products read them straight through,
    /// which takes as many bytes and gives the same results bit for bit.
    ///
    /// # Errors
    /// If the bytes are not so many rows of whole blocks of a block-quantised type, or `out` has another size.
    pub fn pack(dtype: DType, rows: &[u8], out: &mut [u8]) -> Result<()> {
        if !dtype.is_quantized() {
            return Err(Error::NotPacked(dtype));
        }
        expect("packing", "bytes of the result", out.len(), rows.len())?;
        expect("packing", "bytes beyond the last block", rows.len() % (LANES * dtype.block().bytes), 0)?;
        panel::pack(dtype, rows, out);
        Ok(())
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

    /// Whether the rows are packed.
    pub(crate) fn is_packed(&self) -> bool {
        self.packed
    }

    /// The [`LANES`] rows from `first`, and the lane in which row `first` is.
    ///
    /// The rows `ahead` of them are asked for while these are read. Near the end these are the last rows of the
    /// matrix, so that no read leaves it.
    pub(crate) fn rows(&self, first: usize, ahead: usize) -> (Rows<'a>, usize) {
        let start = first.min(self.n_rows - LANES);
        let len = self.row_bytes();
        (Rows::new(&self.bytes[start * len..], len, ahead), first - start)
    }

    /// The panel of the packed rows from `first`.
    pub(crate) fn panel(&self, first: usize) -> Packed<'a> {
        let len = self.row_bytes();
        Packed::new(&self.bytes[first * len..], len)
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
