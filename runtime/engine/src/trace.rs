//! A pass over a prompt that keeps what happened inside, for comparing with another implementation.

use crate::{LanguageModel, LocalFuture, ModelInput, Result};

/// Which intermediate values to keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capture {
    /// `hidden.embed`, `hidden.layer.L`, `hidden.norm`.
    pub hidden: bool,
    /// `router.layers.L.selected`, or `.text_moe.selected` and `.vision_moe.selected`.
    pub router: bool,
    /// `vision_out` and `resampler_out`, visuals in prompt order.
    pub vision: bool,
}

/// Values of one kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Activations.
    F32(Vec<f32>),
    /// Ids.
    U32(Vec<u32>),
}

/// A named matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Captured {
    /// As in [`Capture`].
    pub name: String,
    /// Length of a row.
    pub cols: usize,
    /// Row after row.
    pub values: Values,
}

/// What one pass over a prompt gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// `(time, height, width)` of each token.
    pub position_ids: Vec<[u32; 3]>,
    /// The rows that `logits` holds, rising; the last row of the prompt is always among them.
    pub rows: Vec<usize>,
    /// `[rows, vocab_size]`
    pub logits: Vec<f32>,
    /// What was asked for.
    pub captured: Vec<Captured>,
}

/// A model that can show its inside.
pub trait Traceable: LanguageModel {
    /// As [`prefill`](LanguageModel::prefill) of a prompt of which nothing is cached, keeping the logits of
    /// `rows` and what `capture` names.
    ///
    /// # Errors
    /// As for `prefill`, or if a row is not in the prompt.
    fn trace<'a>(
        &'a mut self,
        input: &'a ModelInput,
        chunk: usize,
        rows: &'a [usize],
        capture: Capture,
    ) -> LocalFuture<'a, Result<Trace>>;
}
