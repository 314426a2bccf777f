//! Does what a [`Run`] asks for, one thing after the other.

use std::ops::ControlFlow;

use protocol::agent::{Ask, Event, Outcome};

use crate::LocalFuture;
use crate::approval::Decision;
use crate::model::{ChatModel, Piece, Request};
use crate::pictures::Pictures;
use crate::run::{Action, Run};
use crate::tool::{Context, Toolbox};

/// Decides about calls that need a yes.
pub trait Approver {
    /// Shows the call with its exact arguments, and waits for a decision.
    fn decide<'a>(&'a mut self, ask: &'a Ask) -> LocalFuture<'a, Decision>;
}

/// Nobody is there to ask, so the answer is no.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Approver for Nobody {
    fn decide<'a>(&'a mut self, _: &'a Ask) -> LocalFuture<'a, Decision> {
        Box::pin(async { Decision::no("nobody is there to allow it") })
    }
}

/// Watches a run, and may store it: it is told after every transition, before the next thing is done.
pub trait Watcher {
    /// Something happened, and this is the run behind it; `Break` cancels.
    fn event(&mut self, run: &Run, pictures: &Pictures, event: &Event) -> ControlFlow<()>;

    /// Nothing has happened for a moment, because the model or a tool is at work, which may tell of its progress;
    /// `Break` cancels.
    fn wait(&mut self, _progress: Option<&str>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl<F: FnMut(&Run, &Pictures, &Event) -> ControlFlow<()>> Watcher for F {
    fn event(&mut self, run: &Run, pictures: &Pictures, event: &Event) -> ControlFlow<()> {
        self(run, pictures, event)
    }
}

/// What a run works with.
pub struct Surroundings<'a> {
    /// Replies.
    pub model: &'a mut dyn ChatModel,
    /// What the model may call.
    pub tools: &'a Toolbox,
    /// The pictures of the conversation.
    pub pictures: &'a mut Pictures,
    /// Decides about calls.
    pub approver: &'a mut dyn Approver,
    /// Is told what happens.
    pub watcher: &'a mut dyn Watcher,
    /// Milliseconds since any fixed moment.
    pub clock: &'a dyn Fn() -> f64,
}

/// Drives a run to its end.
pub async fn drive(run: &mut Run, around: Surroundings<'_>) -> Outcome {
    let Surroundings { model, tools, pictures, approver, watcher, clock } = around;
    let specs = tools.specs();
    loop {
        let started = clock();
        let mut cancelled = false;
        // A person may take as long as they like.
        let mut is_timed = true;
        let mut events = match run.next() {
            Action::Finish(outcome) => return outcome,
            Action::Approve(ask) => {
                is_timed = false;
                let decision = approver.decide(&ask).await;
                run.decided(decision, tools)
            }
            Action::Call(call) => {
                let left = run.limits.ms - run.ms;
                let mut wait = |progress: Option<&str>| {
                    cancelled |= watcher.wait(progress).is_break();
                    flow(!cancelled && clock() - started < left)
                };
                let context = Context { turns: &run.turns, pictures, wait: &mut wait };
                let output = tools.call(&call, context).await;
                run.returned(output, tools)
            }
            Action::Generate { max_tokens, choice } => {
                let left = run.limits.ms - run.ms;
                let reply = {
                    let request = Request { turns: &run.turns, pictures, tools: &specs, choice, max_tokens };
                    let mut on_piece = |piece: Piece<'_>| {
                        let event = match piece {
                            Piece::Reasoning(text) => Some(Event::Reasoning(text.to_owned())),
                            Piece::Text(text) => Some(Event::Text(text.to_owned())),
                            Piece::Waiting => None,
                        };
                        cancelled |= match event {
                            Some(event) => watcher.event(run, pictures, &event),
                            None => watcher.wait(None),
                        }
                        .is_break();
                        flow(!cancelled && clock() - started < left)
                    };
                    model.reply(request, &mut on_piece).await
                };
                match reply {
                    _ if cancelled => run.cancel(),
                    Ok(reply) => run.replied(reply, tools),
                    Err(error) => run.fail(error.to_string()),
                }
            }
        };
        if is_timed {
            events.extend(run.spent(clock() - started));
        }
        // A reply that was cancelled is not there; the result of a call is.
        let mut breaks = cancelled && !run.is_done();
        for event in &events {
            breaks |= watcher.event(run, pictures, event).is_break();
        }
        if breaks {
            for event in run.cancel() {
                let _ = watcher.event(run, pictures, &event);
            }
        }
    }
}

fn flow(goes_on: bool) -> ControlFlow<()> {
    if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}
