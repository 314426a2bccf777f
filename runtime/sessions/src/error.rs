//! What can go wrong with stored conversations.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened.
    #[error("cannot open the conversations in {path}: {detail}")]
    Open {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        detail: String,
    },
    /// SQLite says no.
    #[error("the stored conversations: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A session that is not there.
    #[error("there is no session `{0}`; `ocelli sessions list` names them")]
    NoSession(String),
    /// The beginning of a name that several sessions have.
    #[error("`{0}` begins the names of several sessions; write more of it")]
    Ambiguous(String),
    /// A turn that is not there.
    #[error("session `{session}` has no turn {turn}")]
    NoTurn {
        /// The session.
        session: String,
        /// The turn.
        turn: i64,
    },
    /// A picture that a turn names, but that nobody gave.
    #[error("the picture {0} is missing")]
    NoPicture(String),
    /// What is stored or imported makes no sense.
    #[error("{0}")]
    Damaged(String),
    /// A file beside the store.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Where it is.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}
