//! An agent's conversation, what its calls would do, and what happens in its tasks: plain data, for those who run one
//! and those who show it.

mod approval;
mod desk;
mod event;
mod transcript;

pub use approval::{Ask, Effect, Subject};
pub use desk::{Conversation, Hit, Kept, News};
pub use event::{Event, Outcome, ToolOutput};
pub use transcript::{Content, Origin, Part, PictureId, Role, ToolCall, Turn};
