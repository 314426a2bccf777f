//! What a tool is.

use std::ops::ControlFlow;
use std::rc::Rc;

use protocol::agent::{Effect, ToolCall, ToolOutput, Turn};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::LocalFuture;
use crate::pictures::Pictures;

/// What the model is told of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// Letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// What it does and when to use it.
    pub description: String,
    /// JSON Schema of its arguments, an object.
    pub parameters: Value,
}

/// What a call has to work with.
pub struct Context<'a> {
    /// The conversation so far, in which pictures are numbered.
    pub turns: &'a [Turn],
    /// The bytes of pictures; a tool may add some.
    pub pictures: &'a mut Pictures,
    /// A tool that waits for others calls this now and then, tells of its progress, and gives up if it breaks.
    pub wait: &'a mut dyn FnMut(Option<&str>) -> ControlFlow<()>,
}

/// Something that the model may call.
pub trait Tool {
    /// What the model is told.
    fn spec(&self) -> &ToolSpec;

    /// What a call with these arguments would do; asked before it runs. Arguments that make no sense have no
    /// effect, because the call will say so.
    fn effect(&self, arguments: &Map<String, Value>) -> Effect;

    /// Runs. What goes wrong is told to the model, which may try again.
    fn call<'a>(
        &'a self,
        arguments: &'a Map<String, Value>,
        context: Context<'a>,
    ) -> LocalFuture<'a, ToolOutput>;
}

/// The tools of an agent, by their names.
#[derive(Clone, Default)]
pub struct Toolbox {
    tools: Vec<Rc<dyn Tool>>,
}

impl Toolbox {
    /// Adds a tool.
    ///
    /// # Errors
    /// If there is one of that name.
    pub fn add(&mut self, tool: impl Tool + 'static) -> Result<(), crate::Error> {
        self.add_shared(Rc::new(tool))
    }

    /// As [`add`](Self::add).
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_shared(&mut self, tool: Rc<dyn Tool>) -> Result<(), crate::Error> {
        let name = &tool.spec().name;
        if self.get(name).is_some() {
            return Err(crate::Error::Setup(format!("two tools are called `{name}`; leave one out")));
        }
        self.tools.push(tool);
        Ok(())
    }

    /// The tool of that name.
    pub fn get(&self, name: &str) -> Option<&Rc<dyn Tool>> {
        self.tools.iter().find(|tool| tool.spec().name == name)
    }

    /// What the model is told of them.
    pub fn specs(&self) -> Vec<ToolSpec> {
        self.tools.iter().map(|tool| tool.spec().clone()).collect()
    }

    /// What a call would do; one of a tool that is not there does nothing.
    pub fn effect(&self, call: &ToolCall) -> Effect {
        self.get(&call.name).map_or(Effect::None, |tool| tool.effect(&call.arguments))
    }

    /// Runs a call.
    pub async fn call<'a>(&'a self, call: &'a ToolCall, context: Context<'a>) -> ToolOutput {
        match self.get(&call.name) {
            Some(tool) => tool.call(&call.arguments, context).await,
            None => {
                let names: Vec<&str> = self.tools.iter().map(|tool| tool.spec().name.as_str()).collect();
                ToolOutput::error(format!("there is no tool `{}`; there are {names:?}", call.name))
            }
        }
    }
}

/// Reads the arguments of a call into a type.
///
/// # Errors
/// Says to the model what is wrong with them.
pub fn read_arguments<T: serde::de::DeserializeOwned>(arguments: &Map<String, Value>) -> Result<T, String> {
    serde_json::from_value(Value::Object(arguments.clone()))
        .map_err(|error| format!("the arguments: {error}"))
}
