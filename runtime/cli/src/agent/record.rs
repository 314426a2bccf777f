//! A run as it is kept: every step is on the disk before it is told.

use ::agent::{Limits, Origin, Part, Pictures, Policy, Role, Run, Turn};
use anyhow::{Context, bail};
use engine::Engine;
use serde_json::Value;
use sessions::{Session, SessionId, Store, TurnId};

use crate::chat;
use crate::output::Output;

/// The setting of a session that holds the state of its run, without the conversation.
const RUN: &str = "agent";

/// The session that a run is written to.
pub(crate) struct Record {
    store: Store,
    session: Session,
    /// How many turns of the run are written, or stand for something that is.
    n_written: usize,
    /// How many of those lie beside the conversation.
    n_beside: usize,
    /// The state that was written last.
    written: Value,
}

/// A conversation that goes on.
pub(crate) struct Resumed {
    pub(crate) record: Record,
    pub(crate) turns: Vec<Turn>,
    pub(crate) pictures: Pictures,
    /// Names of the turns that are kept, which are the last of `turns`.
    ids: Vec<TurnId>,
    /// The run that has not ended, without its conversation.
    run: Option<Run>,
}

impl Record {
    /// A new conversation.
    pub(crate) fn begin(mut store: Store) -> anyhow::Result<Self> {
        let id = store.create("")?;
        let session = store.find(&id.0)?;
        Ok(Self { store, session, n_written: 0, n_beside: 0, written: Value::Null })
    }

    /// The conversation of that name.
    pub(crate) fn resume(store: Store, name: &str) -> anyhow::Result<Resumed> {
        let session = store.find(name)?;
        let pictures = store.pictures(&session.id)?;
        let entries = store.turns(&session.id)?;
        let (ids, mut turns): (Vec<TurnId>, Vec<Turn>) =
            entries.into_iter().map(|entry| (entry.id, entry.turn)).unzip();
        // `chat` keeps the system text beside the conversation.
        if let Some(text) = session.settings.get("system").and_then(Value::as_str) {
            turns.insert(0, Turn::new(Role::System, vec![Part::text(Origin::User, text)]));
        }
        let run = unfinished(&session);
        let (n_written, n_beside) = (turns.len(), turns.len() - ids.len());
        let record = Self { store, session, n_written, n_beside, written: Value::Null };
        Ok(Resumed { record, turns, pictures, ids, run })
    }

    /// How many turns are kept.
    pub(crate) fn n_kept(&self) -> usize {
        self.n_written - self.n_beside
    }

    pub(crate) fn id(&self) -> &SessionId {
        &self.session.id
    }

    /// Has the engine of this model take over what it knew of the conversation.
    pub(crate) fn recall(&self, model: u64, engine: &mut Engine, output: &Output) -> anyhow::Result<()> {
        chat::recall(&self.store, &self.session.id, model, engine, output)
    }

    /// Keeps what the engine of this model knows of the conversation.
    pub(crate) fn remember(&self, model: u64, engine: &mut Engine) -> anyhow::Result<()> {
        chat::remember(&self.store, &self.session.id, model, engine)
    }

    /// Writes what is new of a run.
    pub(crate) fn save(&mut self, run: &Run, pictures: &Pictures) -> anyhow::Result<()> {
        let mut bare = run.clone();
        bare.turns.clear();
        let state = serde_json::to_value(bare)?;
        let turns = &run.turns[self.n_written..];
        if turns.is_empty() && state == self.written {
            return Ok(());
        }
        self.session.settings.insert(RUN.to_owned(), state.clone());
        self.store
            .record(&self.session.id, turns, pictures, &self.session.settings)
            .context("this step cannot be kept; --private keeps nothing")?;
        (self.n_written, self.written) = (run.turns.len(), state);
        Ok(())
    }
}

impl Resumed {
    /// Goes back to the first `n` turns that are kept; those behind them stay as a branch.
    pub(crate) fn keep(&mut self, n: usize) -> anyhow::Result<()> {
        if n > self.ids.len() {
            bail!("{n} messages shall stay, but there are {}", self.ids.len());
        }
        let head = n.checked_sub(1).map(|last| self.ids[last]);
        self.record.store.set_head(&self.record.session.id, head)?;
        self.turns.truncate(self.record.n_beside + n);
        self.ids.truncate(n);
        self.record.n_written = self.turns.len();
        self.run = None;
        Ok(())
    }

    /// The run that goes on: the one that has not ended, or a new one with `task` or a message without an answer.
    pub(crate) fn run(
        self,
        task: Option<Turn>,
        limits: Limits,
        policy: Policy,
    ) -> anyhow::Result<(Record, Run, Pictures)> {
        let Self { record, mut turns, pictures, run, .. } = self;
        let run = match (run, task) {
            (Some(mut run), None) => {
                (run.turns, run.limits, run.policy) = (turns, limits, policy);
                run
            }
            (Some(_), Some(_)) => {
                bail!("the last task has not ended; go on with it first, without another one")
            }
            (None, Some(task)) => {
                turns.push(task);
                Run::new(turns, limits, policy)
            }
            (None, None) if turns.last().is_some_and(|turn| turn.role == Role::User) => {
                Run::new(turns, limits, policy)
            }
            (None, None) => bail!("the last task has ended; give another one"),
        };
        Ok((record, run, pictures))
    }
}

/// The run of a session that has not ended.
pub(crate) fn unfinished(session: &Session) -> Option<Run> {
    let state = session.settings.get(RUN)?;
    serde_json::from_value::<Run>(state.clone()).ok().filter(|run| !run.is_done())
}
