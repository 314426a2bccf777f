//! The engine's thread: several answers at once, a step of each after the other.
//!
//! Between two steps new requests are let in and cancelled ones let go. In a step, one prompt is read on by a
//! chunk, the oldest first, and all answers that have begun get one token each, decoded in one pass.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use engine::{Answer, Batch, Engine, Event, GenerateOptions, Prompt, StopReason};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

use crate::metrics::Metrics;
use crate::problem::Problem;

/// Rows of a prompt that are read in one step, while other answers wait for their next token.
const PREFILL_CHUNK: usize = 128;

/// A request that waits for its turn.
pub(crate) struct Job {
    pub(crate) prompt: Prompt,
    pub(crate) work: Work,
    /// Nobody listens any more once the other end is dropped, which cancels the request. It holds as many
    /// updates as an answer has tokens at most, so no bound is needed.
    pub(crate) updates: UnboundedSender<Update>,
    /// The place in the queue, given back at the end.
    pub(crate) place: OwnedSemaphorePermit,
    pub(crate) arrived: Instant,
}

/// What is to be done with a prompt.
pub(crate) enum Work {
    Answer(Box<GenerateOptions>),
    Embed,
}

/// News of a request.
#[derive(Debug)]
pub(crate) enum Update {
    Event(Event),
    Done(Box<Answer>),
    Embedded(Vec<f32>),
    Failed(Problem),
}

/// Answers requests until nobody can send any.
///
/// # Errors
/// If the engines cannot be made.
pub(crate) fn run(
    batch: &Batch,
    n_slots: usize,
    jobs: &Receiver<Job>,
    metrics: &Arc<Metrics>,
) -> engine::Result<()> {
    // The one that was idle longest comes first.
    let mut idle: VecDeque<Engine> = (0..n_slots).map(|_| batch.engine()).collect::<engine::Result<_>>()?;
    let mut waiting: VecDeque<Job> = VecDeque::new();
    let mut running: Vec<Running> = Vec::new();
    loop {
        if running.is_empty() && waiting.is_empty() {
            match jobs.recv() {
                Ok(job) => waiting.push_back(job),
                Err(_) => return Ok(()),
            }
        }
        waiting.extend(jobs.try_iter());
        waiting.retain(|job| {
            let is_wanted = !job.updates.is_closed();
            if !is_wanted {
                metrics.cancelled.inc();
            }
            is_wanted
        });
        while !idle.is_empty()
            && let Some(job) = waiting.pop_front()
        {
            let engine = take_best(&mut idle, &job.prompt);
            running.push(Running::new(engine, job, Arc::clone(metrics)));
        }
        metrics.running.set(running.len() as i64);
        metrics.waiting.set(waiting.len() as i64);

        let mut may_prefill = true;
        running.retain_mut(|answer| {
            let may_go_on =
                answer.has_begun.get() || answer.is_cancelled() || std::mem::take(&mut may_prefill);
            if may_go_on && let Poll::Ready(engine) = answer.poll() {
                idle.push_back(engine);
                return false;
            }
            true
        });
        let n_decoded = pollster::block_on(batch.step());
        if n_decoded > 0 {
            metrics.batch.observe(n_decoded as f64);
        }
        metrics.running.set(running.len() as i64);
    }
}

/// The idle engine that has read most of `prompt` already.
fn take_best(idle: &mut VecDeque<Engine>, prompt: &Prompt) -> Engine {
    // A prompt that has no prefix fails when it is read, and says why.
    let cached = |engine: &Engine| engine.cached_prefix(prompt).unwrap_or(0);
    let best = (0..idle.len()).rev().max_by_key(|&i| cached(&idle[i])).unwrap_or(0);
    idle.remove(best).expect("called with an idle engine")
}

/// An answer in the making.
struct Running {
    /// Gives the engine back at the end.
    future: Pin<Box<dyn Future<Output = Engine>>>,
    /// Whether the prompt is read.
    has_begun: Rc<Cell<bool>>,
    updates: UnboundedSender<Update>,
}

impl Running {
    fn new(engine: Engine, job: Job, metrics: Arc<Metrics>) -> Self {
        let has_begun = Rc::new(Cell::new(false));
        let updates = job.updates.clone();
        let future = Box::pin(work(engine, job, metrics, Rc::clone(&has_begun)));
        Self { future, has_begun, updates }
    }

    fn is_cancelled(&self) -> bool {
        self.updates.is_closed()
    }

    fn poll(&mut self) -> Poll<Engine> {
        self.future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }
}

async fn work(mut engine: Engine, job: Job, metrics: Arc<Metrics>, has_begun: Rc<Cell<bool>>) -> Engine {
    let Job { prompt, work, updates, place, arrived } = job;
    let go_on = |goes_on: bool| if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
    let last = match work {
        Work::Answer(options) => {
            let options = GenerateOptions { prefill_chunk: PREFILL_CHUNK, ..*options };
            let mut listen = |event: Event| {
                if matches!(event, Event::Token(_)) && !has_begun.replace(true) {
                    metrics.first_token.observe(arrived.elapsed().as_secs_f64());
                }
                go_on(updates.send(Update::Event(event)).is_ok())
            };
            match engine.generate(&prompt, &options, &mut listen).await {
                Ok(answer) => {
                    metrics.count(&answer, arrived.elapsed());
                    if answer.stop_reason == StopReason::Cancelled {
                        metrics.cancelled.inc();
                    }
                    Update::Done(Box::new(answer))
                }
                Err(error) => Update::Failed(error.into()),
            }
        }
        Work::Embed => {
            match engine.embed(&prompt, PREFILL_CHUNK, &mut || go_on(!updates.is_closed())).await {
                Ok(embedding) => Update::Embedded(embedding),
                Err(error) => {
                    if matches!(error, engine::Error::Cancelled) {
                        metrics.cancelled.inc();
                    }
                    Update::Failed(error.into())
                }
            }
        }
    };
    // The place is free before the client can know, so that its next request finds it.
    drop(place);
    // Nobody listens if it was cancelled.
    let _ = updates.send(last);
    engine
}
