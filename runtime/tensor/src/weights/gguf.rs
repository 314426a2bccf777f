//! GGUF files, version 2 and 3.
//!
//! Every count, length, name, dimension and offset is checked against the bytes that are there before it
//! sizes anything. Source: ggml-org/ggml: docs/gguf.md.

use std::collections::BTreeMap;
use std::ops::Range;

use super::index::{TensorIndex, check_shape};
use crate::{DType, Error, RawTensor, Result, SharedBytes};

pub(super) const MAGIC: &[u8; 4] = b"GGUF";
/// ggml has no tensor of more.
pub(super) const MAX_DIMS: u32 = 4;
/// As llama.cpp; longer keys and names are damage.
pub(super) const MAX_NAME_LEN: usize = 65_535;
/// Of tensors, unless a file says otherwise; ours say nothing.
pub(super) const ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 16;
/// Least bytes of an entry: an empty name, and a type with a one-byte value; or dims, type and offset.
const MIN_ENTRY_LEN: usize = 8 + 4 + 1;

/// A parsed GGUF file; its tensors and arrays share the file's bytes.
#[derive(Debug, Clone)]
pub struct Gguf {
    metadata: BTreeMap<String, GgufValue>,
    index: TensorIndex,
}

/// A value of the metadata.
#[derive(Debug, Clone)]
pub enum GgufValue {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// Any float.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// Text.
    String(String),
    /// Many values of one type.
    Array(GgufArray),
}

/// An array of the metadata, decoded when asked for.
#[derive(Debug, Clone)]
pub struct GgufArray {
    pub(super) kind: Kind,
    len: usize,
    pub(super) bytes: SharedBytes,
}

/// Types of values, numbered as in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// Bytes of one value; `None` if they differ from value to value.
    fn size(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }
}

type Parsed<T> = std::result::Result<T, String>;

/// Reads a file from front to back and never beyond its end.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Parsed<&'a [u8]> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| format!("it ends inside the {len} bytes at {}", self.at))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("as long as taken"))
    }

    fn u32(&mut self) -> Parsed<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Parsed<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A number of things that take at least `min_len` bytes each, checked against what is left.
    fn count(&mut self, what: &str, min_len: usize) -> Parsed<usize> {
        let found = self.u64()?;
        let left = self.bytes.len() - self.at;
        usize::try_from(found)
            .ok()
            .filter(|&n| n <= left / min_len)
            .ok_or_else(|| format!("{found} {what} do not fit into the {left} bytes that follow"))
    }

    fn string(&mut self) -> Parsed<&'a str> {
        let start = self.at;
        let len = self.count("characters", 1)?;
        std::str::from_utf8(self.take(len)?).map_err(|_| format!("the text at {start} is no UTF-8"))
    }

    fn name(&mut self) -> Parsed<&'a str> {
        let name = self.string()?;
        if name.len() > MAX_NAME_LEN {
            return Err(format!("a name is {} bytes long", name.len()));
        }
        Ok(name)
    }

    fn kind(&mut self) -> Parsed<Kind> {
        let number = self.u32()?;
        let kind = usize::try_from(number).ok().and_then(|number| Kind::ALL.get(number));
        kind.copied().ok_or_else(|| format!("the type {number} of a value is unknown"))
    }

    fn scalar(&mut self, kind: Kind) -> Parsed<GgufValue> {
        Ok(match kind {
            Kind::U8 => GgufValue::Unsigned(u8::from_le_bytes(self.array()?).into()),
            Kind::U16 => GgufValue::Unsigned(u16::from_le_bytes(self.array()?).into()),
            Kind::U32 => GgufValue::Unsigned(self.u32()?.into()),
            Kind::U64 => GgufValue::Unsigned(self.u64()?),
            Kind::I8 => GgufValue::Signed(i8::from_le_bytes(self.array()?).into()),
            Kind::I16 => GgufValue::Signed(i16::from_le_bytes(self.array()?).into()),
            Kind::I32 => GgufValue::Signed(i32::from_le_bytes(self.array()?).into()),
            Kind::I64 => GgufValue::Signed(i64::from_le_bytes(self.array()?)),
            Kind::F32 => GgufValue::Float(f32::from_le_bytes(self.array()?).into()),
            Kind::F64 => GgufValue::Float(f64::from_le_bytes(self.array()?)),
            Kind::Bool => GgufValue::Bool(self.array::<1>()? != [0]),
            Kind::String => GgufValue::String(self.string()?.to_owned()),
            Kind::Array => return Err("an array inside an array".to_owned()),
        })
    }

    /// Walks over an array and returns its type, its length and where its values lie.
    fn array_range(&mut self) -> Parsed<(Kind, usize, Range<usize>)> {
        let kind = self.kind()?;
        let len = self.count("array values", kind.size().unwrap_or(8))?;
        let start = self.at;
        match kind.size() {
            Some(size) => {
                self.take(len * size)?;
            }
            None if kind == Kind::String => {
                for _ in 0..len {
                    self.string()?;
                }
            }
            None => return Err("an array inside an array".to_owned()),
        }
        Ok((kind, len, start..self.at))
    }
}

