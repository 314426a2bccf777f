//! `/v1/responses`: answers that can be gone on from by their names.

mod read;
mod write;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::or_error;
use crate::app::App;
use crate::dialect::json_response;
use crate::pictures::Source;
use crate::problem::{Kind, Problem, Result};
use crate::question::{Piece, Turn};
use crate::reply::reply;

/// Answers that are remembered at most, and bytes of their conversations together.
const MAX_KEPT: usize = 512;
const MAX_BYTES: usize = 256 << 20;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/responses", post(create)).route("/v1/responses/{id}", get(show).delete(forget))
}

/// The latest answers, with the conversations that they end.
#[derive(Default)]
pub(crate) struct Kept {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    answers: HashMap<String, Answered>,
    /// The oldest first.
    order: VecDeque<String>,
    bytes: usize,
}

struct Answered {
    turns: Arc<Vec<Turn>>,
    body: Value,
    bytes: usize,
}

impl Kept {
    /// Remembers an answer; the oldest ones make room.
    fn keep(&self, id: String, turns: Vec<Turn>, body: Value) {
        let bytes =
            turns.iter().flat_map(|turn| &turn.pieces).map(size).sum::<usize>() + body.to_string().len();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.bytes += bytes;
        inner.order.push_back(id.clone());
        inner.answers.insert(id, Answered { turns: Arc::new(turns), body, bytes });
        while (inner.order.len() > MAX_KEPT || inner.bytes > MAX_BYTES)
            && let Some(oldest) = inner.order.pop_front()
        {
            if let Some(gone) = inner.answers.remove(&oldest) {
                inner.bytes -= gone.bytes;
            }
        }
    }

    /// The conversation that an answer ended.
    fn turns(&self, id: &str) -> Option<Arc<Vec<Turn>>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.answers.get(id).map(|answered| Arc::clone(&answered.turns))
    }

    fn body(&self, id: &str) -> Option<Value> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.answers.get(id).map(|answered| answered.body.clone())
    }

    fn forget(&self, id: &str) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(gone) = inner.answers.remove(id) else { return false };
        inner.bytes -= gone.bytes;
        inner.order.retain(|kept| kept != id);
        true
    }
}

fn size(piece: &Piece) -> usize {
    match piece {
        Piece::Text(text) => text.len(),
        Piece::Picture(picture) => match &picture.source {
            Source::Base64(text) | Source::Url(text) => text.len(),
            Source::Bytes(bytes) => bytes.len(),
        },
        Piece::Call(call) => call.name.len() + Value::Object(call.arguments.clone()).to_string().len(),
    }
}

async fn create(State(app): State<Arc<App>>, request: Request) -> Response {
    or_error(async {
        let (question, shape) = read::read(&app, app.fields(request).await?)?;
        let stream = question.stream;
        let asked = app.ask(question).await?;
        let writer = write::Writer::new(&app, &asked, shape);
        reply(asked, stream, writer).await
    })
    .await
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    or_error(async {
        app.kept.body(&id).map(|body| json_response(StatusCode::OK, &body)).ok_or_else(|| missing(&id))
    })
    .await
}

async fn forget(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    or_error(async {
        match app.kept.forget(&id) {
            true => {
                Ok(json_response(StatusCode::OK, &json!({ "id": id, "object": "response", "deleted": true })))
            }
            false => Err(missing(&id)),
        }
    })
    .await
}

fn missing(id: &str) -> Problem {
    let message =
        format!("there is no response `{id}`; the latest {MAX_KEPT} are kept, unless `store` is false");
    Problem::new(Kind::NotFound, message)
}

fn previous(app: &App, id: &str) -> Result<Arc<Vec<Turn>>> {
    app.kept.turns(id).ok_or_else(|| Problem { field: Some("previous_response_id".into()), ..missing(id) })
}
