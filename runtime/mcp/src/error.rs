//! What can go wrong with servers of tools.

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a server of tools.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be named so.
    #[error("`{0}` names no server of tools; give a command with its arguments, or an address as http://…")]
    Target(String),
    /// It cannot be started or reached.
    #[error("the server of tools `{name}` cannot be used: {detail}")]
    Connect {
        /// The server.
        name: String,
        /// Why not.
        detail: String,
    },
    /// Whoever asks us does not keep to the protocol.
    #[error("the client does not speak MCP: {0}")]
    Client(String),
    /// It does not answer as it should.
    #[error("the server of tools `{name}`: {detail}")]
    Server {
        /// The server.
        name: String,
        /// What is wrong.
        detail: String,
    },
}
