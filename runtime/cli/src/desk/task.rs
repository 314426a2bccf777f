//! One task: an agent on a thread of its own, and the lines that tell what it does.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::Instant;

use ::agent::{
    Approver, Ask, Decision, Event, Limits, LocalFuture, Origin, Part, Pictures, Policy, Role, Run,
    Surroundings, Toolbox, Turn, Watcher, drive,
};
use ::sessions::SessionId;
use anyhow::Context as _;
use axum::body::Bytes;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_core::Stream;
use protocol::agent::News;
use remote::RemoteModel;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::{Desk, Entered, Failure, Handle, Result, Tasks, Word};
use crate::agent::Record;
use crate::settings;

/// What is to be done in a conversation.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Task {
    /// What the user says. Without it, the task goes on that has not ended, or the last message is answered again.
    text: Option<String>,
    /// Picture files in base64, to be seen with it.
    pictures: Vec<String>,
    /// Whether the model may call tools.
    tools: bool,
    /// How many messages stay; those behind them stay as a branch that is not shown.
    keep: Option<usize>,
}

/// The lines of a task. Dropping them, as when the page goes away, leaves the task where it stands.
pub(super) struct Lines(UnboundedReceiver<News>);

impl Stream for Lines {
    type Item = std::result::Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|line| line.map(|news| Ok(format!("{}\n", json!(news)).into())))
    }
}

/// Starts a task. It is kept, and its first line is there, when this returns.
pub(super) async fn start(
    desk: Arc<Desk>,
    session: Option<String>,
    task: Task,
    key: Option<String>,
) -> Result<Lines> {
    let (lines, shown) = unbounded_channel();
    let (started, starts) = oneshot::channel();
    // Tools and the store belong to one thread.
    let work = move || match Working::begin(&desk, session, task, lines) {
        Ok(working) => {
            let _ = started.send(Ok(()));
            working.run(&desk, key);
        }
        Err(failure) => drop(started.send(Err(failure))),
    };
    let spawned = thread::Builder::new().name("task".into()).spawn(work);
    spawned.context("no thread can be started").map_err(|error| internal(&error))?;
    let lost = || Failure(StatusCode::INTERNAL_SERVER_ERROR, "the task ended before it began".into());
    starts.await.map_err(|_| lost())??;
    Ok(Lines(shown))
}

fn internal(error: &anyhow::Error) -> Failure {
    Failure(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}"))
}

/// A task that has begun.
struct Working {
    /// Others see that the conversation is in use, until just before its last line has been told.
    _entered: Entered,
    record: Record,
    run: Run,
    pictures: Pictures,
    policy: Policy,
    toolbox: Toolbox,
    lines: UnboundedSender<News>,
    words: UnboundedReceiver<Word>,
    is_stopped: Arc<AtomicBool>,
}

impl Working {
    fn begin(
        desk: &Arc<Desk>,
        session: Option<String>,
        task: Task,
        lines: UnboundedSender<News>,
    ) -> Result<Self> {
        let policy: Policy =
            settings::read_at(&desk.rules).map_err(|error| internal(&error))?.unwrap_or_default();
        let toolbox = match task.tools {
            true => (desk.toolbox)().map_err(|error| internal(&error))?,
            false => Toolbox::default(),
        };
        let limits = Limits::default();
        let (decisions, words) = unbounded_channel();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let handle = Handle { decisions, is_stopped: Arc::clone(&is_stopped) };
        let mut new = Pictures::default();
        let turn = task.turn(&mut new)?;
        let (record, run, pictures, entered) = match session {
            None => {
                let turn = turn.ok_or_else(nothing)?;
                let record = Record::begin(desk.store()?)?;
                let entered = Tasks::enter(desk, record.id().clone(), handle)?;
                (record, Run::new(vec![turn], limits, policy.clone()), new, entered)
            }
            Some(name) => {
                let entered = Tasks::enter(desk, SessionId(name.clone()), handle)?;
                let mut resumed = Record::resume(desk.store()?, &name)?;
                if resumed.record.id().0 != name {
                    return Err(anyhow::Error::from(::sessions::Error::NoSession(name)).into());
                }
                if let Some(n) = task.keep {
                    resumed.keep(n)?;
                }
                new.iter().for_each(|(_, bytes)| drop(resumed.pictures.add(Arc::clone(bytes))));
                let (record, run, pictures) = resumed.run(turn, limits, policy.clone())?;
                (record, run, pictures, entered)
            }
        };
        let mut working =
            Self { record, run, pictures, policy, toolbox, lines, words, is_stopped, _entered: entered };
        working.record.save(&working.run, &working.pictures)?;
        let _ = working.lines.send(News::Session(working.record.id().0.clone()));
        working.tell_kept();
        Ok(working)
    }

