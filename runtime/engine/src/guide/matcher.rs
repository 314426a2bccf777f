//! Follows an answer through its grammar.

use std::sync::OnceLock;

use llguidance::{Matcher, ParserFactory};
use tensor::Candidate;
use tokenizer::Tokenizer;

use super::{Form, grammar, vocabulary};
use crate::{Error, Result};

/// Makes guides for one vocabulary, which is prepared when the first one is needed.
#[derive(Default)]
pub(crate) struct Guides {
    factory: OnceLock<Option<ParserFactory>>,
}

/// Where an answer stands in its grammar.
#[derive(Clone)]
pub(crate) struct Guide {
    matcher: Matcher,
}

impl Guides {
    /// A guide for an answer of this form.
    ///
    /// # Errors
    /// If the schema, expression or grammar cannot be read, or is too large.
    pub(crate) fn guide(&self, form: &Form<'_>, tokenizer: &Tokenizer, stops: &[u32]) -> Result<Guide> {
        let factory = self.factory.get_or_init(|| {
            let mut factory = ParserFactory::new_simple(&vocabulary::of(tokenizer, stops)?).ok()?;
            factory.quiet();
            factory.limits_mut().verbose_errors = false;
            Some(factory)
        });
        let Some(factory) = factory else {
            return Err(Error::Constraint("this model has no token that ends an answer".into()));
        };
        let matcher = Matcher::new(factory.create_parser(grammar::of(form)));
        match matcher.get_error() {
            None => Ok(Guide { matcher }),
            Some(error) => Err(Error::Constraint(first_line(&error))),
        }
    }
}

impl Guide {
    /// What the grammar does not hold of the schemas of tools.
    pub(crate) fn gaps(&mut self) -> Vec<String> {
        self.matcher.grammar_warnings()
    }

    /// Those candidates that the answer can go on with.
    ///
    /// # Errors
    /// If there is none, or the grammar is too ambiguous to be followed.
    pub(crate) fn allowed(&mut self, candidates: &[Candidate]) -> Result<Vec<Candidate>> {
        let mask = self.matcher.compute_mask_or_eos().map_err(|error| failed(&error))?;
        let n = mask.len() as u32;
        let is_allowed = |candidate: &&Candidate| candidate.id < n && mask.is_allowed(candidate.id);
        let allowed: Vec<Candidate> = candidates.iter().filter(is_allowed).copied().collect();
        match allowed.is_empty() {
            false => Ok(allowed),
            true => {
                Err(Error::Constraint("the vocabulary has no token that the answer can go on with".into()))
            }
        }
    }

    /// Whether the answer can go on with these tokens.
    ///
    /// # Errors
    /// If the grammar is too ambiguous to be followed.
    pub(crate) fn accepts(&mut self, tokens: &[u32]) -> Result<bool> {
        let n = self.matcher.validate_tokens(tokens).map_err(|error| failed(&error))?;
        Ok(n == tokens.len())
    }

    /// Goes on with a token. Returns whether the answer is complete and nothing can follow.
    ///
    /// # Errors
    /// If the token does not fit.
    pub(crate) fn take(&mut self, token: u32) -> Result<bool> {
        self.matcher.consume_token(token).map_err(|error| failed(&error))?;
        Ok(self.matcher.is_stopped())
    }
}

impl std::fmt::Debug for Guide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guide").finish_non_exhaustive()
    }
}

fn failed(error: &impl std::fmt::Display) -> Error {
    Error::Constraint(first_line(&error.to_string()))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
