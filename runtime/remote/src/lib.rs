//! What an agent reaches over HTTP: models on other machines, and pages of the web.
//!
//! [`RemoteModel`] is a [`ChatModel`](agent::ChatModel) behind an OpenAI-compatible API: vLLM, FastDeploy, SGLang, or
//! another `ocelli serve`. [`Fetch`] is a tool that gets pages from hosts that the user allowed. Whatever a server sends
//! is read under limits. Futures of this crate run inside of tokio.
//!
//! This crate knows no terminal, and never prints.
//!
//! ```no_run
//! # async fn ask() -> agent::Result<()> {
//! use remote::RemoteModel;
//!
//! let model = RemoteModel::connect("http://gpu-box:8000", None, std::env::var("OCELLI_API_KEY").ok()).await?;
//! println!("{} answers", model.name());
//! # Ok(())
//! # }
//! ```

mod client;
mod fetch;
mod model;
mod patience;

pub use client::{client, is_overheard};
pub use fetch::{Fetch, Host};
pub use model::RemoteModel;
pub use patience::{Impatient, patiently};
