//! The head that predicts one token beyond the next: multi-token prediction.
//!
//! One more block, with a cache of its own, after the last layer. It sees what the decoder thinks of a row and the
//! token that came after it, and says which token follows that one. Published models were trained with it as an
//! auxiliary loss; here its predictions are guesses, which the decoder checks.

use tensor::{Backend, Result, Taps, Weights};

use crate::config::TextConfig;
use crate::decoder::{Decoder, DecoderLayer, Step};
use crate::mlp::Linear;

/// One block that predicts the token after the next.
pub struct MtpHead<B: Backend> {
    /// Norm of the embedding of the next token, `[hidden_size]`.
    pub emb_norm: B::Weight,
    /// Norm of the decoder's row, `[hidden_size]`.
    pub hidden_norm: B::Weight,
    /// From both, the embedding first, to the block's input: `[hidden_size, 2 * hidden_size]`.
    pub linear_proj: Linear<B>,
    /// Attention and a dense feed-forward, whatever the layers of the decoder have.
    pub block: DecoderLayer<B>,
    eps: f32,
    hidden_size: usize,
}

impl<B: Backend> MtpHead<B> {
    /// Loads the head if the checkpoint has one.
    ///
    /// # Errors
    /// The first of its tensors that is missing or has another shape, by name.
    pub fn load(w: &dyn Weights<B>, config: &TextConfig) -> Result<Option<Self>> {
        let proj = "model.mtp_linear_proj.0";
        if !w.has(&format!("{proj}.weight")) {
            return Ok(None);
        }
        let hidden = config.hidden_size;
        // The block is dense and has no gates, even where the layers of the decoder do.
        let dense = TextConfig { moe: None, gpas: false, ..config.clone() };
        Ok(Some(Self {
            emb_norm: w.get("model.mtp_emb_norm.0.weight", &[hidden])?,
            hidden_norm: w.get("model.mtp_hidden_norm.0.weight", &[hidden])?,
            linear_proj: Linear::load(w, proj, [hidden, 2 * hidden], false)?,
            block: DecoderLayer::load(w, "model.mtp_block.0", None, &dense)?,
            eps: config.rms_norm_eps,
            hidden_size: hidden,
        }))
    }

    /// Runs the block over rows of one sequence.
    ///
    /// - `hidden`: `[n, hidden_size]`, the decoder's residual stream before its final norm.
    /// - `embeds`: `[n, hidden_size]`, of the token after each of those rows.
    ///
    /// Returns the block's residual stream `[n, hidden_size]`. The [logits](Decoder::logits) of the decoder after
    /// a row of it are those of the token after the one embedded; the row itself may stand for the decoder's row
    /// of that token, to guess one token more.
    ///
    /// Source: the training form in the technical report of ERNIE 4.5; inference engines differ in details that
    /// change guesses only.
    pub fn forward(
        &self,
        step: &Step<'_, B>,
        hidden: &B::Tensor,
        embeds: &B::Tensor,
        cache: &mut B::Cache,
    ) -> Result<B::Tensor> {
        let b = step.backend;
        let (n, _) = b.shape(hidden);
        let hidden = b.rms_norm(hidden, &self.hidden_norm, self.eps)?;
        let embeds = b.rms_norm(embeds, &self.emb_norm, self.eps)?;
        // Rows of both in turn, then two of them as one: the embedding first.
        let twice: Vec<u32> = (0..n as u32).flat_map(|row| [row, row]).collect();
        let odd: Vec<u32> = (0..n as u32).map(|row| 2 * row + 1).collect();
        let both = b.scatter(&b.gather(&embeds, &b.ids(&twice)?)?, &b.ids(&odd)?, &hidden)?;
        let both = b.reshape(&both, 2 * self.hidden_size)?;
        let x = self.linear_proj.forward(b, &both)?;
        self.block.forward(step, x, &mut [cache])
    }

    /// The logits of the token after the one that was embedded, `[n, vocab_size]`, from rows of
    /// [`forward`](Self::forward): the decoder's final norm and head are this head's too.
    pub fn logits(&self, decoder: &Decoder<B>, b: &B, x: &B::Tensor) -> Result<B::Tensor> {
        decoder.logits(b, x, None::<&Taps<B>>)
    }
}
