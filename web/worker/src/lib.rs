//! The engine in a Web Worker: requests in, events out, models kept on the device.
//!
//! The page starts this module as a dedicated worker and talks to it in the words of [`protocol`]. Everything that
//! takes time happens here, so the page stays lively whatever the model does:
//!
//! - `host` takes requests one after the other, and cancels between two tokens;
//! - `answer` loads models and drives the engine;
//! - `store` fetches the files of a model, keeps them in the origin private file system, and checks every chunk;
//! - `remote` asks a server instead;
//! - `gpu` decides what computes, and `told` hides that an answer was begun again because that went away.
//!
//! What needs no browser ([`chunks`], [`sse`], [`told`]) is tested on its own.

pub mod chunks;
pub mod sse;
pub mod told;

#[cfg(target_family = "wasm")]
mod answer;
#[cfg(target_family = "wasm")]
mod browser;
#[cfg(target_family = "wasm")]
mod fetch;
#[cfg(target_family = "wasm")]
mod gpu;
#[cfg(target_family = "wasm")]
pub mod host;
#[cfg(target_family = "wasm")]
mod local;
#[cfg(target_family = "wasm")]
mod remote;
#[cfg(target_family = "wasm")]
mod seen;
#[cfg(target_family = "wasm")]
mod store;
