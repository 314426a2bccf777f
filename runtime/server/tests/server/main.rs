//! The server as its clients meet it: requests over a socket in, responses out.
//!
//! Answers are compared with those of the engine asked directly, never with fixed words.

mod access;
mod anthropic;
mod embeddings;
mod limits;
mod ollama;
mod openai;
mod queue;
mod responses;
mod support;
mod tools;
