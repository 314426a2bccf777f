//! Tools that a model may call, and calls as it makes them.

use serde_json::{Map, Value, json};

use crate::{Error, Result};

/// Bytes of a tool's name.
const MAX_NAME: usize = 128;

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// Says to the model what it does and when to use it.
    pub description: String,
    /// JSON Schema of its arguments, an object.
    pub parameters: Value,
}

/// Whether the model calls tools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// It answers without.
    None,
    /// It calls at least one.
    Required,
    /// It calls this one, once.
    Named(String),
}

/// A call that the model made.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Tells it from other calls of the conversation; whoever keeps the conversation may give it a better one.
    pub id: String,
    /// The tool.
    pub name: String,
    /// What for, by name.
    pub arguments: Map<String, Value>,
}

impl Tool {
    /// As OpenAI and the templates of checkpoints write it.
    pub fn to_json(&self) -> Value {
        json!({
            "type": "function",
            "function": { "name": self.name, "description": self.description, "parameters": self.parameters },
        })
    }

    /// Checks name and schema.
    ///
    /// # Errors
    /// If the name could not be written into a prompt, or `parameters` is no object.
    pub fn validate(&self) -> Result<()> {
        let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let name = &self.name;
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(is_fine) {
            return Err(Error::Options(format!(
                "the tool name {name:?} must be 1 to {MAX_NAME} letters, digits, `_`, `-` or `.`"
            )));
        }
        match self.parameters.is_object() {
            true => Ok(()),
            false => {
                Err(Error::Options(format!("the parameters of tool `{name}` must be a JSON Schema object")))
            }
        }
    }
}

impl ToolCall {
    /// Reads `{"name": …, "arguments": {…}}`; arguments may also be a text that holds the object.
    pub fn from_json(value: Value, id: String) -> Option<Self> {
        let Value::Object(mut members) = value else { return None };
        let Some(Value::String(name)) = members.remove("name") else { return None };
        let arguments = match members.remove("arguments").or_else(|| members.remove("parameters")) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(arguments)) => arguments,
            Some(Value::String(text)) => serde_json::from_str(&text).ok()?,
            Some(_) => return None,
        };
        Some(Self { id, name, arguments })
    }

    /// `{"name": …, "arguments": {…}}`.
    pub fn to_json(&self) -> Value {
        json!({ "name": self.name, "arguments": self.arguments })
    }
}

/// The tools that `choice` leaves.
///
/// # Errors
/// If a tool makes no sense, two have one name, or `choice` needs one that is not there.
pub(crate) fn offered<'a>(tools: &'a [Tool], choice: &ToolChoice) -> Result<Vec<&'a Tool>> {
    for (i, tool) in tools.iter().enumerate() {
        tool.validate()?;
        if tools[..i].iter().any(|earlier| earlier.name == tool.name) {
            return Err(Error::Options(format!("two tools are called `{}`", tool.name)));
        }
    }
    match choice {
        ToolChoice::None => Ok(Vec::new()),
        ToolChoice::Auto => Ok(tools.iter().collect()),
        ToolChoice::Required if tools.is_empty() => {
            Err(Error::Options("a tool call is required, but no tools are given".into()))
        }
        ToolChoice::Required => Ok(tools.iter().collect()),
        ToolChoice::Named(name) => match tools.iter().find(|tool| tool.name == *name) {
            Some(tool) => Ok(vec![tool]),
            None => {
                let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
                Err(Error::Options(format!("there is no tool `{name}`; given are {names:?}")))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str) -> Tool {
        Tool { name: name.into(), description: String::new(), parameters: json!({ "type": "object" }) }
    }

    #[test]
    fn choices_name_what_is_missing() {
        let tools = [tool("a"), tool("b")];
        assert_eq!(offered(&tools, &ToolChoice::Named("b".into())).unwrap(), [&tools[1]]);
        assert!(offered(&tools, &ToolChoice::None).unwrap().is_empty());
        let refused = |tools: &[Tool], choice| offered(tools, &choice).unwrap_err().to_string();
        assert!(
            refused(&tools, ToolChoice::Named("c".into())).contains("no tool `c`; given are [\"a\", \"b\"]")
        );
        assert!(refused(&[], ToolChoice::Required).contains("no tools are given"));
        assert!(refused(&[tool("a"), tool("a")], ToolChoice::Auto).contains("two tools are called `a`"));
        assert!(refused(&[tool("a\"}")], ToolChoice::None).contains("tool name"));
    }

    #[test]
    fn arguments_may_be_a_text() {
        let read =
            |value| ToolCall::from_json(value, String::new()).map(|call| Value::Object(call.arguments));
        assert_eq!(read(json!({"name": "f", "arguments": "{\"a\": 1}"})), Some(json!({"a": 1})));
        assert_eq!(read(json!({"name": "f"})), Some(json!({})));
        assert_eq!(read(json!({"name": "f", "arguments": [1]})), None);
        assert_eq!(read(json!({"arguments": {}})), None);
    }
}