    /// Does the task, and tells in a last line if it could not be done.
    fn run(mut self, desk: &Desk, key: Option<String>) {
        let lines = self.lines.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let done = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
            runtime.block_on(async {
                tokio::select! {
                    done = self.drive(desk, key) => done,
                    // Nobody reads any more. What has happened is kept, and the rest can be gone on with.
                    () = lines.closed() => Ok(()),
                }
            })
        });
        if let Err(error) = done {
            let _ = lines.send(News::Failed(format!("{error:#}")));
        }
    }

    /// Tells how many messages are kept, as a count for [`Task::keep`].
    fn tell_kept(&self) {
        let _ = self.lines.send(News::Kept(self.record.n_kept()));
    }

    async fn drive(&mut self, desk: &Desk, key: Option<String>) -> anyhow::Result<()> {
        let url = desk.url.get().context("the server is not there yet")?;
        let mut model = RemoteModel::connect(url, Some(&desk.model), key).await?;
        let mut watch = Watch {
            record: &mut self.record,
            lines: &self.lines,
            is_stopped: &self.is_stopped,
            outcome: Ok(()),
        };
        for event in self.run.resume(&self.toolbox) {
            let _ = watch.event(&self.run, &self.pictures, &event);
        }
        let start = Instant::now();
        let around = Surroundings {
            model: &mut model,
            tools: &self.toolbox,
            pictures: &mut self.pictures,
            approver: &mut Person { words: &mut self.words, is_stopped: &self.is_stopped },
            watcher: &mut watch,
            clock: &|| start.elapsed().as_secs_f64() * 1000.0,
        };
        drive(&mut self.run, around).await;
        watch.outcome?;
        self.tell_kept();
        if self.run.policy != self.policy {
            settings::write_at(&desk.rules, &self.run.policy)?;
        }
        Ok(())
    }
}

impl Task {
    /// What the user says, if that is anything. The bytes of its pictures go to `pictures`.
    fn turn(&self, pictures: &mut Pictures) -> Result<Option<Turn>> {
        let text = self.text.as_deref().map(str::trim).filter(|text| !text.is_empty());
        let mut parts = Vec::new();
        for (i, picture) in self.pictures.iter().enumerate() {
            let n = i + 1;
            let bytes = STANDARD.decode(picture).with_context(|| format!("picture {n} is not in base64"))?;
            let part = pictures.part(Origin::Picture, bytes);
            parts.push(part.with_context(|| format!("picture {n}"))?);
        }
        parts.extend(text.map(|text| Part::text(Origin::User, text)));
        Ok((!parts.is_empty()).then(|| Turn::new(Role::User, parts)))
    }
}

fn nothing() -> Failure {
    Failure(StatusCode::BAD_REQUEST, "a new conversation begins with a `text` or with `pictures`".into())
}

/// Keeps what happens, then tells it.
struct Watch<'a> {
    record: &'a mut Record,
    lines: &'a UnboundedSender<News>,
    is_stopped: &'a AtomicBool,
    outcome: anyhow::Result<()>,
}

impl Watcher for Watch<'_> {
    fn event(&mut self, run: &Run, pictures: &Pictures, event: &Event) -> ControlFlow<()> {
        if self.outcome.is_ok() && !event.is_piece() {
            self.outcome = self.record.save(run, pictures);
        }
        if self.outcome.is_ok() {
            let _ = self.lines.send(News::Event(event.clone()));
        }
        self.wait(None)
    }

    fn wait(&mut self, progress: Option<&str>) -> ControlFlow<()> {
        if let Some(progress) = progress {
            let _ = self.lines.send(News::Progress(progress.to_owned()));
        }
        match self.outcome.is_err() || self.is_stopped.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

/// Whoever sits before the page.
struct Person<'a> {
    words: &'a mut UnboundedReceiver<Word>,
    is_stopped: &'a AtomicBool,
}

impl Approver for Person<'_> {
    fn decide<'a>(&'a mut self, ask: &'a Ask) -> LocalFuture<'a, Decision> {
        Box::pin(async move {
            while let Some(word) = self.words.recv().await {
                if self.is_stopped.load(Ordering::Relaxed) {
                    break;
                }
                // A word about an earlier call is none about this one.
                if word.call == ask.call.id {
                    let remember = word.remember.then(|| ask.subject().clone());
                    let reason = (!word.allow).then(|| "the user said no".to_owned());
                    return Decision { allow: word.allow, remember, reason };
                }
            }
            Decision::no("the task was stopped")
        })
    }
}
