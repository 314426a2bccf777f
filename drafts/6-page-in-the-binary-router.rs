//! The page inside this program.

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use protocol::page::{HEADERS, SERVED};

use crate::embedded;

/// Names and bytes, as the build script found them.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/page.rs"));
const INDEX: &str = "index.html";
const MODEL: &str = "engine/model/";

/// What is shown at paths of no API.
pub(super) fn pages() -> Option<Router> {
    Some(Router::new().fallback(answer))
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
    if let Some(name) = name.strip_prefix(MODEL)
        && let Some((_, bytes)) = embedded::FILES.into_iter().find(|(known, _)| *known == name)
    {
        return Some(Bytes::from_static(bytes));
    }
    let (_, bytes) = FILES.iter().find(|(known, _)| *known == name)?;
    Some(match name {
        // So that the page asks this program, unless its user chooses otherwise.
        INDEX => String::from_utf8_lossy(bytes).replacen("<html", &format!("<html {SERVED}"), 1).into(),
        _ => Bytes::from_static(bytes),
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
            assert_eq!(get("/engine/model/../../Cargo.toml").await.status(), StatusCode::NOT_FOUND);
            let posted = answer(Method::POST, "/".parse().expect("a path")).await;
            assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
        });
    }
}
