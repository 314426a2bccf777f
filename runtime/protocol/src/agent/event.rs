//! What happens in a run, for those who watch it: a terminal, a page, a test, a log.

use serde::{Deserialize, Serialize};

use super::transcript::words;
use super::{Ask, Origin, Part, PictureId, ToolCall};
use crate::Sight;

/// A transition of a run, or news from inside one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The model thinks on.
    Reasoning(String),
    /// The model says more.
    Text(String),
    /// The model has read a picture that it had not read before.
    Saw {
        /// The picture.
        picture: PictureId,
        /// What became of it on the way in.
        sight: Sight,
    },
    /// The model has replied.
    Replied {
        /// Its words.
        text: String,
        /// The tools that it calls.
        calls: Vec<ToolCall>,
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Those of them that were known from before.
        cached_tokens: usize,
        /// Tokens of the reply.
        generated_tokens: usize,
    },
    /// A call needs a yes.
    Asked(Ask),
    /// A person has decided about it.
    Decided {
        /// The call.
        call: ToolCall,
        /// Whether it runs.
        allow: bool,
        /// Why.
        reason: Option<String>,
    },
    /// A call runs.
    Calling(ToolCall),
    /// A call has given something, or was refused.
    Returned {
        /// The call.
        call: ToolCall,
        /// What the model reads of it.
        output: ToolOutput,
    },
    /// Something was lost or changed on the way.
    Note(String),
    /// The run is over.
    Finished(Outcome),
}

impl Event {
    /// Whether it is a piece of words that come again as a whole.
    pub fn is_piece(&self) -> bool {
        matches!(self, Self::Reasoning(_) | Self::Text(_))
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The model has answered.
    Answered {
        /// Its words.
        text: String,
    },
    /// The model's last reply was cut off.
    CutOff {
        /// Its words so far.
        text: String,
    },
    /// A limit was reached.
    OutOf {
        /// Steps, tokens or time.
        what: String,
    },
    /// The user ended it.
    Cancelled,
    /// The model could not be asked.
    Failed {
        /// Why.
        message: String,
    },
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolOutput {
    /// What the model reads of it.
    pub parts: Vec<Part>,
    /// Whether the call failed; the parts say how.
    pub failed: bool,
}

impl ToolOutput {
    /// Words.
    pub fn text(origin: Origin, text: impl Into<String>) -> Self {
        Self { parts: vec![Part::text(origin, text)], failed: false }
    }

    /// Words of ours and a picture.
    pub fn picture(text: impl Into<String>, picture: Part) -> Self {
        Self { parts: vec![Part::text(Origin::Computed, text), picture], failed: false }
    }

    /// What went wrong, said by ourselves.
    pub fn error(text: impl Into<String>) -> Self {
        Self::failure(Origin::Computed, text)
    }

    /// What went wrong, in words of which some may come from elsewhere.
    pub fn failure(origin: Origin, text: impl Into<String>) -> Self {
        Self { parts: vec![Part::text(origin, format!("error: {}", text.into()))], failed: true }
    }

    /// All its words.
    pub fn words(&self) -> String {
        words(&self.parts)
    }
}
