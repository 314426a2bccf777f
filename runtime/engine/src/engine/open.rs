//! From the files of a model to an engine.

use std::rc::Rc;
use std::sync::Arc;

use super::{Clock, Engine};
use crate::chat_format::ChatFormat;
use crate::{Device, ModelFiles, Result, load};

impl Engine {
    /// Loads a model onto `device`, with its vocabulary, its chat template or the built-in one that fits, and
    /// its preprocessor. Beside the configured tokens, those of `generation_config.json` end an answer.
    ///
    /// # Errors
    /// If a file is damaged or missing, or does not fit the others.
    pub fn open(files: &ModelFiles, device: Device, clock: Clock) -> Result<Self> {
        // The small files come first: a model without a vocabulary is refused before its weights are read.
        let format = ChatFormat::files(files)?;
        let model = load(files, device)?;
        let format = format.for_model(model.config())?;
        Engine::of(model, Arc::new(format), Rc::new(clock))
    }
}
