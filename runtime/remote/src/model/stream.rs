//! The events of a streamed reply, put together.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use ::agent::{PictureId, Piece, Reply, ToolCall};
use protocol::Sight;
use serde_json::Value;

/// Bytes of one event, and of a whole reply.
const MAX_LINE: usize = 4 << 20;
const MAX_REPLY: usize = 64 << 20;
/// Calls of one reply.
const MAX_CALLS: u64 = 64;

/// Bytes as they come, cut into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    waiting: Vec<u8>,
    /// Bytes of `waiting` that were given out.
    taken: usize,
    /// Bytes of `waiting` that hold no end of a line.
    searched: usize,
    n_bytes: usize,
}

impl Lines {
    /// Adds what came.
    ///
    /// # Errors
    /// If it is too much.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.n_bytes += bytes.len();
        if self.n_bytes > MAX_REPLY {
            return Err(format!("its reply is longer than {} MiB", MAX_REPLY >> 20));
        }
        self.waiting.drain(..self.taken);
        self.searched -= self.taken;
        self.taken = 0;
        self.waiting.extend_from_slice(bytes);
        Ok(())
    }

    /// The next line that is complete.
    ///
    /// # Errors
    /// If it is too long or no text.
    pub(super) fn next(&mut self) -> Result<Option<String>, String> {
        let end = self.waiting[self.searched..].iter().position(|&byte| byte == b'\n');
        let end = end.map(|end| self.searched + end);
        if end.unwrap_or(self.waiting.len()) - self.taken > MAX_LINE {
            return Err(format!("an event of its reply is longer than {} MiB", MAX_LINE >> 20));
        }
        let Some(end) = end else {
            self.searched = self.waiting.len();
            return Ok(None);
        };
        let line = std::str::from_utf8(&self.waiting[self.taken..end])
            .map_err(|_| "its reply is no text in UTF-8".to_owned())?;
        let line = line.trim_end_matches('\r').to_owned();
        (self.taken, self.searched) = (end + 1, end + 1);
        Ok(Some(line))
    }
}

/// What has come of a reply.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    reply: Reply,
    reasoning: String,
    /// By their index.
    calls: BTreeMap<u64, Call>,
    /// How pictures were read, in the order of the conversation; only our own server tells.
    sights: Vec<Sight>,
    has_finished: bool,
    is_done: bool,
}

/// As much of a call as has come.
#[derive(Debug, Default)]
struct Call {
    id: String,
    name: String,
    arguments: String,
}

