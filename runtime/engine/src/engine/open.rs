//! From the files of a model to an engine.

use std::rc::Rc;
use std::sync::Arc;

use tensor::Backend;

use super::{Clock, Engine};
use crate::chat_format::ChatFormat;
use crate::{LanguageModel, LoadOptions, ModelFiles, Result, load, load_on};

impl Engine {
    /// Loads a model as `options` say, with its vocabulary, its chat template or the built-in one that fits, and
    /// its preprocessor. Beside the configured tokens, those of `generation_config.json` end an answer.
    ///
    /// # Errors
    /// If a file is damaged or missing, or does not fit the others.
    pub fn open(files: &ModelFiles, options: impl Into<LoadOptions>, clock: Clock) -> Result<Self> {
        Self::open_by(files, clock, || load(files, options))
    }

    /// As [`open`](Self::open), on a backend that the caller made. A browser awaits its GPU first, by
    /// `Gpu::request().await`, and opens on that.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_on<B: Backend + Clone>(files: &ModelFiles, backend: B, clock: Clock) -> Result<Self> {
        Self::open_by(files, clock, || load_on(files, backend))
    }

    fn open_by(
        files: &ModelFiles,
        clock: Clock,
        load: impl FnOnce() -> Result<Box<dyn LanguageModel>>,
    ) -> Result<Self> {
        // The small files come first: a model without a vocabulary is refused before its weights are read.
        let format = ChatFormat::files(files)?;
        let model = load()?;
        let format = format.for_model(model.config())?;
        Engine::of(model, Arc::new(format), Rc::new(clock))
    }
}
