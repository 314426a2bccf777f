//! What goes wrong with a request, before it is put in the words of an API.

use axum::http::StatusCode;

/// Result of everything that a request asks for.
pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

/// A request that cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    /// Says what is wrong and what to do.
    pub(crate) message: String,
    /// The field that it is about, as `messages[0].content`.
    pub(crate) field: Option<String>,
}

/// Kinds of problems, each with its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request makes no sense.
    Invalid,
    /// More tokens than the model takes.
    ContextTooLong,
    /// No key, or a wrong one.
    Unauthorized,
    /// From a host or an origin that is not let in, or for a file that is not granted.
    Forbidden,
    /// No such route or model.
    NotFound,
    /// The route is there, but not for this method.
    Method,
    /// The body did not come in time.
    Slow,
    /// A body above the limit.
    TooLarge,
    /// What this server or this model cannot do.
    Unsupported,
    /// The queue is full; try again after so many seconds.
    Busy(u64),
    /// The server is going away.
    Stopping,
    /// Our fault.
    Internal,
}

impl Kind {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Kind::Invalid | Kind::ContextTooLong | Kind::Unsupported => StatusCode::BAD_REQUEST,
            Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Method => StatusCode::METHOD_NOT_ALLOWED,
            Kind::Slow => StatusCode::REQUEST_TIMEOUT,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            Kind::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Problem {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), field: None }
    }

    /// A field whose value makes no sense; the message begins with its name.
    pub(crate) fn field(field: impl Into<String>, message: impl AsRef<str>) -> Self {
        let field = field.into();
        Self { kind: Kind::Invalid, message: format!("{field}: {}", message.as_ref()), field: Some(field) }
    }

    /// A field that asks for what cannot be had.
    pub(crate) fn unsupported(field: impl Into<String>, message: impl AsRef<str>) -> Self {
        Self { kind: Kind::Unsupported, ..Self::field(field, message) }
    }
}

impl From<engine::Error> for Problem {
    fn from(error: engine::Error) -> Self {
        use engine::Error;
        match &error {
            Error::ContextTooLong { prompt, limit } => Self::new(
                Kind::ContextTooLong,
                format!(
                    "the prompt has {prompt} tokens, {} more than the {limit} that the model takes; \
                     shorten the conversation or send fewer or smaller pictures",
                    prompt - limit
                ),
            ),
            Error::Prompt(_)
            | Error::Template(_)
            | Error::Options(_)
            | Error::Constraint(_)
            | Error::Vision(_) => Self::new(Kind::Invalid, error.to_string()),
            _ => Self::new(Kind::Internal, error.to_string()),
        }
    }
}
