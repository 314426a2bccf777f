//! Parameters on the device: still quantised, in planes that kernels read as whole words.
//!
//! A matrix becomes a plane of codes and a plane of factors, one after the other in one buffer (see [`repack`]).
//! What is larger than one binding is split by rows. Experts of a bank are moved next to each other when they are
//! first used, so that a kernel can go from the number of an expert to its rows.

mod repack;

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use tensor::{DType, Error, RawTensor, Result};

use crate::device::{Shared, Wgpu};
use crate::pool::{Buffer, Shelf};
use crate::tensor_node::View;

pub(crate) use repack::{Layout, UNIT};

/// Bytes that are repacked and sent at a time.
const UPLOAD_BYTES: usize = 4 << 20;
/// Sent bytes after which the queue is asked to take them, so that they do not pile up on the host.
const PENDING_BYTES: usize = 64 << 20;
/// Rows of one part: what the first axis of a grid reaches.
const MAX_ROWS: usize = 1 << 17;

/// A parameter. Cloning shares it.
#[derive(Clone)]
pub struct Weight(pub(crate) Rc<Inner>);

pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// One, unless the parameter is larger than a binding.
    pub(crate) parts: RefCell<Vec<Part>>,
}

/// Rows of a parameter that lie in one buffer.
#[derive(Clone)]
pub(crate) struct Part {
    /// Which rows of the parameter.
    pub(crate) rows: Range<usize>,
    pub(crate) storage: Rc<Storage>,
    /// The row of the storage that the first of them is.
    pub(crate) first: usize,
}

/// Rows of one layout in one buffer: all codes, then all factors.
pub(crate) struct Storage {
    pub(crate) buffer: Rc<Buffer>,
    pub(crate) layout: Layout,
    pub(crate) rows: usize,
}

impl Part {
    /// Where the codes of its first row begin, in words.
    pub(crate) fn codes(&self) -> u32 {
        (self.first * self.storage.layout.code_words) as u32
    }

    /// Where the factors of its first row begin, in words.
    pub(crate) fn factors(&self) -> u32 {
        let layout = &self.storage.layout;
        (self.storage.rows * layout.code_words + self.first * layout.factor_words) as u32
    }

    pub(crate) fn view(&self) -> View {
        View::from(&self.storage.buffer)
    }

    /// Bytes that a kernel reads of `rows` rows.
    pub(crate) fn bytes(&self, rows: usize) -> u64 {
        (rows * self.storage.layout.row_words() * 4) as u64
    }
}

impl Weight {
    /// The only part, if there is but one.
    pub(crate) fn whole(&self) -> Option<Part> {
        match &self.0.parts.borrow()[..] {
            [part] => Some(part.clone()),
            _ => None,
        }
    }

    /// The values as a vector of `len` `f32`s: a gain, a bias.
    pub(crate) fn vector(&self, op: &'static str, len: usize) -> Result<View> {
        let Inner { rows, cols, dtype, .. } = &*self.0;
        match self.whole() {
            Some(part) if rows * cols == len && *rows <= 1 && *dtype == DType::F32 => Ok(part.view()),
            _ => Err(Error::shape(op, format!("a weight [{rows}, {cols}] for rows of {len}"))),
        }
    }
}

impl Wgpu {
    /// Takes over a stored parameter: matrices as they are, vectors as `f32`.
    pub(crate) fn new_weight(&self, raw: RawTensor) -> Result<Weight> {
        let (rows, cols) = (raw.rows(), raw.cols());
        if raw.dtype.n_bytes(&raw.shape) != Some(raw.bytes.len()) {
            return Err(Error::DType {
                name: raw.name,
                dtype: raw.dtype,
                context: "does not fill the rows its shape names",
            });
        }
        let raw = match rows <= 1 && raw.dtype != DType::F32 {
            true => RawTensor::from_f32(raw.name.clone(), &raw.shape, &raw.to_f32()?),
            false => raw,
        };
        let layout = Layout::new(raw.dtype, cols);
        let limit = self.shared.largest_binding as usize / 4;
        let rows_a_part = (limit / layout.row_words().max(1)).min(MAX_ROWS);
        if rows_a_part == 0 {
            return Err(Error::Limit {
                what: format!("one row of tensor `{}`, in bytes", raw.name),
                found: layout.row_words() as u64 * 4,
                limit: self.shared.largest_binding,
            });
        }
        let mut parts = Vec::new();
        let mut first = 0;
        while first < rows.max(1) {
            let range = first..rows.min(first + rows_a_part);
            let storage = self.shared.upload(&raw, layout, range.clone())?;
            parts.push(Part { rows: range, storage: Rc::new(storage), first: 0 });
            first += rows_a_part;
        }
        let inner = Inner { name: raw.name, dtype: raw.dtype, rows, cols, parts: RefCell::new(parts) };
        Ok(Weight(Rc::new(inner)))
    }
}