impl Gathered {
    /// Takes a line of the stream.
    ///
    /// # Errors
    /// If the server says that something is wrong, or the line is no event.
    pub(super) fn take(
        &mut self,
        line: &str,
        on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, String> {
        // Comments, names of events and empty lines.
        let Some(data) = line.strip_prefix("data:").map(str::trim) else {
            return Ok(on_piece(Piece::Waiting));
        };
        if data == "[DONE]" {
            self.is_done = true;
            return Ok(ControlFlow::Continue(()));
        }
        let event: Value = serde_json::from_str(data)
            .map_err(|error| format!("an event of its reply is no JSON: {error}"))?;
        if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
            let message = error["message"].as_str().or(error.as_str());
            return Err(message.map_or_else(|| error.to_string(), str::to_owned));
        }
        self.count(&event["usage"]);
        self.note(&event["ocelli"]);
        let choice = &event["choices"][0];
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.has_finished = true;
            self.reply.cut_off |= reason == "length";
        }
        self.grow(&choice["delta"], on_piece)
    }

    fn count(&mut self, usage: &Value) {
        let count = |n: &mut usize, value: &Value| {
            if let Some(told) = value.as_u64() {
                *n = usize::try_from(told).unwrap_or(usize::MAX);
            }
        };
        count(&mut self.reply.prompt_tokens, &usage["prompt_tokens"]);
        count(&mut self.reply.generated_tokens, &usage["completion_tokens"]);
        count(&mut self.reply.cached_tokens, &usage["prompt_tokens_details"]["cached_tokens"]);
    }

    /// What our own server tells beside the answer.
    fn note(&mut self, extension: &Value) {
        let notes = extension["notes"].as_array().into_iter().flatten();
        self.reply.notes.extend(notes.filter_map(Value::as_str).map(str::to_owned));
        // A newer server may tell it otherwise.
        if let Ok(sights) = serde_json::from_value(extension["pictures"].clone()) {
            self.sights = sights;
        }
    }

    fn grow(
        &mut self,
        delta: &Value,
        on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, String> {
        let mut flow = ControlFlow::Continue(());
        // Servers call it either.
        let reasoning = delta["reasoning_content"].as_str().or(delta["reasoning"].as_str());
        if let Some(text) = reasoning.filter(|text| !text.is_empty()) {
            self.reasoning.push_str(text);
            flow = on_piece(Piece::Reasoning(text));
        }
        if let Some(text) = delta["content"].as_str().filter(|text| !text.is_empty()) {
            self.reply.text.push_str(text);
            flow = if flow.is_break() { flow } else { on_piece(Piece::Text(text)) };
        }
        for piece in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = piece["index"].as_u64().unwrap_or(0);
            if index >= MAX_CALLS {
                return Err(format!("it makes more than {MAX_CALLS} calls"));
            }
            let call = self.calls.entry(index).or_default();
            let function = &piece["function"];
            for (so_far, piece) in [
                (&mut call.id, &piece["id"]),
                (&mut call.name, &function["name"]),
                (&mut call.arguments, &function["arguments"]),
            ] {
                so_far.push_str(piece.as_str().unwrap_or_default());
            }
        }
        Ok(flow)
    }

    /// Whether the server has said that this is all.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// The reply so far, because nobody waits for the rest. Calls may be incomplete, so there are none.
    pub(super) fn cut_off(self) -> Reply {
        let reasoning = Some(self.reasoning).filter(|text| !text.is_empty());
        Reply { reasoning, cut_off: true, ..self.reply }
    }

    /// The whole reply to a conversation with these pictures.
    ///
    /// # Errors
    /// If it is not whole, or a call cannot be read.
    pub(super) fn reply(mut self, pictures: &[&PictureId]) -> Result<Reply, String> {
        if !self.has_finished {
            return Err("its reply ended before it was complete".into());
        }
        for Call { id, name, arguments } in std::mem::take(&mut self.calls).into_values() {
            let text = if arguments.trim().is_empty() { "{}" } else { &arguments };
            match serde_json::from_str(text) {
                Ok(arguments) => self.reply.calls.push(ToolCall { id, name, arguments }),
                Err(_) if self.reply.cut_off => {
                    self.reply.notes.push(format!("a call of `{name}` was cut off and is left out"));
                }
                Err(error) => {
                    return Err(format!("the model calls `{name}` with what is no object of JSON: {error}"));
                }
            }
        }
        self.reply.reasoning = Some(self.reasoning).filter(|text| !text.is_empty());
        if self.sights.len() == pictures.len() {
            self.reply.sights = pictures.iter().map(|&id| id.clone()).zip(self.sights).collect();
        }
        Ok(self.reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(lines: &[&str]) -> Result<(Reply, String), String> {
        let (mut gathered, mut shown) = (Gathered::default(), String::new());
        let mut on_piece = |piece: Piece<'_>| {
            if let Piece::Text(text) = piece {
                shown.push_str(text);
            }
            ControlFlow::Continue(())
        };
        for line in lines {
            let _ = gathered.take(line, &mut on_piece)?;
        }
        Ok((gathered.reply(&[])?, shown))
    }

    #[test]
    fn pieces_become_a_reply() {
        let (reply, shown) = gather(&[
            ": prompt 5/9",
            "",
            r#"data: {"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
            r#"data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}"#,
            r#"data: {"choices":[{"delta":{"content":"I "}}]}"#,
            r#"data:{"choices":[{"delta":{"content":"look"}}]}"#,
            r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\""}}]}}]}"#,
            r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":": 1}"}},{"index":1,"id":"b","function":{"name":"g","arguments":""}}]}}]}"#,
            r#"data: {"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#,
            r#"data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":5}}}"#,
            "data: [DONE]",
        ])
        .unwrap();
        assert_eq!(
            (reply.text.as_str(), shown.as_str(), reply.reasoning.as_deref()),
            ("I look", "I look", Some("hm"))
        );
        let calls = reply.calls.iter();
        let calls: Vec<String> = calls
            .map(|call| format!("{} {} {}", call.id, call.name, Value::Object(call.arguments.clone())))
            .collect();
        assert_eq!(calls, [r#"a f {"x":1}"#, "b g {}"]);
        assert_eq!(
            (reply.prompt_tokens, reply.cached_tokens, reply.generated_tokens, reply.cut_off),
            (9, 5, 4, false)
        );
    }

    #[test]
    fn our_own_server_tells_how_pictures_were_read() {
        let sight =
            r#"{"original":[9,9],"resized":[28,28],"patch_size":14,"merge_size":2,"n_tokens":1,"notes":[]}"#;
        let last = |pictures: &str| {
            format!(
                r#"data: {{"choices":[{{"delta":{{}},"finish_reason":"stop"}}],"ocelli":{{"notes":["resized",5],"pictures":{pictures}}}}}"#
            )
        };
        let picture = PictureId("77".into());
        let read = |pictures: &str| {
            let mut gathered = Gathered::default();
            let _ = gathered.take(&last(pictures), &mut |_| ControlFlow::Continue(())).unwrap();
            gathered.reply(&[&picture]).unwrap()
        };
        let reply = read(&format!("[{sight}]"));
        assert_eq!(reply.notes, ["resized"]);
        let [(named, sight_of_it)] = &reply.sights[..] else { panic!("{reply:?}") };
        assert_eq!((named, sight_of_it.n_tokens), (&picture, 1));
        // What cannot be of these pictures is passed over.
        for damaged in ["5", "[]", "[{}]", &format!("[{sight},{sight}]")] {
            assert_eq!(read(damaged).sights, [], "{damaged}");
        }
    }

    #[test]
    fn errors_and_damage_are_told() {
        let call = |reason: &str| {
            format!(
                r#"data: {{"choices":[{{"delta":{{"tool_calls":[{{"index":0,"function":{{"name":"f","arguments":"{{\"x\""}}}}]}},"finish_reason":"{reason}"}}]}}"#
            )
        };
        for (line, expected) in [
            (r#"data: {"error":{"message":"too long"}}"#, "too long"),
            (r#"data: {"error":"full"}"#, "full"),
            ("data: {", "no JSON"),
            (r#"data: {"choices":[{"delta":{"tool_calls":[{"index":99999999999}]}}]}"#, "more than 64"),
            (r#"data: {"choices":[{"delta":{"content":"half"}}]}"#, "before it was complete"),
            ("data: 5", "before it was complete"),
            ("data: []", "before it was complete"),
            (r#"data: {"choices":5,"usage":[]}"#, "before it was complete"),
            (&call("tool_calls"), "`f`"),
        ] {
            let error = gather(&[line]).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
        let (reply, _) = gather(&[&call("length")]).unwrap();
        assert!(reply.calls.is_empty() && reply.cut_off && reply.notes[0].contains("`f`"), "{reply:?}");
    }

    #[test]
    fn lines_are_cut_wherever_bytes_are() {
        let text = "data: a\r\n\ndata: grün\nrest";
        for size in 1..text.len() {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for bytes in text.as_bytes().chunks(size) {
                lines.add(bytes).unwrap();
                while let Some(line) = lines.next().unwrap() {
                    found.push(line);
                }
            }
            assert_eq!(found, ["data: a", "", "data: grün"], "{size}");
        }
        let mut lines = Lines::default();
        lines.add(b"\xff\n").unwrap();
        assert!(lines.next().unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn long_lines_and_replies_are_refused() {
        let mut lines = Lines::default();
        let chunk = [b'a'; 1 << 16];
        let refused = (0..).find_map(|n| match lines.add(&chunk).and_then(|()| lines.next()) {
            Ok(line) => {
                assert_eq!(line, None);
                None
            }
            Err(error) => Some((n, error)),
        });
        let (n, error) = refused.unwrap();
        assert!(n <= MAX_LINE >> 16 && error.contains("4 MiB"), "{n}: {error}");

        let mut lines = Lines::default();
        let refused = std::iter::repeat_with(|| {
            let added = lines.add(&[b'\n'; 1 << 20]);
            while added.is_ok() && lines.next().unwrap().is_some() {}
            added
        });
        let error = refused.take((MAX_REPLY >> 20) + 1).find_map(Result::err).unwrap();
        assert!(error.contains("64 MiB"), "{error}");
    }
}
