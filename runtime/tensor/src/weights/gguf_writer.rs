//! GGUF files, version 3, written from front to back.
//!
//! A [`GgufLayout`] is told all metadata and all tensors first. Then it knows the header and where every
//! tensor begins, so that tensors can be written one after another, and a file that was cut off can be
//! continued at the first tensor that is not whole.

use std::collections::BTreeSet;
use std::ops::Range;

use super::GgufValue;
use super::gguf::{ALIGNMENT, Kind, MAGIC, MAX_DIMS, MAX_NAME_LEN, type_number};
use crate::{DType, Error, Result};

const VERSION: u32 = 3;

/// A value of the metadata to be written.
#[derive(Debug, Clone, Copy)]
pub enum GgufEntry<'a> {
    /// A number, as `u32`.
    U32(u32),
    /// A number, as `f32`.
    F32(f32),
    /// Yes or no.
    Bool(bool),
    /// Text.
    Str(&'a str),
    /// Many texts.
    Strings(&'a [String]),
    /// Many numbers, as `f32`.
    F32s(&'a [f32]),
    /// Many numbers, as `i32`.
    I32s(&'a [i32]),
    /// What another file holds.
    Copy(&'a GgufValue),
}

/// A tensor of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufTensor {
    /// Its name.
    pub name: String,
    /// How it is stored.
    pub dtype: DType,
    /// Rows first.
    pub shape: Vec<usize>,
    /// Its bytes, counted from the end of the header.
    offset: u64,
    len: u64,
}

/// What a file will hold.
#[derive(Debug, Clone, Default)]
pub struct GgufLayout {
    keys: BTreeSet<String>,
    metadata: Vec<u8>,
    names: BTreeSet<String>,
    tensors: Vec<GgufTensor>,
    table: Vec<u8>,
}

fn invalid(detail: impl Into<String>) -> Error {
    Error::format("GGUF", detail)
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_kind(out: &mut Vec<u8>, kind: Kind) {
    out.extend((kind as u32).to_le_bytes());
}

fn put_array_head(out: &mut Vec<u8>, kind: Kind, len: usize) {
    put_kind(out, Kind::Array);
    put_kind(out, kind);
    out.extend((len as u64).to_le_bytes());
}

impl GgufEntry<'_> {
    /// Writes type and value.
    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::U32(value) => {
                put_kind(out, Kind::U32);
                out.extend(value.to_le_bytes());
            }
            Self::F32(value) => {
                put_kind(out, Kind::F32);
                out.extend(value.to_le_bytes());
            }
            Self::Bool(value) => {
                put_kind(out, Kind::Bool);
                out.push(value.into());
            }
            Self::Str(value) => {
                put_kind(out, Kind::String);
                put_string(out, value);
            }
            Self::Strings(values) => {
                put_array_head(out, Kind::String, values.len());
                values.iter().for_each(|value| put_string(out, value));
            }
            Self::F32s(values) => {
                put_array_head(out, Kind::F32, values.len());
                out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Self::I32s(values) => {
                put_array_head(out, Kind::I32, values.len());
                out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Self::Copy(value) => put_value(out, value),
        }
    }
}

/// Writes a value as it was read; of a number, only its size may be another.
fn put_value(out: &mut Vec<u8>, value: &GgufValue) {
    match value {
        GgufValue::Unsigned(value) => match u32::try_from(*value) {
            Ok(value) => GgufEntry::U32(value).put(out),
            Err(_) => {
                put_kind(out, Kind::U64);
                out.extend(value.to_le_bytes());
            }
        },
        GgufValue::Signed(value) => {
            put_kind(out, Kind::I64);
            out.extend(value.to_le_bytes());
        }
        GgufValue::Float(value) if f64::from(*value as f32) == *value => {
            GgufEntry::F32(*value as f32).put(out)
        }
        GgufValue::Float(value) => {
            put_kind(out, Kind::F64);
            out.extend(value.to_le_bytes());
        }
        GgufValue::Bool(value) => GgufEntry::Bool(*value).put(out),
        GgufValue::String(value) => GgufEntry::Str(value).put(out),
        GgufValue::Array(array) => {
            put_array_head(out, array.kind, array.len());
            out.extend(array.bytes.as_ref());
        }
    }
}

impl GgufTensor {
    /// Number of its bytes.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.len
    }

    /// Bytes of one row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.shape.last().and_then(|&cols| self.dtype.n_bytes(&[cols])).unwrap_or(0)
    }

    /// Number of rows: all dimensions but the last.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }
}

impl GgufLayout {
    /// Adds a value to the metadata.
    ///
    /// # Errors
    /// If the key is empty, too long, or there already.
    pub fn put(&mut self, key: &str, value: GgufEntry<'_>) -> Result<()> {
        if key.is_empty() || key.len() > MAX_NAME_LEN {
            return Err(invalid(format!("a key of {} bytes", key.len())));
        }
        if !self.keys.insert(key.to_owned()) {
            return Err(invalid(format!("the key `{key}` occurs twice")));
        }
        put_string(&mut self.metadata, key);
        value.put(&mut self.metadata);
        Ok(())
    }

    /// Whether a value of this key was added.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    /// Adds a tensor behind those added before.
    ///
    /// # Errors
    /// If its name is empty, too long, or there already; if it has no dimension, too many, or one of zero; or
    /// if its rows are no whole blocks.
    pub fn push(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Result<()> {
        let bad = |what: String| invalid(format!("tensor `{name}` {shape:?} {what}"));
        if name.is_empty() || name.len() > MAX_NAME_LEN {
            return Err(invalid(format!("a tensor's name of {} bytes", name.len())));
        }
        if shape.is_empty() || shape.len() > MAX_DIMS as usize || shape.contains(&0) {
            return Err(bad("is of a shape that GGUF has not".to_owned()));
        }
        let len = dtype.n_bytes(shape).ok_or_else(|| bad(format!("is no whole blocks of {dtype}")))? as u64;
        if !self.names.insert(name.to_owned()) {
            return Err(bad("is there already".to_owned()));
        }
        let offset =
            self.tensors.last().map_or(0, |last| (last.offset + last.len).next_multiple_of(ALIGNMENT));
        put_string(&mut self.table, name);
        self.table.extend((shape.len() as u32).to_le_bytes());
        // ggml lists the fastest dimension first.
        self.table.extend(shape.iter().rev().flat_map(|&dim| (dim as u64).to_le_bytes()));
        self.table.extend(type_number(dtype).to_le_bytes());
        self.table.extend(offset.to_le_bytes());
        self.tensors.push(GgufTensor { name: name.to_owned(), dtype, shape: shape.to_vec(), offset, len });
        Ok(())
    }

    /// The tensors, in the order of the file.
    #[must_use]
    pub fn tensors(&self) -> &[GgufTensor] {
        &self.tensors
    }

    /// All bytes before the first tensor.
    #[must_use]
    pub fn header(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(VERSION.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        out.extend(&self.metadata);
        out.extend(&self.table);
        out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
        out
    }

    /// Where in the file the bytes of tensor `i` lie. Up to the next tensor, and to the end of the file,
    /// follow zeros.
    ///
    /// # Panics
    /// If there are not so many tensors.
    #[must_use]
    pub fn range(&self, i: usize) -> Range<u64> {
        let start = self.header_len() + self.tensors[i].offset;
        start..start + self.tensors[i].len
    }

    /// Bytes of the whole file.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        match self.tensors.len() {
            0 => self.header_len(),
            n => self.range(n - 1).end.next_multiple_of(ALIGNMENT),
        }
    }

    fn header_len(&self) -> u64 {
        let unpadded = MAGIC.len() + 4 + 8 + 8 + self.metadata.len() + self.table.len();
        (unpadded as u64).next_multiple_of(ALIGNMENT)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::SharedBytes;
    use crate::weights::Gguf;

    /// The file with tensor `i` full of bytes `i + 1`.
    fn written(layout: &GgufLayout) -> Vec<u8> {
        let mut file = layout.header();
        for i in 0..layout.tensors().len() {
            file.resize(layout.range(i).start as usize, 0);
            file.resize(layout.range(i).end as usize, i as u8 + 1);
        }
        file.resize(layout.file_len() as usize, 0);
        file
    }

    fn parse(bytes: Vec<u8>) -> Gguf {
        Gguf::parse(SharedBytes::new(bytes)).unwrap()
    }

    #[test]
    fn every_kind_of_entry_is_read_back() {
        let mut layout = GgufLayout::default();
        let texts = ["a".to_owned(), "▁ü".to_owned(), String::new()];
        layout.put("u", GgufEntry::U32(7)).unwrap();
        layout.put("f", GgufEntry::F32(1e-5)).unwrap();
        layout.put("b", GgufEntry::Bool(true)).unwrap();
        layout.put("s", GgufEntry::Str("text\n")).unwrap();
        layout.put("ss", GgufEntry::Strings(&texts)).unwrap();
        layout.put("fs", GgufEntry::F32s(&[0.5, -2.0])).unwrap();
        layout.put("is", GgufEntry::I32s(&[-1, 6])).unwrap();
        let first = parse(layout.header());
        // Once more, as copies of what was read.
        let mut copy = GgufLayout::default();
        for (key, value) in first.metadata() {
            copy.put(key, GgufEntry::Copy(value)).unwrap();
        }
        let large = GgufValue::Unsigned(1 << 40);
        copy.put("large", GgufEntry::Copy(&large)).unwrap();
        copy.put("signed", GgufEntry::Copy(&GgufValue::Signed(-3))).unwrap();
        copy.put("double", GgufEntry::Copy(&GgufValue::Float(0.1))).unwrap();
        let second = parse(copy.header());
        for file in [&first, &second] {
            let value = |key| file.value(key).unwrap();
            assert_eq!(value("u").as_u64(), Some(7));
            assert_eq!(value("f").as_f64(), Some(f64::from(1e-5f32)));
            assert_eq!(value("b").as_bool(), Some(true));
            assert_eq!(value("s").as_str(), Some("text\n"));
            assert_eq!(value("ss").as_array().unwrap().strings().unwrap(), texts);
            assert_eq!(value("fs").as_array().unwrap().numbers().unwrap(), [0.5, -2.0]);
            assert_eq!(value("is").as_array().unwrap().numbers().unwrap(), [-1.0, 6.0]);
        }
        assert_eq!(second.value("large").unwrap().as_u64(), Some(1 << 40));
        assert_eq!(second.value("signed").unwrap().as_f64(), Some(-3.0));
        assert_eq!(second.value("double").unwrap().as_f64(), Some(0.1));
    }

    #[test]
    fn what_gguf_cannot_hold_is_refused() {
        let mut layout = GgufLayout::default();
        layout.put("a", GgufEntry::Bool(true)).unwrap();
        assert!(layout.put("a", GgufEntry::Bool(false)).is_err());
        assert!(layout.put("", GgufEntry::Bool(false)).is_err());
        layout.push("t", DType::F32, &[2]).unwrap();
        for (name, shape) in [("t", &[2][..]), ("", &[2]), ("x", &[]), ("x", &[0]), ("x", &[1; 5])] {
            assert!(layout.push(name, DType::F32, shape).is_err(), "{name} {shape:?}");
        }
        assert!(layout.push("x", DType::Q4_K, &[4, 128]).is_err());
        assert!(layout.push("x", DType::F32, &[usize::MAX, 2]).is_err());
        assert_eq!(layout.tensors().len(), 1);
        assert_eq!(parse(written(&layout)).index().len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_tensors_are_read_back(
            tensors in prop::collection::vec(
                ("[a-z.]{1,12}", 0..DType::ALL.len(), prop::collection::vec(1usize..5, 0..3), 1usize..3),
                0..8,
            ),
            entries in prop::collection::btree_map("[a-z]{1,9}", ".{0,20}", 0..5),
        ) {
            let mut layout = GgufLayout::default();
            for (key, text) in &entries {
                layout.put(key, GgufEntry::Str(text)).unwrap();
            }
            for (i, (name, dtype, rows, blocks)) in tensors.iter().enumerate() {
                let dtype = DType::ALL[*dtype];
                let shape = [&rows[..], &[blocks * dtype.block().values]].concat();
                layout.push(&format!("{i}{name}"), dtype, &shape).unwrap();
            }
            let bytes = written(&layout);
            prop_assert_eq!(bytes.len() as u64, layout.file_len());
            let file = parse(bytes);
            for (key, text) in &entries {
                prop_assert_eq!(file.value(key).unwrap().as_str(), Some(text.as_str()));
            }
            for (i, tensor) in layout.tensors().iter().enumerate() {
                prop_assert_eq!(layout.range(i).start % ALIGNMENT, 0);
                let read = file.index().require(&tensor.name).unwrap();
                prop_assert_eq!((read.dtype, &read.shape), (tensor.dtype, &tensor.shape));
                prop_assert_eq!(tensor.row_bytes() * tensor.n_rows(), tensor.n_bytes() as usize);
                prop_assert!(read.bytes.as_ref().iter().all(|&byte| byte == i as u8 + 1));
            }
        }
    }
}
