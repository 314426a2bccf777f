//! The parameters of a model in training: an initialiser behind the `Weights` trait.
//!
//! Loading a model asks for every parameter by name and shape; whoever answers with variables has the
//! list of what to train. Names and shapes are those of the files, so saving needs no table.

use std::cell::RefCell;
use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use candle_backend::optim::Param;
use candle_backend::{Candle, Weight};
use candle_core::{Device, Tensor, Var};
use tensor::{Error, Weights};

use crate::data::Random;
use crate::recipe::Training;

/// Matrices whose shorter side is longer than this are updated by AdamW.
const MAX_ORTHOGONAL_SIDE: usize = 256;

/// What a parameter is, which decides how it starts and how it is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A linear map.
    Matrix,
    /// A linear map whose result is added to the residual stream.
    BranchOutput,
    /// The token embedding, which is also the head.
    Embedding,
    /// Scores experts.
    Router,
    /// Gain of a norm.
    Gain,
    /// Bias of a linear map or a norm.
    Bias,
    /// Gate of gradient-preserving activation scaling.
    GpasGate,
    /// Correction bias of a router: moved by load, not by gradient.
    CorrectionBias,
}

impl Kind {
    pub(crate) fn of(name: &str) -> Self {
        match name {
            _ if name.ends_with("gpas_gate") => Self::GpasGate,
            _ if name.ends_with("e_score_correction_bias") => Self::CorrectionBias,
            _ if name.ends_with("embed_tokens.weight") => Self::Embedding,
            _ if name.ends_with("mlp.gate.weight") || name.ends_with("mlp.gate.weight_1") => Self::Router,
            _ if name.ends_with(".bias") => Self::Bias,
            _ if is_gain(name) => Self::Gain,
            _ if ["o_proj", "down_proj", "attn.proj", "fc2"].iter().any(|part| name.contains(part)) => {
                Self::BranchOutput
            }
            _ => Self::Matrix,
        }
    }
}

/// Norms end in `norm…`, in `ln`, or are the third part of a resampler's merge.
fn is_gain(name: &str) -> bool {
    let module = name.strip_suffix(".weight").and_then(|path| path.rsplit('.').next()).unwrap_or("");
    module.contains("norm") || module == "ln" || name.ends_with("_linear.3.weight")
}

/// One variable: a whole tensor of the file, or those of its rows that one part of the model asked for.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Name in the file.
    pub name: String,
    /// Shape in the file.
    pub shape: Vec<usize>,
    /// Rows of it that the variable holds.
    pub rows: Range<usize>,
    /// What it is.
    pub kind: Kind,
    /// The values.
    pub var: Var,
}

/// All parameters, in the order in which the model asked for them.
#[derive(Debug)]
pub struct Parameters {
    list: RefCell<Vec<Parameter>>,
    seed: u64,
    /// Branches that are added to one stream; their outputs start smaller for it.
    n_branches: usize,
}

impl Parameters {
    /// An initialiser for a model whose streams collect up to `n_branches` branch outputs.
    #[must_use]
    pub fn new(seed: u64, n_branches: usize) -> Self {
        Self { list: RefCell::default(), seed, n_branches }
    }

    /// Every parameter the model asked for.
    #[must_use]
    pub fn list(&self) -> Vec<Parameter> {
        self.list.borrow().clone()
    }

    /// What the optimiser trains, in order: everything but correction biases.
    #[must_use]
    pub fn trained(&self, training: &Training) -> Vec<Param> {
        let param = |p: &Parameter| {
            let decays = matches!(p.kind, Kind::Matrix | Kind::BranchOutput);
            let weight_decay = if decays { training.weight_decay } else { 0.0 };
            // On wide matrices finding the orthogonal update costs more than it saves.
            let orthogonal = decays && p.shape.iter().min().is_some_and(|side| *side <= MAX_ORTHOGONAL_SIDE);
            Param { var: p.var.clone(), lr_scale: 1.0, weight_decay, orthogonal }
        };
        self.list.borrow().iter().filter(|p| p.kind != Kind::CorrectionBias).map(param).collect()
    }

