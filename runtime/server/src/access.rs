//! Who may ask: checks in front of every route.
//!
//! A page of any site can send requests to this machine, by name (DNS rebinding) or across origins. So the
//! `Host` must be an address or a name that is known to mean this server, an `Origin` must be this server's own
//! or an allowed one, and from other machines a key is needed.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::dialect;
use crate::key::KeyHash;
use crate::problem::{Kind, Problem, Result};

/// Who is let in.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// What a key must hash to; without it nobody needs one.
    pub key: Option<KeyHash>,
    /// Origins of pages that may ask, beside this server's own, as `https://example.com`.
    pub origins: Vec<String>,
    /// Names of this server in `Host`, beside `localhost` and addresses.
    pub hosts: Vec<String>,
    /// Whether the server is reached from this machine only.
    pub loopback_only: bool,
}

/// Where a health check reads whether the server is up; it tells nothing else and needs no key.
pub(crate) const HEALTH: &str = "/health";
/// Where the counts are read.
pub(crate) const METRICS: &str = "/metrics";

/// Lets a request pass, or answers it in the words of the API that it meant.
pub(crate) async fn check(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let is_counted = app.has_route(&path);
    let is_unrouted = request.extensions().get::<MatchedPath>().is_none();
    let origin = match app.access.origin(request.headers()) {
        Ok(origin) => origin,
        Err(problem) => return app.counted(&path, dialect::of(&path).error(&problem)),
    };
    let admitted = app.access.host(&request).and_then(|()| {
        let is_preflight = request.method() == Method::OPTIONS;
        // A browser that opens a page cannot send a key; the page sends it to the APIs.
        let is_page = app.has_pages && is_unrouted && !is_api(&path);
        match is_preflight || is_page || path == HEALTH {
            true => Ok(()),
            false => app.access.key(request.headers()),
        }
    });
    let mut response = match admitted {
        Err(problem) => dialect::of(&path).error(&problem),
        Ok(()) if request.method() == Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        Ok(()) => next.run(request).await,
    };
    if let Some(origin) = origin {
        allow(response.headers_mut(), origin);
    }
    if is_counted { app.counted(&path, response) } else { app.counted("other", response) }
}

/// Whether `path` is none that [`pages`](crate::Options::pages) may answer.
fn is_api(path: &str) -> bool {
    path.starts_with("/v1/") || path.starts_with("/api/") || path == METRICS
}

/// Tells a browser that pages of `origin` may read the answer.
fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, content-type, x-api-key, anthropic-version"),
    );
}

impl Access {
    /// Checks the name under which the server was called.
    fn host(&self, request: &Request) -> Result<()> {
        let mut named: Vec<&str> = Vec::new();
        for value in request.headers().get_all(header::HOST) {
            named.push(value.to_str().map_err(|_| forbidden_host("?"))?);
        }
        named.extend(request.uri().authority().map(Authority::as_str));
        if named.is_empty() {
            return Err(Problem::new(Kind::Invalid, "the request has no Host header"));
        }
        match named.iter().find(|host| !self.is_own_name(host)) {
            Some(host) => Err(forbidden_host(host)),
            None => Ok(()),
        }
    }

    fn is_own_name(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        if host.contains('@') {
            return false;
        }
        let name = authority.host();
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match address {
            // An address cannot be rebound.
            Ok(address) => !self.loopback_only || address.is_loopback(),
            Err(_) => {
                name.eq_ignore_ascii_case("localhost")
                    || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
            }
        }
    }

    /// The origin to be named in the answer, if a page of another, allowed origin asks.
    fn origin(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else { return Ok(None) };
        let text = origin.to_str().unwrap_or("?");
        if origins.next().is_none() {
            if self.origins.iter().any(|allowed| allowed == text) {
                return Ok(Some(origin.clone()));
            }
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            let authority = text.split_once("://").map(|(_, authority)| authority);
            if authority.is_some() && authority == host {
                return Ok(None);
            }
        }
        let message = format!(
            "pages of the origin `{text}` may not ask here; start the server with --allow-origin {text} if \
             they should"
        );
        Err(Problem::new(Kind::Forbidden, message))
    }

    /// Checks the key, which OpenAI's and Ollama's clients send as a bearer token and Anthropic's as `x-api-key`.
    fn key(&self, headers: &HeaderMap) -> Result<()> {
        let Some(hash) = &self.key else { return Ok(()) };
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
            let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        });
        let plain = headers.get("x-api-key").and_then(|value| value.to_str().ok());
        match bearer.or(plain) {
            Some(key) if hash.matches(key) => Ok(()),
            Some(_) => Err(Problem::new(Kind::Unauthorized, "this key is wrong")),
            None => Err(Problem::new(
                Kind::Unauthorized,
                "a key is needed; send it as `Authorization: Bearer KEY` or `x-api-key: KEY`",
            )),
        }
    }
}

fn forbidden_host(host: &str) -> Problem {
    Problem::new(
        Kind::Forbidden,
        format!(
            "this server is not known as `{host}`; call it by its address, or start it with --allow-host NAME"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_host(access: &Access, host: &str, expected: bool) {
        assert_eq!(access.is_own_name(host), expected, "{host}");
    }

    #[test]
    fn hosts_are_addresses_or_known_names() {
        let mut access = Access { loopback_only: true, hosts: vec!["box.lan".into()], ..Access::default() };
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.9.9.9", "[::1]:8080", "Box.lan:80"] {
            check_host(&access, host, true);
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "192.168.0.7",
            "[::2]",
            "x@localhost",
            "localhost@evil.example",
            "",
            "a b",
            "2130706433",
            "0x7f.1",
        ] {
            check_host(&access, host, false);
        }
        access.loopback_only = false;
        check_host(&access, "192.168.0.7:8080", true);
        check_host(&access, "evil.example", false);
    }

    #[test]
    fn origins_are_the_own_one_or_allowed() {
        let access = Access { origins: vec!["https://app.example".into()], ..Access::default() };
        let with = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("localhost:80"));
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            access.origin(&headers)
        };
        assert_eq!(with("https://app.example").unwrap().unwrap(), "https://app.example");
        assert_eq!(with("http://localhost:80").unwrap(), None);
        for origin in
            ["null", "http://localhost:81", "http://evil.example", "https://app.example.evil", "localhost:80"]
        {
            assert_eq!(with(origin).unwrap_err().kind, Kind::Forbidden, "{origin}");
        }
        assert_eq!(access.origin(&HeaderMap::new()).unwrap(), None);
    }
}
