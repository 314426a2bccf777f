//! The whole model on the candle backend: pictures and tokens in, logits of the answers out.
//!
//! The decoder, the tower and the resampler are the ones that run everywhere else.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use anyhow::Result;
use candle_backend::Candle;
use candle_core::{DType, Tensor};
use model::config::TextConfig;
use model::{Decoder, Modalities, Step};
use tensor::{Backend, Mask, Taps, Weights};
use vision::{Resampler, Tower, TowerConfig};

use crate::batch::Batch;
use crate::eyes::{Heads, Named};

/// Decoder, tower and resampler with their parameters.
pub struct Learner {
    backend: Candle,
    decoder: Decoder<Candle>,
    tower: Tower<Candle>,
    resampler: Resampler<Candle>,
    heads: Heads,
}

/// What one token and one cell weigh in a loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossWeights {
    /// Of a token of an answer.
    pub token: f32,
    /// Factor of the weights of a [`Cell`](crate::data::Cell).
    pub cell: f32,
}

/// Two scalars to differentiate, and how many cells were named rightly.
pub struct Loss {
    /// Of the answers.
    pub words: Tensor,
    /// Of the cells.
    pub cells: Tensor,
    /// The eyes' answers.
    pub named: Named,
}

impl Learner {
    /// Takes all parameters from `w`: an initialiser or a file.
    ///
    /// # Errors
    /// The first parameter that is missing or has another shape.
    pub fn load(w: &dyn Weights<Candle>, text: &TextConfig, tower: &TowerConfig) -> tensor::Result<Self> {
        Ok(Self {
            backend: Candle::cpu(),
            decoder: Decoder::load(w, text)?,
            tower: Tower::load(w, tower)?,
            resampler: Resampler::load(w, tower)?,
            heads: Heads::load(w, text.hidden_size)?,
        })
    }

    /// Logits of the supervised rows, `[n_supervised, vocab_size]`.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn logits(&self, batch: &Batch, taps: Option<&Taps<Candle>>) -> tensor::Result<Tensor> {
        self.answer(batch, self.look(batch)?.as_ref(), taps)
    }

    /// As [`logits`](Self::logits), of pictures already looked at.
    fn answer(
        &self,
        batch: &Batch,
        rows: Option<&Tensor>,
        taps: Option<&Taps<Candle>>,
    ) -> tensor::Result<Tensor> {
        let b = &self.backend;
        let mut x = b.embed(&self.decoder.embed_tokens, &b.ids(&batch.token_ids)?)?;
        if let Some(rows) = rows {
            x = b.scatter(&x, &b.ids(&batch.placeholders)?, rows)?;
        }
        let step = Step {
            backend: b,
            cos_sin: b
                .tensor(&self.decoder.rope.cos_sin(&batch.positions), self.decoder.config().head_dim)?,
            mask: Mask::Segments { cu_seqlens: &batch.cu_seqlens, causal: true },
            modalities: Modalities::split(b, &batch.is_vision)?,
            taps,
        };
        let hidden = self.decoder.forward(&step, x, &mut [])?;
        let answered = b.gather(&hidden, &b.ids(&batch.supervised)?)?;
        self.decoder.logits(b, &answered, None)
    }

    /// What the decoder gets to see of the pictures, `[n_tokens, hidden_size]`, if there are any.
    fn look(&self, batch: &Batch) -> tensor::Result<Option<Tensor>> {
        if batch.grids.is_empty() {
            return Ok(None);
        }
        let b = &self.backend;
        let patches = b.tensor(&batch.patches, batch.patches.len() / n_patches(&batch.grids))?;
        let features = self.tower.forward(b, &patches, &batch.grids, None)?;
        Ok(Some(self.resampler.forward(b, &features, &batch.grids, None)?))
    }

    /// What `batch` teaches: the cross-entropy of its answers and that of its cells.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn loss(&self, batch: &Batch, weights: LossWeights, taps: Option<&Taps<Candle>>) -> Result<Loss> {
        let b = &self.backend;
        let mut loss = Loss {
            words: Tensor::zeros((), DType::F32, b.device())?,
            cells: Tensor::zeros((), DType::F32, b.device())?,
            named: Named::default(),
        };
        let rows = self.look(batch)?;
        if let Some(rows) = &rows {
            (loss.cells, loss.named) = self.heads.loss(b, rows, &batch.cells, weights.cell)?;
        }
        if !batch.targets.is_empty() {
            let logits = self.answer(batch, rows.as_ref(), taps)?;
            let weights = vec![weights.token; batch.targets.len()];
            loss.words = b.cross_entropy(&logits, &batch.targets, &weights)?;
        }
        Ok(loss)
    }

    /// For every answer of `batch`, whether each of its tokens is the likeliest one: what greedy decoding
    /// would say is then exactly this answer.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn says(&self, batch: &Batch) -> Result<Vec<bool>> {
        let logits = self.logits(batch, None)?;
        let likeliest = ready(self.backend.read_ids(&self.backend.argmax(&logits)?))?;
        let starts = std::iter::once(0).chain(batch.answers.iter().map(|(end, _)| *end));
        Ok(starts
            .zip(&batch.answers)
            .map(|(start, (end, _))| likeliest[start..*end] == batch.targets[start..*end])
            .collect())
    }
}

fn n_patches(grids: &[[u32; 3]]) -> usize {
    grids.iter().map(|grid| grid.iter().product::<u32>() as usize).sum()
}

/// The result of a read on the CPU, which never waits.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("the CPU reads at once"),
    }
}
