//! safetensors files.

use std::collections::HashMap;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::index::{NamedArray, TensorIndex, check_shape};
use crate::{DType, Error, RawTensor, Result, SharedBytes};

/// A parsed safetensors file; its tensors share the file's bytes.
#[derive(Debug, Clone)]
pub struct Safetensors {
    index: TensorIndex,
    metadata: HashMap<String, String>,
}

fn invalid(detail: impl ToString) -> Error {
    Error::format("safetensors", detail.to_string())
}

impl Safetensors {
    /// Reads the header; the `safetensors` crate checks that its ranges fill the file exactly.
    ///
    /// # Errors
    /// If the file is damaged, truncated, or of another kind.
    pub fn parse(bytes: SharedBytes) -> Result<Self> {
        let (header_len, header) = SafeTensors::read_metadata(bytes.as_ref()).map_err(invalid)?;
        let start = header_len + 8; // the length itself comes first
        let mut index = TensorIndex::default();
        for (name, info) in header.tensors() {
            check_shape(&name, &info.shape).map_err(invalid)?;
            let (from, to) = info.data_offsets;
            let bytes =
                bytes.slice(start + from..start + to).ok_or_else(|| invalid("tensor outside the file"))?;
            let shape = info.shape.clone();
            let dtype = match info.dtype {
                Dtype::F32 => Some(DType::F32),
                Dtype::F16 => Some(DType::F16),
                Dtype::BF16 => Some(DType::BF16),
                _ => None,
            };
            match dtype {
                Some(dtype) => index.insert_weight(RawTensor::new(name, dtype, shape, bytes)?),
                None => index.insert_other(name, format!("{:?}", info.dtype), shape, bytes),
            }
            .map_err(invalid)?;
        }
        Ok(Self { index, metadata: header.metadata().clone().unwrap_or_default() })
    }

    /// The tensors.
    #[must_use]
    pub fn index(&self) -> &TensorIndex {
        &self.index
    }

    /// The tensors, without the file around them.
    #[must_use]
    pub fn into_index(self) -> TensorIndex {
        self.index
    }

    /// Free text of the header, by key.
    #[must_use]
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.metadata
    }
}

/// The bytes of a safetensors file that holds `arrays`: name, shape, values.
///
/// # Errors
/// If an array does not fill its shape, or a name occurs twice.
pub fn write_safetensors<N: AsRef<str>>(arrays: &[(N, Vec<usize>, NamedArray)]) -> Result<Vec<u8>> {
    let bytes: Vec<Vec<u8>> = arrays.iter().map(|(.., values)| values.to_bytes()).collect();
    let mut views = HashMap::new();
    for ((name, shape, values), bytes) in arrays.iter().zip(&bytes) {
        let name = name.as_ref();
        let dtype = match values {
            NamedArray::F32(_) => Dtype::F32,
            NamedArray::I64(_) => Dtype::I64,
            NamedArray::BF16(_) => Dtype::BF16,
        };
        let view = TensorView::new(dtype, shape.clone(), bytes).map_err(|_| {
            Error::shape("write safetensors", format!("`{name}` {shape:?} with {} values", values.len()))
        })?;
        if views.insert(name, view).is_some() {
            return Err(invalid(format!("two arrays are called `{name}`")));
        }
    }
    safetensors::serialize(views, None).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let arrays = [
            ("ids", vec![1, 3], NamedArray::I64(vec![-1, 2, 1 << 40])),
            ("x", vec![2, 1], NamedArray::F32(vec![0.1, -3.5])),
            ("w", vec![2], NamedArray::BF16(vec![0.1, 1.0])),
        ];
        let bytes = write_safetensors(&arrays).unwrap();
        let file = Safetensors::parse(SharedBytes::new(bytes)).unwrap();
        for (name, shape, values) in &arrays[..2] {
            assert_eq!(file.index().array(name).unwrap(), Some((shape.clone(), values.clone())));
        }
        let w = file.index().get("w").unwrap();
        assert_eq!((w.dtype, w.to_f32().unwrap()), (DType::BF16, vec![0.100_097_656, 1.0]));
        assert_eq!(file.index().array("absent").unwrap(), None);
        let error = file.index().require("ids").unwrap_err().to_string();
        assert_eq!(
            error,
            "tensor `ids` is stored as I64, which is no type of weights that this program knows"
        );
    }

    #[test]
    fn arrays_that_do_not_fill_their_shape_are_not_written() {
        assert!(write_safetensors(&[("x", vec![3], NamedArray::F32(vec![1.0]))]).is_err());
        let twice = ("x", vec![1], NamedArray::F32(vec![1.0]));
        assert!(write_safetensors(&[twice.clone(), twice]).is_err());
    }
}
