//! Ollama's API: chat, generate, and what it tells of models.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use engine::{Answer, Constraint, Event, GenerateOptions, Role, StopReason, ToolCall};
use serde_json::{Value, json};

use crate::app::{App, Asked};
use crate::dialect::{Dialect, json_response};
use crate::fields::Fields;
use crate::pictures::{Picture, Source};
use crate::problem::{Problem, Result};
use crate::question::{Input, Piece, Question, Turn};
use crate::reply::{Extension, reply};
use crate::{sampling, tools};

pub(crate) const ROUTES: [&str; 6] =
    ["/api/chat", "/api/generate", "/api/tags", "/api/ps", "/api/show", "/api/version"];

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/chat", post(chat))
        .route("/api/generate", post(generate))
        .route("/api/tags", get(tags))
        .route("/api/ps", get(tags))
        .route("/api/show", post(show))
        .route("/api/version", get(version))
}

async fn chat(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, Kind::Chat).await
}

async fn generate(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, Kind::Generate).await
}

async fn answer(app: Arc<App>, request: Request, kind: Kind) -> Response {
    or_error(async {
        let Some(question) = read(&app, app.fields(request).await?, kind)? else {
            // Ollama's way to load a model before it is needed; ours is loaded.
            let mut done = kind.line(&app.model.name, "", "");
            done["done"] = json!(true);
            done["done_reason"] = json!("load");
            return Ok(json_response(StatusCode::OK, &done));
        };
        let stream = question.stream;
        let asked = app.ask(question).await?;
        let writer = Writer::new(&app, &asked, kind);
        reply(asked, stream, writer).await
    })
    .await
}

async fn tags(State(app): State<Arc<App>>) -> Response {
    let model = json!({
        "name": app.model.name,
        "model": app.model.name,
        "size": app.model.bytes,
        "details": details(&app),
    });
    json_response(StatusCode::OK, &json!({ "models": [model] }))
}

async fn show(State(app): State<Arc<App>>, request: Request) -> Response {
    or_error(async {
        let mut fields = app.fields(request).await?;
        let name = fields.text("model")?.or(fields.text("name")?).ok_or_else(|| fields.missing("model"))?;
        app.check_model(Some(&name))?;
        let config = app.format.config();
        let architecture = config.architecture.model_type();
        let mut info = json!({
            "general.architecture": architecture,
            "general.parameter_count": config.n_parameters(),
        });
        info[format!("{architecture}.context_length")] = json!(config.text.max_position_embeddings);
        info[format!("{architecture}.embedding_length")] = json!(config.text.hidden_size);
        info[format!("{architecture}.block_count")] = json!(config.text.n_layers);
        let body = json!({
            "details": details(&app),
            "model_info": info,
            "capabilities":
                if app.format.takes_pictures() { &["completion", "tools", "vision"][..] } else { &["completion", "tools"] },
        });
        Ok(json_response(StatusCode::OK, &body))
    })
    .await
}

fn details(app: &App) -> Value {
    let config = app.format.config();
    let family = config.architecture.model_type();
    json!({
        "family": family,
        "families": [family],
        "parameter_size": format!("{:.1}M", config.n_parameters() as f64 / 1e6),
    })
}

async fn version() -> Response {
    json_response(StatusCode::OK, &json!({ "version": env!("CARGO_PKG_VERSION") }))
}

async fn or_error(response: impl Future<Output = Result<Response>>) -> Response {
    response.await.unwrap_or_else(|problem| Dialect::Ollama.error(&problem))
}

/// Which of the two routes; they differ in how text is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Chat,
    Generate,
}

impl Kind {
    /// A line of an answer.
    fn line(self, model: &str, text: &str, thinking: &str) -> Value {
        let created = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        let mut line = json!({ "model": model, "created_at": created });
        let holder = match self {
            Kind::Chat => {
                line["message"] = json!({ "role": "assistant", "content": text });
                &mut line["message"]
            }
            Kind::Generate => {
                line["response"] = json!(text);
                &mut line
            }
        };
        if !thinking.is_empty() {
            holder["thinking"] = json!(thinking);
        }
        line["done"] = json!(false);
        line
    }
}

