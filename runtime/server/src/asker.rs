//! Routes of the caller's, and their way to the model.

use std::fmt;
use std::sync::{Arc, Weak};

use axum::Router;
use engine::{Event, GenerateOptions, Role};

use crate::app::{App, new_seed};
use crate::pictures::{Picture, Source};
use crate::problem::{Kind, Problem, Result};
use crate::question::{Input, Piece, Question, Turn};
use crate::reply::lost;
use crate::scheduler::Update;

/// Puts questions into the queue, beside those of the APIs.
#[derive(Clone)]
pub struct Asker(Weak<App>);

/// Makes routes of the caller's, which stand behind the same checks as the APIs. Called inside of tokio.
#[derive(Clone)]
pub struct Routes(Arc<dyn Fn(Asker) -> Router + Send + Sync>);

impl Asker {
    pub(crate) fn new(app: &Arc<App>) -> Self {
        Self(Arc::downgrade(app))
    }

    /// Asks about picture files; `on_tokens` hears how many tokens there are. A future that is dropped cancels.
    ///
    /// # Errors
    /// Says why there is no answer, in words for whoever asked.
    pub async fn ask(
        &self,
        text: String,
        pictures: Vec<Vec<u8>>,
        max_tokens: usize,
        on_tokens: impl FnMut(usize),
    ) -> Result<String, String> {
        self.answer(text, pictures, max_tokens, on_tokens).await.map_err(|problem| problem.message)
    }

    async fn answer(
        &self,
        text: String,
        pictures: Vec<Vec<u8>>,
        max_tokens: usize,
        mut on_tokens: impl FnMut(usize),
    ) -> Result<String> {
        let app =
            self.0.upgrade().ok_or_else(|| Problem::new(Kind::Stopping, "the server is shutting down"))?;
        let pictures = pictures.into_iter().enumerate().map(|(i, bytes)| {
            Piece::Picture(Picture { field: format!("picture {}", i + 1), source: Source::Bytes(bytes) })
        });
        let pieces = pictures.chain([Piece::Text(text)]).collect();
        let options = GenerateOptions { max_tokens, seed: new_seed(), ..app.defaults.clone() };
        let question = Question {
            input: Input::Chat(vec![Turn { role: Role::User, pieces }]),
            options,
            stream: true,
            truncate: false,
            notes: Vec::new(),
        };
        let mut asked = app.ask(question).await?;
        // The server ends when nobody can ask any more.
        drop(app);
        let mut n_tokens = 0;
        loop {
            match asked.updates.recv().await {
                Some(Update::Event(Event::Text(_) | Event::Reasoning(_))) => {
                    n_tokens += 1;
                    on_tokens(n_tokens);
                }
                Some(Update::Event(_)) => {}
                Some(Update::Done(answer)) => return Ok(answer.text),
                Some(Update::Failed(problem)) => return Err(problem),
                Some(Update::Embedded(_)) | None => return Err(lost()),
            }
        }
    }
}

impl Routes {
    /// Routes that `make` makes.
    pub fn new(make: impl Fn(Asker) -> Router + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    pub(crate) fn make(&self, asker: Asker) -> Router {
        (self.0)(asker)
    }
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").finish_non_exhaustive()
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").finish_non_exhaustive()
    }
}
