//! Anthropic's API: messages.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use engine::{Answer, Constraint, Event, Role, StopReason, ToolCall};
use serde_json::{Value, json};

use crate::app::{App, Asked, new_id, new_seed};
use crate::dialect::{Dialect, json_response};
use crate::fields::{Fields, expected};
use crate::pictures::{Picture, Source};
use crate::problem::{Problem, Result};
use crate::question::{Input, Piece, Question, Turn};
use crate::reply::{Extension, reply, sse};
use crate::{sampling, tools};

pub(crate) const ROUTES: [&str; 2] = ["/v1/messages", "/v1/messages/count_tokens"];

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/messages", post(messages)).route("/v1/messages/count_tokens", post(count_tokens))
}

async fn messages(State(app): State<Arc<App>>, request: Request) -> Response {
    or_error(async {
        let mut fields = app.fields(request).await?;
        let n = fields.integer("max_tokens", 1..=u64::MAX)?.ok_or_else(|| fields.missing("max_tokens"))?;
        let mut question = read(&app, fields)?;
        question.options.max_tokens = n as usize;
        let stream = question.stream;
        let asked = app.ask(question).await?;
        let writer = Writer::new(&app, &asked);
        reply(asked, stream, writer).await
    })
    .await
}

async fn count_tokens(State(app): State<Arc<App>>, request: Request) -> Response {
    or_error(async {
        let mut fields = app.fields(request).await?;
        fields.pass_over(&["max_tokens"]);
        let n = app.count(read(&app, fields)?).await?;
        Ok(json_response(StatusCode::OK, &json!({ "input_tokens": n })))
    })
    .await
}

async fn or_error(response: impl Future<Output = Result<Response>>) -> Response {
    response.await.unwrap_or_else(|problem| Dialect::Anthropic.error(&problem))
}

/// Reads all of a request but `max_tokens`.
fn read(app: &App, mut fields: Fields) -> Result<Question> {
    app.check_model(fields.text("model")?.as_deref())?;
    let mut notes = Vec::new();
    let mut turns = Vec::new();
    let system = pieces(&mut fields, "system", &mut notes)?;
    if !system.is_empty() {
        turns.push(Turn { role: Role::System, pieces: system });
    }
    let messages = fields.list("messages")?.ok_or_else(|| fields.missing("messages"))?;
    if messages.is_empty() {
        return Err(Problem::field("messages", "it is empty; the last message asks something"));
    }
    for (i, message) in messages.into_iter().enumerate() {
        turns.extend(self::turns(Fields::of(message, format!("messages[{i}]"))?, &mut notes)?);
    }
    let mut options = app.defaults.clone();
    sampling::read(&mut fields, &mut options, 1.0)?;
    options.seed = new_seed();
    options.stop = sampling::read_stops(&mut fields, "stop_sequences")?;
    if let Some(mut thinking) = fields.object("thinking")? {
        options.enable_thinking = Some(thinking.need_text("type")? != "disabled");
        options.thinking_budget = thinking.integer("budget_tokens", 0..=u64::MAX)?.map(|n| n as usize);
        thinking.finish(&mut notes);
    }
    let stream = fields.boolean("stream")?.unwrap_or(false);
    tools::read_anthropic(&mut fields, &mut options, &mut notes)?;
    let no_servers = "servers of tools are not reached from here; name the tools themselves";
    fields.refuse("mcp_servers", |servers| servers.as_array().is_some_and(Vec::is_empty), no_servers)?;
    options.constraint = form(&mut fields, &mut notes)?;
    fields.pass_over(&["metadata", "service_tier", "cache_control"]);
    fields.finish(&mut notes);
    Ok(Question { input: Input::Chat(turns), options, stream, truncate: false, notes })
}

/// `output_config.format`, or its older name `output_format`.
fn form(fields: &mut Fields, notes: &mut Vec<String>) -> Result<Option<Constraint>> {
    let mut format = fields.object("output_format")?;
    if let Some(mut config) = fields.object("output_config")? {
        format = config.object("format")?.or(format);
        config.finish(notes);
    }
    let Some(mut format) = format else { return Ok(None) };
    let constraint = match format.need_text("type")?.as_str() {
        "text" => None,
        "json_schema" => {
            let schema = format.value("schema").ok_or_else(|| format.missing("schema"))?;
            Some(Constraint::JsonSchema(schema))
        }
        other => {
            let message = format!("`{other}` is not known; it is text or json_schema");
            return Err(Problem::field(format.path("type"), message));
        }
    };
    format.finish(notes);
    Ok(constraint)
}

