//! The models that an agent can have.

mod local;
mod scripted;

pub use local::{EngineModel, message};
pub use scripted::{Scripted, Seen};
