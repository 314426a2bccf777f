//! Reasoning and answer told apart while the text streams in.

/// A part of what the model wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Between `<think>` and `</think>`.
    Reasoning(String),
    /// The answer, without a `<response>` wrapper; tool calls stay as they were written.
    Text(String),
}

/// Splits streamed text into [`Piece`]s; tags may arrive in any number of parts.
///
/// Newlines next to a tag are dropped. Without `</think>`, all is reasoning if the prompt opened it, else
/// all is answer.
#[derive(Debug, Clone)]
pub struct AnswerParser {
    state: State,
    pending: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space so far; a tag may follow.
    Start,
    /// Inside `<think>`; whether any text was seen.
    Reasoning(bool),
    /// After `</think>`.
    AfterReasoning,
    /// Inside `<response>`; whether any text was seen.
    Response(bool),
    /// After `</response>`.
    AfterResponse,
    Text,
}

impl AnswerParser {
    /// A parser for the answer to a prompt that ends inside `<think>`, or does not.
    pub fn new(in_reasoning: bool) -> Self {
        let state = if in_reasoning { State::Reasoning(false) } else { State::Start };
        Self { state, pending: String::new() }
    }

    /// Takes more text and returns what is certain with it.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.pending.push_str(text);
        self.run(false)
    }

    /// Ends the text and returns what was held back.
    pub fn finish(&mut self) -> Vec<Piece> {
        self.run(true)
    }

    fn run(&mut self, last: bool) -> Vec<Piece> {
        let mut pieces = Vec::new();
        loop {
            let before = self.state;
            self.step(last, &mut pieces);
            if self.state == before {
                return pieces;
            }
        }
    }

    /// Does what the state asks; if that changes the state, there may be more to do.
    fn step(&mut self, last: bool, pieces: &mut Vec<Piece>) {
        match self.state {
            State::Start => {
                let text = self.pending.trim_start();
                if let Some(rest) = text.strip_prefix("<think>") {
                    self.go(State::Reasoning(false), rest.len());
                } else if let Some(rest) = text.strip_prefix("<response>") {
                    self.go(State::Response(false), rest.len());
                } else if last || !may_become(text, &["<think>", "<response>"]) {
                    self.state = State::Text;
                }
            }
            State::AfterReasoning => {
                let text = self.pending.trim_start_matches('\n');
                if let Some(rest) = text.strip_prefix("<response>") {
                    self.go(State::Response(false), rest.len());
                } else if last || !may_become(text, &["<response>"]) {
                    self.go(State::Text, text.len());
                }
            }
            State::AfterResponse => {
                let text = self.pending.trim_start_matches('\n');
                if !text.is_empty() {
                    pieces.push(Piece::Text("\n".to_owned()));
                    self.go(State::Text, text.len());
                }
            }
            State::Reasoning(begun) => {
                let (text, closed) = self.until("</think>", begun, last);
                let begun = begun || !text.is_empty();
                self.state = if closed { State::AfterReasoning } else { State::Reasoning(begun) };
                push(pieces, Piece::Reasoning, text);
            }
            State::Response(begun) => {
                let (text, closed) = self.until("</response>", begun, last);
                let begun = begun || !text.is_empty();
                self.state = if closed { State::AfterResponse } else { State::Response(begun) };
                push(pieces, Piece::Text, text);
            }
            State::Text => push(pieces, Piece::Text, std::mem::take(&mut self.pending)),
        }
    }

    fn go(&mut self, state: State, rest_len: usize) {
        self.pending.drain(..self.pending.len() - rest_len);
        self.state = state;
    }

    /// Takes the text before `tag`, and whether the tag came. Newlines wait until something follows.
    fn until(&mut self, tag: &str, begun: bool, last: bool) -> (String, bool) {
        if !begun {
            let blank = self.pending.len() - self.pending.trim_start_matches('\n').len();
            self.pending.drain(..blank);
        }
        let found = self.pending.find(tag);
        let end = match found {
            Some(at) => at,
            None if last => self.pending.len(),
            None => self.pending.len() - partial_suffix(&self.pending, tag),
        };
        let text = self.pending[..end].trim_end_matches('\n').to_owned();
        let taken = match found {
            Some(at) => at + tag.len(),
            None if last => end,
            None => text.len(),
        };
        self.pending.drain(..taken);
        (text, found.is_some())
    }
}

fn push(pieces: &mut Vec<Piece>, kind: fn(String) -> Piece, text: String) {
    if !text.is_empty() {
        pieces.push(kind(text));
    }
}

fn may_become(text: &str, tags: &[&str]) -> bool {
    tags.iter().any(|tag| tag.starts_with(text))
}

/// Length of the longest end of `text` that `word` begins with, but for the whole word.
pub(crate) fn partial_suffix(text: &str, word: &str) -> usize {
    let longest = text.len().min(word.len().saturating_sub(1));
    (1..=longest).rev().find(|&n| text.as_bytes().ends_with(&word.as_bytes()[..n])).unwrap_or(0)
}

/// The answer alone, as templates keep it of earlier turns.
pub(crate) fn without_reasoning(text: &str) -> &str {
    text.rsplit_once("</think>").map_or(text, |(_, answer)| answer.trim_start_matches('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in parts of every length; reasoning and answer must not depend on it.
    #[track_caller]
    fn check(in_reasoning: bool, text: &str, reasoning: &str, answer: &str) {
        let chars: Vec<char> = text.chars().collect();
        for part in 1..=chars.len().max(1) {
            let mut parser = AnswerParser::new(in_reasoning);
            let mut pieces = Vec::new();
            for part in chars.chunks(part) {
                pieces.extend(parser.push(&part.iter().collect::<String>()));
            }
            pieces.extend(parser.finish());
            let mut found = (String::new(), String::new());
            for piece in pieces {
                match piece {
                    Piece::Reasoning(text) => found.0.push_str(&text),
                    Piece::Text(text) => found.1.push_str(&text),
                }
            }
            assert_eq!(found, (reasoning.to_owned(), answer.to_owned()), "{text:?} in parts of {part}");
        }
    }

    #[test]
    fn opened_reasoning_ends_at_its_tag() {
        check(true, "because\n\nso\n</think>\n\n\n<response>\nYes.\n</response>\n", "because\n\nso", "Yes.");
        check(true, "\nbecause</think>\n\nYes.\n", "because", "Yes.\n");
        check(true, "a < b </thin </think>c", "a < b </thin ", "c");
        check(true, "never closed\n", "never closed", "");
        check(true, "</think>x", "", "x");
    }

    #[test]
    fn without_reasoning_all_is_answer() {
        check(false, "a </think> b", "", "a </think> b");
        check(false, "  plain\n", "", "  plain\n");
        check(false, "<thin air", "", "<thin air");
        check(false, "", "", "");
    }

    #[test]
    fn the_model_may_open_reasoning_itself() {
        check(false, "\n<think>\nhm\n</think>\n\nYes", "hm", "Yes");
        check(false, "<response>\n\nYes\nand no\n</response>", "", "Yes\nand no");
    }

    #[test]
    fn tool_calls_stay_text() {
        let call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n";
        check(true, &format!("hm\n</think>\n\n\n{call}"), "hm", call);
        check(true, &format!("</think><response>\nok\n</response>\n{call}"), "", &format!("ok\n{call}"));
    }
}
