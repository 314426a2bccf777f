//! A checkpoint: canonical names over the tensors of its files.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use tensor::weights::{TensorIndex, nearest};
use tensor::{Backend, Error, RawTensor, Reference, ReferenceWeight, Result, SharedBytes, Weights};

use crate::config::Config;
use crate::names::{self, Layout};

/// A configuration and the parameters it asks for, wherever and however the files store them.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Sizes and switches.
    pub config: Config,
    index: TensorIndex,
    /// By canonical name; several pieces only where a table is stored in rows.
    parameters: BTreeMap<String, Vec<Piece>>,
    /// Tensors that some parameter was checked against.
    used: BTreeSet<String>,
    /// Name and shape of every parameter that was checked, in the order in which a model takes them.
    checked: Vec<(String, Vec<usize>)>,
}

/// Bytes that a place for an expert may have beside its own.
const BETWEEN_PARTS: u64 = 256;

/// How many bytes of weights there are, and what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoredBytes {
    /// All but routed experts: any token may need them.
    pub shared: u64,
    /// Routed experts of all layers and banks.
    pub experts: u64,
    /// How many those are.
    pub n_experts: usize,
    /// Bytes of them that must be in memory at a time: those of two tokens in the layer with the largest.
    pub least_experts: u64,
    /// Whether all of them are used as they lie in a file, so that they can be read from it at any time.
    pub experts_in_file: bool,
}

/// Rows of a parameter inside a tensor of a file.
#[derive(Debug, Clone)]
struct Piece {
    tensor: String,
    first_row: usize,
    rows: Option<Range<usize>>,
    transposed: bool,
}

impl Checkpoint {
    /// Names the parameters in `index` as `config` calls for them.
    ///
    /// # Errors
    /// If two tensors claim to be the same parameter.
    pub fn new(config: Config, index: TensorIndex) -> Result<Self> {
        let names: Vec<&str> = index.names().collect();
        let layout = Layout::of(names.iter().copied());
        let mut parameters: BTreeMap<String, Vec<Piece>> = BTreeMap::new();
        for name in names {
            let shape = index.shape(name).unwrap_or_default();
            for part in names::parts(name, shape, layout, &config) {
                let pieces = parameters.entry(part.name).or_default();
                if let Some(other) = pieces.iter().find(|piece| piece.first_row == part.first_row) {
                    let detail = format!("`{}` and `{name}` are the same parameter", other.tensor);
                    return Err(Error::format("checkpoint", detail));
                }
                pieces.push(Piece {
                    tensor: name.to_owned(),
                    first_row: part.first_row,
                    rows: part.rows,
                    transposed: part.transposed,
                });
            }
        }
        for pieces in parameters.values_mut() {
            pieces.sort_by_key(|piece| piece.first_row);
        }
        Ok(Self { config, index, parameters, used: BTreeSet::new(), checked: Vec::new() })
    }

    /// The tensors as the files name them.
    #[must_use]
    pub fn index(&self) -> &TensorIndex {
        &self.index
    }

    /// The parameters for a backend. Nothing is copied but what a file stores `[in, out]` or in pieces.
    pub fn weights<'a, B: Backend>(&'a self, backend: &'a B) -> impl Weights<B> + 'a {
        Stored { checkpoint: self, backend }
    }

    /// Checks names and shapes without touching a value: `load` takes parameters as a model would.
    ///
    /// What it takes counts as used; see [`ignored`](Self::ignored).
    ///
    /// # Errors
    /// What `load` returns: the first parameter that is missing or has another shape.
    pub fn check(&mut self, load: impl FnOnce(&dyn Weights<Reference>) -> Result<()>) -> Result<()> {
        let probe = Probe {
            checkpoint: self,
            used: RefCell::default(),
            checked: RefCell::default(),
            empty: Reference.weight(RawTensor::from_f32("", &[1], &[0.0]))?,
        };
        load(&probe)?;
        let (used, checked) = (probe.used.into_inner(), probe.checked.into_inner());
        self.used.extend(used);
        let mut known: BTreeSet<String> = self.checked.iter().map(|(name, _)| name.clone()).collect();
        // A fused matrix is asked for once for each of its parts.
        self.checked.extend(checked.into_iter().filter(|(name, _)| known.insert(name.clone())));
        Ok(())
    }