/// A message, behind the results of tools that it brings: those are messages of their own.
fn turns(mut message: Fields, notes: &mut Vec<String>) -> Result<Vec<Turn>> {
    let role = match message.need_text("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        other => {
            let text =
                format!("`{other}` is not known; it is user or assistant, and `system` stands on its own");
            return Err(Problem::field(message.path("role"), text));
        }
    };
    let missing = message.missing("content");
    let mut results = Vec::new();
    let path = message.path("content");
    let content = match message.value("content") {
        Some(Value::Array(blocks)) => {
            let mut rest = Vec::new();
            for (i, block) in blocks.into_iter().enumerate() {
                match block["type"] == "tool_result" {
                    true => results.push(tool_result(Fields::of(block, format!("{path}[{i}]"))?, notes)?),
                    false => rest.push((i, block)),
                }
            }
            blocks_of(&path, rest, notes)?
        }
        Some(other) => text_or_blocks(&path, Some(other), notes)?,
        None => Vec::new(),
    };
    if content.is_empty() && results.is_empty() {
        return Err(missing);
    }
    message.finish(notes);
    let own = Some(Turn { role, pieces: content }).filter(|turn| !turn.pieces.is_empty());
    Ok(results.into_iter().chain(own).collect())
}

fn tool_result(mut block: Fields, notes: &mut Vec<String>) -> Result<Turn> {
    let mut pieces = pieces(&mut block, "content", notes)?;
    if block.boolean("is_error")?.unwrap_or(false) {
        pieces.insert(0, Piece::Text("Error: ".into()));
    }
    if pieces.is_empty() {
        pieces.push(Piece::Text(String::new()));
    }
    block.pass_over(&["type", "tool_use_id", "cache_control"]);
    block.finish(notes);
    Ok(Turn { role: Role::Tool, pieces })
}

/// A text or a list of blocks.
fn pieces(fields: &mut Fields, name: &str, notes: &mut Vec<String>) -> Result<Vec<Piece>> {
    let path = fields.path(name);
    text_or_blocks(&path, fields.value(name), notes)
}

fn text_or_blocks(path: &str, value: Option<Value>, notes: &mut Vec<String>) -> Result<Vec<Piece>> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Piece::Text(text)]),
        Some(Value::Array(blocks)) => blocks_of(path, blocks.into_iter().enumerate().collect(), notes),
        Some(other) => Err(expected(path, "a string or a list of blocks", &other)),
    }
}

fn blocks_of(path: &str, blocks: Vec<(usize, Value)>, notes: &mut Vec<String>) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for (i, block) in blocks {
        pieces.extend(piece(Fields::of(block, format!("{path}[{i}]"))?, notes)?);
    }
    Ok(pieces)
}

fn piece(mut block: Fields, notes: &mut Vec<String>) -> Result<Option<Piece>> {
    let piece = match block.need_text("type")?.as_str() {
        "text" => Some(Piece::Text(block.need_text("text")?)),
        "image" => {
            let mut source = block.object("source")?.ok_or_else(|| block.missing("source"))?;
            let (field, from) = match source.need_text("type")?.as_str() {
                "base64" => (source.path("data"), Source::Base64(source.need_text("data")?)),
                "url" => (source.path("url"), Source::Url(source.need_text("url")?)),
                other => {
                    let message = format!("`{other}` is not supported; `base64` and `url` are");
                    return Err(Problem::unsupported(source.path("type"), message));
                }
            };
            // The format is found from the bytes.
            source.pass_over(&["media_type"]);
            source.finish(notes);
            Some(Piece::Picture(Picture { field, source: from }))
        }
        "tool_use" => {
            let (id, name) = (block.need_text("id")?, block.need_text("name")?);
            let field = block.path("input");
            let arguments = match block.value("input") {
                None => Default::default(),
                Some(Value::Object(arguments)) => arguments,
                Some(other) => return Err(expected(&field, "an object", &other)),
            };
            Some(Piece::Call(ToolCall { id, name, arguments }))
        }
        // What was thought in earlier turns is not shown to the model again.
        "thinking" | "redacted_thinking" => {
            block.pass_over(&["thinking", "signature", "data"]);
            None
        }
        other => {
            let message =
                format!("blocks of type `{other}` are not supported; text, images and tool calls are");
            return Err(Problem::unsupported(block.path("type"), message));
        }
    };
    block.pass_over(&["cache_control", "citations"]);
    block.finish(notes);
    Ok(piece)
}

/// A kind of block of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Thinking,
    Text,
}

/// Writes the answer.
struct Writer {
    id: String,
    model: String,
    prompt_tokens: usize,
    extension: Extension,
    /// The block that is being written, and how many were before it.
    open: Option<Block>,
    n_blocks: usize,
    /// The tools called so far.
    calls: Vec<Value>,
}

impl Writer {
    fn new(app: &App, asked: &Asked) -> Self {
        Self {
            id: new_id("msg_"),
            model: app.model.name.clone(),
            prompt_tokens: asked.prompt_tokens,
            extension: Extension::of(asked),
            open: None,
            n_blocks: 0,
            calls: Vec::new(),
        }
    }

