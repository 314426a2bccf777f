//! Anthropic's API: messages.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use engine::{Answer, Event, Role, StopReason};
use serde_json::{Value, json};

use crate::app::{App, Asked, new_id, new_seed};
use crate::dialect::{Dialect, json_response};
use crate::fields::{Fields, expected};
use crate::pictures::{Picture, Source};
use crate::problem::{Problem, Result};
use crate::question::{Input, Piece, Question, Turn};
use crate::reply::{Extension, reply, sse};
use crate::sampling;

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
        turns.push(turn(Fields::of(message, format!("messages[{i}]"))?, &mut notes)?);
    }
    let mut options = app.defaults.clone();
    sampling::read(&mut fields, &mut options, 1.0)?;
    options.seed = new_seed();
    options.stop = sampling::read_stops(&mut fields, "stop_sequences")?;
    if let Some(mut thinking) = fields.object("thinking")? {
        options.enable_thinking = Some(thinking.need_text("type")? != "disabled");
        if thinking.value("budget_tokens").is_some() {
            notes.push("`thinking.budget_tokens` was ignored: thinking ends when the model ends it".into());
        }
        thinking.finish(&mut notes);
    }
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let no_tools = "tools are not supported yet; describe them in the system text and read the answer";
    fields.refuse("tools", |tools| tools.as_array().is_some_and(Vec::is_empty), no_tools)?;
    fields.refuse("tool_choice", |choice| choice["type"] == "none" || choice["type"] == "auto", no_tools)?;
    fields.refuse("mcp_servers", |servers| servers.as_array().is_some_and(Vec::is_empty), no_tools)?;
    for name in ["output_config", "output_format"] {
        let why = "answers of a given form are not supported yet; ask for it in the message";
        fields.refuse(name, |format| format["type"] == "text", why)?;
    }
    fields.pass_over(&["metadata", "service_tier", "cache_control"]);
    fields.finish(&mut notes);
    Ok(Question { input: Input::Chat(turns), options, stream, notes })
}

fn turn(mut message: Fields, notes: &mut Vec<String>) -> Result<Turn> {
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
    let pieces = pieces(&mut message, "content", notes)?;
    if pieces.is_empty() {
        return Err(missing);
    }
    message.finish(notes);
    Ok(Turn { role, pieces })
}

/// A text or a list of blocks.
fn pieces(fields: &mut Fields, name: &str, notes: &mut Vec<String>) -> Result<Vec<Piece>> {
    let path = fields.path(name);
    match fields.value(name) {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Piece::Text(text)]),
        Some(Value::Array(blocks)) => {
            let mut pieces = Vec::new();
            for (i, block) in blocks.into_iter().enumerate() {
                pieces.extend(piece(Fields::of(block, format!("{path}[{i}]"))?, notes)?);
            }
            Ok(pieces)
        }
        Some(other) => Err(expected(&path, "a string or a list of blocks", &other)),
    }
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
        // What was thought in earlier turns is not shown to the model again.
        "thinking" | "redacted_thinking" => {
            block.pass_over(&["thinking", "signature", "data"]);
            None
        }
        other => {
            let message = format!("blocks of type `{other}` are not supported; `text` and `image` are");
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
}

impl Writer {
    fn new(app: &App, asked: &Asked) -> Self {
        Self {
            id: new_id("msg_"),
            model: app.model.name.clone(),
            prompt_tokens: asked.prompt_tokens,
            extension: Extension { notes: asked.notes.clone(), seed: asked.seed },
            open: None,
            n_blocks: 0,
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
        let mut message = self.message(thinking.chain(text).collect(), stop(answer), usage_of(answer));
        message["ocelli"] = self.extension.value(answer);
        message
    }
}