    /// Tensors that no checked parameter lies in, and why they may be there.
    pub fn ignored(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.index
            .names()
            .filter(|name| !self.used.contains(*name))
            .map(|name| (name, names::known_extra(name).unwrap_or("unknown to this model")))
    }

    /// Bytes of weights that decoding one text token reads, as they are stored: the language model without
    /// the experts that are not chosen. An embedding is read only where it is the head too.
    ///
    /// Counts the parameters that [`check`](Self::check) has seen.
    #[must_use]
    pub fn decode_bytes(&self) -> u64 {
        self.decoded(|piece| self.bytes_of(piece))
    }

    /// The values in those bytes: one product each.
    #[must_use]
    pub fn decode_values(&self) -> u64 {
        self.decoded(|piece| {
            let shape = self.shape_of(piece).unwrap_or_default();
            shape.iter().product::<usize>() as f64
        })
    }

    /// Sums over all pieces of parameters the part of `size` that decoding a text token reads.
    fn decoded(&self, size: impl Fn(&Piece) -> f64) -> u64 {
        let parameters = self.parameters.iter();
        let read = parameters.map(|(name, pieces)| {
            let used = pieces.iter().filter(|piece| self.used.contains(&piece.tensor));
            used.map(&size).sum::<f64>() * names::decode_share(name, &self.config)
        });
        read.sum::<f64>().round() as u64
    }

    fn bytes_of(&self, piece: &Piece) -> f64 {
        let values = |shape: &[usize]| shape.iter().product::<usize>() as f64;
        match (self.index.get(&piece.tensor), self.shape_of(piece)) {
            (Some(raw), Ok(shape)) => raw.bytes.len() as f64 * values(&shape) / values(&raw.shape).max(1.0),
            _ => 0.0,
        }
    }

    fn pieces(&self, name: &str) -> Result<&[Piece]> {
        self.parameters.get(name).map(Vec::as_slice).ok_or_else(|| {
            let known = nearest(name, self.parameters.keys().map(String::as_str));
            let tensor = known.and_then(|known| Some(self.parameters.get(known)?.first()?.tensor.clone()));
            Error::MissingWeight { name: name.to_owned(), nearest: tensor.unwrap_or_default() }
        })
    }

    /// The pieces that form rows `rows` of `name`, each with its own rows, after checking all shapes.
    fn locate(&self, name: &str, shape: &[usize], rows: Range<usize>) -> Result<Vec<(&Piece, Range<usize>)>> {
        let pieces = self.pieces(name)?;
        let mut located = Vec::new();
        let mut next = 0;
        for piece in pieces {
            let stored = self.shape_of(piece)?;
            let n_rows = if pieces.len() == 1 { shape[0] } else { 1 };
            let mut expected = shape.to_vec();
            expected[0] = n_rows;
            if !same_layout(&stored, &expected) || piece.first_row != next {
                return Err(Error::WeightShape {
                    name: piece.tensor.clone(),
                    expected: shape.to_vec(),
                    found: if piece.transposed { stored.into_iter().rev().collect() } else { stored },
                });
            }
            let wanted = rows.start.max(next)..rows.end.min(next + n_rows);
            if !wanted.is_empty() {
                located.push((piece, wanted.start - next..wanted.end - next));
            }
            next += n_rows;
        }
        if next != shape[0] || located.is_empty() {
            return Err(Error::shape(
                "weights",
                format!("`{name}` {shape:?} has {next} rows, asked for {rows:?}"),
            ));
        }
        Ok(located)
    }

