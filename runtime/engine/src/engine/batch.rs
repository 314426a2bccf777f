//! Several conversations at once over one copy of the weights.

use std::rc::Rc;
use std::sync::Arc;

use tensor::Backend;

use super::{Clock, Engine};
use crate::chat_format::ChatFormat;
use crate::{LoadOptions, LocalFuture, ModelFiles, Result, Sequences, load_sequences, load_sequences_on};

/// A loaded model for several conversations, each of which has an [`Engine`] of its own.
///
/// The futures of these engines stand still at each token until [`step`](Self::step) has decoded those of all
/// of them in one pass: who drives them polls each, steps, and begins again.
///
/// ```no_run
/// # fn main() -> engine::Result<()> {
/// # use std::{ops::ControlFlow, pin::pin, task::{Context, Waker}};
/// # use engine::{Batch, Device, GenerateOptions, Message, ModelFiles, Role};
/// let files = ModelFiles::open("model".as_ref())?;
/// let batch = Batch::open(&files, Device::default(), Box::new(|| 0.0))?;
/// let (messages, options) = ([Message::text(Role::User, "Hi")], GenerateOptions::default());
/// let mut engine = batch.engine()?;
/// let listen = &mut |_| ControlFlow::Continue(());
/// let mut answer = pin!(engine.chat(&messages, &options, listen));
/// while answer.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
///     pollster::block_on(batch.step());
/// }
/// # Ok(())
/// # }
/// ```
pub struct Batch {
    model: Box<dyn Sequences>,
    format: Arc<ChatFormat>,
    clock: Rc<Clock>,
}

impl Batch {
    /// Loads a model as `options` say, as [`Engine::open`] does.
    ///
    /// # Errors
    /// As for [`Engine::open`].
    pub fn open(files: &ModelFiles, options: impl Into<LoadOptions>, clock: Clock) -> Result<Self> {
        Self::open_by(files, clock, || load_sequences(files, options))
    }

    /// As [`open`](Self::open), on a backend that the caller made.
    ///
    /// # Errors
    /// As for [`Engine::open`].
    pub fn open_on<B: Backend + Clone>(files: &ModelFiles, backend: B, clock: Clock) -> Result<Self> {
        Self::open_by(files, clock, || load_sequences_on(files, backend))
    }

    fn open_by(
        files: &ModelFiles,
        clock: Clock,
        load: impl FnOnce() -> Result<Box<dyn Sequences>>,
    ) -> Result<Self> {
        let format = ChatFormat::files(files)?;
        let model = load()?;
        let format = Arc::new(format.for_model(model.config())?);
        Ok(Self { model, format, clock: Rc::new(clock) })
    }

    /// From conversations to prompts, on any thread.
    pub fn format(&self) -> &Arc<ChatFormat> {
        &self.format
    }

    /// An engine with an empty cache. It shares the weights.
    ///
    /// # Errors
    /// If the device has no room for it.
    pub fn engine(&self) -> Result<Engine> {
        Engine::of(self.model.sequence()?, Arc::clone(&self.format), Rc::clone(&self.clock))
    }

    /// Decodes the tokens that the engines wait for, in one pass. Returns how many there were.
    pub fn step(&self) -> LocalFuture<'_, usize> {
        self.model.step()
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("config", self.model.config()).finish_non_exhaustive()
    }
}