    /// Number of values.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list.borrow().iter().map(|p| p.var.elem_count()).sum()
    }

    /// Replaces all values, given in the order of [`list`](Self::list).
    ///
    /// # Errors
    /// If the values are of another model.
    pub fn set(&self, values: &[Vec<f32>]) -> Result<()> {
        let list = self.list.borrow();
        ensure!(values.len() == list.len(), "{} arrays for {} parameters", values.len(), list.len());
        for (parameter, values) in list.iter().zip(values) {
            let tensor = Tensor::from_slice(values, parameter.var.shape(), &Device::Cpu)
                .with_context(|| format!("parameter `{}`", parameter.name))?;
            parameter.var.set(&tensor)?;
        }
        Ok(())
    }

    /// All values, in the order of [`list`](Self::list).
    ///
    /// # Errors
    /// Those of candle.
    pub fn values(&self) -> Result<Vec<Vec<f32>>> {
        self.list.borrow().iter().map(|p| Ok(p.var.flatten_all()?.to_vec1()?)).collect()
    }

    fn start(&self, name: &str, kind: Kind, shape: &[usize], first_row: usize) -> Vec<f32> {
        let n = shape.iter().product();
        let mut random = Random::new(&[self.seed, hash(name), first_row as u64]);
        let mut normal = |std: f32| (0..n).map(|_| random.normal() * std).collect();
        let fan_in = shape[shape.len() - 1] as f32;
        match kind {
            Kind::Matrix => normal(0.8 * fan_in.powf(-0.5)),
            Kind::BranchOutput => normal(0.8 * fan_in.powf(-0.5) * (self.n_branches as f32).powf(-0.5)),
            // The head reads unit-variance rows through this; a larger start would be a confident wrong one.
            Kind::Embedding => normal(0.1),
            Kind::Router => normal(0.02),
            // Picture rows enter the stream about as large as word rows.
            Kind::Gain if name.ends_with("after_norm.weight") => vec![0.3; n],
            Kind::Gain => vec![1.0; n],
            Kind::Bias | Kind::GpasGate | Kind::CorrectionBias => vec![0.0; n],
        }
    }
}

impl Weights<Candle> for Parameters {
    fn get(&self, name: &str, shape: &[usize]) -> tensor::Result<Weight> {
        self.get_rows(name, shape, 0..shape[0])
    }

    fn get_rows(&self, name: &str, shape: &[usize], rows: Range<usize>) -> tensor::Result<Weight> {
        let kind = Kind::of(name);
        let mut part = shape.to_vec();
        part[0] = rows.len();
        let values = self.start(name, kind, &part, rows.start);
        let var = Var::from_vec(values, part, &Device::Cpu)
            .map_err(|e| Error::Device { op: "parameter", message: e.to_string() })?;
        let weight = Weight::from_tensor(var.as_tensor().clone());
        let parameter = Parameter { name: name.to_owned(), shape: shape.to_vec(), rows, kind, var };
        self.list.borrow_mut().push(parameter);
        Ok(weight)
    }

    fn has(&self, _: &str) -> bool {
        true
    }
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_a_parameter_is() {
        for (name, kind) in [
            ("model.embed_tokens.weight", Kind::Embedding),
            ("model.layers.1.mlp.gate.weight", Kind::Router),
            ("model.layers.1.mlp.gate.weight_1", Kind::Router),
            ("model.layers.1.mlp.gate_proj.weight", Kind::Matrix),
            ("model.layers.1.mlp.experts.3.down_proj.weight", Kind::BranchOutput),
            ("model.layers.1.self_attn.o_proj.weight", Kind::BranchOutput),
            ("model.layers.0.input_layernorm.weight", Kind::Gain),
            ("model.layers.0.gpas_gate", Kind::GpasGate),
            ("model.layers.1.mlp.moe_statics.e_score_correction_bias", Kind::CorrectionBias),
            ("model.norm.weight", Kind::Gain),
            ("vision_model.blocks.0.norm1.weight", Kind::Gain),
            ("vision_model.blocks.0.norm1.bias", Kind::Bias),
            ("vision_model.ln.weight", Kind::Gain),
            ("vision_model.blocks.0.attn.proj.weight", Kind::BranchOutput),
            ("vision_model.patch_embed.proj.weight", Kind::Matrix),
            ("model.resampler_model.spatial_linear.2.weight", Kind::Matrix),
            ("model.resampler_model.temporal_linear.3.weight", Kind::Gain),
            ("model.resampler_model.after_norm.weight", Kind::Gain),
        ] {
            assert_eq!(Kind::of(name), kind, "{name}");
        }
    }

    #[test]
    fn the_same_seed_starts_the_same_and_parts_of_a_tensor_differ() {
        let values = |seed| {
            let parameters = Parameters::new(seed, 4);
            parameters.get_rows("attn.qkv.weight", &[6, 4], 0..2).unwrap();
            parameters.get_rows("attn.qkv.weight", &[6, 4], 2..4).unwrap();
            parameters.values().unwrap()
        };
        assert_eq!(values(1), values(1));
        assert_ne!(values(1), values(2));
        assert_ne!(values(1)[0], values(1)[1]);
    }
}
