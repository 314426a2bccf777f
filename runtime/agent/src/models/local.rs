//! The engine inside this program as the model of an agent.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use engine::{Engine, Event, GenerateOptions, Message, StopReason, ToolChoice};
use protocol::Sight;
use protocol::agent::{Content, Part, PictureId, Role, ToolCall, Turn};
use vision::{DecodeOptions, Patches};

use crate::model::{ChatModel, Choice, Piece, Reply, Request};
use crate::pictures::{Pictures, numbered};
use crate::{Error, LocalFuture, Result};

/// An engine that replies. Each picture is cut into patches once.
pub struct EngineModel {
    /// The engine.
    pub engine: Engine,
    /// How it chooses its words.
    pub options: GenerateOptions,
    patches: HashMap<PictureId, Arc<Patches>>,
}

impl EngineModel {
    /// Wraps an engine.
    pub fn new(engine: Engine, options: GenerateOptions) -> Self {
        Self { engine, options, patches: HashMap::new() }
    }

    /// The conversation as the engine takes it.
    ///
    /// # Errors
    /// If a picture is missing or damaged.
    pub fn messages(&mut self, turns: &[Turn], pictures: &Pictures) -> Result<Vec<Message>> {
        let mut picture = |id: &PictureId| match self.engine.takes_pictures() {
            true => Ok(engine::Part::Image(self.patches(id, pictures)?)),
            // What a model without eyes would need to know of a picture is that there is one.
            false => Ok(engine::Part::Text("[a picture, which this model cannot see]".into())),
        };
        turns.iter().map(|turn| message(turn, &mut picture)).collect()
    }

    /// How a picture that was read was read.
    fn sight(&self, id: &PictureId) -> Option<(PictureId, Sight)> {
        Some((id.clone(), self.patches.get(id)?.sight()))
    }

    fn patches(&mut self, id: &PictureId, pictures: &Pictures) -> Result<Arc<Patches>> {
        if let Some(patches) = self.patches.get(id) {
            return Ok(Arc::clone(patches));
        }
        let bytes =
            pictures.get(id).ok_or_else(|| Error::Picture(format!("{} is not in the conversation", id.0)))?;
        let patches = vision::decode(bytes, &DecodeOptions::default())
            .and_then(|picture| self.engine.preprocessor().image(&picture))
            .map_err(|error| Error::Picture(format!("{}: {error}", id.0)))?;
        let patches = Arc::new(patches);
        self.patches.insert(id.clone(), Arc::clone(&patches));
        Ok(patches)
    }
}

/// A turn as an engine takes it, with what `picture` makes of its pictures.
///
/// # Errors
/// What `picture` fails with.
pub fn message<E>(
    turn: &Turn,
    mut picture: impl FnMut(&PictureId) -> Result<engine::Part, E>,
) -> Result<Message, E> {
    let role = match turn.role {
        Role::System => engine::Role::System,
        Role::User => engine::Role::User,
        Role::Assistant => engine::Role::Assistant,
        Role::Tool => engine::Role::Tool,
    };
    let part = |part: &Part| match &part.content {
        Content::Text(text) => Ok(engine::Part::Text(text.clone())),
        Content::Call(call) => Ok(engine::Part::ToolCall(engine::ToolCall {
            id: call.id.clone(),
            name: call.name.clone(),
            arguments: call.arguments.clone(),
        })),
        Content::Picture(id) => picture(id),
    };
    Ok(Message { role, parts: turn.parts.iter().map(part).collect::<Result<_, E>>()? })
}

impl ChatModel for EngineModel {
    fn reply<'a>(
        &'a mut self,
        request: Request<'a>,
        on_piece: &'a mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> LocalFuture<'a, Result<Reply>> {
        Box::pin(async move {
            let messages = self.messages(request.turns, request.pictures)?;
            let tools = request.tools.iter().map(|tool| engine::Tool {
                name: tool.name.clone(),
                description: tool.description.clone(),
                parameters: tool.parameters.clone(),
            });
            let options = GenerateOptions {
                tools: tools.collect(),
                tool_choice: match request.choice {
                    Choice::Free => self.options.tool_choice.clone(),
                    Choice::Call => ToolChoice::Required,
                    Choice::Answer => ToolChoice::None,
                },
                // A model that has to be made to call would not stop calling.
                parallel_tool_calls: self.options.parallel_tool_calls && request.choice != Choice::Call,
                max_tokens: request.max_tokens,
                ..self.options.clone()
            };
            let mut listen = |event: Event| match event {
                Event::Reasoning(text) => on_piece(Piece::Reasoning(&text)),
                Event::Text(text) => on_piece(Piece::Text(&text)),
                _ => on_piece(Piece::Waiting),
            };
            let answer = self.engine.chat(&messages, &options, &mut listen).await?;
            let calls = answer.tool_calls.into_iter();
            Ok(Reply {
                text: answer.text,
                reasoning: answer.reasoning,
                calls: calls
                    .map(|call| ToolCall { id: call.id, name: call.name, arguments: call.arguments })
                    .collect(),
                prompt_tokens: answer.prompt_tokens,
                cached_tokens: answer.cached_tokens,
                generated_tokens: answer.generated_tokens,
                cut_off: !matches!(answer.stop_reason, StopReason::Eos | StopReason::StopString),
                notes: answer.notes,
                sights: numbered(request.turns).into_iter().filter_map(|id| self.sight(id)).collect(),
            })
        })
    }
}

impl std::fmt::Debug for EngineModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineModel").field("engine", &self.engine).finish_non_exhaustive()
    }
}
