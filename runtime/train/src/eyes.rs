//! Teaches the eyes alone: tower and resampler learn to name what fills a picture.
//!
//! Through a language model, a picture's shape reaches the loss by one token in eight and a long way; a
//! linear head on the mean of the resampler's rows is the short way. The head is thrown away afterwards.

use anyhow::Result;
use candle_backend::optim::{AdamW, AdamWConfig, Param};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use vision::{Picture, Preprocessor};

use crate::data::{Generator, Random};
use crate::learner::Learner;

/// Side of the pictures: smaller than later ones, so that more of them are seen.
const PIXELS: u32 = 84;

/// Square pictures of one size, and their names.
#[derive(Debug, Clone, Default)]
pub struct Named {
    /// Patches of all pictures, `[n_patches, 588]`.
    pub patches: Vec<f32>,
    /// Grids of all pictures.
    pub grids: Vec<[u32; 3]>,
    /// A name each.
    pub names: Vec<u32>,
}

impl Named {
    /// The pictures `indices` of the generator.
    ///
    /// # Errors
    /// If a picture cannot be cut into patches.
    pub fn make(
        generator: &Generator,
        preprocessor: &Preprocessor,
        indices: impl Iterator<Item = u64>,
    ) -> Result<Self> {
        let mut named = Self::default();
        for index in indices {
            let (picture, name) = generator.named(PIXELS, index);
            let picture = Picture::new(picture.width(), picture.height(), picture.into_raw())?;
            let patches = preprocessor.image(&picture)?;
            named.grids.push(patches.grid_thw);
            named.patches.extend(patches.pixel_values);
            named.names.push(name);
        }
        Ok(named)
    }
}

/// The linear head, with an optimiser of its own.
#[derive(Debug)]
pub struct NamingHead {
    /// `[n_names, hidden_size]`
    weight: Var,
    optimizer: AdamW,
}

impl NamingHead {
    /// A fresh head.
    ///
    /// # Errors
    /// Those of candle.
    pub fn new(n_names: usize, hidden_size: usize, seed: u64) -> Result<Self> {
        let mut random = Random::new(&[seed, n_names as u64]);
        let values: Vec<f32> = (0..n_names * hidden_size).map(|_| 0.05 * random.normal()).collect();
        let weight = Var::from_vec(values, (n_names, hidden_size), &Device::Cpu)?;
        let param = Param { var: weight.clone(), lr_scale: 1.0, weight_decay: 0.0 };
        Ok(Self { weight, optimizer: AdamW::new(vec![param], AdamWConfig::default())? })
    }

    /// The parameter, for summing its gradients.
    pub(crate) fn params(&self) -> &[Param] {
        self.optimizer.params()
    }

    /// Takes one step.
    ///
    /// # Errors
    /// Those of candle.
    pub(crate) fn step(&mut self, gradients: &GradStore, lr: f32) -> Result<()> {
        self.optimizer.step(gradients, lr)?;
        Ok(())
    }

    /// Cross-entropy of the names, and how many of them are right.
    ///
    /// # Errors
    /// Those of the backend.
    pub(crate) fn loss(&self, learner: &Learner, named: &Named) -> Result<(Tensor, usize)> {
        let rows = learner.look(&named.patches, &named.grids)?;
        let n = named.grids.len();
        let (n_rows, width) = rows.dims2()?;
        let means = rows.reshape((n, n_rows / n, width))?.mean(1)?;
        let (loss, likeliest) = learner.classify(&means, self.weight.as_tensor(), &named.names)?;
        let right = likeliest.iter().zip(&named.names).filter(|(a, b)| a == b).count();
        Ok((loss, right))
    }
}
