//! One question to the engine, and what is told about its answer.

use std::io;
use std::ops::ControlFlow;

use anyhow::bail;
use engine::{Answer, Engine, Event, ExpertUse, GenerateOptions, Message, StopReason};
use serde::Serialize;

use crate::output::{Output, bytes, count, plural};

/// Gets the words of an answer as they come, and may end it.
pub(crate) type OnText<'a> = dyn FnMut(&str) -> io::Result<ControlFlow<()>> + 'a;

/// Asks and passes the words of the answer to `on_text` as they come.
pub(crate) fn answer(
    engine: &mut Engine,
    messages: &[Message],
    options: &GenerateOptions,
    on_text: &mut OnText<'_>,
) -> anyhow::Result<Answer> {
    let mut outcome = Ok(());
    let answer = pollster::block_on(engine.chat(messages, options, &mut |event| {
        // An empty text lets the caller end a long prefill.
        let text = if let Event::Text(text) = &event { text } else { "" };
        on_text(text).unwrap_or_else(|error| {
            outcome = Err(error);
            ControlFlow::Break(())
        })
    }));
    outcome?;
    Ok(answer?)
}

/// Says what belongs to an answer that is not its text: what the model thought, and each note.
pub(crate) fn say_about(answer: &Answer, name: Option<&str>, output: &Output) {
    let thought = answer.reasoning.iter().map(|reasoning| format!("thought: {reasoning}"));
    for note in thought.chain(Some(notes(answer).join("; ")).filter(|notes| !notes.is_empty())) {
        match name {
            Some(name) => output.note(&format!("{name}: {note}")),
            None => output.note(&note),
        }
    }
}

/// What is said of pictures for a model without eyes.
pub(crate) const BLIND: &str =
    "this model reads text only; pictures need a vision-language model such as the one inside";

/// Refuses a model without eyes, before any picture is read.
pub(crate) fn check_sight(engine: &Engine) -> anyhow::Result<()> {
    if !engine.takes_pictures() {
        bail!(BLIND);
    }
    Ok(())
}

/// What `--json` says about an answer beside its text.
#[derive(Debug, Serialize)]
pub(crate) struct Account {
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<String>,
    notes: Vec<String>,
    stop_reason: &'static str,
    tokens: Tokens,
    timings: Timings,
    #[serde(skip_serializing_if = "Option::is_none")]
    experts: Option<ExpertAccount>,
}

/// What routed experts in less memory than they take have cost.
#[derive(Debug, Serialize)]
pub(crate) struct ExpertAccount {
    pub(crate) budget_bytes: u64,
    pub(crate) resident_bytes: u64,
    pub(crate) uses: u64,
    pub(crate) hit_rate: f64,
    /// Of the hits, those that were read because they were expected.
    pub(crate) foreseen: u64,
    pub(crate) read_bytes: u64,
    /// Milliseconds in which nothing could be computed before one was read.
    pub(crate) waited_ms: f64,
}

impl From<ExpertUse> for ExpertAccount {
    fn from(usage: ExpertUse) -> Self {
        Self {
            budget_bytes: usage.budget_bytes,
            resident_bytes: usage.resident_bytes,
            uses: usage.uses,
            hit_rate: usage.hit_rate(),
            foreseen: usage.foreseen,
            read_bytes: usage.read_bytes,
            waited_ms: round(usage.waited_ns as f64 / 1e6),
        }
    }
}

impl ExpertAccount {
    /// The same in words.
    pub(crate) fn words(&self) -> String {
        format!(
            "{:.1} % of {} uses of experts found them in {} of memory; {} read, waited {:.1} s for them",
            100.0 * self.hit_rate,
            count(self.uses),
            bytes(self.budget_bytes),
            bytes(self.read_bytes),
            self.waited_ms / 1e3
        )
    }
}

#[derive(Debug, Serialize)]
struct Tokens {
    prompt: usize,
    cached: usize,
    generated: usize,
    /// Guessed ahead and computed, and how many of those are in the answer.
    drafted: usize,
    accepted: usize,
}

#[derive(Debug, Serialize)]
struct Timings {
    prefill_ms: f64,
    decode_ms: f64,
    ttft_ms: f64,
}

impl Account {
    pub(crate) fn new(answer: &Answer) -> Self {
        Account {
            reasoning: answer.reasoning.clone(),
            notes: notes(answer),
            stop_reason: match answer.stop_reason {
                StopReason::Eos => "eos",
                StopReason::StopString => "stop_string",
                StopReason::MaxTokens => "max_tokens",
                StopReason::ContextFull => "context_full",
                StopReason::Cancelled => "cancelled",
            },
            tokens: Tokens {
                prompt: answer.prompt_tokens,
                cached: answer.cached_tokens,
                generated: answer.generated_tokens,
                drafted: answer.guesses.drafted,
                accepted: answer.guesses.accepted,
            },
            timings: Timings {
                prefill_ms: round(answer.prefill_ms),
                decode_ms: round(answer.decode_ms),
                ttft_ms: round(answer.ttft_ms),
            },
            experts: answer.experts.map(ExpertAccount::from),
        }
    }
}

/// All that was lost or changed on the way, the end of the answer included.
pub(crate) fn notes(answer: &Answer) -> Vec<String> {
    let mut notes = answer.notes.clone();
    notes.extend(answer.experts.map(|usage| ExpertAccount::from(usage).words()));
    notes.extend(match answer.stop_reason {
        StopReason::MaxTokens => Some(format!(
            "cut off after {}; --max-tokens allows more",
            plural(answer.generated_tokens, "token")
        )),
        StopReason::ContextFull => Some("cut off: the model's context is full".to_string()),
        StopReason::Cancelled => Some("cancelled".to_string()),
        StopReason::Eos | StopReason::StopString => None,
    });
    notes
}

/// Milliseconds to the microsecond, so that JSON stays readable.
fn round(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}
