//! What can go wrong around an agent. What goes wrong in a tool is told to the model instead.

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the agent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine inside this program.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// Tools or folders that do not go together.
    #[error("{0}")]
    Setup(String),
    /// A picture of the conversation that is not there, or is none.
    #[error("picture {0}")]
    Picture(String),
    /// A model behind an API.
    #[error("{0}")]
    Remote(String),
}
