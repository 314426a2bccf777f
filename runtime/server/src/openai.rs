//! OpenAI's API: chat completions, completions, models.

mod chat;
mod completion;
mod embeddings;
mod logprobs;
mod responses;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use engine::{Answer, StopReason};
use serde_json::{Value, json};

use crate::app::{App, unix_time};
use crate::dialect::{Dialect, json_response};
use crate::problem::{Problem, Result};
use crate::reply::reply;

pub(crate) use responses::Kept;

pub(crate) const ROUTES: [&str; 5] =
    ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/models"];

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/chat/completions", post(chat_completions))
        .route("/v1/completions", post(completions))
        .route("/v1/embeddings", post(embeddings))
        .merge(responses::routes())
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
}

async fn chat_completions(State(app): State<Arc<App>>, request: Request) -> Response {
    or_error(async {
        let (question, shape) = chat::read(&app, app.fields(request).await?)?;
        let stream = question.stream;
        let asked = app.ask(question).await?;
        let writer = chat::Writer::new(&app, &asked, shape);
        reply(asked, stream, writer).await
    })
    .await
}

async fn completions(State(app): State<Arc<App>>, request: Request) -> Response {
    or_error(async {
        let (question, include_usage) = completion::read(&app, app.fields(request).await?)?;
        let stream = question.stream;
        let asked = app.ask(question).await?;
        let writer = completion::Writer::new(&app, &asked, include_usage);
        reply(asked, stream, writer).await
    })
    .await
}

async fn embeddings(State(app): State<Arc<App>>, request: Request) -> Response {
    or_error(async { embeddings::answer(&app, app.fields(request).await?).await }).await
}

async fn models(State(app): State<Arc<App>>) -> Response {
    json_response(StatusCode::OK, &json!({ "object": "list", "data": [describe(&app)] }))
}

async fn model(State(app): State<Arc<App>>, Path(name): Path<String>) -> Response {
    or_error(async {
        app.check_model(Some(&name))?;
        Ok(json_response(StatusCode::OK, &describe(&app)))
    })
    .await
}

fn describe(app: &App) -> Value {
    let since = app.model.since.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    json!({
        "id": app.model.name,
        "object": "model",
        "created": since,
        "owned_by": "ocelli",
        "context_length": app.format.context_limit(),
        "input_modalities": if app.format.takes_pictures() { &["text", "image"][..] } else { &["text"] },
    })
}

async fn or_error(response: impl Future<Output = Result<Response>>) -> Response {
    response.await.unwrap_or_else(|problem: Problem| Dialect::OpenAi.error(&problem))
}

/// What every completion says of itself.
struct Head {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
}

impl Head {
    fn new(app: &App, prefix: &str, object: &'static str) -> Self {
        let id = crate::app::new_id(prefix);
        Self { id, object, created: unix_time(), model: app.model.name.clone() }
    }

    /// The members that every object of an answer has.
    fn with(&self, object: &str, members: Value) -> Value {
        let mut all = json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": concat!("ocelli-", env!("CARGO_PKG_VERSION")),
        });
        if let (Value::Object(all), Value::Object(members)) = (&mut all, members) {
            all.extend(members);
        }
        all
    }
}

fn finish_reason(answer: &Answer) -> &'static str {
    match answer.stop_reason {
        StopReason::Eos | StopReason::StopString if !answer.tool_calls.is_empty() => "tool_calls",
        StopReason::Eos | StopReason::StopString | StopReason::Cancelled => "stop",
        StopReason::MaxTokens | StopReason::ContextFull => "length",
    }
}

fn usage(answer: &Answer) -> Value {
    json!({
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.generated_tokens,
        "total_tokens": answer.prompt_tokens + answer.generated_tokens,
        "prompt_tokens_details": { "cached_tokens": answer.cached_tokens },
        "completion_tokens_details": { "reasoning_tokens": answer.reasoning_tokens },
    })
}
