//! The page: captions, conversations, and what the model saw.
//!
//! It never links the engine. Everything it wants it asks of the worker, in the words of `protocol`, and
//! everything it shows comes from events and from what the user did.
//!
//! What needs no browser ([`markdown`], [`batch_file`]) is tested on its own.

#![recursion_limit = "256"]
#![cfg_attr(target_family = "wasm", expect(unreachable_pub, reason = "the macro of components writes `pub`"))]

pub mod batch_file;
pub mod markdown;

#[cfg(target_family = "wasm")]
pub mod app;
#[cfg(target_family = "wasm")]
mod caption;
#[cfg(target_family = "wasm")]
mod chat;
#[cfg(target_family = "wasm")]
mod client;
#[cfg(target_family = "wasm")]
mod desk;
#[cfg(target_family = "wasm")]
mod kept;
#[cfg(target_family = "wasm")]
mod live;
#[cfg(target_family = "wasm")]
mod markdown_view;
#[cfg(target_family = "wasm")]
mod models;
#[cfg(target_family = "wasm")]
mod page;
#[cfg(target_family = "wasm")]
mod picker;
#[cfg(target_family = "wasm")]
mod region;
#[cfg(target_family = "wasm")]
mod saw;
#[cfg(target_family = "wasm")]
mod steps;
#[cfg(target_family = "wasm")]
mod words;
