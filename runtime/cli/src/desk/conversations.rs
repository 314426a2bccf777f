//! The conversations that are kept.

use std::sync::Arc;

use ::sessions::{Session, Store};
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::agent::{Conversation, Hit, Kept};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::{Desk, Result, body};
use crate::agent::unfinished;

/// Hits of a search at most.
const MAX_HITS: usize = 50;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Words {
    words: String,
}

fn kept(session: &Session) -> Kept {
    Kept {
        id: session.id.0.clone(),
        title: session.title.clone(),
        updated_ms: session.updated_ms,
        unfinished: unfinished(session).is_some(),
    }
}

type TheDesk = State<Arc<Desk>>;

/// All of them, the latest first.
pub(super) async fn list(State(desk): TheDesk) -> Result<Response> {
    let lines = stored(desk, |store| Ok(store.list()?.iter().map(kept).collect::<Vec<_>>())).await?;
    Ok(answer(&json!(lines)))
}

/// Those with all these words, the best first.
pub(super) async fn search(State(desk): TheDesk, request: Request) -> Result<Response> {
    let Words { words } = body(request).await?;
    let hits = stored(desk, move |store| Ok(store.search(&words, MAX_HITS)?)).await?;
    let hits =
        hits.into_iter().map(|hit| Hit { session: hit.session.0, title: hit.title, excerpt: hit.excerpt });
    Ok(answer(&json!(hits.collect::<Vec<_>>())))
}

/// One with its messages, as they show: the branch that was gone on with last.
pub(super) async fn show(State(desk): TheDesk, Path(id): Path<String>) -> Result<Response> {
    let shown = stored(desk, move |store| {
        let session = store.find(&id)?;
        let turns = store.turns(&session.id)?.into_iter().map(|entry| entry.turn).collect();
        Ok(Conversation { kept: kept(&session), turns })
    });
    Ok(answer(&json!(shown.await?)))
}

/// Deletes one, with pictures that no other one shows.
pub(super) async fn delete(State(desk): TheDesk, Path(id): Path<String>) -> Result<StatusCode> {
    stored(desk, move |store| {
        // Nothing is deleted by the beginning of its name.
        let session = store.find(&id)?;
        match session.id.0 == id {
            true => Ok(store.delete(&session.id)?),
            false => Err(::sessions::Error::NoSession(id).into()),
        }
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The file of a picture.
pub(super) async fn picture(
    State(desk): TheDesk,
    Path((id, picture)): Path<(String, String)>,
) -> Result<Response> {
    let bytes = stored(desk, move |store| {
        let session = store.find(&id)?;
        let pictures = store.pictures(&session.id)?;
        let found = pictures.get(&::agent::PictureId(picture.clone())).cloned();
        found.ok_or_else(|| ::sessions::Error::NoPicture(picture).into())
    });
    let bytes = bytes.await?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(type_of(&bytes))),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox")),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600, immutable")),
    ];
    Ok((headers, Body::from(bytes.to_vec())).into_response())
}

/// Uses the store where waiting for the disk holds nothing up.
async fn stored<T: Send + 'static>(
    desk: Arc<Desk>,
    f: impl FnOnce(&mut Store) -> anyhow::Result<T> + Send + 'static,
) -> Result<T> {
    let done = spawn_blocking(move || f(&mut desk.store()?)).await;
    Ok(done.map_err(|error| anyhow::anyhow!(error))??)
}

/// What a picture file is by its first bytes. It is never anything but a picture to a browser.
fn type_of(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [b'G', b'I', b'F', ..] => "image/gif",
        [b'B', b'M', ..] => "image/bmp",
        [b'R', b'I', b'F', b'F', ..] => "image/webp",
        _ => "image/jpeg",
    }
}

fn answer(value: &Value) -> Response {
    let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    ([json], value.to_string()).into_response()
}
