//! What is told about engines and models.

use serde::{Deserialize, Serialize};

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// The graphics processor, through WebGPU.
    WebGpu,
    /// The processor, in WebAssembly.
    Processor,
    /// Another program, over HTTP.
    Server,
}

/// Which engine runs, and why that one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineReport {
    /// What computes.
    pub kind: EngineKind,
    /// What exactly: an adapter, an instruction set, an address.
    pub detail: String,
    /// Why this one and none that is faster.
    pub why: String,
}

/// A model that is ready to answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    /// What to call it.
    pub name: String,
    /// What runs it.
    pub engine: EngineReport,
    /// Whether messages may hold pictures; `None` if only its server knows.
    pub takes_pictures: Option<bool>,
    /// Size of its files; 0 for a server's model.
    pub bytes: f64,
    /// Tokens that a prompt and its answer may have together; 0 if only its server knows.
    pub context_limit: usize,
    /// From the request until it was ready.
    pub load_ms: f64,
    /// Whatever was unusual about loading it: chunks fetched again, nothing kept on disk.
    pub notes: Vec<String>,
}

/// A model that is kept on this device, whole or in part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredModel {
    /// What to name it by in [`Forget`](crate::Request::Forget).
    pub key: String,
    /// Where it came from.
    pub url: String,
    /// Bytes that are here.
    pub bytes: f64,
    /// Bytes that it has as a whole.
    pub total: f64,
}
