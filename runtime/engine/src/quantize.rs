//! A model as one GGUF file of smaller types: what goes where, and the bytes of it.
//!
//! A [`Quantization`] decides everything and writes nothing: whoever drives it asks for the header and then
//! for the rows of one tensor after another, in pieces that are encoded apart from each other.

mod importance;
mod metadata;
mod preset;
mod vocabulary;

use std::ops::Range;

use model::{Checkpoint, GgufSource, ParameterRows};
use tensor::weights::{GgufEntry, GgufLayout};
use tensor::{DType, RawTensor};

pub use importance::Importance;
pub use preset::Preset;

use crate::{ModelFiles, Result};

/// Values that are encoded at once: memory stays bounded, and there is work for every thread.
const CHUNK_VALUES: usize = 1 << 18;

/// A model, and how it will be stored.
#[derive(Debug)]
pub struct Quantization {
    checkpoint: Checkpoint,
    layout: GgufLayout,
    tensors: Vec<PlannedTensor>,
    notes: Vec<String>,
    importance: Importance,
}

/// A tensor of the file to be made.
#[derive(Debug, Clone)]
pub struct PlannedTensor {
    source: GgufSource,
    /// How the model stores it now.
    pub stored: DType,
    /// What the preset asks for.
    pub wanted: DType,
    /// The nearest to it whose blocks fill the rows; or the stored type, if that is no larger already.
    pub dtype: DType,
}

/// Some rows of one parameter, that are encoded at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    part: usize,
    rows: Range<usize>,
}

/// Sums over values: of the squares, and of the squares of what was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Loss {
    error: f64,
    total: f64,
}

impl Quantization {
    /// Decides how every tensor of a model is stored, and what its file says beside them.
    ///
    /// A head that predicts further tokens is left out, and [`notes`](Self::notes) say so: other programs refuse
    /// files that hold what they do not know.
    ///
    /// # Errors
    /// If the model cannot be loaded, or its file could not express it.
    pub fn plan(files: &ModelFiles, preset: &Preset) -> Result<Self> {
        Self::plan_of(files, preset, false)
    }

    /// [`plan`](Self::plan) with the head that predicts further tokens, if the model has one.
    ///
    /// # Errors
    /// As there.
    pub fn plan_with_mtp(files: &ModelFiles, preset: &Preset) -> Result<Self> {
        Self::plan_of(files, preset, true)
    }

    fn plan_of(files: &ModelFiles, preset: &Preset, with_mtp: bool) -> Result<Self> {
        let checkpoint = files.checkpoint()?;
        let mut layout = GgufLayout::default();
        metadata::put(files, &checkpoint.config, preset, &mut layout)?;
        let mut notes = vocabulary::put(files, &checkpoint.config, &mut layout)?;
        let n_layers = checkpoint.config.text.n_layers;
        let mut tensors = Vec::new();
        let (mtp, sources): (Vec<_>, Vec<_>) =
            checkpoint.gguf_tensors()?.into_iter().partition(|source| source.name.starts_with("mtp."));
        if !mtp.is_empty() && !with_mtp {
            notes.push(format!(
                "the head that predicts further tokens ({} tensors) is left out; --mtp keeps it, but llama.cpp \
                 refuses such files",
                mtp.len()
            ));
        }
        for source in sources.into_iter().chain(mtp.into_iter().filter(|_| with_mtp)) {
            let stored = checkpoint.part_rows(&source.parts[0], 0..1)?.dtype;
            let wanted = preset.dtype_of(&source.name, &source.shape, n_layers);
            let fitting = preset::fitting(wanted, &source.shape);
            let dtype = preset::nearest(stored, fitting);
            layout.push(&source.name, dtype, &source.shape)?;
            tensors.push(PlannedTensor { source, stored, wanted, dtype });
        }
        Ok(Self { checkpoint, layout, tensors, notes, importance: Importance::default() })
    }

    /// The same plan, with errors counted by how much they matter to the text called `sample`.
    ///
    /// # Errors
    /// If the file says already what it was measured on.
    pub fn with_importance(mut self, importance: Importance, sample: &str) -> Result<Self> {
        self.layout.put("quantize.imatrix.dataset", GgufEntry::Str(sample))?;
        self.layout.put("quantize.imatrix.entries_count", GgufEntry::U32(importance.len() as u32))?;
        self.importance = importance;
        Ok(self)
    }

    /// The file's header, and where its tensors lie.
    #[must_use]
    pub fn layout(&self) -> &GgufLayout {
        &self.layout
    }

