//! Models of any shape with random weights: as large as real ones, and written faster than those download.
//!
//! What they say is noise, but they compute what real ones compute, in the same time and memory. The same shape,
//! types, routing and seed give the same file.

mod blocks;
mod routing;
mod shapes;
mod vocabulary;

use std::cell::RefCell;
use std::io::{self, Write};
use std::ops::Range;

use model::config::Config;
use model::{Decoder, GgufSource, gguf_tensors};
use rayon::prelude::*;
use tensor::weights::{GgufEntry, GgufLayout};
use tensor::{Backend, DType, RawTensor, Reference, ReferenceWeight, Result as TensorResult, Weights};
use vision::{Resampler, Tower};

use crate::quantize::Preset;
use crate::{Error, Result, tower_config};
use blocks::Random;
pub use routing::Routing;
pub use shapes::SHAPES;

/// Values that are made at once.
const CHUNK_VALUES: usize = 1 << 20;
/// Chunks that are made before their bytes are written: memory stays bounded.
const CHUNKS_AT_ONCE: usize = 64;
/// Of the published initialisation.
const STD: f32 = 0.02;

/// A GGUF file to be written.
#[derive(Debug)]
pub struct RandomModel {
    layout: GgufLayout,
    tensors: Vec<GgufSource>,
    seed: u64,
    /// Correction biases of a bank, before each layer puts them into an order of its own.
    correction: Vec<f32>,
}

impl RandomModel {
    /// A model of one of the published [`SHAPES`], or of that in the text of a `config.json`.
    ///
    /// # Errors
    /// If the shape is unknown, or a GGUF file cannot express it.
    pub fn new(shape: &str, preset: &Preset, routing: Routing, seed: u64) -> Result<Self> {
        let json = match SHAPES.iter().find(|(name, _)| *name == shape) {
            Some((_, json)) => json,
            None if shape.trim_start().starts_with('{') => shape,
            None => {
                let names: Vec<&str> = SHAPES.iter().map(|(name, _)| *name).collect();
                return Err(Error::Options(format!("there is no shape `{shape}`, but {}", names.join(", "))));
            }
        };
        let config = Config::from_json(json)?;
        let tensors = gguf_tensors(&parameters(&config)?, &config)?;
        let mut layout = GgufLayout::default();
        layout.put("general.architecture", GgufEntry::Str(config.gguf_architecture()))?;
        layout.put("general.name", GgufEntry::Str("random weights"))?;
        preset.put(&mut layout)?;
        config.put_gguf(config.gguf_architecture(), &mut layout)?;
        vocabulary::put(&config, &mut layout)?;
        for source in &tensors {
            let dtype = preset.stored_as(&source.name, &source.shape, config.text.n_layers, DType::F32);
            layout.push(&source.name, dtype, &source.shape)?;
        }
        let correction = match &config.text.moe {
            Some(moe) => routing.correction(moe.text.n_experts, moe.top_k),
            None => Vec::new(),
        };
        Ok(Self { layout, tensors, seed, correction })
    }

    /// Bytes of the whole file.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.layout.file_len()
    }

    /// Writes the file from front to back. `progress` hears how many of its bytes are written.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&self, out: &mut impl Write, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
        let header = self.layout.header();
        out.write_all(&header)?;
        let mut at = header.len() as u64;
        for i in 0..self.tensors.len() {
            let range = self.layout.range(i);
            out.write_all(&vec![0; (range.start - at) as usize])?;
            let rows = self.layout.tensors()[i].n_rows();
            let cols = self.layout.tensors()[i].shape.last().copied().unwrap_or(1);
            let step = (CHUNK_VALUES / cols).max(1);
            let starts: Vec<usize> = (0..rows).step_by(step).collect();
            for starts in starts.chunks(CHUNKS_AT_ONCE) {
                let made: Vec<Vec<u8>> =
                    starts.par_iter().map(|&start| self.rows(i, start..(start + step).min(rows))).collect();
                for bytes in made {
                    out.write_all(&bytes)?;
                }
            }
            at = range.end;
            progress(at);
        }
        out.write_all(&vec![0; (self.layout.file_len() - at) as usize])
    }

    /// The bytes of some rows of tensor `i`.
    fn rows(&self, i: usize, rows: Range<usize>) -> Vec<u8> {
        let tensor = &self.layout.tensors()[i];
        let cols = tensor.shape.last().copied().unwrap_or(1);
        let mut random = Random::new(self.seed, i as u64, rows.start as u64);
        let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
        if tensor.name.contains("exp_probs_b") {
            let mut values = self.correction.clone();
            random.shuffle(&mut values);
            return floats(&values);
        }
        let is_vector = tensor.shape.iter().filter(|&&dim| dim > 1).count() < 2;
        if is_vector {
            let value = if tensor.name.ends_with(".bias") { 0.0 } else { 1.0 };
            return floats(&vec![value; rows.len() * cols]);
        }
        // Wide rows must not blow activations up.
        let std = STD.min((cols as f32).powf(-0.5));
        random.blocks(tensor.dtype, rows.len() * cols, std)
    }
}

