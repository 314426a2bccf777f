//! What can be wrong with a configuration.

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is no JSON object.
    #[error("config.json is not valid: {0}")]
    Json(String),
    /// A key that has no default is absent.
    #[error("the config has no `{0}`")]
    Missing(String),
    /// A value makes no sense, alone or beside another.
    #[error("the config's `{key}` is {found}, but must be {expected}")]
    Value {
        /// The key, with its section.
        key: String,
        /// What it is.
        found: String,
        /// What it could be.
        expected: String,
    },
    /// The configuration is sound, but asks for something that this program does not do.
    #[error("{0}")]
    Unsupported(String),
}

impl ConfigError {
    pub(super) fn value(key: &str, found: impl ToString, expected: impl Into<String>) -> Self {
        Self::Value { key: key.to_owned(), found: found.to_string(), expected: expected.into() }
    }
}
