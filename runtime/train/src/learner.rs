//! The whole model on the candle backend: pictures and tokens in, logits of the answers out.
//!
//! The decoder, the tower and the resampler are the ones that run everywhere else.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use candle_backend::{Candle, Weight};
use candle_core::Tensor;
use model::config::TextConfig;
use model::{Decoder, Modalities, Step};
use tensor::{Backend, Mask, Result, Taps, Weights};
use vision::{Resampler, Tower, TowerConfig};

use crate::batch::Batch;

/// Decoder, tower and resampler with their parameters.
pub struct Learner {
    backend: Candle,
    decoder: Decoder<Candle>,
    tower: Tower<Candle>,
    resampler: Resampler<Candle>,
}

impl Learner {
    /// Takes all parameters from `w`: an initialiser or a file.
    ///
    /// # Errors
    /// The first parameter that is missing or has another shape.
    pub fn load(w: &dyn Weights<Candle>, text: &TextConfig, tower: &TowerConfig) -> Result<Self> {
        Ok(Self {
            backend: Candle::cpu(),
            decoder: Decoder::load(w, text)?,
            tower: Tower::load(w, tower)?,
            resampler: Resampler::load(w, tower)?,
        })
    }

    /// Logits of the supervised rows, `[n_supervised, vocab_size]`.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn logits(&self, batch: &Batch, taps: Option<&Taps<Candle>>) -> Result<Tensor> {
        let b = &self.backend;
        let mut x = b.embed(&self.decoder.embed_tokens, &b.ids(&batch.token_ids)?)?;
        if !batch.grids.is_empty() {
            let rows = self.look(&batch.patches, &batch.grids)?;
            x = b.scatter(&x, &b.ids(&batch.placeholders)?, &rows)?;
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

    /// What the decoder gets to see of pictures, `[n_tokens, hidden_size]`.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn look(&self, patches: &[f32], grids: &[[u32; 3]]) -> Result<Tensor> {
        let b = &self.backend;
        let patches = b.tensor(patches, patches.len() / n_patches(grids))?;
        let features = self.tower.forward(b, &patches, grids, None)?;
        self.resampler.forward(b, &features, grids, None)
    }

    /// Mean cross-entropy of a linear classifier of `rows`, and the class it thinks likeliest of each.
    ///
    /// # Errors
    /// Those of the backend.
    pub(crate) fn classify(
        &self,
        rows: &Tensor,
        head: &Tensor,
        classes: &[u32],
    ) -> Result<(Tensor, Vec<u32>)> {
        let b = &self.backend;
        let logits = b.linear(rows, &Weight::from_tensor(head.clone()), None)?;
        let likeliest = ready(b.read_ids(&b.argmax(&logits)?))?;
        let weights = vec![1.0 / classes.len() as f32; classes.len()];
        Ok((b.cross_entropy(&logits, classes, &weights)?, likeliest))
    }

    /// Cross-entropy of the answers, each token weighing `weight`: a scalar to differentiate.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn loss(&self, batch: &Batch, weight: f32, taps: Option<&Taps<Candle>>) -> Result<Tensor> {
        let logits = self.logits(batch, taps)?;
        self.backend.cross_entropy(&logits, &batch.targets, &vec![weight; batch.targets.len()])
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
