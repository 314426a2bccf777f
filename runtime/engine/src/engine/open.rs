//! From the files of a model to an engine.

use super::{Clock, Engine, EngineParts};
use crate::chat_template::{BuiltIn, ChatTemplate};
use crate::{Device, ModelFiles, Result, load};

impl Engine {
    /// Loads a model onto `device`, with its vocabulary, its chat template or the built-in one that fits, and
    /// its preprocessor. Beside the configured tokens, those of `generation_config.json` end an answer.
    ///
    /// # Errors
    /// If a file is damaged or missing, or does not fit the others.
    pub fn open(files: &ModelFiles, device: Device, clock: Clock) -> Result<Self> {
        // The small files come first: a model without a vocabulary is refused before its weights are read.
        let tokenizer = files.tokenizer()?;
        let source = files.chat_template()?;
        let preprocessor = files.preprocessor()?;
        let defaults = files.generation_defaults()?;
        let model = load(files, device)?;
        let template = match source {
            Some(source) => ChatTemplate::new(&source)?,
            None => ChatTemplate::built_in(BuiltIn::for_model(model.config(), &tokenizer)?),
        };
        let mut engine = Engine::new(EngineParts { model, tokenizer, template, preprocessor, clock })?;
        engine.stop_ids.extend(defaults.eos);
        Ok(engine)
    }
}
