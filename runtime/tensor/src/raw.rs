//! A parameter as it lies in a file: bytes that are shared, never copied.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::{DType, Error, Result};

/// A mapped file, which can also be read without its pages becoming part of this process.
pub trait FileBytes: AsRef<[u8]> + Send + Sync + 'static {
    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// If the file cannot be read, or ends before `out` is full.
    fn read_at(&self, offset: usize, out: &mut [u8]) -> io::Result<()>;
}

#[derive(Clone)]
enum Owner {
    Memory(Arc<dyn AsRef<[u8]> + Send + Sync>),
    Copy(Arc<Vec<u8>>),
    File(Arc<dyn FileBytes>),
}

/// A range of bytes owned by somebody else: a mapped file, a downloaded blob, a vector.
///
/// Cloning and slicing are cheap and copy nothing.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Owner,
    range: Range<usize>,
}

impl SharedBytes {
    /// All bytes of `owner`.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let len = owner.as_ref().len();
        Self { owner: Owner::Memory(Arc::new(owner)), range: 0..len }
    }

    /// All bytes of a mapped file.
    pub fn of_file(file: impl FileBytes) -> Self {
        let len = file.as_ref().len();
        Self { owner: Owner::File(Arc::new(file)), range: 0..len }
    }

    /// Bytes that were made for one model, beside those of its files.
    #[must_use]
    pub fn copy(bytes: Vec<u8>) -> Self {
        Self { range: 0..bytes.len(), owner: Owner::Copy(Arc::new(bytes)) }
    }

    /// Whether these bytes are a [`copy`](Self::copy).
    #[must_use]
    pub fn is_copy(&self) -> bool {
        matches!(self.owner, Owner::Copy(_))
    }

    /// Whether these bytes lie in a file: they need not stay in memory to be had again.
    #[must_use]
    pub fn is_in_file(&self) -> bool {
        matches!(self.owner, Owner::File(_))
    }

    /// Copies the bytes to `out`; from their file, if they lie in one, so that its pages are not mapped in.
    ///
    /// # Errors
    /// If the file cannot be read.
    ///
    /// # Panics
    /// If `out` has another length.
    pub fn read_into(&self, out: &mut [u8]) -> io::Result<()> {
        assert_eq!(out.len(), self.len(), "a place as long as the bytes");
        match &self.owner {
            Owner::File(file) => file.read_at(self.range.start, out),
            Owner::Memory(_) | Owner::Copy(_) => {
                out.copy_from_slice(self.as_ref());
                Ok(())
            }
        }
    }

    /// The bytes `range` of these bytes, or `None` if they end before it does.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        let start = self.range.start.checked_add(range.start)?;
        let end = self.range.start.checked_add(range.end)?;
        (start <= end && end <= self.range.end).then(|| Self { owner: self.owner.clone(), range: start..end })
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
        let all = match &self.owner {
            Owner::Memory(bytes) => (**bytes).as_ref(),
            Owner::Copy(bytes) => bytes,
            Owner::File(file) => (**file).as_ref(),
        };
        &all[self.range.clone()]
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