/// Reads a request; `None` if it only asks to load the model.
fn read(app: &App, mut fields: Fields, kind: Kind) -> Result<Option<Question>> {
    app.check_model(fields.text("model")?.as_deref())?;
    let mut notes = Vec::new();
    let input = match kind {
        Kind::Chat => chat_input(&mut fields, &mut notes)?,
        Kind::Generate => generate_input(&mut fields)?,
    };
    let mut options = app.defaults.clone();
    options.seed = crate::app::new_seed();
    options.max_tokens = usize::MAX;
    if let Some(wishes) = fields.object("options")? {
        read_options(wishes, &mut options, &mut notes)?;
    }
    options.enable_thinking = match fields.value("think") {
        None => None,
        Some(Value::Bool(think)) => Some(think),
        // Levels of effort.
        Some(Value::String(_)) => Some(true),
        Some(other) => return Err(crate::fields::expected("think", "true or false", &other)),
    };
    let stream = fields.boolean("stream")?.unwrap_or(true);
    options.constraint = match fields.value("format") {
        None => None,
        Some(Value::String(format)) if format.is_empty() => None,
        Some(Value::String(format)) if format == "json" => Some(Constraint::json_object()),
        Some(schema @ Value::Object(_)) => Some(Constraint::JsonSchema(schema)),
        Some(other) => return Err(crate::fields::expected("format", "`json` or a JSON Schema", &other)),
    };
    tools::read_openai(&mut fields, &mut options, &mut notes)?;
    fields.refuse("logprobs", |wish| wish == false, "only /v1/chat/completions tells them")?;
    fields.pass_over(&["top_logprobs"]);
    fields.refuse("suffix", |suffix| suffix == "", "this model only goes on at the end")?;
    fields.refuse("template", |template| template == "", "the model's own template is used")?;
    let stateless = "send the whole conversation to /api/chat instead";
    fields.refuse("context", |context| context.as_array().is_some_and(Vec::is_empty), stateless)?;
    // The model stays loaded as long as the server runs.
    fields.pass_over(&["keep_alive"]);
    fields.finish(&mut notes);
    Ok(input.map(|input| Question { input, options, stream, truncate: false, notes }))
}

fn chat_input(fields: &mut Fields, notes: &mut Vec<String>) -> Result<Option<Input>> {
    let messages = fields.list("messages")?.unwrap_or_default();
    if messages.is_empty() {
        return Ok(None);
    }
    let turns = messages.into_iter().enumerate().map(|(i, message)| {
        let mut message = Fields::of(message, format!("messages[{i}]"))?;
        let role = match message.need_text("role")?.as_str() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            other => {
                let text = format!("`{other}` is not known; it is system, user, assistant or tool");
                return Err(Problem::field(message.path("role"), text));
            }
        };
        let mut pieces = pictures(&mut message)?;
        pieces.extend(message.text("content")?.map(Piece::Text));
        pieces.extend(tools::read_calls(&mut message, notes)?.into_iter().map(Piece::Call));
        message.pass_over(&["thinking", "tool_name", "tool_call_id"]);
        message.finish(notes);
        Ok(Turn { role, pieces })
    });
    Ok(Some(Input::Chat(turns.collect::<Result<_>>()?)))
}

fn generate_input(fields: &mut Fields) -> Result<Option<Input>> {
    let prompt = fields.text("prompt")?.unwrap_or_default();
    let system = fields.text("system")?.filter(|system| !system.is_empty());
    let is_raw = fields.boolean("raw")?.unwrap_or(false);
    let mut pieces = pictures(fields)?;
    if prompt.is_empty() && pieces.is_empty() {
        return Ok(None);
    }
    if is_raw {
        let message = "with `raw` there is no template to hold pictures or a system text";
        if !pieces.is_empty() || system.is_some() {
            return Err(Problem::unsupported(fields.path("raw"), message));
        }
        return Ok(Some(Input::Text(prompt)));
    }
    pieces.push(Piece::Text(prompt));
    let system = system.map(|text| Turn { role: Role::System, pieces: vec![Piece::Text(text)] });
    Ok(Some(Input::Chat(system.into_iter().chain([Turn { role: Role::User, pieces }]).collect())))
}

fn pictures(fields: &mut Fields) -> Result<Vec<Piece>> {
    let path = fields.path("images");
    let images = fields.texts("images")?;
    let picture = |(i, text): (usize, String)| {
        let source = if text.starts_with("data:") { Source::Url(text) } else { Source::Base64(text) };
        Piece::Picture(Picture { field: format!("{path}[{i}]"), source })
    };
    Ok(images.into_iter().enumerate().map(picture).collect())
}

