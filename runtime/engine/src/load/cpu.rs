//! What only the processor can do with weights: leave experts on disk, and make smaller copies.

use std::ops::Range;

use candle_backend::Candle;
use model::Checkpoint;
use rayon::prelude::*;
use tensor::{Backend, RawTensor, SharedBytes, Weights};

use super::{LoadOptions, load_any_on};
use crate::loaded::IntoSequences;
use crate::quantize::Preset;
use crate::{Error, Loaded, ModelFiles, Result};

/// Values that are encoded at once, so that what is made beside the result stays small.
const CHUNK_VALUES: usize = 1 << 18;

/// Bytes of weights that are packed unless somebody says otherwise: all of a small model, and of a large one what
/// each token needs first.
const PACKED_BYTES: u64 = 1 << 30;

/// The processor with the memory that `options` give it.
pub(super) fn backend(options: &LoadOptions) -> Result<Candle> {
    Ok(Candle::cpu_in_integers()?
        .with_kv_type(options.kv_type.unwrap_or(LoadOptions::KV_TYPE))
        .with_packed_weights(options.packed_memory.unwrap_or(PACKED_BYTES)))
}

pub(super) fn load(
    backend: Candle,
    files: &ModelFiles,
    options: &LoadOptions,
) -> Result<Box<dyn IntoSequences>> {
    match (options.quantize, options.expert_memory) {
        (None, None) => load_any_on(backend, files),
        (None, Some(bytes)) => load_any_on(bounded(backend, files, bytes)?, files),
        (Some(preset), None) => quantized(backend, files, preset),
        (Some(_), Some(_)) => Err(Error::Options(
            "weights that are quantised while loading are all in memory; `ocelli quantize` writes a file \
             whose experts can be read when they are needed"
                .to_owned(),
        )),
    }
}

/// The backend with a budget for the experts of a model, unless there is nothing that it could do for them.
fn bounded(backend: Candle, files: &ModelFiles, bytes: u64) -> Result<Candle> {
    let checkpoint = files.checkpoint()?;
    let stored = checkpoint.stored_bytes();
    if stored.experts == 0 || bytes >= stored.experts && !stored.experts_in_file {
        return Ok(backend);
    }
    let cannot = |detail: String| Err(Error::Model { name: files.name().to_owned(), detail });
    if !stored.experts_in_file {
        return cannot(
            "its experts are not used as they lie in its files, so all of them must be in memory; \
             `ocelli quantize --type bf16` writes a file where they are"
                .to_owned(),
        );
    }
    if bytes < stored.least_experts {
        let least = stored.least_experts;
        return cannot(format!("its experts need at least {least} bytes of memory, and were given {bytes}"));
    }
    Ok(backend.with_expert_memory(bytes)?)
}

/// A model whose weights are encoded as `preset` says, one parameter after another.
fn quantized(backend: Candle, files: &ModelFiles, preset: Preset) -> Result<Box<dyn IntoSequences>> {
    let checkpoint = files.checkpoint()?;
    let stored = checkpoint.weights(&backend);
    let weights = Quantizing { checkpoint: &checkpoint, stored: &stored, backend: &backend, preset };
    Ok(Box::new(Loaded::load(backend.clone(), &weights, checkpoint.config.clone())?))
}

struct Quantizing<'a> {
    checkpoint: &'a Checkpoint,
    stored: &'a dyn Weights<Candle>,
    backend: &'a Candle,
    preset: Preset,
}

impl Quantizing<'_> {
    /// The same values in fewer bytes, if the preset wants that for the parameter `name`.
    fn encode(&self, name: &str, raw: RawTensor) -> tensor::Result<RawTensor> {
        let Some(gguf_name) = self.checkpoint.gguf_name(name) else { return Ok(raw) };
        let n_layers = self.checkpoint.config.text.n_layers;
        let dtype = self.preset.stored_as(&gguf_name, &raw.shape, n_layers, raw.dtype);
        let [old, new] = [raw.dtype, dtype].map(|dtype| dtype.n_bytes(&raw.shape));
        if new >= old {
            return Ok(raw);
        }
        let (rows, cols) = (raw.rows(), raw.cols());
        let error = |context| tensor::Error::DType { name: raw.name.clone(), dtype: raw.dtype, context };
        let row_bytes = dtype.n_bytes(&[cols]).ok_or_else(|| error("does not fill whole blocks"))?;
        let mut bytes = vec![0; rows * row_bytes];
        let step = (CHUNK_VALUES / cols.max(1)).max(1);
        bytes.par_chunks_mut(step * row_bytes).enumerate().try_for_each(|(i, bytes)| {
            let start = i * step;
            let values = raw.slice_rows(start..start + bytes.len() / row_bytes)?.to_f32()?;
            dtype.quantize(&values, bytes, None).map_err(error)
        })?;
        RawTensor::new(raw.name.clone(), dtype, raw.shape.clone(), SharedBytes::copy(bytes))
    }
}

impl Weights<Candle> for Quantizing<'_> {
    fn get(&self, name: &str, shape: &[usize]) -> tensor::Result<candle_backend::Weight> {
        self.get_rows(name, shape, 0..shape[0])
    }

    fn get_rows(
        &self,
        name: &str,
        shape: &[usize],
        rows: Range<usize>,
    ) -> tensor::Result<candle_backend::Weight> {
        self.backend.weight(self.encode(name, self.checkpoint.raw(name, shape, rows)?)?)
    }

    fn has(&self, name: &str) -> bool {
        self.stored.has(name)
    }
}
