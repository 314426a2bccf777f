//! Answers of a given form: at each step only tokens are left that the form can go on with.
//!
//! One grammar describes an answer from its first token to its last: reasoning if the prompt opened it, the
//! frame that the template trained the model to write, then the answer or tool calls. So thinking, tools and a
//! form for the answer hold together, and where reasoning ends inside a token nothing is lost.

#[cfg(all(feature = "guidance", not(target_family = "wasm")))]
mod grammar;
#[cfg(all(feature = "guidance", not(target_family = "wasm")))]
mod matcher;
#[cfg(not(all(feature = "guidance", not(target_family = "wasm"))))]
mod unguided;
#[cfg(all(feature = "guidance", not(target_family = "wasm")))]
mod vocabulary;

use serde_json::Value;

#[cfg(all(feature = "guidance", not(target_family = "wasm")))]
pub(crate) use matcher::{Guide, Guides};
#[cfg(not(all(feature = "guidance", not(target_family = "wasm"))))]
pub(crate) use unguided::{Guide, Guides};

/// What a model that wraps its answers writes between its reasoning and [`RESPONSE`].
pub(crate) const BEFORE_RESPONSE: &str = "\n\n\n";
/// How such a model opens its answer.
pub(crate) const RESPONSE: &str = "<response>\n";
/// What other models write between reasoning and answer.
pub(crate) const BEFORE_ANSWER: &str = "\n\n";

/// The form of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Constraint {
    /// A JSON text that this JSON Schema holds for.
    JsonSchema(Value),
    /// A text that this regular expression matches from end to end, in the syntax of the `regex` crate.
    Regex(String),
    /// A text of this grammar, in llguidance's dialect of Lark; it begins at the rule `start`.
    Lark(String),
}

impl Constraint {
    /// Any JSON object.
    pub fn json_object() -> Self {
        Self::JsonSchema(serde_json::json!({ "type": "object" }))
    }
}

/// What a grammar is made for.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(all(feature = "guidance", not(target_family = "wasm"))),
    expect(dead_code, reason = "read where there are grammars")
)]
pub(crate) struct Form<'a> {
    pub(crate) constraint: Option<&'a Constraint>,
    pub(crate) tools: &'a [&'a crate::Tool],
    pub(crate) must_call: bool,
    pub(crate) may_call_more: bool,
    /// The prompt ends inside `<think>`.
    pub(crate) in_reasoning: bool,
    /// The template frames answers with `<response>`.
    pub(crate) wraps_answers: bool,
}