fn read_options(mut fields: Fields, options: &mut GenerateOptions, notes: &mut Vec<String>) -> Result<()> {
    sampling::read(&mut fields, options, 10.0)?;
    sampling::set(
        &mut options.repetition_penalty,
        fields.number("repeat_penalty", f64::MIN_POSITIVE..=10.0)?,
    );
    if fields.value("seed").is_some_and(|seed| {
        options.seed = seed.as_u64().or(seed.as_i64().map(i64::cast_unsigned)).unwrap_or(options.seed);
        !seed.is_i64() && !seed.is_u64()
    }) {
        return Err(Problem::field(fields.path("seed"), "it must be a whole number"));
    }
    options.stop = sampling::read_stops(&mut fields, "stop")?;
    // Negative numbers are Ollama's way to say that there is no limit.
    match fields.value("num_predict") {
        Some(n) if n.as_i64().is_some_and(|n| n < 0) => {}
        Some(n) => {
            let n = n
                .as_u64()
                .ok_or_else(|| Problem::field(fields.path("num_predict"), "it must be a whole number"))?;
            options.max_tokens = usize::try_from(n).unwrap_or(usize::MAX);
        }
        None => {}
    }
    fields.finish(notes);
    Ok(())
}

/// A call as Ollama writes it.
fn function(call: &ToolCall) -> Value {
    json!({ "function": { "name": call.name, "arguments": call.arguments } })
}

/// Writes the answer.
struct Writer {
    kind: Kind,
    model: String,
    extension: Extension,
    arrived: Instant,
}

impl Writer {
    fn new(app: &App, asked: &Asked, kind: Kind) -> Self {
        let extension = Extension::of(asked);
        Self { kind, model: app.model.name.clone(), extension, arrived: asked.arrived }
    }

    fn line(&self, text: &str, thinking: &str) -> String {
        format!("{}\n", self.kind.line(&self.model, text, thinking))
    }

    fn done(&self, answer: &Answer, text: &str, thinking: &str) -> Value {
        let mut done = self.kind.line(&self.model, text, thinking);
        let reason = match answer.stop_reason {
            StopReason::Eos | StopReason::StopString | StopReason::Cancelled => "stop",
            StopReason::MaxTokens | StopReason::ContextFull => "length",
        };
        let ns = |ms: f64| (ms * 1e6) as u64;
        let members = json!({
            "done": true,
            "done_reason": reason,
            "total_duration": self.arrived.elapsed().as_nanos() as u64,
            "load_duration": 0,
            "prompt_eval_count": answer.prompt_tokens,
            "prompt_eval_duration": ns(answer.prefill_ms),
            "eval_count": answer.generated_tokens,
            "eval_duration": ns(answer.decode_ms),
            "ocelli": self.extension.value(answer),
        });
        if let (Value::Object(done), Value::Object(members)) = (&mut done, members) {
            done.extend(members);
        }
        done
    }
}

impl crate::reply::Writer for Writer {
    const STREAM_TYPE: &'static str = "application/x-ndjson";

    fn event(&mut self, event: Event) -> String {
        match event {
            Event::Text(text) => self.line(&text, ""),
            Event::ToolCall(call) if self.kind == Kind::Chat => {
                let mut line = self.kind.line(&self.model, "", "");
                line["message"]["tool_calls"] = json!([function(&call)]);
                format!("{line}\n")
            }
            Event::ToolCall(_) => String::new(),
            Event::Reasoning(text) => self.line("", &text),
            Event::Prefill { .. } | Event::Token(_) | Event::Logprobs(_) => String::new(),
        }
    }

    fn end(&mut self, answer: &Answer) -> String {
        format!("{}\n", self.done(answer, "", ""))
    }

    fn failed(&mut self, problem: &Problem) -> String {
        format!("{}\n", Dialect::Ollama.error_body(problem))
    }

    fn whole(&mut self, answer: &Answer) -> Value {
        let mut done = self.done(answer, &answer.text, answer.reasoning.as_deref().unwrap_or(""));
        if self.kind == Kind::Chat && !answer.tool_calls.is_empty() {
            done["message"]["tool_calls"] = answer.tool_calls.iter().map(function).collect();
        }
        done
    }
}
