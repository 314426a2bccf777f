//! A model that says what it was told to say.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use protocol::agent::Turn;

use crate::model::{ChatModel, Choice, Piece, Reply, Request};
use crate::{Error, LocalFuture, Result};

/// What a scripted model was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The conversation.
    pub turns: Vec<Turn>,
    /// The names of the tools.
    pub tools: Vec<String>,
    /// Whether it had to call one.
    pub choice: Choice,
}

/// Replies in the order of a script, and remembers what it was asked.
#[derive(Debug, Clone, Default)]
pub struct Scripted {
    replies: VecDeque<Reply>,
    /// What it was asked so far.
    pub seen: Vec<Seen>,
}

impl Scripted {
    /// A model with this script.
    pub fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self { replies: replies.into_iter().collect(), seen: Vec::new() }
    }
}

impl ChatModel for Scripted {
    fn reply<'a>(
        &'a mut self,
        request: Request<'a>,
        on_piece: &'a mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> LocalFuture<'a, Result<Reply>> {
        Box::pin(async move {
            self.seen.push(Seen {
                turns: request.turns.to_vec(),
                tools: request.tools.iter().map(|tool| tool.name.clone()).collect(),
                choice: request.choice,
            });
            let mut reply =
                self.replies.pop_front().ok_or_else(|| Error::Remote("the script has ended".into()))?;
            let mut cut = on_piece(Piece::Waiting).is_break();
            if let Some(reasoning) = &reply.reasoning {
                cut |= on_piece(Piece::Reasoning(reasoning)).is_break();
            }
            cut |= !reply.text.is_empty() && on_piece(Piece::Text(&reply.text)).is_break();
            reply.cut_off |= cut;
            Ok(reply)
        })
    }
}
