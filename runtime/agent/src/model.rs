//! What an agent needs of a language model.

use std::ops::ControlFlow;

use protocol::Sight;
use protocol::agent::{PictureId, ToolCall, Turn};
use serde::{Deserialize, Serialize};

use crate::pictures::Pictures;
use crate::tool::ToolSpec;
use crate::{LocalFuture, Result};

/// What a model is asked.
pub struct Request<'a> {
    /// The conversation.
    pub turns: &'a [Turn],
    /// The bytes of its pictures.
    pub pictures: &'a Pictures,
    /// What the model may call.
    pub tools: &'a [ToolSpec],
    /// Whether it calls one.
    pub choice: Choice,
    /// Tokens of the reply at most.
    pub max_tokens: usize,
}

/// Whether a model calls a tool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// As it likes.
    #[default]
    Free,
    /// It must call one, and no more than that.
    Call,
    /// It must answer without a call.
    Answer,
}

/// News of a reply in the making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    /// More of what the model thinks.
    Reasoning(&'a str),
    /// More of its words.
    Text(&'a str),
    /// It is still at work.
    Waiting,
}

/// What a model replied.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Its words.
    pub text: String,
    /// What it thought before.
    pub reasoning: Option<String>,
    /// The tools that it calls.
    pub calls: Vec<ToolCall>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that were known from before.
    pub cached_tokens: usize,
    /// Tokens of the reply.
    pub generated_tokens: usize,
    /// Whether a limit cut the reply off.
    pub cut_off: bool,
    /// What was lost or changed on the way in.
    pub notes: Vec<String>,
    /// How the model read the pictures of the conversation, if that is known.
    #[serde(default)]
    pub sights: Vec<(PictureId, Sight)>,
}

/// A language model that sees and calls tools: one inside this program, one behind an API, or a script.
pub trait ChatModel {
    /// Replies to a conversation, and tells what happens meanwhile; if that breaks, the reply is cut off.
    ///
    /// # Errors
    /// If the model cannot reply.
    fn reply<'a>(
        &'a mut self,
        request: Request<'a>,
        on_piece: &'a mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> LocalFuture<'a, Result<Reply>>;
}
