//! The eyes' own heads: what the resampler's rows say about their cells, without the decoder.
//!
//! Through a language model, a picture's shapes reach the loss by one token in eight and a long way. One
//! linear head an [`Aspect`] is the short way: after it, every row says in a linear code what its cell
//! shows, and the decoder has only to read. The heads are not part of the model and are not exported.

use anyhow::Result;
use candle_backend::{Candle, Weight};
use candle_core::{DType, Tensor};
use tensor::{Backend as _, Weights};

use crate::data::{Aspect, Cell};
use crate::learner::ready;

/// What the names of the heads' parameters begin with.
pub(crate) const PREFIX: &str = "eyes.";

/// One linear head an aspect.
pub(crate) struct Heads {
    /// `[n_classes, hidden_size]` each, in the order of [`Aspect::ALL`].
    heads: Vec<Weight>,
}

/// How many cells with something in them were named, and how many of those rightly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Named {
    /// Cells with something in them.
    pub cells: usize,
    /// Those that the head names rightly.
    pub right: usize,
}

impl Heads {
    /// Takes the heads from `w`; a model in use has none.
    pub(crate) fn load(w: &dyn Weights<Candle>, hidden_size: usize) -> tensor::Result<Self> {
        let name = |aspect: Aspect| format!("{PREFIX}{}.weight", aspect.name());
        let load = |aspect: Aspect| w.get(&name(aspect), &[aspect.n_classes(), hidden_size]);
        let all = Aspect::ALL.into_iter().filter(|aspect| w.has(&name(*aspect)));
        Ok(Self { heads: all.map(load).collect::<tensor::Result<_>>()? })
    }

    /// Cross-entropy of what `rows` say of `cells`, and how they name them.
    ///
    /// `rows` is `[n_cells, hidden_size]`; every cell counts with its own weights times `weight`.
    pub(crate) fn loss(
        &self,
        b: &Candle,
        rows: &Tensor,
        cells: &[Cell],
        weight: f32,
    ) -> Result<(Tensor, Named)> {
        let mut sum = Tensor::zeros((), DType::F32, b.device())?;
        let mut named = Named::default();
        for (aspect, head) in Aspect::ALL.into_iter().zip(&self.heads) {
            let logits = b.linear(rows, head, None)?;
            let classes: Vec<u32> = cells.iter().map(|cell| cell.classes[aspect as usize]).collect();
            let weights: Vec<f32> = cells.iter().map(|cell| weight * cell.weights[aspect as usize]).collect();
            let loss = b.cross_entropy(&logits, &classes, &weights)?;
            sum = (sum + loss)?;
            if aspect == Aspect::Thing {
                let likeliest = ready(b.read_ids(&b.argmax(&logits)?))?;
                let seen = cells.iter().zip(likeliest).filter(|(cell, _)| cell.shows_something());
                for (cell, name) in seen {
                    named.cells += 1;
                    named.right += usize::from(cell.classes[aspect as usize] == name);
                }
            }
        }
        Ok((sum, named))
    }
}
