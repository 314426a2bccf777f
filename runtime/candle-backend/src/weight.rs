//! Parameters: dense tensors, or stored bytes that are computed on where they lie.

use std::io;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use candle_core::{Device, Tensor};
use kernels::Matrix;
use tensor::{Error, RawTensor, Result, SharedBytes};

use crate::packing::Packing;

/// A parameter.
#[derive(Debug, Clone)]
pub enum Weight {
    /// `f32` values; a variable when training.
    Dense(Tensor),
    /// Bytes as they lie in their file, decoded on the fly. CPU only, without gradient.
    Mapped(Arc<Stored>),
}

/// A parameter in its stored form, and packed as well once products have asked for that.
#[derive(Debug)]
pub struct Stored {
    raw: RawTensor,
    /// Nothing yet; the packed bytes, if it is to be packed; or why they could not be read.
    packed: OnceLock<io::Result<Option<SharedBytes>>>,
}

impl Stored {
    /// A parameter that is not packed yet.
    #[must_use]
    pub(crate) fn new(raw: RawTensor) -> Self {
        Self { raw, packed: OnceLock::new() }
    }

    /// The parameter with its blocks packed already.
    #[must_use]
    pub(crate) fn with_packed(&self, packed: SharedBytes) -> Self {
        Self { raw: self.raw.clone(), packed: OnceLock::from(Ok(Some(packed))) }
    }

    /// Packs the weight if nobody did before.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub(crate) fn pack(&self, packing: &Packing) -> Result<()> {
        match self.packed.get_or_init(|| packing.pack(&self.raw)) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::Device {
                op: "packing a weight",
                message: format!("`{}` cannot be read: {error}", self.raw.name),
            }),
        }
    }

    /// The blocks for products.
    pub(crate) fn matrix(&self) -> Matrix<'_> {
        let (dtype, rows, cols) = (self.raw.dtype, self.raw.rows(), self.raw.cols());
        match self.packed.get() {
            Some(Ok(Some(packed))) => Matrix::packed(dtype, packed.as_ref(), rows, cols),
            _ => Matrix::new(dtype, self.raw.bytes.as_ref(), rows, cols),
        }
        .expect("sizes were checked when the weight was taken over")
    }
}

impl Deref for Stored {
    type Target = RawTensor;

    fn deref(&self) -> &RawTensor {
        &self.raw
    }
}

impl Weight {
    /// A parameter from a dense `f32` tensor, such as that of a variable.
    #[must_use]
    pub fn from_tensor(tensor: Tensor) -> Self {
        Self::Dense(tensor)
    }

    /// Takes over a stored parameter: vectors are decoded, matrices shared.
    pub(crate) fn mapped(raw: RawTensor) -> Result<Self> {
        if raw.rows() <= 1 || raw.cols() == 0 {
            return Self::decoded(raw, &Device::Cpu);
        }
        if raw.dtype.n_bytes(&raw.shape) != Some(raw.bytes.len()) {
            return Err(Error::DType {
                name: raw.name,
                dtype: raw.dtype,
                context: "does not fill the rows its shape names",
            });
        }
        Ok(Self::Mapped(Arc::new(Stored::new(raw))))
    }

    /// Decodes a stored parameter onto `device`.
    pub(crate) fn decoded(raw: RawTensor, device: &Device) -> Result<Self> {
        let tensor = Tensor::from_vec(raw.to_f32()?, raw.shape.as_slice(), device);
        Ok(Self::Dense(tensor.map_err(|e| Error::Device { op: "weight", message: e.to_string() })?))
    }

    /// The stored blocks, if values share scales in blocks.
    pub(crate) fn blocks(&self) -> Option<&Stored> {
        match self {
            Self::Mapped(raw) if raw.dtype.is_quantized() => Some(raw),
            _ => None,
        }
    }

    /// Rows and columns; all dimensions but the last are rows.
    pub(crate) fn shape(&self) -> (usize, usize) {
        match self {
            Self::Dense(w) => {
                let cols = w.dims().last().copied().unwrap_or(1);
                (w.elem_count() / cols.max(1), cols)
            }
            Self::Mapped(raw) => (raw.rows(), raw.cols()),
        }
    }

    /// Whether a gradient is wanted.
    pub(crate) fn tracks_gradient(&self) -> bool {
        matches!(self, Self::Dense(w) if w.track_op())
    }

    /// The values as a vector of `len`: a gain, a bias.
    pub(crate) fn vector(&self, op: &'static str, len: usize) -> Result<Tensor> {
        let (rows, cols) = self.shape();
        match self {
            Self::Dense(w) if rows * cols == len => {
                w.flatten_all().map_err(|e| Error::Device { op, message: e.to_string() })
            }
            _ => Err(Error::shape(op, format!("a weight [{rows}, {cols}] for rows of {len}"))),
        }
    }
}
