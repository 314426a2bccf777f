//! What an agent does, for a person to read or a program to parse.

use std::io;

use ::agent::{Content, Event, Outcome, ToolOutput};

use sessions::SessionId;

use crate::output::{Output, plural};

/// Characters of arguments and results that a line shows.
const MAX_SHOWN: usize = 400;

/// Writes the trace: the answer to standard output, everything about it to standard error.
pub(super) struct Trace<'a> {
    output: &'a Output,
    as_json: bool,
    step: usize,
}

impl<'a> Trace<'a> {
    pub(super) fn new(output: &'a Output, as_json: bool) -> Self {
        Self { output, as_json, step: 0 }
    }

    /// Writes what there is to say about an event.
    ///
    /// # Errors
    /// If nobody reads on.
    pub(super) fn event(&mut self, event: &Event) -> io::Result<()> {
        if self.as_json {
            return if event.is_piece() { Ok(()) } else { self.output.json(event) };
        }
        match event {
            // Notes tell what was changed of a picture.
            Event::Reasoning(_) | Event::Text(_) | Event::Saw { .. } => {}
            Event::Replied { text, calls, prompt_tokens, cached_tokens, generated_tokens } => {
                self.step += 1;
                let read = prompt_tokens.saturating_sub(*cached_tokens);
                self.output.note(&format!(
                    "step {}: {} read, {} written",
                    self.step,
                    plural(read, "token"),
                    plural(*generated_tokens, "token")
                ));
                // Words beside a call are no answer.
                if !calls.is_empty() && !text.trim().is_empty() {
                    self.output.note(&format!("  {}", short(text)));
                }
            }
            Event::Calling(call) => {
                let arguments = serde_json::to_string(&call.arguments).unwrap_or_default();
                self.output.note(&format!("  {} {}", call.name, short(&arguments)));
            }
            Event::Returned { output, .. } => self.output.note(&format!("  → {}", short(&words(output)))),
            Event::Decided { call, allow: false, reason } => {
                let reason = reason.as_deref().unwrap_or("no");
                self.output.note(&format!("  {} was not allowed: {reason}", call.name));
            }
            Event::Asked(_) | Event::Decided { .. } => {}
            Event::Note(note) => self.output.note(&format!("  {note}")),
            Event::Finished(outcome) => match outcome {
                Outcome::Answered { text } => self.output.line(text)?,
                Outcome::CutOff { text } => {
                    self.output.line(text)?;
                    self.output.warning("the answer was cut off; --max-tokens allows more");
                }
                Outcome::OutOf { what } => self.output.warning(&format!("the task used up its {what}")),
                Outcome::Cancelled => self.output.note("cancelled"),
                // The command itself ends with this error.
                Outcome::Failed { .. } => {}
            },
        }
        Ok(())
    }

    /// Writes where the run is kept.
    ///
    /// # Errors
    /// If nobody reads on.
    pub(super) fn session(&self, id: &SessionId) -> io::Result<()> {
        if self.as_json {
            return self.output.json(&serde_json::json!({ "session": id }));
        }
        self.output.note(&format!("session {}", id.0));
        Ok(())
    }

    /// Writes that something is not as it should be, though the work goes on.
    ///
    /// # Errors
    /// If nobody reads on.
    pub(super) fn warning(&self, text: &str) -> io::Result<()> {
        if self.as_json {
            return self.output.json(&serde_json::json!({ "warning": text }));
        }
        self.output.warning(text);
        Ok(())
    }

    /// Writes how far a call is.
    ///
    /// # Errors
    /// If nobody reads on.
    pub(super) fn progress(&self, progress: &str) -> io::Result<()> {
        if self.as_json {
            return self.output.json(&serde_json::json!({ "progress": progress }));
        }
        self.output.note(&format!("  … {}", short(progress)));
        Ok(())
    }
}

fn words(output: &ToolOutput) -> String {
    let parts = output.parts.iter().map(|part| match &part.content {
        Content::Text(text) => text.clone(),
        Content::Picture(_) => "[picture]".into(),
        Content::Call(call) => call.name.clone(),
    });
    parts.collect::<Vec<_>>().join(" ")
}

fn short(text: &str) -> String {
    let text = text.trim().replace('\n', " ⏎ ");
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    }
}
