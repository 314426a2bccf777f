//! From the news of an answer to a response: whole, or as a stream.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use engine::{Answer, Event, StopReason};
use futures_core::Stream;
use protocol::Sight;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::app::Asked;
use crate::dialect::json_response;
use crate::problem::{Kind, Problem, Result};
use crate::scheduler::Update;

/// Writes an answer in the words of one API.
pub(crate) trait Writer: Unpin + Send + 'static {
    /// What a stream of it is.
    const STREAM_TYPE: &'static str;

    /// What a stream begins with.
    fn begin(&mut self) -> String {
        String::new()
    }

    /// What is said about an event; nothing at most times.
    fn event(&mut self, event: Event) -> String;

    /// What a stream ends with.
    fn end(&mut self, answer: &Answer) -> String;

    /// What a stream ends with if there is no answer.
    fn failed(&mut self, problem: &Problem) -> String;

    /// The answer in one piece, after all its events.
    fn whole(&mut self, answer: &Answer) -> Value;
}

/// Answers with a stream or in one piece.
pub(crate) async fn reply<W: Writer>(asked: Asked, stream: bool, mut writer: W) -> Result<Response> {
    if stream {
        let begin = writer.begin();
        let updates = Updates { updates: asked.updates, writer, begin: Some(begin), has_ended: false };
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static(W::STREAM_TYPE)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ];
        return Ok((headers, Body::from_stream(updates)).into_response());
    }
    let mut updates = asked.updates;
    loop {
        match updates.recv().await {
            Some(Update::Event(event)) => drop(writer.event(event)),
            Some(Update::Done(answer)) => return Ok(json_response(StatusCode::OK, &writer.whole(&answer))),
            Some(Update::Failed(problem)) => return Err(problem),
            Some(Update::Embedded(_)) | None => return Err(lost()),
        }
    }
}

/// The body of a stream. Dropping it, as when the client goes away, cancels the answer.
struct Updates<W> {
    updates: UnboundedReceiver<Update>,
    writer: W,
    begin: Option<String>,
    has_ended: bool,
}

impl<W: Writer> Stream for Updates<W> {
    type Item = std::result::Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(begin) = this.begin.take().filter(|begin| !begin.is_empty()) {
            return Poll::Ready(Some(Ok(begin.into())));
        }
        while !this.has_ended {
            let text = match ready!(this.updates.poll_recv(context)) {
                Some(Update::Event(event)) => this.writer.event(event),
                last => {
                    this.has_ended = true;
                    match last {
                        Some(Update::Done(answer)) => this.writer.end(&answer),
                        Some(Update::Failed(problem)) => this.writer.failed(&problem),
                        _ => this.writer.failed(&lost()),
                    }
                }
            };
            if !text.is_empty() {
                return Poll::Ready(Some(Ok(text.into())));
            }
        }
        Poll::Ready(None)
    }
}

/// The engine's thread is gone.
pub(crate) fn lost() -> Problem {
    Problem::new(Kind::Internal, "the engine stopped before the answer was complete")
}

/// What every API's answers carry beside their own fields: the member `ocelli`.
pub(crate) struct Extension {
    notes: Vec<String>,
    pictures: Vec<Sight>,
    seed: u64,
}

impl Extension {
    pub(crate) fn of(asked: &Asked) -> Self {
        Self { notes: asked.notes.clone(), pictures: asked.pictures.clone(), seed: asked.seed }
    }

    /// All that was ignored, changed or cut off, how pictures were read, what the answer took, and the seed that gives
    /// it again.
    pub(crate) fn value(&self, answer: &Answer) -> Value {
        let mut notes = self.notes.clone();
        match answer.stop_reason {
            StopReason::ContextFull => notes.push("cut off: the model's context is full".into()),
            StopReason::Cancelled => notes.push("cancelled".into()),
            StopReason::Eos | StopReason::StopString | StopReason::MaxTokens => {}
        }
        json!({
            "notes": notes,
            "pictures": self.pictures,
            "seed": self.seed,
            "timings": {
                "prefill_ms": round(answer.prefill_ms),
                "ttft_ms": round(answer.ttft_ms),
                "decode_ms": round(answer.decode_ms),
                "mask_ms": round(answer.mask_ms),
            },
            "guesses": { "drafted": answer.guesses.drafted, "accepted": answer.guesses.accepted },
        })
    }
}

/// Milliseconds to the microsecond, so that JSON stays readable.
fn round(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

/// An event of a stream of server-sent events.
pub(crate) fn sse(name: Option<&str>, data: &Value) -> String {
    match name {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    }
}
