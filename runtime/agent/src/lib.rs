//! An agent that sees: a model, tools, and a person who says what may be done.
//!
//! A [`Run`] is a state machine without input and output, which can be stored at any time; [`drive`] does what it
//! asks for. [`ChatModel`] is any language model: [`EngineModel`] inside this program, one behind an API, or a script in
//! tests. Each part of a conversation carries its [`Origin`], and what changes anything needs a yes once anybody else
//! than user and model may have put words into the conversation.
//!
//! This crate knows no terminal and no page, and never prints.
//!
//! ```
//! use agent::{Limits, Pictures, Policy, Run, Surroundings, Toolbox, Turn, tools};
//! # use agent::{Event, Nobody, Outcome, Reply, Scripted};
//! # use std::ops::ControlFlow;
//! # let mut model = Scripted::new([Reply { text: "It is noon.".into(), ..Reply::default() }]);
//! # fn watch(_: &Run, _: &Pictures, _: &Event) -> ControlFlow<()> { ControlFlow::Continue(()) }
//! let mut tools = Toolbox::default();
//! tools.add(tools::Clock::new())?;
//! let mut run = Run::new(vec![Turn::user("How late is it?")], Limits::default(), Policy::default());
//! let outcome = pollster::block_on(agent::drive(&mut run, Surroundings {
//!     model: &mut model,
//!     tools: &tools,
//!     pictures: &mut Pictures::default(),
//!     approver: &mut Nobody,
//!     watcher: &mut watch,
//!     clock: &|| 0.0,
//! }));
//! assert_eq!(outcome, Outcome::Answered { text: "It is noon.".into() });
//! # Ok::<(), agent::Error>(())
//! ```

mod approval;
mod driver;
mod error;
mod model;
mod models;
mod pictures;
mod run;
mod tool;
pub mod tools;

pub use approval::{Decision, Policy, Rule, Verdict, foreign_origins};
pub use driver::{Approver, Nobody, Surroundings, Watcher, drive};
pub use engine::LocalFuture;
pub use error::{Error, Result};
pub use model::{ChatModel, Choice, Piece, Reply, Request};
pub use models::{EngineModel, Scripted, Seen, message};
pub use pictures::{Pictures, numbered};
pub use protocol::agent::{
    Ask, Content, Effect, Event, Origin, Outcome, Part, PictureId, Role, Subject, ToolCall, ToolOutput, Turn,
};
pub use run::{Action, Limits, Run};
pub use tool::{Context, Tool, ToolSpec, Toolbox, read_arguments};
