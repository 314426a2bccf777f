//! A sequence as the head sees it that predicts one token further, and what it guesses.

use std::cell::RefCell;

use model::{MtpHead, Step};
use tensor::{Backend, Mask};

use super::{Network, Sequence};
use crate::Result;

/// What the head remembers of a sequence.
pub(super) struct Foresight<B: Backend> {
    cache: B::Cache,
    /// Which token of the sequence each cached row embeds: ascending, but some may be missing.
    rows: Vec<usize>,
    /// Rows of the decoder's last step, and which token of the sequence the first of them stands for.
    hidden: Option<(usize, B::Tensor)>,
}

impl<B: Backend> Foresight<B> {
    /// Forgets the rows of tokens from `len` on.
    pub(super) fn truncate(&mut self, b: &B, len: usize) -> Result<()> {
        let n = self.rows.partition_point(|&row| row < len);
        b.truncate(&mut self.cache, n)?;
        self.rows.truncate(n);
        Ok(())
    }

    /// The decoder's row of token `i`, if its last step had it.
    fn hidden_row(&self, b: &B, i: usize) -> Result<Option<B::Tensor>> {
        let Some((start, hidden)) = &self.hidden else { return Ok(None) };
        match i.checked_sub(*start) {
            Some(row) if row < b.shape(hidden).0 => Ok(Some(b.gather(hidden, &b.ids(&[row as u32])?)?)),
            _ => Ok(None),
        }
    }
}

impl<B: Backend> Network<B> {
    /// The empty memory of the head; `None` if the model has none.
    pub(super) fn foresight(&self) -> Result<Option<Foresight<B>>> {
        let new = |_: &MtpHead<B>| -> Result<_> {
            let cache = self.backend.cache(self.config.text.heads(), super::CACHE_CAPACITY)?;
            Ok(Foresight { cache, rows: Vec::new(), hidden: None })
        };
        self.mtp.as_ref().map(new).transpose()
    }

    /// Shows the head new rows of a sequence, which are not yet among its positions: the embeddings of their
    /// tokens, and what the decoder made of them.
    pub(super) fn foresee(
        &self,
        sequence: &mut Sequence<B>,
        position_ids: &[[u32; 3]],
        embeds: &B::Tensor,
        hidden: &B::Tensor,
    ) -> Result<()> {
        let start = sequence.position_ids.len();
        let (Some(mtp), Some(foresight)) = (&self.mtp, &mut sequence.foresight) else { return Ok(()) };
        let (b, n) = (&self.backend, position_ids.len() as u32);
        // Each token goes with the decoder's row before it. That of the first token may be unknown, if the head
        // began to listen only now: then it is left out, which costs the head a little of its memory.
        let before = start.checked_sub(1).map(|last| foresight.hidden_row(b, last)).transpose()?.flatten();
        let first = u32::from(before.is_none());
        let of_rows_before = match before {
            Some(before) => {
                let rows: Vec<u32> = (0..n).map(|row| row.saturating_sub(1)).collect();
                b.scatter(&b.gather(hidden, &b.ids(&rows)?)?, &b.ids(&[0])?, &before)?
            }
            None if n > 1 => b.gather(hidden, &b.ids(&(0..n - 1).collect::<Vec<_>>())?)?,
            None => {
                foresight.hidden = Some((start, hidden.clone()));
                return Ok(());
            }
        };
        let embeds = match first {
            0 => embeds.clone(),
            _ => b.gather(embeds, &b.ids(&(first..n).collect::<Vec<_>>())?)?,
        };
        let step = self.step_of_head(&position_ids[first as usize..])?;
        mtp.forward(&step, &of_rows_before, &embeds, &mut foresight.cache)?;
        foresight.rows.extend((first..n).map(|row| start + row as usize));
        foresight.hidden = Some((start, hidden.clone()));
        Ok(())
    }

    /// At most `n` tokens that the head expects after `token`, which is about to be appended.
    pub(super) async fn draft(
        &self,
        sequence: &RefCell<Sequence<B>>,
        token: u32,
        n: usize,
    ) -> Result<Vec<u32>> {
        // Taken out, so that others may look at the sequence meanwhile.
        let taken = {
            let mut sequence = sequence.borrow_mut();
            let (len, position) = (sequence.position_ids.len(), sequence.next_position);
            sequence.foresight.take().map(|foresight| (foresight, len, position))
        };
        let Some((mut foresight, len, position)) = taken else { return Ok(Vec::new()) };
        let guesses = self.guess(&mut foresight, len, position, token, n).await;
        sequence.borrow_mut().foresight = Some(foresight);
        guesses
    }

    /// [`draft`](Self::draft), where `token` comes at `position` behind `len` others.
    async fn guess(
        &self,
        foresight: &mut Foresight<B>,
        len: usize,
        position: u32,
        token: u32,
        n: usize,
    ) -> Result<Vec<u32>> {
        let b = &self.backend;
        let Some(mtp) = &self.mtp else { return Ok(Vec::new()) };
        let last = len.checked_sub(1).map(|last| foresight.hidden_row(b, last)).transpose()?.flatten();
        let Some(mut hidden) = last else { return Ok(Vec::new()) };
        let mut guesses = Vec::new();
        let mut token = token;
        for position in (position..).take(n) {
            let embeds = b.embed(&self.decoder.embed_tokens, &b.ids(&[token])?)?;
            let step = self.step_of_head(&[[position; 3]])?;
            // The head's own row stands for that of the decoder, which is not there yet.
            hidden = mtp.forward(&step, &hidden, &embeds, &mut foresight.cache)?;
            let logits = mtp.logits(&self.decoder, b, &hidden)?;
            let Some(best) = b.top_k(&logits, 1).await?.first().copied() else { break };
            token = best.id;
            guesses.push(token);
        }
        // These rows were made from guesses; the true ones come with the next step.
        b.truncate(&mut foresight.cache, foresight.rows.len())?;
        Ok(guesses)
    }

    fn step_of_head(&self, position_ids: &[[u32; 3]]) -> Result<Step<'_, B>> {
        let b = &self.backend;
        let cos_sin = b.tensor(&self.decoder.rope.cos_sin(position_ids), self.config.text.head_dim)?;
        Ok(Step { backend: b, cos_sin, mask: Mask::Causal, modalities: None, taps: None })
    }
}
