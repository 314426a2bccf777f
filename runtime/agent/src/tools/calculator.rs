//! `calculator`.

use protocol::agent::{Effect, Origin, ToolOutput};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::expression::evaluate;
use crate::LocalFuture;
use crate::tool::{Context, Tool, ToolSpec, read_arguments};

/// Computes, so that the model need not.
#[derive(Debug)]
pub struct Calculator {
    spec: ToolSpec,
}

#[derive(Deserialize)]
struct Arguments {
    expression: String,
}

impl Calculator {
    /// The tool.
    #[expect(clippy::new_without_default, reason = "a tool is put in by name, never by default")]
    pub fn new() -> Self {
        let spec = ToolSpec {
            name: "calculator".into(),
            description:
                "Computes an arithmetic expression exactly as written: + - * / % ^, brackets, pi, e, \
                          sqrt, abs, round, floor, ceil, exp, ln, log10, log2, sin, cos, tan."
                    .into(),
            parameters: json!({
                "type": "object",
                "properties": { "expression": {
                    "type": "string", "description": "such as (3 + 4) * 2.5",
                    // What cannot be computed need not be written, and a small model would never end.
                    "pattern": "^[-+*/%^() .,0-9a-z]+$", "maxLength": 200,
                } },
                "required": ["expression"],
                "additionalProperties": false,
            }),
        };
        Self { spec }
    }
}

impl Tool for Calculator {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn effect(&self, _: &Map<String, Value>) -> Effect {
        Effect::None
    }

    fn call<'a>(&'a self, arguments: &'a Map<String, Value>, _: Context<'a>) -> LocalFuture<'a, ToolOutput> {
        Box::pin(async move {
            let value = read_arguments::<Arguments>(arguments).and_then(|it| evaluate(&it.expression));
            match value {
                Ok(value) => ToolOutput::text(Origin::Computed, value.to_string()),
                Err(error) => ToolOutput::error(error),
            }
        })
    }
}
