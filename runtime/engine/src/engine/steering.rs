//! Where the choice of a token is not the sampler's alone: forms of answers, and the end of long thoughts.

use std::collections::VecDeque;

use tensor::Candidate;
use tokenizer::Tokenizer;

use super::Clock;
use crate::guide::Guide;
use crate::sampler::Sampler;
use crate::{GenerateOptions, Prompt, Result};

/// What steers one answer.
pub(super) struct Steering {
    guide: Option<Guide>,
    thinking_left: usize,
    /// Ends the model's thoughts.
    closing: Vec<u32>,
    /// Tokens of that which come next.
    forced: VecDeque<u32>,
    is_complete: bool,
    /// Time that finding the allowed tokens took.
    pub(super) mask_ms: f64,
}

impl Steering {
    pub(super) fn new(prompt: &Prompt, options: &GenerateOptions, tokenizer: &Tokenizer) -> Self {
        // A grammar says itself what follows the tag.
        let closing = if prompt.guide.is_some() { "\n</think>" } else { "\n</think>\n\n" };
        let closing = options.thinking_budget.map(|_| tokenizer.encode_prompt(closing));
        Self {
            guide: prompt.guide.clone(),
            thinking_left: options.thinking_budget.unwrap_or(usize::MAX),
            closing: closing.unwrap_or_default(),
            forced: VecDeque::new(),
            is_complete: false,
            mask_ms: 0.0,
        }
    }

    /// Chooses the next token among `candidates`.
    pub(super) fn choose(
        &mut self,
        sampler: &mut Sampler,
        candidates: &[Candidate],
        is_reasoning: bool,
        clock: &Clock,
    ) -> Result<u32> {
        if is_reasoning && self.forced.is_empty() {
            match self.thinking_left.checked_sub(1) {
                Some(left) => self.thinking_left = left,
                None => {
                    // The last token may have left a character unfinished, which comes first.
                    let may_close =
                        self.guide.as_mut().map_or(Ok(true), |guide| guide.accepts(&self.closing))?;
                    self.forced.extend(self.closing.iter().filter(|_| may_close));
                }
            }
        }
        let token = match (self.forced.pop_front(), &mut self.guide) {
            (Some(token), _) => token,
            (None, None) => sampler.sample(candidates)?,
            (None, Some(guide)) => {
                let started = clock();
                let allowed = guide.allowed(candidates)?;
                self.mask_ms += clock() - started;
                sampler.sample(&allowed)?
            }
        };
        if let Some(guide) = &mut self.guide {
            self.is_complete = guide.take(token)?;
        }
        Ok(token)
    }

    /// Whether nothing can follow.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }
}
