//! `ocelli agent`: a task, done with tools, and a trace of what was done.

mod ask;
mod brain;
mod record;
mod servers;
mod toolbox;
mod trace;

use std::fs;
use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use ::agent::{
    Approver, Choice, Event, Limits, Nobody, Origin, Part, Pictures, Policy, Role, Run, Surroundings, Turn,
    Watcher, drive,
};
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use crate::answer::BLIND;
use crate::args::{ModelArgs, SamplingArgs};
use crate::chat::store;
use crate::interrupt::Interrupt;
use crate::output::{Output, name_it};
use crate::{Outcome, settings};
use ask::AtTerminal;
use brain::{Brain, ServerArgs};
pub(crate) use record::{Record, unfinished};
use servers::McpArgs;
pub(crate) use toolbox::ToolArgs;
use trace::Trace;

/// Rules that the user made, in the folder of settings.
pub(crate) const RULES: &str = "approvals.json";

/// Do a task with tools, looking at pictures where that helps
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct AgentArgs {
    /// What is to be done
    #[arg(required_unless_present = "resume")]
    task: Option<String>,
    /// Show a picture with the task; may be given more than once
    #[arg(long, value_name = "PATH", requires = "task")]
    image: Vec<PathBuf>,
    /// Whether the first reply must call a tool, as small models do not by themselves
    #[arg(long, value_name = "CHOICE", default_value = "auto", help_heading = "Tools")]
    tool_choice: ToolChoice,
    /// Replies of the model at most
    #[arg(long, value_name = "N", default_value_t = 16, help_heading = "Limits", value_parser = clap::value_parser!(u16).range(1..))]
    max_steps: u16,
    /// Seconds at most, without those that you take to answer a question
    #[arg(long, value_name = "N", default_value_t = 600, help_heading = "Limits", value_parser = clap::value_parser!(u32).range(1..))]
    max_seconds: u32,
    /// Tell the model how to behave
    #[arg(long, value_name = "TEXT", conflicts_with = "resume")]
    system: Option<String>,
    /// Go on with a conversation that was kept: the beginning of its name, or `last`. A task that has not ended goes on
    /// where it stood, without another TASK
    #[arg(long, value_name = "SESSION")]
    resume: Option<String>,
    /// Keep nothing
    #[arg(long, conflicts_with = "resume")]
    private: bool,
    /// Print every step as a JSON object on a line of its own
    #[arg(long)]
    json: bool,
    /// Leave out the trace
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    tools: ToolArgs,
    #[command(flatten)]
    mcp: McpArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ToolChoice {
    Auto,
    Required,
}

pub(crate) fn run(args: AgentArgs, output: &mut Output) -> anyhow::Result<Outcome> {
    output.set_quiet(args.quiet || args.json);
    let mut toolbox = args.tools.toolbox()?;
    let has_person = io::stdin().is_terminal() && !args.json;
    // The model computes on this thread; connections have one of their own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let trace = Trace::new(output, args.json);
    let folders = (&args.tools.grant[..], &args.tools.grant_write[..]);
    let running = runtime.block_on(args.mcp.add_to(&mut toolbox, folders, &trace, output, has_person))?;
    let mut brain = runtime.block_on(args.server.brain(&args.model, &args.sampling, output))?;
    let limits = Limits {
        steps: args.max_steps.into(),
        ms: f64::from(args.max_seconds) * 1000.0,
        tokens_a_step: args.sampling.max_tokens(),
        ..Limits::default()
    };
    let policy: Policy = settings::read(RULES)?.unwrap_or_default();
    let (mut record, mut run, mut pictures) = args.begin(&mut brain, limits, policy.clone(), output)?;
    let mut approver: Box<dyn Approver> = match has_person {
        true => Box::new(AtTerminal::new(output)),
        false => Box::new(Nobody),
    };
    let interrupt = Interrupt::listen()?;
    interrupt.begin();
    let mut watch = Watch { trace, record: &mut record, interrupt: &interrupt, outcome: Ok(()) };
    watch.begin(&run, &pictures);
    for event in run.resume(&toolbox) {
        let _ = watch.event(&run, &pictures, &event);
    }
    let start = Instant::now();
    let around = Surroundings {
        model: brain.model(),
        tools: &toolbox,
        pictures: &mut pictures,
        approver: &mut *approver,
        watcher: &mut watch,
        clock: &|| start.elapsed().as_secs_f64() * 1000.0,
    };
    let ended = runtime.block_on(drive(&mut run, around));
    runtime.block_on(running.close());
    interrupt.end();
    watch.outcome?;
    if run.policy != policy {
        settings::write(RULES, &run.policy)?;
    }
    if let Some(record) = &record {
        brain.remember(record)?;
    }
    match ended {
        ::agent::Outcome::Answered { .. } => Ok(Outcome::Done),
        ::agent::Outcome::Failed { message } => bail!(message),
        _ => Ok(Outcome::SomeFailed),
    }
}

/// Keeps what happens, then tells it, and tells the run when to end.
struct Watch<'a> {
    trace: Trace<'a>,
    record: &'a mut Option<Record>,
    interrupt: &'a Interrupt,
    outcome: anyhow::Result<()>,
}

