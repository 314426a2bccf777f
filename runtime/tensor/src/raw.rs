//! A parameter as it lies in a file: bytes that are shared, never copied.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::{DType, Error, Result};

/// A range of bytes owned by somebody else: a mapped file, a downloaded blob, a vector.
///
/// Cloning and slicing are cheap and copy nothing.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl SharedBytes {
    /// All bytes of `owner`.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let len = owner.as_ref().len();
        Self { owner: Arc::new(owner), range: 0..len }
    }

    /// The bytes `range` of these bytes, or `None` if they end before it does.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        let start = self.range.start.checked_add(range.start)?;
        let end = self.range.start.checked_add(range.end)?;
        (start <= end && end <= self.range.end)
            .then(|| Self { owner: Arc::clone(&self.owner), range: start..end })
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }
}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({} bytes)", self.len())
    }
}

/// A named parameter in its stored form.
#[derive(Debug, Clone)]
pub struct RawTensor {
    /// Name in the file, for messages.
    pub name: String,
    /// Stored type.
    pub dtype: DType,
    /// Rows first: a linear weight is `[out, in]`.
    pub shape: Vec<usize>,
    /// The values, little-endian, row after row.
    pub bytes: SharedBytes,
}

impl RawTensor {
    /// A tensor over `bytes`.
    ///
    /// # Errors
    /// If the number of bytes is not what `dtype` and `shape` need.
    pub fn new(name: impl Into<String>, dtype: DType, shape: Vec<usize>, bytes: SharedBytes) -> Result<Self> {
        let name = name.into();
        let needed = dtype.n_bytes(&shape);
        if needed != Some(bytes.len()) {
            return Err(Error::shape(
                "raw tensor",
                format!("`{name}` {dtype} {shape:?} needs {needed:?} bytes, but has {}", bytes.len()),
            ));
        }
        Ok(Self { name, dtype, shape, bytes })
    }

    /// A small `f32` tensor from values: an initialiser, a test, a computed parameter.
    ///
    /// # Panics
    /// If `values` does not fill `shape`.
    #[must_use]
    pub fn from_f32(name: impl Into<String>, shape: &[usize], values: &[f32]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "values do not fill the shape");
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { name: name.into(), dtype: DType::F32, shape: shape.to_vec(), bytes: SharedBytes::new(bytes) }
    }

    /// Length of one row: the last dimension.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Number of rows: the product of all dimensions but the last.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// All values as `f32`, exactly as stored.
    ///
    /// # Errors
    /// If the type is not one that holds weights.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut values = vec![0.0; self.rows() * self.cols()];
        self.dtype.dequantize(self.bytes.as_ref(), &mut values).map_err(|context| Error::DType {
            name: self.name.clone(),
            dtype: self.dtype,
            context,
        })?;
        Ok(values)
    }

    /// The rows `range` of a matrix, sharing the bytes. Block formats split by rows for free.
    ///
    /// # Errors
    /// If there are fewer rows.
    pub fn slice_rows(&self, range: Range<usize>) -> Result<Self> {
        let cols = self.cols();
        let row_bytes = self.dtype.n_bytes(&[cols]).unwrap_or(0);
        let bytes = (range.end <= self.rows())
            .then(|| self.bytes.slice(range.start * row_bytes..range.end * row_bytes))
            .flatten()
            .ok_or_else(|| {
                Error::shape(
                    "slice rows",
                    format!("`{}` has {} rows, asked for {range:?}", self.name, self.rows()),
                )
            })?;
        Ok(Self { name: self.name.clone(), dtype: self.dtype, shape: vec![range.len(), cols], bytes })
    }
}
