//! `ocelli agent`: a task, done with tools, and a trace of what was done.

mod ask;
mod trace;

use std::fs;
use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use ::agent::{
    Approver, Content, EngineModel, Event, Limits, Nobody, Origin, Part, Pictures, Policy, Role, Run,
    Surroundings, Toolbox, Turn, drive, tools,
};
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use engine::Engine;

use crate::args::{ModelArgs, SamplingArgs};
use crate::interrupt::Interrupt;
use crate::output::{Output, name_it};
use crate::{Outcome, settings};
use ask::AtTerminal;
use trace::Trace;

/// Rules that the user made, in the folder of settings.
const RULES: &str = "approvals.json";

/// Do a task with tools, looking at pictures where that helps
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct AgentArgs {
    /// What is to be done
    task: String,
    /// Show a picture; may be given more than once
    #[arg(long, value_name = "PATH")]
    image: Vec<PathBuf>,
    /// Offer only this tool; may be given more than once [default: all]
    #[arg(long, value_name = "NAME", help_heading = "Tools")]
    tool: Vec<ToolName>,
    /// Let tools read files of this folder; may be given more than once
    #[arg(long, value_name = "FOLDER", help_heading = "Tools")]
    grant: Vec<PathBuf>,
    /// Let tools read and write files of this folder; may be given more than once
    #[arg(long, value_name = "FOLDER", help_heading = "Tools")]
    grant_write: Vec<PathBuf>,
    /// Replies of the model at most
    #[arg(long, value_name = "N", default_value_t = 16, help_heading = "Limits", value_parser = clap::value_parser!(u16).range(1..))]
    max_steps: u16,
    /// Seconds at most, without those that you take to answer a question
    #[arg(long, value_name = "N", default_value_t = 600, help_heading = "Limits", value_parser = clap::value_parser!(u32).range(1..))]
    max_seconds: u32,
    /// Tell the model how to behave
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Print every step as a JSON object on a line of its own
    #[arg(long)]
    json: bool,
    /// Leave out the trace
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// The tools that come with this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum ToolName {
    /// A part of a picture, larger
    ImageZoom,
    /// A picture's size and what its camera wrote into it
    ImageInfo,
    /// Arithmetic
    Calculator,
    /// Date and time
    Clock,
    /// Granted folders
    Files,
}

pub(crate) fn run(args: AgentArgs, output: &mut Output) -> anyhow::Result<Outcome> {
    output.set_quiet(args.quiet || args.json);
    let toolbox = args.toolbox()?;
    let files = args.model.files()?;
    let engine = args.model.engine_of(&files, output)?;
    let options = args.sampling.options_of(&files.generation_defaults()?);
    let (turns, mut pictures) = args.conversation(&engine)?;
    let limits = Limits {
        steps: args.max_steps.into(),
        ms: f64::from(args.max_seconds) * 1000.0,
        tokens_a_step: options.max_tokens,
        ..Limits::default()
    };
    let policy: Policy = settings::read(RULES)?.unwrap_or_default();
    let mut run = Run::new(turns, limits, policy.clone());
    let mut model = EngineModel::new(engine, options);
    let mut approver: Box<dyn Approver> = match io::stdin().is_terminal() && !args.json {
        true => Box::new(AtTerminal::new(output)),
        false => Box::new(Nobody),
    };
    let interrupt = Interrupt::listen()?;
    interrupt.begin();
    let mut trace = Trace::new(output, args.json);
    let mut outcome = Ok(());
    let mut watch = |_: &Run, _: &Pictures, event: &Event| {
        if outcome.is_ok() {
            outcome = trace.event(event);
        }
        match outcome.is_err() || interrupt.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let start = Instant::now();
    let around = Surroundings {
        model: &mut model,
        tools: &toolbox,
        pictures: &mut pictures,
        approver: &mut *approver,
        watcher: &mut watch,
        clock: &|| start.elapsed().as_secs_f64() * 1000.0,
    };
    let ended = pollster::block_on(drive(&mut run, around));
    interrupt.end();
    outcome?;
    if run.policy != policy {
        settings::write(RULES, &run.policy)?;
    }
    match ended {
        ::agent::Outcome::Answered { .. } => Ok(Outcome::Done),
        ::agent::Outcome::Failed { message } => bail!(message),
        _ => Ok(Outcome::SomeFailed),
    }
}

impl AgentArgs {
    fn toolbox(&self) -> anyhow::Result<Toolbox> {
        let is_wanted = |name| self.tool.is_empty() || self.tool.contains(&name);
        let mut toolbox = Toolbox::default();
        if is_wanted(ToolName::ImageZoom) {
            toolbox.add(tools::ImageZoom::new())?;
        }
        if is_wanted(ToolName::ImageInfo) {
            toolbox.add(tools::ImageInfo::new())?;
        }
        if is_wanted(ToolName::Calculator) {
            toolbox.add(tools::Calculator::new())?;
        }
        if is_wanted(ToolName::Clock) {
            toolbox.add(tools::Clock::new())?;
        }
        let read = self.grant.iter().map(|path| tools::Folder::open(path, false));
        let written = self.grant_write.iter().map(|path| tools::Folder::open(path, true));
        let folders = read.chain(written).collect::<Result<Vec<_>, _>>()?;
        match (is_wanted(ToolName::Files), folders.is_empty()) {
            (true, false) => tools::Folders::new(folders)?.add_to(&mut toolbox)?,
            (true, true) if self.tool.is_empty() => {}
            (true, true) => bail!("the tool `files` needs a folder; give one with --grant or --grant-write"),
            (false, true) => {}
            (false, false) => bail!("folders are granted, but --tool leaves out `files`"),
        }
        Ok(toolbox)
    }

    fn conversation(&self, engine: &Engine) -> anyhow::Result<(Vec<Turn>, Pictures)> {
        if !self.image.is_empty() {
            crate::answer::check_sight(engine)?;
        }
        let mut pictures = Pictures::default();
        let mut parts = Vec::new();
        for path in &self.image {
            let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            vision::decode(&bytes, &vision::DecodeOptions::default())
                .map_err(|error| name_it(error.into(), path))?;
            parts.push(Part { origin: Origin::Picture, content: Content::Picture(pictures.add(bytes)) });
        }
        parts.push(Part::text(Origin::User, &self.task));
        let system =
            self.system.as_ref().map(|text| Turn::new(Role::System, vec![Part::text(Origin::User, text)]));
        Ok((system.into_iter().chain([Turn::new(Role::User, parts)]).collect(), pictures))
    }
}
