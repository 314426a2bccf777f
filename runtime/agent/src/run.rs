//! An agent's run as a value: it awaits nothing, and can be stored between any two of its steps.
//!
//! [`Run::next`] says what is to be done; whoever does it reports back with [`Run::replied`], [`Run::decided`]
//! and [`Run::returned`]. Each report tells what changed as [`Event`]s.

use std::collections::VecDeque;

use protocol::agent::{
    Ask, Content, Event, Origin, Outcome, Part, PictureId, Role, ToolCall, ToolOutput, Turn,
};
use serde::{Deserialize, Serialize};

use crate::approval::{Decision, Policy, Verdict};
use crate::model::{Choice, Reply};
use crate::tool::Toolbox;

/// What a run may use up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Replies of the model.
    pub steps: usize,
    /// Tokens that the model generates in all.
    pub tokens: usize,
    /// Tokens of one reply.
    pub tokens_a_step: usize,
    /// Calls that one reply may make; the rest are refused.
    pub calls_a_step: usize,
    /// Milliseconds from the beginning.
    pub ms: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps: 16, tokens: 32_768, tokens_a_step: 4_096, calls_a_step: 8, ms: 600_000.0 }
    }
}

/// A run of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The conversation, the task included.
    pub turns: Vec<Turn>,
    /// What it may use up.
    pub limits: Limits,
    /// Rules about calls.
    pub policy: Policy,
    /// Whether the first reply calls a tool. Small models, and those that were not taught to, seldom begin with a call
    /// by themselves.
    #[serde(default)]
    pub first: Choice,
    /// Replies so far.
    pub steps: usize,
    /// Tokens generated so far.
    pub tokens: usize,
    /// Milliseconds used so far, without those that a person took to decide.
    pub ms: f64,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// The model is to reply.
    Generate,
    /// Calls are to be judged and run, in order; the first is under way.
    Calls {
        waiting: VecDeque<ToolCall>,
        asked: Option<Ask>,
        approved: bool,
    },
    Done(Outcome),
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Ask the model, and report with [`Run::replied`].
    Generate {
        /// Tokens of its reply at most.
        max_tokens: usize,
        /// Whether it calls a tool. In the last step it must not.
        choice: Choice,
    },
    /// Ask a person, and report with [`Run::decided`].
    Approve(Ask),
    /// Run a call, and report with [`Run::returned`].
    Call(ToolCall),
    /// Nothing any more.
    Finish(Outcome),
}

impl Run {
    /// A run that goes on from these messages, the last of which is the task.
    pub fn new(turns: Vec<Turn>, limits: Limits, policy: Policy) -> Self {
        Self {
            turns,
            limits,
            policy,
            first: Choice::Free,
            steps: 0,
            tokens: 0,
            ms: 0.0,
            state: State::Generate,
        }
    }

    /// What is to be done next. It changes only with a report.
    pub fn next(&self) -> Action {
        match &self.state {
            State::Done(outcome) => Action::Finish(outcome.clone()),
            State::Calls { asked: Some(ask), .. } => Action::Approve(ask.clone()),
            State::Calls { waiting, .. } => match waiting.front() {
                Some(call) => Action::Call(call.clone()),
                None => unreachable!("the state changes with the last call"),
            },
            State::Generate => Action::Generate {
                max_tokens: self.limits.tokens_a_step.min(self.limits.tokens.saturating_sub(self.tokens)),
                choice: match (self.steps + 1 >= self.limits.steps, self.steps) {
                    (true, _) => Choice::Answer,
                    (false, 0) => self.first,
                    (false, _) => Choice::Free,
                },
            },
        }
    }

    /// Reports what the model replied.
    pub fn replied(&mut self, reply: Reply, tools: &Toolbox) -> Vec<Event> {
        let mut events: Vec<Event> = reply.notes.iter().cloned().map(Event::Note).collect();
        let unread: Vec<&PictureId> = self.unread().flat_map(Turn::pictures).collect();
        let sights = reply.sights.into_iter().filter(|(picture, _)| unread.contains(&picture));
        events.extend(sights.map(|(picture, sight)| Event::Saw { picture, sight }));
        self.steps += 1;
        self.tokens += reply.generated_tokens;
        let mut parts = Vec::new();
        if !reply.text.is_empty() {
            parts.push(Part::text(Origin::Model, reply.text.clone()));
        }
        let calls: VecDeque<ToolCall> =
            reply.calls.into_iter().enumerate().map(|(i, call)| self.named(i, call)).collect();
        parts.extend(
            calls.iter().cloned().map(|call| Part { origin: Origin::Model, content: Content::Call(call) }),
        );
        self.turns.push(Turn { reasoning: reply.reasoning, ..Turn::new(Role::Assistant, parts) });
        events.push(Event::Replied {
            text: reply.text.clone(),
            calls: calls.iter().cloned().collect(),
            prompt_tokens: reply.prompt_tokens,
            cached_tokens: reply.cached_tokens,
            generated_tokens: reply.generated_tokens,
        });
        if !calls.is_empty() {
            self.state = State::Calls { waiting: calls, asked: None, approved: false };
            self.settle(tools, &mut events);
        } else if reply.cut_off {
            self.finish(Outcome::CutOff { text: reply.text }, &mut events);
        } else {
            self.finish(Outcome::Answered { text: reply.text }, &mut events);
        }
        events
    }