    /// Shape of a piece, `[out, in]`.
    fn shape_of(&self, piece: &Piece) -> Result<Vec<usize>> {
        let raw = self.index.require(&piece.tensor)?;
        let mut shape = raw.shape.clone();
        if piece.transposed {
            shape.reverse();
        }
        if let Some(rows) = &piece.rows {
            let found = || Error::WeightShape {
                name: piece.tensor.clone(),
                expected: [&[rows.end], &shape[1.min(shape.len())..]].concat(),
                found: raw.shape.clone(),
            };
            let (n_rows, row_shape) = match *shape {
                [n] => (n, vec![]),
                [n, ref rest @ .., cols] => (n * rest.iter().product::<usize>(), vec![cols]),
                [] => return Err(found()),
            };
            if rows.end > n_rows {
                return Err(found());
            }
            shape = [vec![rows.len()], row_shape].concat();
        }
        Ok(shape)
    }

    /// Name and shape of every parameter that was checked, in the order in which a model takes them.
    pub(crate) fn checked(&self) -> &[(String, Vec<usize>)] {
        &self.checked
    }

    /// What a GGUF file calls the tensor that holds the parameter `name`, or `None` if it has no name for it.
    #[must_use]
    pub fn gguf_name(&self, name: &str) -> Option<String> {
        let n_text_experts = self.config.text.moe.as_ref().map_or(0, |moe| moe.text.n_experts);
        names::places(name, n_text_experts)?.into_iter().next().map(|place| place.tensor)
    }

    /// Bytes of weights as they are stored, those of routed experts apart.
    ///
    /// Counts the parameters that [`check`](Self::check) has seen.
    #[must_use]
    pub fn stored_bytes(&self) -> StoredBytes {
        let mut stored = StoredBytes { experts_in_file: true, ..StoredBytes::default() };
        let mut experts: BTreeMap<(&str, usize), f64> = BTreeMap::new();
        for (name, pieces) in &self.parameters {
            let used = pieces.iter().filter(|piece| self.used.contains(&piece.tensor));
            let bytes: f64 = used.map(|piece| self.bytes_of(piece)).sum();
            let Some((layer, expert)) = names::routed_expert(name) else {
                stored.shared += bytes.round() as u64;
                continue;
            };
            *experts.entry((layer, expert)).or_default() += bytes;
            let in_file = |piece: &Piece| {
                !piece.transposed && self.index.get(&piece.tensor).is_some_and(|raw| raw.bytes.is_in_file())
            };
            stored.experts_in_file &= pieces.len() == 1 && pieces.iter().all(in_file);
        }
        stored.n_experts = experts.len();
        stored.experts = experts.values().sum::<f64>().round() as u64;
        let largest = experts.values().fold(0.0, |a: f64, &b| a.max(b)).round() as u64;
        let top_k = self.config.text.moe.as_ref().map_or(0, |moe| moe.top_k);
        stored.least_experts = 2 * top_k as u64 * (largest + BETWEEN_PARTS);
        stored.experts_in_file &= stored.n_experts > 0;
        stored
    }

    /// Rows `rows` of `name`, whose whole shape is `shape`, as a tensor: shared as they lie in the file,
    /// unless it stores them transposed or in pieces.
    ///
    /// # Errors
    /// If the parameter is absent, or has another shape.
    pub fn raw(&self, name: &str, shape: &[usize], rows: Range<usize>) -> Result<RawTensor> {
        let mut parts = Vec::new();
        for (piece, wanted) in self.locate(name, shape, rows.clone())? {
            let raw = self.index.require(&piece.tensor)?;
            let start = piece.rows.as_ref().map_or(0, |rows| rows.start);
            let wanted = start + wanted.start..start + wanted.end;
            parts.push(if piece.transposed {
                transposed(raw, wanted)?
            } else {
                take_rows(raw, shape, wanted)?
            });
        }
        let mut shape = shape.to_vec();
        shape[0] = rows.len();
        let first = parts.swap_remove(0);
        if parts.is_empty() {
            return Ok(RawTensor { shape, ..first });
        }
        // A small table that the file keeps in pieces.
        let mut values = first.to_f32()?;
        for part in parts {
            values.extend(part.to_f32()?);
        }
        Ok(RawTensor::from_f32(name, &shape, &values))
    }
}

