//! Logarithms of probabilities, as chat completions tell them.

use std::sync::Arc;

use engine::{ChatFormat, TokenLogprobs};
use serde_json::{Value, json};

/// What stands for minus infinity, which JSON lacks.
const IMPOSSIBLE: f32 = -9999.0;

/// Collects the tokens whose text is not told yet.
pub(crate) struct Logprobs {
    format: Arc<ChatFormat>,
    pending: Vec<Value>,
}

impl Logprobs {
    pub(crate) fn new(format: Arc<ChatFormat>) -> Self {
        Self { format, pending: Vec::new() }
    }

    pub(crate) fn push(&mut self, token: &TokenLogprobs) {
        let mut entry = self.entry(token.token, token.logprob);
        entry["top_logprobs"] = token.top.iter().map(|&(id, logprob)| self.entry(id, logprob)).collect();
        self.pending.push(entry);
    }

    /// The tokens of the text that is told now.
    pub(crate) fn take(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.pending)
    }

    fn entry(&self, id: u32, logprob: f32) -> Value {
        let bytes = self.format.tokenizer().token_bytes(id);
        json!({
            "token": String::from_utf8_lossy(&bytes),
            "logprob": logprob.max(IMPOSSIBLE),
            "bytes": bytes,
        })
    }
}
