//! Serves a model over HTTP, in the words of OpenAI, Anthropic and Ollama.
//!
//! [`Server`] listens and, on the thread that [runs](Server::run) it, drives the engines of a
//! [`Batch`](engine::Batch): requests come in over a bounded queue, several are answered at once, and one whose
//! client went away is dropped at the next step. Connections have threads of their own.
//!
//! Whatever of a request was ignored or changed is told with the answer, in its member `ocelli`, beside the
//! timings and the seed. What cannot be had is refused, in the shape of the API that was asked.
//!
//! This crate knows no agent, no session and no page; pages and routes of the caller's are served behind the same
//! checks ([`Options::pages`], [`Options::routes`]).
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use engine::{Batch, Device, ModelFiles};
//! use server::{Options, Server};
//!
//! let server = Server::bind("127.0.0.1:8080".parse()?, Options::default())?;
//! let files = ModelFiles::open("model".as_ref())?;
//! let start = std::time::Instant::now();
//! let clock = Box::new(move || start.elapsed().as_secs_f64() * 1000.0);
//! server.run(&Batch::open(&files, Device::default(), clock)?)?;
//! # Ok(())
//! # }
//! ```

mod access;
mod anthropic;
mod app;
mod asker;
mod dialect;
mod fields;
mod key;
mod metrics;
mod ollama;
mod openai;
mod pictures;
mod problem;
mod question;
mod reply;
mod sampling;
mod scheduler;
mod serve;
mod tools;

pub use access::Access;
pub use asker::{Asker, Routes};
pub use key::{KeyHash, NoKeyHash, new_key};
pub use serve::{Error, Options, Server, Stop};
