//! What a weight file holds, by name.

use std::collections::BTreeMap;

use half::bf16;

use crate::{Error, RawTensor, Result, SharedBytes};

/// The tensors of one or several weight files, by name.
#[derive(Debug, Clone, Default)]
pub struct TensorIndex {
    tensors: BTreeMap<String, Stored>,
}

#[derive(Debug, Clone)]
enum Stored {
    Weight(RawTensor),
    /// A type that holds no weights, or none that this program knows.
    Other {
        dtype: String,
        shape: Vec<usize>,
        bytes: SharedBytes,
    },
}

/// The values of an array that is no weight: an input or an output of an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub enum NamedArray {
    /// Floats; `f16` and `bf16` are widened when read.
    F32(Vec<f32>),
    /// Integers; narrower ones are widened when read.
    I64(Vec<i64>),
    /// Floats that are rounded to `bf16` when written; never the result of reading.
    BF16(Vec<f32>),
}

impl TensorIndex {
    pub(super) fn insert_weight(&mut self, raw: RawTensor) -> Result<(), String> {
        self.insert(raw.name.clone(), Stored::Weight(raw))
    }

    pub(super) fn insert_other(
        &mut self,
        name: String,
        dtype: String,
        shape: Vec<usize>,
        bytes: SharedBytes,
    ) -> Result<(), String> {
        self.insert(name, Stored::Other { dtype, shape, bytes })
    }

    fn insert(&mut self, name: String, stored: Stored) -> Result<(), String> {
        match self.tensors.insert(name.clone(), stored) {
            None => Ok(()),
            Some(_) => Err(format!("two tensors are called `{name}`")),
        }
    }

    /// Takes the tensors of another file of the same checkpoint.
    ///
    /// # Errors
    /// If a name occurs in both.
    pub fn extend(&mut self, other: Self) -> Result<()> {
        for (name, stored) in other.tensors {
            self.insert(name, stored).map_err(|detail| Error::format("safetensors", detail))?;
        }
        Ok(())
    }

    /// All names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Number of tensors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are no tensors.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The tensor `name`, if it is there and of a type that holds weights.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&RawTensor> {
        match self.tensors.get(name)? {
            Stored::Weight(raw) => Some(raw),
            Stored::Other { .. } => None,
        }
    }

    /// The tensor `name`.
    ///
    /// # Errors
    /// If it is absent, or stored in a type that cannot be computed with.
    pub fn require(&self, name: &str) -> Result<&RawTensor> {
        match self.tensors.get(name) {
            Some(Stored::Weight(raw)) => Ok(raw),
            Some(Stored::Other { dtype, .. }) => {
                Err(Error::UnknownType { name: name.to_owned(), dtype: dtype.clone() })
            }
            None => Err(Error::MissingWeight { name: name.to_owned(), nearest: self.nearest(name) }),
        }
    }

    /// The shape of `name`, rows first, whatever its type.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(match self.tensors.get(name)? {
            Stored::Weight(raw) => &raw.shape,
            Stored::Other { shape, .. } => shape,
        })
    }

    /// The stored type of `name` in words, whatever it is.
    #[must_use]
    pub fn type_name(&self, name: &str) -> Option<String> {
        Some(match self.tensors.get(name)? {
            Stored::Weight(raw) => raw.dtype.to_string(),
            Stored::Other { dtype, .. } => dtype.clone(),
        })
    }

    /// Shape and values of the array `name`, or `None` if it is absent.
    ///
    /// # Errors
    /// If its type is neither a float nor an integer of at most 64 bits.
    pub fn array(&self, name: &str) -> Result<Option<(Vec<usize>, NamedArray)>> {
        let Some(stored) = self.tensors.get(name) else { return Ok(None) };
        let (dtype, shape, bytes) = match stored {
            Stored::Weight(raw) => return Ok(Some((raw.shape.clone(), NamedArray::F32(raw.to_f32()?)))),
            Stored::Other { dtype, shape, bytes } => (dtype, shape, bytes.as_ref()),
        };
        let values = match dtype.as_str() {
            "I64" => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
            "I32" => bytes.as_chunks().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect(),
            "U32" => bytes.as_chunks().0.iter().map(|b| i64::from(u32::from_le_bytes(*b))).collect(),
            "U8" | "BOOL" => bytes.iter().map(|&b| i64::from(b)).collect(),
            _ => return Err(Error::UnknownType { name: name.to_owned(), dtype: dtype.clone() }),
        };
        Ok(Some((shape.clone(), NamedArray::I64(values))))
    }

    /// The name most similar to `name`; empty if there are none.
    #[must_use]
    pub fn nearest(&self, name: &str) -> String {
        nearest(name, self.names()).unwrap_or_default().to_owned()
    }
}

/// The one of `names` with the least edit distance to `name`.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A damaged file can hold a name of any length; comparing is quadratic.
    const MAX_COMPARED: usize = 256;
    let name = &name.as_bytes()[..name.len().min(MAX_COMPARED)];
    let (mut best, mut least) = (None, usize::MAX);
    for candidate in names {
        let bytes = &candidate.as_bytes()[..candidate.len().min(MAX_COMPARED)];
        if bytes.len().abs_diff(name.len()) < least {
            let distance = edit_distance(name, bytes);
            if distance < least {
                (best, least) = (Some(candidate), distance);
            }
        }
    }
    best
}

/// Levenshtein's distance.
fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Refuses shapes whose number of values overflows, so that later products need no check.
pub(super) fn check_shape(name: &str, shape: &[usize]) -> Result<(), String> {
    let product = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim.max(1)));
    product.map(|_| ()).ok_or_else(|| format!("tensor `{name}` has the absurd shape {shape:?}"))
}

impl NamedArray {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) | Self::BF16(values) => values.len(),
            Self::I64(values) => values.len(),
        }
    }

    /// Whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::I64(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::BF16(values) => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_differs_least() {
        let names = ["model.layers.1.mlp.up_proj.weight", "model.norm.weight", "lm_head.weight"];
        let found = |name| nearest(name, names.into_iter());
        assert_eq!(found("model.layers.7.mlp.up_proj.weight"), Some(names[0]));
        assert_eq!(found("lm_head.bias"), Some(names[2]));
        assert_eq!(nearest("x", [].into_iter()), None);
        assert_eq!(edit_distance(b"kitten", b"sitting"), 3);
    }
}
