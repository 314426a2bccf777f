//! What a page asks of the program that serves it, beside a model: conversations that are kept, and tasks done with
//! tools.
//!
//! Everything lies below [`PREFIX`]. A task is answered with a line of JSON for each thing that happens: first where it
//! is kept, then the agent's [`Event`](::agent::Event)s as `ocelli agent --json` prints them, with the pieces of its
//! words. Whoever reads goes away leaves a task that has not ended, which can be gone on with.

mod conversations;
mod task;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ::agent::Toolbox;
use ::sessions::{SessionId, Store};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

use task::Task;

/// What all paths begin with.
const PREFIX: &str = "/api/desk";
/// Largest body of a request in bytes, and how long it may take to come.
const MAX_BODY: usize = 64 << 20;
const BODY_TIME: Duration = Duration::from_secs(60);
/// Tasks at the same time.
const MAX_TASKS: usize = 16;

/// What tasks need of the program.
pub(crate) struct Desk {
    /// Where the model answers in OpenAI's words, once that is known, and its name there.
    pub(crate) url: OnceLock<String>,
    pub(crate) model: String,
    /// The file of conversations, and that of rules about calls.
    pub(crate) conversations: PathBuf,
    pub(crate) rules: PathBuf,
    /// The tools of a task; each has its own.
    pub(crate) toolbox: Box<dyn Fn() -> anyhow::Result<Toolbox> + Send + Sync>,
    pub(crate) tasks: Tasks,
    /// A PNG file that the page is to look at, once.
    pub(crate) look: Mutex<Option<Vec<u8>>>,
}

/// The tasks that are under way, by their sessions.
#[derive(Default)]
pub(crate) struct Tasks(Mutex<HashMap<SessionId, Handle>>);

/// The way to a task that is under way.
#[derive(Clone)]
struct Handle {
    decisions: UnboundedSender<Word>,
    is_stopped: Arc<AtomicBool>,
}

/// What a person said about a call.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Word {
    /// The id of the call.
    call: String,
    allow: bool,
    /// Whether this holds from now on, for whatever the call is about.
    #[serde(default)]
    remember: bool,
}

/// Why a request was not served.
struct Failure(StatusCode, String);

type Result<T, E = Failure> = std::result::Result<T, E>;

/// The routes; `desk` is what they need.
pub(crate) fn routes(desk: Arc<Desk>) -> Router {
    Router::new()
        .route(&at("/sessions"), get(conversations::list).post(begin))
        .route(&at("/search"), post(conversations::search))
        .route(&at("/look"), get(look))
        .route(&at("/sessions/{id}"), get(conversations::show).post(go_on).delete(conversations::delete))
        .route(&at("/sessions/{id}/pictures/{picture}"), get(conversations::picture))
        .route(&at("/sessions/{id}/decision"), post(decide))
        .route(&at("/sessions/{id}/stop"), post(stop))
        .with_state(desk)
}

fn at(path: &str) -> String {
    format!("{PREFIX}{path}")
}

async fn begin(State(desk): State<Arc<Desk>>, request: Request) -> Result<Response> {
    start(desk, None, request).await
}

async fn go_on(State(desk): State<Arc<Desk>>, Path(id): Path<String>, request: Request) -> Result<Response> {
    start(desk, Some(id), request).await
}

/// Starts a task on a thread of its own, and answers with what happens there.
async fn start(desk: Arc<Desk>, session: Option<String>, request: Request) -> Result<Response> {
    let key = bearer(request.headers());
    let task: Task = body(request).await?;
    let lines = task::start(desk, session, task, key).await?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}

async fn decide(
    State(desk): State<Arc<Desk>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<StatusCode> {
    let word: Word = body(request).await?;
    let handle = desk.tasks.find(&SessionId(id))?;
    handle.decisions.send(word).map_err(|_| ended())?;
    Ok(StatusCode::NO_CONTENT)
}

async fn stop(State(desk): State<Arc<Desk>>, Path(id): Path<String>) -> Result<StatusCode> {
    desk.tasks.find(&SessionId(id))?.stop();
    Ok(StatusCode::NO_CONTENT)
}

async fn look(State(desk): State<Arc<Desk>>) -> Result<Response> {
    let png = desk.look.lock().unwrap_or_else(PoisonError::into_inner).take();
    let png = png.ok_or_else(|| Failure(StatusCode::NOT_FOUND, "there is nothing to look at".into()))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("image/png")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, png).into_response())
}

/// The JSON of a request.
async fn body<T: DeserializeOwned>(request: Request) -> Result<T> {
    let bytes = timeout(BODY_TIME, to_bytes(request.into_body(), MAX_BODY)).await;
    let bytes: Bytes = bytes
        .map_err(|_| Failure(StatusCode::REQUEST_TIMEOUT, "the body did not come in time".into()))?
        .map_err(|_| {
            Failure(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {MAX_BODY} bytes"))
        })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure(StatusCode::BAD_REQUEST, format!("the body: {error}")))
}

/// The key that a request came with: its task asks the model with it, too.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    Some(value.strip_prefix("Bearer ")?.to_owned())
}

impl Desk {
    fn store(&self) -> anyhow::Result<Store> {
        Ok(Store::open(&self.conversations)?)
    }
}

impl Handle {
    fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        // Wakes a task that waits for a word.
        let _ = self.decisions.send(Word { call: String::new(), allow: false, remember: false });
    }
}

impl Tasks {
    /// Enters a task; it leaves when what is returned is dropped.
    fn enter(desk: &Arc<Desk>, session: SessionId, handle: Handle) -> Result<Entered> {
        let mut tasks = desk.tasks.lock();
        if tasks.contains_key(&session) {
            let message =
                "this conversation has a task that is under way; wait for it, or stop it".to_owned();
            return Err(Failure(StatusCode::CONFLICT, message));
        }
        if tasks.len() >= MAX_TASKS {
            return Err(Failure(StatusCode::TOO_MANY_REQUESTS, format!("{MAX_TASKS} tasks are under way")));
        }
        tasks.insert(session.clone(), handle);
        Ok(Entered { desk: Arc::clone(desk), session })
    }

    fn find(&self, session: &SessionId) -> Result<Handle> {
        self.lock().get(session).cloned().ok_or_else(ended)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Handle>> {
        // Nothing that could panic is done with it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ended() -> Failure {
    Failure(StatusCode::NOT_FOUND, "this conversation has no task that is under way".into())
}

/// A task among those under way.
struct Entered {
    desk: Arc<Desk>,
    session: SessionId,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.desk.tasks.lock().remove(&self.session);
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(status, message) = self;
        let mut response = (status, json!({ "error": message }).to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(5));
        }
        response
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        use ::sessions::Error::{Ambiguous, NoPicture, NoSession, NoTurn};
        let status = match error.downcast_ref::<::sessions::Error>() {
            Some(NoSession(_) | NoTurn { .. } | NoPicture(_)) => StatusCode::NOT_FOUND,
            Some(Ambiguous(_)) => StatusCode::BAD_REQUEST,
            Some(_) => StatusCode::INTERNAL_SERVER_ERROR,
            None => StatusCode::BAD_REQUEST,
        };
        Self(status, format!("{error:#}"))
    }
}

#[cfg(test)]
mod tests;
