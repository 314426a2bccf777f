//! The APIs that are spoken, and how each puts a problem.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::problem::{Kind, Problem};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Anthropic,
    Ollama,
}

/// The API that a path belongs to. OpenAI's is the common tongue of everything else.
pub(crate) fn of(path: &str) -> Dialect {
    if path.starts_with("/api/") {
        Dialect::Ollama
    } else if path.starts_with("/v1/messages") {
        Dialect::Anthropic
    } else {
        Dialect::OpenAi
    }
}

impl Dialect {
    /// The answer to a request that cannot be answered.
    pub(crate) fn error(self, problem: &Problem) -> Response {
        let mut response = json_response(problem.kind.status(), &self.error_body(problem));
        let headers = response.headers_mut();
        if let Kind::Busy(seconds) = problem.kind {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if problem.kind == Kind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    pub(crate) fn error_body(self, problem: &Problem) -> Value {
        let Problem { kind, message, field } = problem;
        match self {
            Self::OpenAi => json!({
                "error": {
                    "message": message,
                    "type": openai_type(*kind),
                    "param": field,
                    "code": openai_code(*kind),
                }
            }),
            Self::Anthropic => {
                json!({ "type": "error", "error": { "type": anthropic_type(*kind), "message": message } })
            }
            Self::Ollama => json!({ "error": message }),
        }
    }
}

fn openai_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Busy(_) => "rate_limit_error",
        Kind::Unauthorized => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::Internal | Kind::Stopping => "server_error",
        _ => "invalid_request_error",
    }
}

fn openai_code(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid => "invalid_value",
        Kind::ContextTooLong => "context_length_exceeded",
        Kind::Unauthorized => "invalid_api_key",
        Kind::Forbidden => "forbidden",
        Kind::NotFound => "not_found",
        Kind::Method => "method_not_allowed",
        Kind::Slow => "request_timeout",
        Kind::TooLarge => "request_too_large",
        Kind::Unsupported => "unsupported",
        Kind::Busy(_) => "queue_full",
        Kind::Stopping => "shutting_down",
        Kind::Internal => "internal_error",
    }
}

fn anthropic_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Unauthorized => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::NotFound => "not_found_error",
        Kind::TooLarge => "request_too_large",
        Kind::Busy(_) => "rate_limit_error",
        Kind::Stopping => "overloaded_error",
        Kind::Internal => "api_error",
        _ => "invalid_request_error",
    }
}

/// A response of one JSON value.
pub(crate) fn json_response(status: StatusCode, body: &Value) -> Response {
    let content_type = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, content_type)], body.to_string()).into_response()
}
