//! A language model that follows a script: for tests of everything above the backends.
//!
//! Its logits are pseudo-random, but a function of all tokens and pictures before them and of nothing else, so
//! a mistake in prefix reuse, chunking or sampling changes the answer.

use std::ops::ControlFlow;

use model::config::Config;
use tensor::Candidate;

use crate::cache_keys::{CacheKey, cache_keys};
use crate::{Error, LanguageModel, LocalFuture, Memory, ModelInput, Result};

/// A [`LanguageModel`] without weights.
#[derive(Debug, Clone)]
pub struct Scripted {
    config: Config,
    cached: Vec<CacheKey>,
    /// Tokens to say first, as `(tokens before it, token)`.
    script: Vec<(usize, u32)>,
    /// How many rows each step had.
    pub steps: Vec<usize>,
}

impl Scripted {
    /// A model that says pseudo-random tokens.
    pub fn new(config: Config) -> Self {
        Self { config, cached: Vec::new(), script: Vec::new(), steps: Vec::new() }
    }

    /// Has the model say `tokens` (greedily, and with any sampler) after a prompt of `prompt_len` tokens.
    #[must_use]
    pub fn saying(mut self, prompt_len: usize, tokens: &[u32]) -> Self {
        self.script.extend(tokens.iter().enumerate().map(|(i, &token)| (prompt_len + i, token)));
        self
    }

    fn candidates(&self, k: usize) -> Vec<Candidate> {
        let history = self
            .cached
            .iter()
            .fold(0x2545_f491_4f6c_dd1d, |hash, key| mix(mix(hash, u64::from(key.0)), key.1));
        let scripted = self.script.iter().find(|&&(len, _)| len == self.cached.len());
        let mut candidates: Vec<Candidate> = (0..self.config.text.vocab_size as u32)
            .map(|id| {
                let random = (mix(history, u64::from(id)) >> 40) as f32 / (1 << 22) as f32;
                let logit = if scripted.is_some_and(|&(_, token)| token == id) { 1e4 } else { random };
                Candidate { id, logit }
            })
            .collect();
        if k < candidates.len() {
            candidates.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id)));
            candidates.truncate(k);
        }
        candidates
    }
}

fn mix(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

impl LanguageModel for Scripted {
    fn config(&self) -> &Config {
        &self.config
    }

    fn context_len(&self) -> usize {
        self.cached.len()
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        if len > self.cached.len() {
            return Err(Error::Prompt(format!("cannot keep {len} of {} cached tokens", self.cached.len())));
        }
        self.cached.truncate(len);
        Ok(())
    }

    fn prefill<'a>(
        &'a mut self,
        input: &'a ModelInput,
        chunk: usize,
        k: usize,
        progress: &'a mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> LocalFuture<'a, Result<Vec<Candidate>>> {
        Box::pin(async move {
            let keys = cache_keys(input, &self.config)?;
            let start = self.cached.len();
            if start >= keys.len() {
                return Err(Error::Prompt("nothing is new".into()));
            }
            for rows in keys[start..].chunks(chunk.max(1)) {
                self.cached.extend_from_slice(rows);
                self.steps.push(rows.len());
                if progress(self.cached.len() - start, keys.len() - start).is_break() {
                    return Err(Error::Cancelled);
                }
            }
            Ok(self.candidates(k))
        })
    }

    fn exact_rows(&self) -> usize {
        usize::MAX
    }

    fn decode_rows<'a>(
        &'a mut self,
        tokens: &'a [u32],
        k: usize,
    ) -> LocalFuture<'a, Result<Vec<Vec<Candidate>>>> {
        Box::pin(async move {
            self.steps.push(tokens.len());
            let rows = tokens.iter().map(|&token| {
                self.cached.push((token, 0));
                self.candidates(k)
            });
            Ok(rows.collect())
        })
    }

    fn bytes_resident(&self) -> Memory {
        Memory::default()
    }
}
