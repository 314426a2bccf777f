//! What a build without the feature `guidance` says.

use tensor::Candidate;
use tokenizer::Tokenizer;

use super::Form;
use crate::{Error, Result};

/// Makes no guides.
#[derive(Default)]
pub(crate) struct Guides {}

/// There is none.
#[derive(Debug, Clone)]
pub(crate) enum Guide {}

impl Guides {
    /// # Errors
    /// Always.
    pub(crate) fn guide(&self, _: &Form<'_>, _: &Tokenizer, _: &[u32]) -> Result<Guide> {
        Err(Error::Constraint("this build has no grammars; build with the feature `guidance`".into()))
    }
}

impl Guide {
    pub(crate) fn gaps(&mut self) -> Vec<String> {
        match *self {}
    }

    pub(crate) fn allowed(&mut self, _: &[Candidate]) -> Result<Vec<Candidate>> {
        match *self {}
    }

    pub(crate) fn accepts(&mut self, _: &[u32]) -> Result<bool> {
        match *self {}
    }

    pub(crate) fn take(&mut self, _: u32) -> Result<bool> {
        match *self {}
    }
}
