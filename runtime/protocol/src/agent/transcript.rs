//! What was said and done, and where each part of it came from.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sets the rules.
    System,
    /// Asks.
    User,
    /// The model.
    Assistant,
    /// The result of a call.
    Tool,
}

/// Where a part of a message came from. Whatever comes from outside may hold instructions of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Typed by the user, or set up by them.
    User,
    /// Written by the model.
    Model,
    /// Computed here from nothing but the model's own words: a sum, the time.
    Computed,
    /// Read from a file.
    File,
    /// Seen in a picture.
    Picture,
    /// Told by a tool of somebody else.
    Tool,
    /// Fetched from the web.
    Web,
}

impl Origin {
    /// Whether somebody other than user and model may have chosen the words.
    pub fn is_foreign(self) -> bool {
        !matches!(self, Origin::User | Origin::Model | Origin::Computed)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::User => "the user",
            Origin::Model => "the model",
            Origin::Computed => "a computation",
            Origin::File => "a file",
            Origin::Picture => "a picture",
            Origin::Tool => "a tool",
            Origin::Web => "the web",
        })
    }
}

/// Names a picture by its bytes: the hexadecimal SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PictureId(pub String);

impl PictureId {
    /// The name of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// A call that the model made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Tells it from other calls of the transcript.
    pub id: String,
    /// The tool.
    pub name: String,
    /// What for, by name.
    pub arguments: Map<String, Value>,
}

/// What a part of a message is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Words.
    Text(String),
    /// A picture file, whose bytes are kept elsewhere.
    Picture(PictureId),
    /// A call of a tool.
    Call(ToolCall),
}

/// A part of a message with its origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Where it came from.
    pub origin: Origin,
    /// What it is.
    pub content: Content,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Who says it.
    pub role: Role,
    /// What, in order.
    pub parts: Vec<Part>,
    /// The call that it answers, if it is the result of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// What the model thought before it. It is kept for people; the model does not see it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
}

impl Part {
    /// Words.
    pub fn text(origin: Origin, text: impl Into<String>) -> Self {
        Self { origin, content: Content::Text(text.into()) }
    }
}

impl Turn {
    /// A message of these parts.
    pub fn new(role: Role, parts: Vec<Part>) -> Self {
        Self { role, parts, call_id: None, reasoning: None }
    }

    /// A message of the user's words.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, vec![Part::text(Origin::User, text)])
    }

    /// All its words.
    pub fn text(&self) -> String {
        words(&self.parts)
    }

    /// The names of its pictures.
    pub fn pictures(&self) -> impl Iterator<Item = &PictureId> {
        self.parts.iter().filter_map(|part| match &part.content {
            Content::Picture(id) => Some(id),
            _ => None,
        })
    }

    /// The calls that it makes.
    pub fn calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.parts.iter().filter_map(|part| match &part.content {
            Content::Call(call) => Some(call),
            _ => None,
        })
    }
}

pub(super) fn words(parts: &[Part]) -> String {
    let texts = parts.iter().filter_map(|part| match &part.content {
        Content::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}
