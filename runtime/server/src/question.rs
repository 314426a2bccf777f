//! A request in no API's words: what is asked, and how it becomes a prompt.

use engine::{ChatFormat, GenerateOptions, Message, Part, Prompt, Role, ToolCall};

use crate::pictures::{Granted, Picture};
use crate::problem::{Problem, Result};

/// Pictures in one request.
const MAX_PICTURES: usize = 64;

/// What a client asks.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) input: Input,
    pub(crate) options: GenerateOptions,
    /// Whether the answer is sent piece by piece.
    pub(crate) stream: bool,
    /// Whether the oldest messages may be left out if all of them are too long.
    pub(crate) truncate: bool,
    /// What of the request was ignored or changed.
    pub(crate) notes: Vec<String>,
}

/// What the answer goes on from.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// A conversation, put to the model by its template.
    Chat(Vec<Turn>),
    /// A text as it is.
    Text(String),
}

/// A message whose pictures are still to be read.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) role: Role,
    pub(crate) pieces: Vec<Piece>,
}

#[derive(Debug, Clone)]
pub(crate) enum Piece {
    Text(String),
    Picture(Picture),
    Call(ToolCall),
}

impl Question {
    /// Reads the pictures and makes the prompt. Takes a while, so not on a thread that serves.
    pub(crate) fn prompt(&mut self, format: &ChatFormat, granted: &[Granted]) -> Result<Prompt> {
        self.options.sampler().validate()?;
        let mut prompt = match &self.input {
            Input::Text(text) => format.plain_prompt(text),
            Input::Chat(turns) => {
                let pictures = turns.iter().flat_map(|turn| &turn.pieces).filter_map(Piece::picture);
                check_pictures(&pictures.collect::<Vec<_>>(), format)?;
                let messages: Vec<Message> =
                    turns.iter().map(|turn| turn.message(format, granted)).collect::<Result<_>>()?;
                match self.truncate {
                    true => truncated(messages, format, &self.options, &mut self.notes)?,
                    false => format.prompt(&messages, &self.options)?,
                }
            }
        };
        format.check(&prompt)?;
        let room = format.context_limit() - prompt.input.token_ids.len();
        // The last token of an answer is never read, so it needs no room.
        if self.options.max_tokens > room + 1 {
            if self.options.max_tokens != usize::MAX {
                self.notes.push(format!(
                    "the answer may have {} tokens at most, because the prompt leaves no more of the {} that \
                     the model takes",
                    room + 1,
                    format.context_limit()
                ));
            }
            self.options.max_tokens = room + 1;
        }
        self.notes.append(&mut prompt.notes);
        Ok(prompt)
    }
}

/// Tokens that a truncated prompt leaves for its answer, if it is not asked for fewer.
const ROOM: usize = 256;

/// The prompt of as many of the latest messages as the model takes. The first ones go, but not the system text and
/// not the last message; a result does not stay without its call.
fn truncated(
    messages: Vec<Message>,
    format: &ChatFormat,
    options: &GenerateOptions,
    notes: &mut Vec<String>,
) -> Result<Prompt> {
    let n_system = messages.iter().take_while(|message| message.role == Role::System).count();
    // A conversation can begin with any message that is no result.
    let starts: Vec<usize> =
        (n_system..messages.len()).filter(|&i| i == n_system || messages[i].role == Role::User).collect();
    let room = ROOM.min(options.max_tokens).min(format.context_limit() / 2);
    let prompt_from = |start: usize| {
        let kept: Vec<Message> = messages[..n_system].iter().chain(&messages[start..]).cloned().collect();
        format.prompt(&kept, options)
    };
    let (mut low, mut high) = (0, starts.len().saturating_sub(1));
    let whole = prompt_from(n_system)?;
    if whole.input.token_ids.len() + room <= format.context_limit() {
        return Ok(whole);
    }
    // The fewest that must go: each further message makes the prompt longer.
    while low < high {
        let middle = (low + high) / 2;
        let fits = prompt_from(starts[middle])?.input.token_ids.len() + room <= format.context_limit();
        if fits { high = middle } else { low = middle + 1 }
    }
    let start = starts.get(low).copied().unwrap_or(n_system);
    if start > n_system {
        notes.push(format!(
            "the {} oldest messages of {} were left out, because the model takes {} tokens",
            start - n_system,
            messages.len(),
            format.context_limit()
        ));
    }
    Ok(prompt_from(start)?)
}

fn check_pictures(pictures: &[&Picture], format: &ChatFormat) -> Result<()> {
    let Some(first) = pictures.first() else { return Ok(()) };
    if !format.takes_pictures() {
        let message = "this model reads only text; serve a vision-language model to send pictures";
        return Err(Problem::unsupported(&first.field, message));
    }
    match pictures.get(MAX_PICTURES) {
        Some(picture) => Err(Problem::field(
            &picture.field,
            format!("the request has {} pictures, the limit is {MAX_PICTURES}", pictures.len()),
        )),
        None => Ok(()),
    }
}

impl Turn {
    fn message(&self, format: &ChatFormat, granted: &[Granted]) -> Result<Message> {
        let part = |piece: &Piece| match piece {
            Piece::Text(text) => Ok(Part::Text(text.clone())),
            Piece::Picture(picture) => picture.part(format.preprocessor(), granted),
            Piece::Call(call) => Ok(Part::ToolCall(call.clone())),
        };
        Ok(Message { role: self.role, parts: self.pieces.iter().map(part).collect::<Result<_>>()? })
    }
}

impl Piece {
    fn picture(&self) -> Option<&Picture> {
        match self {
            Piece::Text(_) | Piece::Call(_) => None,
            Piece::Picture(picture) => Some(picture),
        }
    }
}