impl Watch<'_> {
    /// Keeps the task itself, and tells where.
    fn begin(&mut self, run: &Run, pictures: &Pictures) {
        self.outcome = self.keep(run, pictures);
        if let (Ok(()), Some(record)) = (&self.outcome, &self.record) {
            self.outcome = self.trace.session(record.id()).map_err(Into::into);
        }
    }

    fn keep(&mut self, run: &Run, pictures: &Pictures) -> anyhow::Result<()> {
        match &mut self.record {
            Some(record) => record.save(run, pictures),
            None => Ok(()),
        }
    }
}

impl Watcher for Watch<'_> {
    fn event(&mut self, run: &Run, pictures: &Pictures, event: &Event) -> ControlFlow<()> {
        if self.outcome.is_ok() && !event.is_piece() {
            self.outcome = self.keep(run, pictures);
        }
        if self.outcome.is_ok() {
            self.outcome = self.trace.event(event).map_err(Into::into);
        }
        self.wait(None)
    }

    fn wait(&mut self, progress: Option<&str>) -> ControlFlow<()> {
        if let (true, Some(progress)) = (self.outcome.is_ok(), progress) {
            self.outcome = self.trace.progress(progress).map_err(Into::into);
        }
        match self.outcome.is_err() || self.interrupt.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

impl AgentArgs {
    /// The run, new or gone on with, and where it is kept.
    fn begin(
        &self,
        brain: &mut Brain,
        limits: Limits,
        policy: Policy,
        output: &Output,
    ) -> anyhow::Result<(Option<Record>, Run, Pictures)> {
        if brain.is_blind() && !self.image.is_empty() {
            bail!(BLIND);
        }
        let (record, mut run, pictures) = match &self.resume {
            Some(name) => {
                let mut resumed = Record::resume(store()?, name)?;
                brain.recall(&resumed.record, output)?;
                let task = self.task(&mut resumed.pictures)?;
                let (record, run, pictures) = resumed.run(task, limits, policy)?;
                (Some(record), run, pictures)
            }
            None => {
                let mut pictures = Pictures::default();
                let system = self.system.as_ref();
                let system = system.map(|text| Turn::new(Role::System, vec![Part::text(Origin::User, text)]));
                let turns = system.into_iter().chain(self.task(&mut pictures)?).collect();
                let record = if self.private { None } else { Some(Record::begin(store()?)?) };
                (record, Run::new(turns, limits, policy), pictures)
            }
        };
        if run.steps == 0 {
            run.first = match self.tool_choice {
                ToolChoice::Auto => Choice::Free,
                ToolChoice::Required => Choice::Call,
            };
        }
        Ok((record, run, pictures))
    }

    /// The task with its pictures, if there is one.
    fn task(&self, pictures: &mut Pictures) -> anyhow::Result<Option<Turn>> {
        let Some(task) = &self.task else { return Ok(None) };
        let mut parts = Vec::new();
        for path in &self.image {
            let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let part = pictures.part(Origin::Picture, bytes);
            parts.push(part.map_err(|error| name_it(error.into(), path))?);
        }
        parts.push(Part::text(Origin::User, task));
        Ok(Some(Turn::new(Role::User, parts)))
    }
}