    /// A piece of a block, behind the end of the one before it and its own beginning.
    fn delta(&mut self, block: Block, text: &str) -> String {
        let mut events = String::new();
        if self.open != Some(block) {
            events += &self.close();
            self.open = Some(block);
            let start = match block {
                Block::Thinking => json!({ "type": "thinking", "thinking": "", "signature": "" }),
                Block::Text => json!({ "type": "text", "text": "" }),
            };
            events +=
                &self.typed("content_block_start", json!({ "index": self.n_blocks, "content_block": start }));
        }
        let delta = match block {
            Block::Thinking => json!({ "type": "thinking_delta", "thinking": text }),
            Block::Text => json!({ "type": "text_delta", "text": text }),
        };
        events + &self.typed("content_block_delta", json!({ "index": self.n_blocks, "delta": delta }))
    }

    /// A block of its own for a call, which comes whole.
    fn call(&mut self, call: ToolCall) -> String {
        let mut events = self.close();
        let (index, id) = (self.n_blocks, new_id("toolu_"));
        self.n_blocks += 1;
        let mut block = json!({ "type": "tool_use", "id": id, "name": call.name, "input": {} });
        let start = json!({ "index": index, "content_block": block });
        events += &self.typed("content_block_start", start);
        block["input"] = Value::Object(call.arguments);
        let delta = json!({ "type": "input_json_delta", "partial_json": block["input"].to_string() });
        self.calls.push(block);
        events += &self.typed("content_block_delta", json!({ "index": index, "delta": delta }));
        events + &self.typed("content_block_stop", json!({ "index": index }))
    }

    fn close(&mut self) -> String {
        if self.open.take().is_none() {
            return String::new();
        }
        self.n_blocks += 1;
        self.typed("content_block_stop", json!({ "index": self.n_blocks - 1 }))
    }

    fn typed(&self, kind: &str, members: Value) -> String {
        let mut data = json!({ "type": kind });
        if let (Value::Object(data), Value::Object(members)) = (&mut data, members) {
            data.extend(members);
        }
        sse(Some(kind), &data)
    }

    fn message(&self, content: Value, stop: [Value; 2], usage: Value) -> Value {
        let [stop_reason, stop_sequence] = stop;
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": stop_sequence,
            "usage": usage,
        })
    }
}

/// Why it ended, and the text that ended it.
fn stop(answer: &Answer) -> [Value; 2] {
    let reason = match answer.stop_reason {
        StopReason::Eos | StopReason::StopString if !answer.tool_calls.is_empty() => "tool_use",
        StopReason::Eos | StopReason::Cancelled => "end_turn",
        StopReason::StopString => "stop_sequence",
        StopReason::MaxTokens => "max_tokens",
        StopReason::ContextFull => "model_context_window_exceeded",
    };
    [json!(reason), json!(answer.stop_text)]
}

fn usage(prompt_tokens: usize, cached_tokens: usize, generated_tokens: usize) -> Value {
    json!({
        "input_tokens": prompt_tokens - cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached_tokens,
        "output_tokens": generated_tokens,
    })
}

fn usage_of(answer: &Answer) -> Value {
    usage(answer.prompt_tokens, answer.cached_tokens, answer.generated_tokens)
}

impl crate::reply::Writer for Writer {
    const STREAM_TYPE: &'static str = "text/event-stream";

    fn begin(&mut self) -> String {
        // How much is cached is known only when the prompt is read; the last event corrects it.
        let usage = usage(self.prompt_tokens, 0, 0);
        let message = self.message(json!([]), [Value::Null, Value::Null], usage);
        self.typed("message_start", json!({ "message": message }))
    }

    fn event(&mut self, event: Event) -> String {
        match event {
            Event::Text(text) => self.delta(Block::Text, &text),
            Event::Reasoning(text) => self.delta(Block::Thinking, &text),
            Event::ToolCall(call) => self.call(call),
            Event::Prefill { .. } => self.typed("ping", json!({})),
            Event::Token(_) | Event::Logprobs(_) => String::new(),
        }
    }

    fn end(&mut self, answer: &Answer) -> String {
        let mut events = self.close();
        let [stop_reason, stop_sequence] = stop(answer);
        let members = json!({
            "delta": { "stop_reason": stop_reason, "stop_sequence": stop_sequence },
            "usage": usage_of(answer),
            "ocelli": self.extension.value(answer),
        });
        events += &self.typed("message_delta", members);
        events + &self.typed("message_stop", json!({}))
    }

    fn failed(&mut self, problem: &Problem) -> String {
        sse(Some("error"), &Dialect::Anthropic.error_body(problem))
    }

    fn whole(&mut self, answer: &Answer) -> Value {
        let thinking = answer
            .reasoning
            .iter()
            .map(|text| json!({ "type": "thinking", "thinking": text, "signature": "" }));
        let text = Some(json!({ "type": "text", "text": answer.text })).filter(|_| !answer.text.is_empty());
        let mut message = self.message(
            thinking.chain(text).chain(self.calls.clone()).collect(),
            stop(answer),
            usage_of(answer),
        );
        message["ocelli"] = self.extension.value(answer);
        message
    }
}
