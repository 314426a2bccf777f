//! What a call would do, and the question whether it may.

use serde::{Deserialize, Serialize};

use super::{Origin, ToolCall};

/// What a call would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing that anybody would notice: it computes, or reads what it was granted.
    None,
    /// It changes something that it was granted: a file below a folder.
    Changes(Subject),
    /// It reaches beyond what was granted.
    Reaches(Subject),
}

/// What an effect is about, and what a rule may be about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Everything that the tool does.
    Anything,
    /// A folder and what is below it.
    Folder(String),
    /// A host by its name.
    Host(String),
    /// A server of tools, by where it is.
    Server(String),
}

impl Subject {
    /// Whether what holds for this holds for `other`.
    pub fn covers(&self, other: &Subject) -> bool {
        match (self, other) {
            (Subject::Anything, _) => true,
            (Subject::Folder(own), Subject::Folder(other)) => {
                let rest = other.strip_prefix(own.trim_end_matches('/'));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            (own, other) => own == other,
        }
    }
}

/// A question to a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// The call with its exact arguments.
    pub call: ToolCall,
    /// What it would do.
    pub effect: Effect,
    /// What the model has read before it made the call, beside the words of the user.
    pub foreign: Vec<Origin>,
}

impl Ask {
    /// What a rule about such calls would be about.
    pub fn subject(&self) -> &Subject {
        match &self.effect {
            Effect::None => &Subject::Anything,
            Effect::Changes(subject) | Effect::Reaches(subject) => subject,
        }
    }
}
