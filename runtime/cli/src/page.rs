//! The page inside this program: `cargo xtask web --into-program` puts it there.

use std::borrow::Cow;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use protocol::page::{HEADERS, SERVED};

use rust_embed::RustEmbed;

use crate::embedded;

/// The files of the page. Weights are in the program already.
#[derive(RustEmbed)]
#[folder = "$OCELLI_PAGE"]
#[exclude = "engine/model/*.safetensors"]
struct Files;

const INDEX: &str = "index.html";
const WEIGHTS: &str = "engine/model/model.safetensors";

/// What is shown at paths of no API.
pub(crate) fn routes() -> Router {
    Router::new().fallback(answer)
}

async fn answer(method: Method, uri: Uri) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let name = match uri.path().trim_start_matches('/') {
        "" => INDEX,
        name => name,
    };
    let Some(bytes) = file(name) else { return StatusCode::NOT_FOUND.into_response() };
    let mut headers: HeaderMap = HEADERS
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    (headers, bytes).into_response()
}

fn file(name: &str) -> Option<Bytes> {
    if name == WEIGHTS {
        let (_, bytes) = embedded::FILES.iter().find(|(known, _)| WEIGHTS.ends_with(known))?;
        return Some(Bytes::from_static(bytes));
    }
    let bytes = Files::get(name)?.data;
    Some(match name {
        // So that the page asks this program, unless its user chooses otherwise.
        INDEX => String::from_utf8_lossy(&bytes).replacen("<html", &format!("<html {SERVED}"), 1).into(),
        _ => match bytes {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => bytes.into(),
        },
    })
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(path: &str) -> Response {
        answer(Method::GET, path.parse().expect("a path")).await
    }

    #[test]
    fn the_page_knows_that_it_is_served() {
        let page = file(INDEX).expect("every page has one");
        assert!(String::from_utf8_lossy(&page).contains("<html data-served "));
    }

    #[test]
    fn files_have_their_types_and_the_headers_of_the_page() {
        pollster::block_on(async {
            for (path, content) in [
                ("/", "text/html; charset=utf-8"),
                ("/engine/worker_bg.wasm", "application/wasm"),
                ("/engine/model/manifest.json", "application/json"),
                ("/engine/model/model.safetensors", "application/octet-stream"),
            ] {
                let response = get(path).await;
                assert_eq!(response.status(), StatusCode::OK, "{path}");
                assert_eq!(response.headers()[header::CONTENT_TYPE], content, "{path}");
                assert!(response.headers().contains_key("content-security-policy"), "{path}");
            }
            assert_eq!(get("/../../Cargo.toml").await.status(), StatusCode::NOT_FOUND);
            let posted = answer(Method::POST, "/".parse().expect("a path")).await;
            assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
        });
    }
}