/// Names and shapes of all parameters, in the order in which a model takes them.
fn parameters(config: &Config) -> Result<Vec<(String, Vec<usize>)>> {
    let list = List {
        has_correction: config.text.moe.as_ref().is_some_and(|moe| moe.use_correction_bias),
        taken: RefCell::default(),
        empty: Reference.weight(RawTensor::from_f32("", &[1], &[0.0]))?,
    };
    Decoder::load(&list, &config.text)?;
    if let Some(vision) = &config.vision {
        let tower = tower_config(&config.text, vision);
        Tower::load(&list, &tower)?;
        Resampler::load(&list, &tower)?;
    }
    let mut taken = list.taken.into_inner();
    let mut seen = std::collections::BTreeSet::new();
    taken.retain(|(name, _)| seen.insert(name.clone())); // parts of a fused matrix are asked for apart
    Ok(taken)
}

/// Writes down what is asked for.
struct List {
    has_correction: bool,
    taken: RefCell<Vec<(String, Vec<usize>)>>,
    empty: ReferenceWeight,
}

impl Weights<Reference> for List {
    fn get(&self, name: &str, shape: &[usize]) -> TensorResult<ReferenceWeight> {
        self.get_rows(name, shape, 0..shape[0])
    }

    fn get_rows(&self, name: &str, shape: &[usize], _: Range<usize>) -> TensorResult<ReferenceWeight> {
        self.taken.borrow_mut().push((name.to_owned(), shape.to_vec()));
        Ok(self.empty.clone())
    }

    fn has(&self, name: &str) -> bool {
        self.has_correction && name.ends_with("e_score_correction_bias")
    }
}

#[cfg(test)]
mod tests {
    use tensor::SharedBytes;

    use super::*;
    use crate::ModelFiles;

    /// A tiny one, with a vocabulary that has room for all bytes.
    fn tiny() -> String {
        let json = include_str!("../../../tests/recorded/vl_image/config.json");
        json.replace("\"vocab_size\": 200", "\"vocab_size\": 400")
    }

    fn written(preset: &str, routing: Routing, seed: u64) -> Vec<u8> {
        let preset = Preset::named(preset).unwrap();
        let mut bytes = Vec::new();
        let random = RandomModel::new(&tiny(), &preset, routing, seed).unwrap();
        random.write(&mut bytes, &mut |_| {}).unwrap();
        assert_eq!(bytes.len() as u64, random.file_len());
        bytes
    }

    #[test]
    fn the_same_seed_gives_the_same_model() {
        let file = written("q4_0", Routing::Even, 1);
        assert_eq!(file, written("q4_0", Routing::Even, 1));
        assert_ne!(file, written("q4_0", Routing::Even, 2));
        let files = ModelFiles::from_bytes("random", vec![("m.gguf".to_owned(), SharedBytes::new(file))]);
        let expected = Config::from_json(&tiny()).unwrap();
        let found = files.checkpoint().unwrap().config;
        assert_eq!((found.text, found.vision), (expected.text, expected.vision));
        assert_eq!(files.tokenizer().unwrap().vocab_size(), 400);
    }

    #[test]
    fn published_shapes_have_their_published_sizes() {
        for (shape, bits) in [("0.3b", 4.5..5.3), ("21b-a3b", 4.5..4.6), ("vl-28b-a3b", 4.5..4.7)] {
            let preset = Preset::named("q4_0").unwrap();
            let random = RandomModel::new(shape, &preset, Routing::Even, 1).unwrap();
            let config =
                Config::from_json(SHAPES.iter().find(|(name, _)| *name == shape).unwrap().1).unwrap();
            assert!(config.published_name().is_some(), "{shape}");
            let found = 8.0 * random.file_len() as f64 / config.n_parameters() as f64;
            assert!(bits.contains(&found), "{shape}: {found} bits");
        }
        assert!(RandomModel::new("9b", &Preset::ALL[0], Routing::Even, 1).is_err());
    }
}
