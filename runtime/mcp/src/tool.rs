//! A tool of another program as a tool of our agent.

use std::rc::Rc;

use agent::{Context, Effect, LocalFuture, Origin, Subject, Tool, ToolOutput, ToolSpec};
use serde_json::{Map, Value};

use crate::output::output;
use crate::{Offer, Server};

pub(crate) struct RemoteTool {
    server: Rc<Server>,
    /// As the model knows it.
    spec: ToolSpec,
    /// As the server knows it.
    name: String,
    is_read_only: bool,
}

impl RemoteTool {
    pub(crate) fn new(server: Rc<Server>, offer: &Offer) -> Self {
        let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let own: String = offer.name.chars().map(|c| if is_fine(c) { c } else { '_' }).collect();
        let spec = ToolSpec {
            name: format!("{}_{own}", server.prefix()),
            description: offer.description.clone(),
            parameters: offer.parameters.clone(),
        };
        Self { server, spec, name: offer.name.clone(), is_read_only: offer.is_read_only }
    }
}

impl Tool for RemoteTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    /// The user has seen and allowed the tool with its claim to change nothing.
    fn effect(&self, _: &Map<String, Value>) -> Effect {
        match self.is_read_only {
            true => Effect::None,
            false => Effect::Reaches(Subject::Server(self.server.target().to_string())),
        }
    }

    fn call<'a>(
        &'a self,
        arguments: &'a Map<String, Value>,
        context: Context<'a>,
    ) -> LocalFuture<'a, ToolOutput> {
        Box::pin(async move {
            match self.server.is_unchanged().await {
                Ok(true) => {}
                Ok(false) => {
                    return ToolOutput::error(
                        "the server has changed its tools since the user allowed them, so it is not asked any more",
                    );
                }
                // The server may have chosen the words.
                Err(error) => return ToolOutput::failure(Origin::Tool, error.to_string()),
            }
            match self.server.call(&self.name, arguments.clone(), context.wait).await {
                Ok(result) => output(result, context.pictures),
                Err(error) => ToolOutput::failure(Origin::Tool, error.to_string()),
            }
        })
    }
}
