//! One answer: prefill behind the cached prefix, then token after token until something ends it.

use std::ops::ControlFlow;

use tensor::ExpertUse;
use tokenizer::{Detokenizer, Tokenizer};

use crate::answer::{AnswerParser, AnswerShape, Piece, partial_suffix};
use crate::lookahead::Guesses;
use crate::sampler::SamplerOptions;
use crate::{Constraint, TokenLogprobs, Tool, ToolCall, ToolChoice};

/// How an answer is made. The default is greedy, of at most 256 tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// As [`SamplerOptions::temperature`].
    pub temperature: f64,
    /// As [`SamplerOptions::top_k`].
    pub top_k: usize,
    /// As [`SamplerOptions::top_p`].
    pub top_p: f64,
    /// As [`SamplerOptions::min_p`].
    pub min_p: f64,
    /// As [`SamplerOptions::repetition_penalty`].
    pub repetition_penalty: f64,
    /// As [`SamplerOptions::frequency_penalty`].
    pub frequency_penalty: f64,
    /// As [`SamplerOptions::presence_penalty`].
    pub presence_penalty: f64,
    /// Of the random numbers: the same seed gives the same answer.
    pub seed: u64,
    /// Texts that end the answer, wherever they come, reasoning included; they are not part of it.
    pub stop: Vec<String>,
    /// Tokens of the answer at most; with 0 only the prompt is read.
    pub max_tokens: usize,
    /// Rows of a prefill step.
    pub prefill_chunk: usize,
    /// Whether tokens that are cached from an earlier prompt need not be read again.
    pub reuse_prefix: bool,
    /// Whether to go on after a token that ends an answer.
    pub ignore_eos: bool,
    /// Whether the model shall think first; `None` leaves it to the template.
    pub enable_thinking: Option<bool>,
    /// Tokens that the model may think at most, where its prompt lets it begin; then it must answer.
    pub thinking_budget: Option<usize>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Whether it does.
    pub tool_choice: ToolChoice,
    /// Whether it may call several at once.
    pub parallel_tool_calls: bool,
    /// The form of the answer, if it must have one. Calls are not bound to it, but a call that must be made
    /// takes its place.
    pub constraint: Option<Constraint>,
    /// If each token's probability is to be told, with how many of the likeliest ones beside it.
    pub logprobs: Option<usize>,
    /// Whether tokens are guessed ahead: changes the time, not the answer.
    pub speculation: Speculation,
}

/// From what the tokens after the next one are guessed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Speculation {
    /// Nothing: one token a pass.
    Off,
    /// What followed the last few tokens earlier in the conversation.
    #[default]
    Lookup,
    /// That first, else a head of the model's own that predicts further tokens, if it has one.
    Head,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        let greedy = SamplerOptions::default();
        Self {
            temperature: greedy.temperature,
            top_k: greedy.top_k,
            top_p: greedy.top_p,
            min_p: greedy.min_p,
            repetition_penalty: greedy.repetition_penalty,
            frequency_penalty: greedy.frequency_penalty,
            presence_penalty: greedy.presence_penalty,
            seed: 0,
            stop: Vec::new(),
            max_tokens: 256,
            prefill_chunk: 512,
            reuse_prefix: true,
            ignore_eos: false,
            enable_thinking: None,
            thinking_budget: None,
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            constraint: None,
            logprobs: None,
            speculation: Speculation::default(),
        }
    }
}

impl GenerateOptions {
    /// What the sampler needs of them.
    pub fn sampler(&self) -> SamplerOptions {
        SamplerOptions {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
        }
    }
}

/// Something happened; who is told may answer `Break` to cancel.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// So many of the prompt's new tokens are read.
    Prefill {
        /// Read so far.
        done: usize,
        /// To be read.
        total: usize,
    },
    /// A token was chosen, whether or not it shows yet.
    Token(u32),
    /// How likely that token was, if the options ask for it.
    Logprobs(TokenLogprobs),
    /// More of what the model thinks.
    Reasoning(String),
    /// More of the answer.
    Text(String),
    /// A call of a tool, complete.
    ToolCall(ToolCall),
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The model ended it.
    Eos,
    /// A stop text came.
    StopString,
    /// It has as many tokens as were asked for.
    MaxTokens,
    /// The model takes no more tokens.
    ContextFull,
    /// The caller cancelled.
    Cancelled,
}

/// What the model said, and what that took.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The answer.
    pub text: String,
    /// What the model thought before it.
    pub reasoning: Option<String>,
    /// The tools that it calls.
    pub tool_calls: Vec<ToolCall>,
    /// All generated tokens but the one that ends the answer.
    pub token_ids: Vec<u32>,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// The stop text that came, if one ended it.
    pub stop_text: Option<String>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that were cached.
    pub cached_tokens: usize,
    /// Tokens that were generated, the ending one included.
    pub generated_tokens: usize,
    /// Those of them that the model thought with, the end of its thoughts included.
    pub reasoning_tokens: usize,
    /// What guessing tokens ahead brought.
    pub guesses: Guesses,
    /// From the call to the first token.
    pub ttft_ms: f64,
    /// Reading the prompt.
    pub prefill_ms: f64,
    /// From the first token to the end.
    pub decode_ms: f64,
    /// What routed experts cost meanwhile, if they share a budget of memory; other answers count in, too.
    pub experts: Option<ExpertUse>,
    /// Finding the tokens that the form of the answer allows, of all tokens together.
    pub mask_ms: f64,
    /// Everything that was lost or changed on the way in, and calls that could not be read.
    pub notes: Vec<String>,
}

