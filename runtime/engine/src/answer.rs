//! Reasoning, answer and tool calls told apart while the text streams in.

mod calls;

use crate::{ToolCall, guide};
use calls::{Found, OPEN};

/// A part of what the model wrote.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Between `<think>` and `</think>`.
    Reasoning(String),
    /// The answer, without a `<response>` wrapper.
    Text(String),
    /// A whole tool call.
    Call(ToolCall),
    /// What stands where a tool call should, tags included, but cannot be read as one.
    BrokenCall(String),
}

/// What an answer may hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnswerShape {
    /// The prompt ends inside `<think>`.
    pub in_reasoning: bool,
    /// Tools were offered; without, calls stay text as they were written.
    pub tools: bool,
    /// Behind the reasoning and the template's own frame every character counts, whatever it spells.
    pub verbatim: bool,
}

/// Splits streamed text into [`Piece`]s; tags may arrive in any number of parts.
///
/// Newlines next to a tag are dropped. Without `</think>`, all is reasoning if the prompt opened it, else
/// all is answer.
#[derive(Debug, Clone)]
pub struct AnswerParser {
    shape: AnswerShape,
    state: State,
    pending: String,
    n_calls: usize,
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
    /// Inside `<tool_call>`, by its number.
    Call(usize),
    /// After `</tool_call>`, by its number.
    AfterCall(usize),
    Text,
    /// To the end, whatever comes.
    Verbatim,
}

impl AnswerParser {
    /// A parser for an answer of this shape.
    pub fn new(shape: AnswerShape) -> Self {
        let state = if shape.in_reasoning { State::Reasoning(false) } else { State::Start };
        Self { shape, state, pending: String::new(), n_calls: 0 }
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

    /// Whether what comes next is reasoning.
    pub fn is_reasoning(&self) -> bool {
        matches!(self.state, State::Reasoning(_))
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
            State::Start if self.shape.verbatim => {
                let text = self.pending.as_str();
                if self.opens_call(text) {
                    self.open_call(text.len() - OPEN.len());
                } else if last || !self.may_open(text, &[OPEN]) {
                    self.state = State::Verbatim;
                }
            }
            State::Start => self.begin(&["<think>", "<response>", OPEN], last, true),
            State::AfterReasoning if self.shape.verbatim => self.begin_verbatim(last),
            State::AfterReasoning => self.begin(&["<response>", OPEN], last, false),
            State::AfterCall(_) => self.begin(&["<response>", OPEN], last, false),
            State::AfterResponse => {
                let text = self.pending.trim_start_matches('\n');
                if self.opens_call(text) {
                    let rest = text.len() - OPEN.len();
                    self.open_call(rest);
                } else if !text.is_empty() && (last || !self.may_open(text, &[OPEN])) {
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
            State::Call(n) => {
                match calls::find(&self.pending, last, || format!("call_{n}")) {
                    Found::Unfinished => return,
                    Found::Call(call, end) => {
                        self.pending.drain(..end);
                        pieces.push(Piece::Call(call));
                    }
                    Found::Broken(end) => {
                        let raw: String = self.pending.drain(..end).collect();
                        pieces.push(Piece::BrokenCall(OPEN.to_owned() + &raw));
                    }
                }
                self.state = State::AfterCall(n);
            }
            State::Text if self.shape.tools => {
                let at = self.pending.find(OPEN);
                let end = at.unwrap_or_else(|| match last {
                    true => self.pending.len(),
                    false => self.pending.len() - partial_suffix(&self.pending, OPEN),
                });
                // Newlines before a call are not part of the answer; whether one follows is not known yet.
                let shown = match at.is_none() && last {
                    true => end,
                    false => self.pending[..end].trim_end_matches('\n').len(),
                };
                push(pieces, Piece::Text, self.pending[..shown].to_owned());
                match at {
                    Some(at) => self.open_call(self.pending.len() - at - OPEN.len()),
                    None => drop(self.pending.drain(..shown)),
                }
            }
            State::Text | State::Verbatim => push(pieces, Piece::Text, std::mem::take(&mut self.pending)),
        }
    }

    /// Goes on with the first of `tags` that the text begins with, white space apart, or with plain text.
    fn begin(&mut self, tags: &[&str], last: bool, keeps_blank: bool) {
        let text = match keeps_blank {
            true => self.pending.trim_start(),
            false => self.pending.trim_start_matches('\n'),
        };
        let found = tags.iter().find_map(|tag| Some((*tag, text.strip_prefix(*tag)?.len())));
        match found {
            Some(("<think>", rest)) => self.go(State::Reasoning(false), rest),
            Some(("<response>", rest)) => self.go(State::Response(false), rest),
            Some((_, rest)) if self.shape.tools => self.open_call(rest),
            _ if !last && self.may_open(text, tags) => {}
            _ if keeps_blank => self.state = State::Text,
            _ => self.go(State::Text, text.len()),
        }
    }

    /// Takes away what the grammar of `guide` frames an answer with; all else is the answer.
    fn begin_verbatim(&mut self, last: bool) {
        let blank = self.pending.len() - self.pending.trim_start_matches('\n').len();
        let text = &self.pending[blank.min(guide::BEFORE_RESPONSE.len())..];
        if self.opens_call(text) {
            self.open_call(text.len() - OPEN.len());
        } else if let Some(rest) = text.strip_prefix(guide::RESPONSE) {
            self.go(State::Verbatim, rest.len());
        } else if last || !self.may_open(text, &[guide::RESPONSE, OPEN]) {
            self.go(State::Verbatim, self.pending.len() - blank.min(guide::BEFORE_ANSWER.len()));
        }
    }

    fn opens_call(&self, text: &str) -> bool {
        self.shape.tools && text.starts_with(OPEN)
    }

    fn open_call(&mut self, rest_len: usize) {
        self.go(State::Call(self.n_calls), rest_len);
        self.n_calls += 1;
    }

    fn may_open(&self, text: &str, tags: &[&str]) -> bool {
        tags.iter().any(|tag| (*tag != OPEN || self.shape.tools) && tag.starts_with(text))
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
mod tests;