impl Shared {
    /// Repacks `rows` of a parameter into a buffer of their own.
    fn upload(&self, raw: &RawTensor, layout: Layout, rows: Range<usize>) -> Result<Storage> {
        let out_of_memory = |error: Error| match error {
            Error::Device { message, .. } => {
                Error::Device { op: "weight", message: format!("tensor `{}`: {message}", raw.name) }
            }
            error => error,
        };
        let n_words = rows.len() * layout.row_words();
        let buffer = self.buffer("weight", Shelf::None, n_words as u64 * 4).map_err(out_of_memory)?;
        let row_bytes = raw.dtype.n_bytes(&[raw.cols()]).unwrap_or(0);
        let bytes = raw.bytes.as_ref();
        let step = (UPLOAD_BYTES / row_bytes.max(1)).max(1);
        let mut pending = 0;
        for start in (0..rows.len()).step_by(step) {
            let chunk = start..rows.len().min(start + step);
            let stored = &bytes[(rows.start + chunk.start) * row_bytes..(rows.start + chunk.end) * row_bytes];
            let (codes, factors) = layout.repack(stored, chunk.len());
            let factors_at = rows.len() * layout.code_words + chunk.start * layout.factor_words;
            for (at, words) in [(chunk.start * layout.code_words, codes), (factors_at, factors)] {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                if !bytes.is_empty() {
                    self.queue.write_buffer(&buffer.raw, at as u64 * 4, &bytes);
                }
                pending += bytes.len();
            }
            if pending > PENDING_BYTES {
                self.queue.submit([]);
                pending = 0;
            }
        }
        self.fault.check("weight").map_err(out_of_memory)?;
        Ok(Storage { buffer, layout, rows: rows.len() })
    }
}

/// Experts whose rows follow each other in one storage.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) experts: Range<usize>,
    pub(crate) part: Part,
}

impl Shared {
    /// The experts of one projection in as few runs as bindings allow. The first call moves them together.
    pub(crate) fn runs(&self, op: &'static str, experts: &[Weight]) -> Result<Vec<Run>> {
        let mut runs: Vec<Run> = Vec::new();
        let mut parts = Vec::with_capacity(experts.len());
        for expert in experts {
            parts.push(expert.whole().ok_or_else(|| Error::Limit {
                what: format!("tensor `{}` as an expert, in bytes", expert.0.name),
                found: (expert.0.rows * Layout::new(expert.0.dtype, expert.0.cols).row_words() * 4) as u64,
                limit: self.largest_binding,
            })?);
        }
        for (e, part) in parts.iter().enumerate() {
            match runs.last_mut() {
                Some(run)
                    if Rc::ptr_eq(&run.part.storage, &part.storage)
                        && part.first == run.part.first + run.experts.len() * part.rows.len() =>
                {
                    run.experts.end += 1;
                }
                _ => runs.push(Run { experts: e..e + 1, part: part.clone() }),
            }
        }
        let alone = |run: &Run| run.part.storage.rows == run.part.rows.len();
        if runs.len() > 1 && runs.iter().all(alone) {
            self.move_together(op, experts, &parts)?;
            let moved =
                |expert: &Weight| expert.whole().is_some_and(|part| part.storage.rows > part.rows.len());
            if experts.iter().any(moved) {
                return self.runs(op, experts);
            }
        }
        Ok(runs)
    }

    /// Copies neighbours of one layout into common storages.
    fn move_together(&self, op: &'static str, experts: &[Weight], parts: &[Part]) -> Result<()> {
        let mut start = 0;
        while start < parts.len() {
            let (layout, n_rows) = (parts[start].storage.layout, parts[start].rows.len());
            let most = (self.largest_binding as usize / 4 / (n_rows * layout.row_words()).max(1)).max(1);
            let alike = |part: &&Part| part.storage.layout == layout && part.rows.len() == n_rows;
            let n = parts[start..].iter().take(most).take_while(alike).count();
            if n > 1 {
                let run = start..start + n;
                let storage = Rc::new(self.joined(op, &parts[run.clone()])?);
                for (i, expert) in experts[run].iter().enumerate() {
                    let part = Part { rows: 0..n_rows, storage: Rc::clone(&storage), first: i * n_rows };
                    *expert.0.parts.borrow_mut() = vec![part];
                }
            }
            start += n;
        }
        Ok(())
    }

    /// One storage with the rows of `parts`, which are of one layout and size.
    fn joined(&self, op: &'static str, parts: &[Part]) -> Result<Storage> {
        let (layout, n_rows) = (parts[0].storage.layout, parts[0].rows.len());
        let rows = n_rows * parts.len();
        let buffer = self.buffer(op, Shelf::None, (rows * layout.row_words()) as u64 * 4)?;
        let bytes = |words: usize| words as u64 * 4;
        for (i, part) in parts.iter().enumerate() {
            let from = &part.storage.buffer;
            let (codes, factors) = (n_rows * layout.code_words, n_rows * layout.factor_words);
            self.copy((from, bytes(part.codes() as usize)), (&buffer.raw, bytes(i * codes)), bytes(codes));
            let to = bytes(rows * layout.code_words + i * factors);
            self.copy((from, bytes(part.factors() as usize)), (&buffer.raw, to), bytes(factors));
        }
        Ok(Storage { buffer, layout, rows })
    }
}
