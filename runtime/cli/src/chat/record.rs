//! A conversation as it is kept: every message is on the disk before it is answered, and every answer before the next
//! prompt.

use std::path::PathBuf;
use std::sync::Arc;

use ::agent::{Content, Origin, Part as Kept, PictureId, Pictures, Role as Speaker, Turn, message};
use anyhow::Context;
use engine::{Answer, Engine, Message, Part};
use serde_json::json;
use sessions::{SessionId, Store, TurnId};
use vision::Preprocessor;

use crate::output::Output;
use crate::settings;

/// Where the conversations of this user are.
///
/// # Errors
/// If they cannot be opened.
pub(crate) fn store() -> anyhow::Result<Store> {
    Ok(Store::open(&conversations()?)?)
}

/// The file of all conversations.
pub(crate) fn conversations() -> anyhow::Result<PathBuf> {
    Ok(settings::data_folder()?.join("sessions.db"))
}

/// Has an engine of this model take over what it knew of a conversation, so that it need not be read again.
pub(crate) fn recall(
    store: &Store,
    session: &SessionId,
    model: u64,
    engine: &mut Engine,
    output: &Output,
) -> anyhow::Result<()> {
    if let Some(bytes) = store.cache(session, model)?
        && let Err(error) = engine.restore(&bytes, model)
    {
        output.warning(&format!("{error}; the conversation is read again"));
    }
    Ok(())
}

/// Keeps what an engine of this model knows of a conversation.
pub(crate) fn remember(
    store: &Store,
    session: &SessionId,
    model: u64,
    engine: &mut Engine,
) -> anyhow::Result<()> {
    if let Some(bytes) = engine.snapshot(model)? {
        store.keep_cache(session, model, &bytes)?;
    }
    Ok(())
}

/// The session that a conversation is written to. It begins with the first message.
pub(super) struct Record {
    store: Store,
    session: Option<SessionId>,
    /// Tells the model, for its cache.
    model: u64,
    /// Where the conversation stood before the message that is being answered.
    before: Option<TurnId>,
}

/// What is kept of something that was shown.
#[derive(Clone)]
pub(super) enum Shown {
    Picture(Arc<[u8]>),
    /// Videos are named only.
    Video(String),
}

impl Record {
    /// A new conversation.
    pub(super) fn begin(model: u64) -> anyhow::Result<Self> {
        Ok(Self { store: store()?, session: None, model, before: None })
    }

    /// The conversation of that name, its messages and system text. The engine takes over what it knew of it.
    pub(super) fn resume(
        name: &str,
        model: u64,
        engine: &mut Engine,
        preprocessor: &Preprocessor,
        output: &Output,
    ) -> anyhow::Result<(Self, Vec<Message>, Option<String>)> {
        let store = store()?;
        let session = store.find(name)?;
        let pictures = store.pictures(&session.id)?;
        let turns = store.turns(&session.id)?;
        let picture = |id: &PictureId| {
            let bytes = pictures.get(id).context("a picture is missing")?;
            let picture = vision::decode(bytes, &vision::DecodeOptions::default())?;
            anyhow::Ok(Part::Image(Arc::new(preprocessor.image(&picture)?)))
        };
        let messages = turns.iter().map(|entry| message(&entry.turn, picture)).collect::<Result<_, _>>()?;
        let system = session.settings.get("system").and_then(|text| text.as_str()).map(str::to_owned);
        recall(&store, &session.id, model, engine, output)?;
        output.note(&format!("{} · {} messages · {}", session.title, turns.len(), session.id.0));
        let before = session.head;
        Ok((Self { store, session: Some(session.id), model, before }, messages, system))
    }

    /// Writes a message of the user.
    pub(super) fn asked(&mut self, text: &str, shown: &[Shown], system: Option<&str>) -> anyhow::Result<()> {
        let session = match &self.session {
            Some(session) => session.clone(),
            None => {
                let session = self.store.create("")?;
                self.session.insert(session).clone()
            }
        };
        let settings = json!({ "system": system });
        self.store.set_settings(&session, settings.as_object().context("it is an object")?)?;
        self.before = self.store.find(&session.0)?.head;
        let mut pictures = Pictures::default();
        let mut parts: Vec<Kept> = shown
            .iter()
            .map(|shown| match shown {
                Shown::Picture(bytes) => Kept {
                    origin: Origin::Picture,
                    content: Content::Picture(pictures.add(Arc::clone(bytes))),
                },
                Shown::Video(name) => Kept::text(Origin::User, format!("[video {name}]\n")),
            })
            .collect();
        parts.push(Kept::text(Origin::User, text));
        self.store.append(&session, &Turn::new(Speaker::User, parts), &pictures)?;
        Ok(())
    }

    /// Writes the answer.
    pub(super) fn answered(&mut self, answer: &Answer) -> anyhow::Result<()> {
        let Some(session) = &self.session else { return Ok(()) };
        let parts = vec![Kept::text(Origin::Model, &answer.text)];
        let turn = Turn { reasoning: answer.reasoning.clone(), ..Turn::new(Speaker::Assistant, parts) };
        self.store.append(session, &turn, &Pictures::default())?;
        Ok(())
    }

    /// Goes back to before the last message, because there will be no answer to it.
    pub(super) fn withdraw(&mut self) -> anyhow::Result<()> {
        match &self.session {
            Some(session) => Ok(self.store.set_head(session, self.before)?),
            None => Ok(()),
        }
    }

    /// Goes back by one message and its answer; both stay as a branch. Returns what was shown with the message.
    pub(super) fn back(&mut self) -> anyhow::Result<Vec<Shown>> {
        let Some(session) = &self.session else { return Ok(Vec::new()) };
        let turns = self.store.turns(session)?;
        let asked =
            turns.iter().rev().find(|entry| entry.turn.role == Speaker::User).context("no message yet")?;
        let pictures = self.store.pictures(session)?;
        let shown = asked.turn.parts.iter().filter_map(|part| match &part.content {
            Content::Picture(id) => pictures.get(id).map(|bytes| Shown::Picture(Arc::clone(bytes))),
            _ => None,
        });
        let shown = shown.collect();
        self.store.set_head(session, asked.parent)?;
        Ok(shown)
    }

    /// The next message begins another conversation.
    pub(super) fn reset(&mut self) {
        self.session = None;
    }

    /// Keeps what the engine knows of the conversation.
    pub(super) fn end(&self, engine: &mut Engine) -> anyhow::Result<()> {
        match &self.session {
            Some(session) => remember(&self.store, session, self.model, engine),
            None => Ok(()),
        }
    }
}
