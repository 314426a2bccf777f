//! Evaluation: named arrays in, named arrays out, so that anybody can compare this program with another.
//!
//! [`evaluate`] runs one case; [`EvalServer`] answers requests as lines of JSON.

mod case;
#[cfg(not(target_arch = "wasm32"))]
mod server;

use std::time::Duration;

use model::config::Config;
use tensor::Candidate;
use tensor::weights::{NamedArray, TensorIndex};

use crate::{Capture, Captured, Error, Result, Traceable, Values};
pub use case::EvalCase;
#[cfg(not(target_arch = "wasm32"))]
pub use server::{EvalServer, evaluate_file};

/// Rows a step of prefill.
const CHUNK: usize = 512;

/// A named array with its shape.
pub type Named = (String, Vec<usize>, NamedArray);

/// What to write beside `position_ids`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvalOptions {
    /// `logits`, `[n, vocab_size]` or of the rows that `logits_rows` names.
    pub logits: bool,
    /// Intermediate values.
    pub capture: Capture,
    /// Length of `greedy_ids`; end tokens do not stop it.
    pub max_new_tokens: usize,
    /// `greedy_logits`, `[max_new_tokens, vocab_size]`: row 0 is the last row of the prompt, row `k` follows
    /// `k` greedy tokens.
    pub greedy_logits: bool,
}

/// What an evaluation gave.
#[derive(Debug)]
pub struct Evaluation {
    /// The outputs.
    pub arrays: Vec<Named>,
    /// Inputs that were ignored.
    pub warnings: Vec<String>,
    /// Length of the prompt.
    pub prompt_tokens: usize,
    /// Time for the prompt.
    pub prefill: Duration,
    /// Time for the greedy tokens.
    pub decode: Duration,
}

/// Runs the case in `inputs` from an empty cache. `clock` is any clock that does not go back.
///
/// # Errors
/// If an input is missing, malformed, or does not fit the model, or more tokens are asked for than follow it.
pub async fn evaluate(
    model: &mut dyn Traceable,
    inputs: &TensorIndex,
    options: EvalOptions,
    clock: &dyn Fn() -> Duration,
) -> Result<Evaluation> {
    let case = EvalCase::read(inputs, model.config())?;
    let vocab_size = model.config().text.vocab_size;
    let prompt_tokens = case.input.token_ids.len();

    let limit = model.config().text.max_position_embeddings;
    if options.max_new_tokens > limit.saturating_sub(prompt_tokens) && options.max_new_tokens > 0 {
        let more = options.max_new_tokens;
        return Err(Error::Prompt(format!("{prompt_tokens} tokens and {more} more are beyond its {limit}")));
    }

    let start = clock();
    let rows = if options.logits { case.logits_rows.as_slice() } else { &[] };
    let trace = model.trace(&case.input, CHUNK, rows, options.capture).await?;
    let prefilled = clock();
    let row = |row: usize| {
        let at = trace.rows.binary_search(&row).expect("trace keeps every row asked for");
        &trace.logits[at * vocab_size..][..vocab_size]
    };
    let last = row(prompt_tokens - 1).to_vec();
    let (greedy_ids, greedy_logits) = greedy(model, last, options.max_new_tokens).await?;
    let decoded = clock();

    let mut arrays = Vec::new();
    if options.logits {
        let logits = case.logits_rows.iter().flat_map(|&wanted| row(wanted)).copied().collect();
        arrays.push(named("logits", vocab_size, NamedArray::F32(logits)));
    }
    if model.config().vision.is_some() {
        let axis = |axis: usize| trace.position_ids.iter().map(move |ids| i64::from(ids[axis]));
        let position_ids = NamedArray::I64((0..3).flat_map(axis).collect());
        arrays.push(named("position_ids", prompt_tokens, position_ids));
    }
    arrays.extend(trace.captured.into_iter().map(|captured| output(captured, &case, model.config())));
    if options.max_new_tokens > 0 {
        arrays.push(("greedy_ids".to_owned(), vec![greedy_ids.len()], NamedArray::I64(greedy_ids)));
        if options.greedy_logits {
            arrays.push(named("greedy_logits", vocab_size, NamedArray::F32(greedy_logits)));
        }
    }
    let (prefill, decode) = (prefilled.saturating_sub(start), decoded.saturating_sub(prefilled));
    Ok(Evaluation { arrays, warnings: case.warnings, prompt_tokens, prefill, decode })
}

/// Feeds the best token `n - 1` times, beginning after the row `logits`; returns ids and rows.
async fn greedy(model: &mut dyn Traceable, mut logits: Vec<f32>, n: usize) -> Result<(Vec<i64>, Vec<f32>)> {
    let (mut ids, mut rows) = (Vec::new(), Vec::new());
    for step in 0..n {
        let best = (1..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
        ids.push(best as i64);
        rows.extend_from_slice(&logits);
        if step + 1 < n {
            for Candidate { id, logit } in model.decode(best as u32, logits.len()).await? {
                logits[id as usize] = logit;
            }
        }
    }
    Ok((ids, rows))
}

fn named(name: impl Into<String>, cols: usize, values: NamedArray) -> Named {
    (name.into(), vec![values.len() / cols.max(1), cols], values)
}

/// A captured value as it is written: rows of the eye are images first, then videos.
fn output(captured: Captured, case: &EvalCase, config: &Config) -> Named {
    let Captured { name, cols, values } = captured;
    let values = match values {
        Values::U32(ids) => {
            return named(name, cols, NamedArray::I64(ids.into_iter().map(i64::from).collect()));
        }
        Values::F32(values) => values,
    };
    let n_patches = |visual: &crate::Visual| visual.grid_thw.iter().map(|&n| n as usize).product::<usize>();
    let ranges = match (name.as_str(), &config.vision) {
        ("vision_out", Some(_)) => case.images_first(n_patches),
        ("resampler_out", Some(vision)) => case.images_first(|visual| {
            let (spatial, temporal) = (vision.spatial_merge_size, vision.temporal_merge_size);
            model::Span::visual(visual.grid_thw, spatial, temporal).len()
        }),
        _ => return named(name, cols, NamedArray::F32(values)),
    };
    let rows = ranges.into_iter().flat_map(|rows| &values[rows.start * cols..rows.end * cols]);
    named(name, cols, NamedArray::F32(rows.copied().collect()))
}