    /// The tensors, in the order of the file.
    #[must_use]
    pub fn tensors(&self) -> &[PlannedTensor] {
        &self.tensors
    }

    /// What the file will not hold, or not for every program, in words.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The pieces of tensor `i`, whose bytes follow one another in the file.
    ///
    /// # Panics
    /// If there are not so many tensors.
    #[must_use]
    pub fn chunks(&self, i: usize) -> Vec<Chunk> {
        let source = &self.tensors[i].source;
        let step = (CHUNK_VALUES / source.cols()).max(1);
        let mut chunks = Vec::new();
        for (part, rows) in source.parts.iter().enumerate() {
            let starts = (0..rows.n_rows()).step_by(step);
            chunks.extend(starts.map(|start| Chunk { part, rows: start..(start + step).min(rows.n_rows()) }));
        }
        chunks
    }

    /// How many bytes a piece of tensor `i` will have.
    ///
    /// # Panics
    /// If there are not so many tensors.
    #[must_use]
    pub fn chunk_bytes(&self, i: usize, chunk: &Chunk) -> usize {
        let PlannedTensor { source, dtype, .. } = &self.tensors[i];
        dtype.n_bytes(&[chunk.rows.len() * source.cols()]).unwrap_or(0)
    }

    /// The bytes of a piece of tensor `i`.
    ///
    /// # Errors
    /// If it cannot be read, or holds a value that is no finite number.
    ///
    /// # Panics
    /// If there are not so many tensors.
    pub fn encode(&self, i: usize, chunk: &Chunk) -> Result<Vec<u8>> {
        let raw = self.raw(i, chunk)?;
        let dtype = self.tensors[i].dtype;
        if raw.dtype == dtype && dtype.is_quantized() {
            return Ok(raw.bytes.as_ref().to_vec()); // as near as it gets
        }
        let values = raw.to_f32()?;
        let mut bytes = vec![0; dtype.n_bytes(&[values.len()]).unwrap_or(0)];
        let columns = self.importance.columns(self.part(i, chunk).name());
        let importance =
            columns.filter(|_| dtype.is_quantized()).map(|columns| columns.repeat(chunk.rows.len()));
        dtype
            .quantize(&values, &mut bytes, importance.as_deref())
            .map_err(|context| tensor::Error::DType { name: raw.name, dtype: raw.dtype, context })?;
        Ok(bytes)
    }

    /// What a piece of tensor `i` lost, now that its bytes read `bytes`.
    ///
    /// # Errors
    /// If it cannot be read, or `bytes` are not as many as it has.
    ///
    /// # Panics
    /// If there are not so many tensors.
    pub fn loss(&self, i: usize, chunk: &Chunk, bytes: &[u8]) -> Result<Loss> {
        let raw = self.raw(i, chunk)?;
        let values = raw.to_f32()?;
        let mut found = vec![0.0; values.len()];
        let dtype = self.tensors[i].dtype;
        dtype.dequantize(bytes, &mut found).map_err(|context| tensor::Error::DType {
            name: raw.name,
            dtype,
            context,
        })?;
        let mut loss = Loss::default();
        for (&value, &found) in values.iter().zip(&found) {
            let (value, found) = (f64::from(value), f64::from(found));
            loss.error += (value - found) * (value - found);
            loss.total += value * value;
        }
        Ok(loss)
    }

    fn raw(&self, i: usize, chunk: &Chunk) -> Result<RawTensor> {
        Ok(self.checkpoint.part_rows(self.part(i, chunk), chunk.rows.clone())?)
    }

    fn part(&self, i: usize, chunk: &Chunk) -> &ParameterRows {
        &self.tensors[i].source.parts[chunk.part]
    }
}

impl PlannedTensor {
    /// Name in the GGUF file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.source.name
    }

    /// Rows first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.source.shape
    }

    /// Whether the blocks are taken as the model has them, since they are no larger than those wanted.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.wanted != self.dtype && self.stored == self.dtype
    }

    /// Whether the blocks of the wanted type do not fill the rows.
    #[must_use]
    pub fn falls_back(&self) -> bool {
        self.wanted != self.dtype && !self.is_kept()
    }
}

impl Loss {
    /// Takes the sums of other values too.
    pub fn add(&mut self, other: Self) {
        self.error += other.error;
        self.total += other.total;
    }

    /// Root of the squared error over the squared values; infinite if zeros did not stay zeros.
    #[must_use]
    pub fn relative_rms(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { (self.error / self.total).sqrt() }
    }
}