impl GgufArray {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The values, if they are texts.
    #[must_use]
    pub fn strings(&self) -> Option<Vec<String>> {
        let mut cursor = Cursor { bytes: self.bytes.as_ref(), at: 0 };
        let texts = || (0..self.len).map(|_| Some(cursor.string().ok()?.to_owned())).collect();
        (self.kind == Kind::String).then(texts).flatten()
    }

    /// The values, if they are numbers.
    #[must_use]
    pub fn numbers(&self) -> Option<Vec<f64>> {
        let mut cursor = Cursor { bytes: self.bytes.as_ref(), at: 0 };
        (0..self.len).map(|_| cursor.scalar(self.kind).ok()?.as_f64()).collect()
    }
}

impl GgufValue {
    /// The value as a number that is no less than zero.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Unsigned(value) => Some(value),
            Self::Signed(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    /// The value as a number.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::Float(value) => Some(value),
            Self::Unsigned(value) => Some(value as f64),
            Self::Signed(value) => Some(value as f64),
            _ => None,
        }
    }

    /// The value as text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(value) => Some(value),
            _ => None,
        }
    }

    /// The value as a switch.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The value as an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&GgufArray> {
        match self {
            Self::Array(value) => Some(value),
            _ => None,
        }
    }
}

impl Gguf {
    /// Reads metadata and tensor list.
    ///
    /// # Errors
    /// If the file is damaged, truncated, or of another kind.
    pub fn parse(bytes: SharedBytes) -> Result<Self> {
        parse(&bytes).map_err(|detail| Error::format("GGUF", detail))
    }

    /// The value of `key`.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&GgufValue> {
        self.metadata.get(key)
    }

    /// All keys and values in order.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &GgufValue)> {
        self.metadata.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The tensors.
    #[must_use]
    pub fn index(&self) -> &TensorIndex {
        &self.index
    }
}

fn parse(bytes: &SharedBytes) -> Parsed<Gguf> {
    let mut cursor = Cursor { bytes: bytes.as_ref(), at: 0 };
    if cursor.take(MAGIC.len())? != MAGIC {
        return Err("it does not begin with `GGUF`".to_owned());
    }
    match cursor.u32()? {
        2 | 3 => {}
        version if version.swap_bytes() <= 3 => return Err("it is big-endian".to_owned()),
        version => return Err(format!("its version is {version}; 2 and 3 are supported")),
    }
    let n_tensors = cursor.count("tensors", MIN_ENTRY_LEN)?;
    let n_values = cursor.count("metadata values", MIN_ENTRY_LEN)?;
    let metadata = parse_metadata(&mut cursor, bytes, n_values)?;
    let alignment = alignment(&metadata)?;

    // Offsets count from the first aligned byte after the list, so it must be walked first.
    let mut entries = Vec::new();
    for _ in 0..n_tensors {
        entries.push(parse_entry(&mut cursor)?);
    }
    let start = cursor.at.next_multiple_of(alignment);
    let mut index = TensorIndex::default();
    for entry in entries {
        if entry.offset % alignment as u64 != 0 {
            return Err(format!("tensor `{}` at {} is not aligned to {alignment}", entry.name, entry.offset));
        }
        index_entry(&mut index, entry, start, bytes)?;
    }
    Ok(Gguf { metadata, index })
}