    /// The messages since the model last replied.
    fn unread(&self) -> impl Iterator<Item = &Turn> {
        let n_read = self.turns.iter().rposition(|turn| turn.role == Role::Assistant).map_or(0, |at| at + 1);
        self.turns[n_read..].iter()
    }

    /// Reports what a person said about the call in question.
    pub fn decided(&mut self, decision: Decision, tools: &Toolbox) -> Vec<Event> {
        let mut events = Vec::new();
        let State::Calls { waiting, asked, approved } = &mut self.state else { return events };
        let Some(ask) = asked.take() else { return events };
        events.push(Event::Decided {
            call: ask.call.clone(),
            allow: decision.allow,
            reason: decision.reason.clone(),
        });
        if let Some(subject) = decision.remember.clone() {
            self.policy.remember(&ask.call, subject, decision.allow);
        }
        if decision.allow {
            *approved = true;
            events.push(Event::Calling(ask.call));
        } else {
            waiting.pop_front();
            let reason = decision.reason.unwrap_or_else(|| "the user said no".into());
            self.append(&ask.call, ToolOutput::error(format!("this was not allowed: {reason}")), &mut events);
        }
        self.settle(tools, &mut events);
        events
    }

    /// Reports what the call under way gave.
    pub fn returned(&mut self, output: ToolOutput, tools: &Toolbox) -> Vec<Event> {
        let mut events = Vec::new();
        let State::Calls { waiting, approved, .. } = &mut self.state else { return events };
        *approved = false;
        let Some(call) = waiting.pop_front() else { return events };
        self.append(&call, output, &mut events);
        self.settle(tools, &mut events);
        events
    }

    /// Goes on after it was stored and read back. A call that was under way may have run or not, so it is judged again.
    pub fn resume(&mut self, tools: &Toolbox) -> Vec<Event> {
        let mut events = Vec::new();
        if let State::Calls { asked, approved, .. } = &mut self.state {
            (*asked, *approved) = (None, false);
            self.settle(tools, &mut events);
        }
        events
    }

    /// Reports time that went by. A run that has used up its time ends before its next step.
    pub fn spent(&mut self, ms: f64) -> Vec<Event> {
        let mut events = Vec::new();
        self.ms += ms;
        if self.ms >= self.limits.ms && !self.is_done() {
            self.abandon("it has used up its time", &mut events);
            self.finish(Outcome::OutOf { what: "time".into() }, &mut events);
        }
        events
    }

    /// Ends the run. Calls that did not run are told to have been cancelled, so that the conversation can go on.
    pub fn cancel(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        if !self.is_done() {
            self.abandon("the user cancelled", &mut events);
            self.finish(Outcome::Cancelled, &mut events);
        }
        events
    }

    /// Ends the run because the model or its surroundings failed.
    pub fn fail(&mut self, message: String) -> Vec<Event> {
        let mut events = Vec::new();
        self.abandon("the run failed", &mut events);
        self.finish(Outcome::Failed { message }, &mut events);
        events
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done(_))
    }

    /// Judges the next call, passes over those that may not run, and goes on with the model behind the last.
    fn settle(&mut self, tools: &Toolbox, events: &mut Vec<Event>) {
        loop {
            let State::Calls { waiting, asked, approved } = &mut self.state else { return };
            if asked.is_some() || *approved {
                return;
            }
            let Some(call) = waiting.front().cloned() else { break };
            let n_before = self.turns.iter().rev().take_while(|turn| turn.role == Role::Tool).count();
            let verdict = match n_before >= self.limits.calls_a_step {
                true => Verdict::Deny(format!("a reply may make {} calls at most", self.limits.calls_a_step)),
                false => self.policy.judge(&call, &tools.effect(&call), &self.turns),
            };
            match verdict {
                Verdict::Allow => {
                    *approved = true;
                    events.push(Event::Calling(call));
                    return;
                }
                Verdict::Ask(ask) => {
                    *asked = Some(ask.clone());
                    events.push(Event::Asked(ask));
                    return;
                }
                Verdict::Deny(reason) => {
                    waiting.pop_front();
                    self.append(&call, ToolOutput::error(format!("this was not allowed: {reason}")), events);
                }
            }
        }
        self.state = State::Generate;
        if self.steps >= self.limits.steps {
            self.finish(Outcome::OutOf { what: "steps".into() }, events);
        } else if self.tokens >= self.limits.tokens {
            self.finish(Outcome::OutOf { what: "tokens".into() }, events);
        }
    }

    fn append(&mut self, call: &ToolCall, output: ToolOutput, events: &mut Vec<Event>) {
        let turn = Turn { call_id: Some(call.id.clone()), ..Turn::new(Role::Tool, output.parts.clone()) };
        self.turns.push(turn);
        events.push(Event::Returned { call: call.clone(), output });
    }

    /// Answers the calls that will never run.
    fn abandon(&mut self, why: &str, events: &mut Vec<Event>) {
        if let State::Calls { waiting, .. } = &mut self.state {
            for call in std::mem::take(waiting) {
                self.append(&call, ToolOutput::error(format!("this did not run: {why}")), events);
            }
        }
    }

    fn finish(&mut self, outcome: Outcome, events: &mut Vec<Event>) {
        self.state = State::Done(outcome.clone());
        events.push(Event::Finished(outcome));
    }

    /// A call under an id that no other call of the conversation has.
    fn named(&self, i: usize, call: ToolCall) -> ToolCall {
        ToolCall { id: format!("call_{}_{i}", self.turns.len()), ..call }
    }
}

#[cfg(test)]
mod tests;
