//! Tool calls in the text of an answer.

use serde_json::Value;

use crate::ToolCall;

pub(super) const OPEN: &str = "<tool_call>";
pub(super) const CLOSE: &str = "</tool_call>";
/// Braces that a model may have forgotten at the end of a call.
const MAX_REPAIR: usize = 3;

/// What stands behind `<tool_call>`.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// A call, and where the text goes on behind it.
    Call(ToolCall, usize),
    /// Something else between the tags, and where the text goes on.
    Broken(usize),
    /// Its end has not come.
    Unfinished,
}

/// Looks for a call at the beginning of `text`. The closing tag counts only outside of JSON texts.
pub(super) fn find(text: &str, last: bool, id: impl Fn() -> String) -> Found {
    let closing = text.find(CLOSE);
    if closing.is_none() && !last {
        return Found::Unfinished;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    match values.next() {
        Some(Ok(value)) => {
            let end = values.byte_offset();
            let rest = text[end..].trim_start();
            // A tag inside of the JSON came before the one that closes it.
            if !last && rest.len() < CLOSE.len() && CLOSE.starts_with(rest) {
                return Found::Unfinished;
            }
            let closed = rest.strip_prefix(CLOSE);
            let behind = closed.map_or(text.len(), |rest| text.len() - rest.len());
            let is_alone = closed.is_some() || (last && rest.is_empty());
            match ToolCall::from_json(value, id()).filter(|_| is_alone) {
                Some(call) => Found::Call(call, behind),
                None => broken(text, end, last),
            }
        }
        // The tag may be inside of a text that is still open.
        Some(Err(error)) if error.is_eof() && !last => Found::Unfinished,
        _ => match closing.and_then(|at| Some((repaired(&text[..at], id())?, at + CLOSE.len()))) {
            Some((call, behind)) => Found::Call(call, behind),
            None => broken(text, 0, last),
        },
    }
}

fn broken(text: &str, from: usize, last: bool) -> Found {
    match text[from..].find(CLOSE) {
        Some(at) => Found::Broken(from + at + CLOSE.len()),
        None if last => Found::Broken(text.len()),
        None => Found::Unfinished,
    }
}

/// A call whose last braces are missing.
fn repaired(text: &str, id: String) -> Option<ToolCall> {
    let text = text.trim();
    (1..=MAX_REPAIR).find_map(|n| {
        let value = serde_json::from_str(&(text.to_owned() + &"}".repeat(n))).ok()?;
        ToolCall::from_json(value, id.clone())
    })
}