fn parse_metadata(
    cursor: &mut Cursor<'_>,
    bytes: &SharedBytes,
    n_values: usize,
) -> Parsed<BTreeMap<String, GgufValue>> {
    let mut metadata = BTreeMap::new();
    for _ in 0..n_values {
        let key = cursor.name()?.to_owned();
        let value = match cursor.kind()? {
            Kind::Array => {
                let (kind, len, range) = cursor.array_range()?;
                let bytes = bytes.slice(range).ok_or("an array outside the file")?;
                GgufValue::Array(GgufArray { kind, len, bytes })
            }
            kind => cursor.scalar(kind)?,
        };
        if metadata.insert(key.clone(), value).is_some() {
            return Err(format!("the key `{key}` occurs twice"));
        }
    }
    Ok(metadata)
}

fn alignment(metadata: &BTreeMap<String, GgufValue>) -> Parsed<usize> {
    let stated = metadata.get("general.alignment").map(GgufValue::as_u64);
    let found = stated.unwrap_or(Some(ALIGNMENT));
    let valid = found.filter(|alignment| alignment.is_power_of_two() && *alignment <= MAX_ALIGNMENT);
    valid
        .map(|alignment| alignment as usize)
        .ok_or_else(|| "`general.alignment` is no power of two".to_owned())
}

struct Entry {
    name: String,
    /// Rows first.
    shape: Vec<usize>,
    kind: u32,
    offset: u64,
}

fn parse_entry(cursor: &mut Cursor<'_>) -> Parsed<Entry> {
    let name = cursor.name()?.to_owned();
    let n_dims = cursor.u32()?;
    if !(1..=MAX_DIMS).contains(&n_dims) {
        return Err(format!("tensor `{name}` has {n_dims} dimensions"));
    }
    let mut shape = Vec::with_capacity(n_dims as usize);
    for _ in 0..n_dims {
        let dim = cursor.u64()?;
        let dim = usize::try_from(dim).ok().filter(|&dim| dim > 0);
        shape.push(dim.ok_or_else(|| format!("tensor `{name}` has an absurd dimension"))?);
    }
    shape.reverse(); // ggml lists the fastest dimension first
    check_shape(&name, &shape)?;
    Ok(Entry { name, shape, kind: cursor.u32()?, offset: cursor.u64()? })
}

fn index_entry(index: &mut TensorIndex, entry: Entry, start: usize, bytes: &SharedBytes) -> Parsed<()> {
    let Entry { name, shape, kind, offset } = entry;
    let from = usize::try_from(offset).ok().and_then(|offset| start.checked_add(offset));
    let outside = || format!("tensor `{name}` at {offset} lies outside the file");
    let Some(dtype) = dtype(kind) else {
        // Its length is unknown; it is an error only when somebody asks for it.
        let bytes = from.and_then(|from| bytes.slice(from..from)).ok_or_else(outside)?;
        return index.insert_other(name, unknown_type(kind), shape, bytes);
    };
    let len = dtype
        .n_bytes(&shape)
        .ok_or_else(|| format!("tensor `{name}` {shape:?} is no whole blocks of {dtype}"))?;
    let range = from.and_then(|from| Some(from..from.checked_add(len)?));
    let bytes = range.and_then(|range| bytes.slice(range)).ok_or_else(outside)?;
    index.insert_weight(RawTensor::new(name, dtype, shape, bytes).map_err(|error| error.to_string())?)
}

/// ggml's numbers of the types of weights.
const TYPES: [(u32, DType); 11] = [
    (0, DType::F32),
    (1, DType::F16),
    (2, DType::Q4_0),
    (3, DType::Q4_1),
    (6, DType::Q5_0),
    (7, DType::Q5_1),
    (8, DType::Q8_0),
    (12, DType::Q4_K),
    (13, DType::Q5_K),
    (14, DType::Q6_K),
    (30, DType::BF16),
];

fn dtype(kind: u32) -> Option<DType> {
    TYPES.iter().find(|(number, _)| *number == kind).map(|(_, dtype)| *dtype)
}

/// ggml's number of `dtype`.
pub(super) fn type_number(dtype: DType) -> u32 {
    let found = TYPES.iter().find(|(_, other)| *other == dtype);
    found.expect("every type of weights has a number").0
}

/// What ggml calls a type that this program cannot read.
fn unknown_type(kind: u32) -> String {
    let name = match kind {
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return format!("type {kind}"),
    };
    name.to_owned()
}