/// Whether values lie in the same order under both shapes: dimensions of one do not matter, and the kernel
/// of a convolution over whole patches is a matrix.
fn same_layout(found: &[usize], expected: &[usize]) -> bool {
    let strip = |shape: &[usize]| shape.iter().copied().filter(|&dim| dim != 1).collect::<Vec<_>>();
    let flat = |shape: &[usize]| shape[1..].iter().product::<usize>();
    let conv =
        found.len() == 4 && expected.len() == 2 && found[0] == expected[0] && flat(found) == flat(expected);
    conv || strip(found) == strip(expected)
}

/// Rows of a tensor as they lie in the file; rows of a vector are its elements.
fn take_rows(raw: &RawTensor, shape: &[usize], rows: Range<usize>) -> Result<RawTensor> {
    let row: usize = shape[1..].iter().product();
    let n_rows = raw.shape.iter().product::<usize>() / row.max(1);
    let view = RawTensor {
        name: raw.name.clone(),
        dtype: raw.dtype,
        shape: vec![n_rows, row],
        bytes: raw.bytes.clone(),
    };
    if rows == (0..n_rows) { Ok(view) } else { view.slice_rows(rows) }
}

/// Columns `cols` of a matrix stored `[in, out]`, as rows.
fn transposed(raw: &RawTensor, cols: Range<usize>) -> Result<RawTensor> {
    let size = raw.dtype.block().bytes;
    let [n_rows, n_cols] = raw.shape[..] else {
        return Err(Error::shape("transpose", format!("`{}` {:?} is no matrix", raw.name, raw.shape)));
    };
    if raw.dtype.is_quantized() || cols.end > n_cols {
        let context = "cannot be transposed: its values share scales along rows";
        return Err(Error::DType { name: raw.name.clone(), dtype: raw.dtype, context });
    }
    let bytes = raw.bytes.as_ref();
    let mut out = vec![0; cols.len() * n_rows * size];
    for (col, out) in cols.clone().zip(out.chunks_exact_mut(n_rows * size)) {
        for (row, out) in out.chunks_exact_mut(size).enumerate() {
            out.copy_from_slice(&bytes[(row * n_cols + col) * size..][..size]);
        }
    }
    RawTensor::new(raw.name.clone(), raw.dtype, vec![cols.len(), n_rows], SharedBytes::copy(out))
}

/// Parameters as they lie in the files.
struct Stored<'a, B: Backend> {
    checkpoint: &'a Checkpoint,
    backend: &'a B,
}

impl<B: Backend> Weights<B> for Stored<'_, B> {
    fn get(&self, name: &str, shape: &[usize]) -> Result<B::Weight> {
        self.get_rows(name, shape, 0..shape[0])
    }

    fn get_rows(&self, name: &str, shape: &[usize], rows: Range<usize>) -> Result<B::Weight> {
        self.backend.weight(self.checkpoint.raw(name, shape, rows)?)
    }

    fn has(&self, name: &str) -> bool {
        self.checkpoint.parameters.contains_key(name)
    }
}

/// Checks what is asked for, answers with nothing, and remembers.
struct Probe<'a> {
    checkpoint: &'a Checkpoint,
    used: RefCell<BTreeSet<String>>,
    checked: RefCell<Vec<(String, Vec<usize>)>>,
    empty: ReferenceWeight,
}

impl Weights<Reference> for Probe<'_> {
    fn get(&self, name: &str, shape: &[usize]) -> Result<ReferenceWeight> {
        self.get_rows(name, shape, 0..shape[0])
    }

    fn get_rows(&self, name: &str, shape: &[usize], rows: Range<usize>) -> Result<ReferenceWeight> {
        let located = self.checkpoint.locate(name, shape, rows)?;
        self.used.borrow_mut().extend(located.into_iter().map(|(piece, _)| piece.tensor.clone()));
        self.checked.borrow_mut().push((name.to_owned(), shape.to_vec()));
        Ok(self.empty.clone())
    }

    fn has(&self, name: &str) -> bool {
        self.checkpoint.parameters.contains_key(name)
    }
}
