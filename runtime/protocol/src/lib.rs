//! What is said between those who show a model and those who run it.
//!
//! A page, a JavaScript program or a test sends [`Request`]s; the worker that owns the engine answers with
//! [`Event`]s. Both are closed enums. Each request has an id of the sender's choice, and every event about it carries
//! that id. The types know no transport: in a browser they travel as structured clones with bytes as `Uint8Array`,
//! elsewhere as JSON. [`agent`] has what is said of an agent's conversations and tasks, as JSON everywhere.
//!
//! ```
//! use protocol::{Options, Request};
//!
//! let request = Request::Caption { id: 7, picture: vec![0x89, 0x50], options: Options::default() };
//! assert_eq!(request.id(), 7);
//! ```
//!
//! This crate must never know an engine, a browser or a clock.

pub mod agent;
mod event;
mod exact;
mod model;
pub mod page;
mod request;

pub use event::{Answer, Event, GpuCost, PictureView, Problem, Sight, StopReason};
pub use exact::exact;
pub use model::{EngineKind, EngineReport, ModelReport, StoredModel};
pub use request::{EngineChoice, Message, Options, Part, Request, Role, Source};
