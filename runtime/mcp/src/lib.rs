//! The Model Context Protocol, both ways: tools of other programs for our agent, and our eyes for other agents.
//!
//! A [`Server`] is another program whose tools become [`Tool`](agent::Tool)s of an agent. What it offers is pinned
//! ([`Pins`]): a list of tools that differs from the one that the user has seen is not used before they have seen it.
//! [`serve_stdio`] and [`serve_http`] are the other direction: what a client asks becomes a [`Job`] for whoever has a model.
//!
//! Futures of this crate run inside of tokio. It knows no terminal; whoever uses it asks the user.

mod client;
mod error;
mod output;
mod pins;
mod serve;
mod target;
mod tool;

pub use client::{Launch, Server};
pub use error::{Error, Result};
pub use pins::{Change, Offer, Pins};
pub use serve::{Eyes, Job, Picture, Question, serve_http, serve_stdio};
pub use target::Target;