/// Tags that the answer's parser needs to see, though vocabularies hide them as control tokens.
pub(crate) const TAGS: [&str; 6] =
    ["<think>", "</think>", "<response>", "</response>", "<tool_call>", "</tool_call>"];

/// Tokens to events: detokenises, watches for stop texts, tells reasoning from answer.
pub(crate) struct TextStream {
    detokenizer: Detokenizer,
    tags: Vec<(u32, &'static str)>,
    stops: StopStrings,
    parser: AnswerParser,
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) tool_calls: Vec<ToolCall>,
    pub(crate) notes: Vec<String>,
}

impl TextStream {
    pub(crate) fn new(tokenizer: &Tokenizer, stop: &[String], shape: AnswerShape) -> Self {
        Self {
            detokenizer: tokenizer.detokenizer(true),
            tags: TAGS.iter().filter_map(|tag| Some((tokenizer.token_id(tag)?, *tag))).collect(),
            stops: StopStrings::new(stop),
            parser: AnswerParser::new(shape),
            text: String::new(),
            reasoning: String::new(),
            tool_calls: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Takes a token; whether a stop text is complete with it.
    pub(crate) fn push(&mut self, id: u32, emit: &mut dyn FnMut(Event)) -> bool {
        let spelt = match self.tags.iter().find(|&&(tag, _)| tag == id) {
            Some((_, tag)) => self.detokenizer.finish() + tag,
            None => self.detokenizer.push(id),
        };
        let (text, stopped) = self.stops.push(&spelt);
        let pieces = self.parser.push(&text);
        self.emit(pieces, emit);
        stopped
    }

    /// Whether the model is thinking.
    pub(crate) fn is_reasoning(&self) -> bool {
        self.parser.is_reasoning()
    }

    /// The stop text that came.
    pub(crate) fn stop_text(&self) -> Option<&str> {
        self.stops.hit.as_deref()
    }

    /// Ends the stream. What was held back in fear of a stop text is shown, unless one came.
    pub(crate) fn finish(&mut self, stopped: bool, emit: &mut dyn FnMut(Event)) {
        if !stopped {
            let (text, _) = self.stops.push(&self.detokenizer.finish());
            let pieces = self.parser.push(&(text + &self.stops.finish()));
            self.emit(pieces, emit);
        }
        let pieces = self.parser.finish();
        self.emit(pieces, emit);
    }

    fn emit(&mut self, pieces: Vec<Piece>, emit: &mut dyn FnMut(Event)) {
        for piece in pieces {
            emit(match piece {
                Piece::Reasoning(text) => {
                    self.reasoning.push_str(&text);
                    Event::Reasoning(text)
                }
                Piece::Text(text) => {
                    self.text.push_str(&text);
                    Event::Text(text)
                }
                Piece::Call(call) => {
                    self.tool_calls.push(call.clone());
                    Event::ToolCall(call)
                }
                Piece::BrokenCall(raw) => {
                    self.notes.push("a tool call could not be read and stands in the answer as text".into());
                    self.text.push_str(&raw);
                    Event::Text(raw)
                }
            });
        }
    }
}

/// Lets text through up to the first stop text, and holds back what may be the beginning of one.
struct StopStrings {
    stops: Vec<String>,
    pending: String,
    /// The one that came.
    hit: Option<String>,
}

impl StopStrings {
    fn new(stops: &[String]) -> Self {
        Self {
            stops: stops.iter().filter(|stop| !stop.is_empty()).cloned().collect(),
            pending: String::new(),
            hit: None,
        }
    }

    /// The text that is certain, and whether a stop text follows it.
    fn push(&mut self, text: &str) -> (String, bool) {
        self.pending.push_str(text);
        let found = self.stops.iter().filter_map(|stop| Some((self.pending.find(stop.as_str())?, stop)));
        if let Some((at, stop)) = found.min_by_key(|&(at, _)| at) {
            self.hit = Some(stop.clone());
            self.pending.truncate(at);
            return (std::mem::take(&mut self.pending), true);
        }
        let held = self.stops.iter().map(|stop| partial_suffix(&self.pending, stop)).max().unwrap_or(0);
        let certain = self.pending.len() - held;
        (self.pending.drain(..certain).collect(), false)
    }

    fn finish(&mut self) -> String {
        std::mem::take(&mut self.pending)
    }
}

/// Calls `on_event` until it breaks, and remembers that.
pub(crate) struct Listener<'a> {
    pub(crate) on_event: &'a mut dyn FnMut(Event) -> ControlFlow<()>,
    pub(crate) cancelled: bool,
}

impl Listener<'_> {
    pub(crate) fn tell(&mut self, event: Event) {
        if !self.cancelled {
            self.cancelled = (self.on_event)(event).is_break();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stops: &[&str], parts: &[&str], expected: &[&str], stopped: bool) {
        let mut stream = StopStrings::new(&stops.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        let mut found = Vec::new();
        let mut hit = false;
        for part in parts {
            let (text, stop) = stream.push(part);
            found.push(text);
            hit |= stop;
        }
        assert_eq!(found, expected);
        assert_eq!(hit, stopped);
    }

    #[test]
    fn stop_texts_span_parts_and_never_show() {
        check(&["END"], &["aE", "N", "Db"], &["a", "", ""], true);
        check(&["END"], &["aE", "N", "x"], &["a", "", "ENx"], false);
        check(&["aab"], &["aa", "ab"], &["", "a"], true);
        check(&["lo w", "llo"], &["hel", "lo world"], &["he", ""], true);
        check(&["é"], &["caf", "é!"], &["caf", ""], true);
        check(&[""], &["abc"], &["abc"], false);
    }
}
