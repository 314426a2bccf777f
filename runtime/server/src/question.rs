//! A request in no API's words: what is asked, and how it becomes a prompt.

use engine::{ChatFormat, GenerateOptions, Message, Part, Prompt, Role};

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
                format.prompt(&messages, &self.options)?
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
        };
        Ok(Message { role: self.role, parts: self.pieces.iter().map(part).collect::<Result<_>>()? })
    }
}

impl Piece {
    fn picture(&self) -> Option<&Picture> {
        match self {
            Piece::Text(_) => None,
            Piece::Picture(picture) => Some(picture),
        }
    }
}
