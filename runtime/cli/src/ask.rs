//! `ocelli ask`: one question about pictures and videos.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use engine::{Message, Part, Role};
use serde::Serialize;

use crate::Outcome;
use crate::answer::{self, Account};
use crate::args::{ModelArgs, SamplingArgs};
use crate::inputs::{PictureArgs, Reader, VideoArgs, Visual};
use crate::output::{Output, name_it};

/// Ask one question about pictures and videos
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct AskArgs {
    /// Pictures, animations and videos, in the order the model sees them; then the question
    #[arg(required = true, value_name = "IMAGE… QUESTION")]
    inputs: Vec<OsString>,
    /// Take every input as a video: a folder is its pictures in order, a picture is one frame
    #[arg(long, help_heading = "Videos")]
    video: bool,
    /// What the model is told before the question
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Write the answer and what is known about it as one line of JSON
    #[arg(long)]
    json: bool,
    /// Leave out notes
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pictures: PictureArgs,
    #[command(flatten)]
    videos: VideoArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

pub(crate) fn run(args: AskArgs, output: &mut Output) -> anyhow::Result<Outcome> {
    output.set_quiet(args.quiet);
    let (paths, question) = split(&args.inputs)?;
    let mut engine = args.model.engine(output)?;
    let mut visuals = Vec::new();
    if !paths.is_empty() {
        answer::check_sight(&engine)?;
        let reader = Reader::new(engine.preprocessor(), &args.pictures)?;
        for path in &paths {
            let visual = match args.video {
                true => reader.video(path, &args.videos),
                false => reader.picture_or_video(path, &args.videos),
            };
            visuals.push(visual.map_err(|error| name_it(error, path))?);
        }
    }

    let mut messages = Vec::new();
    if let Some(system) = args.system {
        messages.push(Message { role: Role::System, parts: vec![Part::Text(system)] });
    }
    let mut parts: Vec<Part> = visuals.iter().map(Visual::part).collect();
    parts.push(Part::Text(question.to_string()));
    messages.push(Message { role: Role::User, parts });

    let is_streamed = !args.json && output.is_watched();
    let options = args.sampling.options();
    let answer = answer::answer(&mut engine, &messages, &options, &mut |text| {
        if is_streamed {
            output.piece(text)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if args.json {
        let inputs = paths.iter().zip(&visuals).map(|(path, visual)| Input::new(path, visual)).collect();
        output.json(&Line { inputs, question, answer: &answer.text, account: Account::new(&answer) })?;
        return Ok(Outcome::Done);
    }
    output.line(if is_streamed { "" } else { &answer.text })?;
    answer::say_about(&answer, None, output);
    Ok(Outcome::Done)
}

/// The last argument is the question.
fn split(inputs: &[OsString]) -> anyhow::Result<(Vec<PathBuf>, &str)> {
    let (question, paths) = inputs.split_last().context("a question is needed")?;
    let question = question.to_str().context("the question is not UTF-8")?;
    if question.trim().is_empty() {
        bail!("the last argument is the question, but it is empty");
    }
    if Path::new(question).exists() {
        bail!(
            "the last argument is the question, but `{question}` is a file; say what you want to know of it"
        );
    }
    Ok((paths.iter().map(PathBuf::from).collect(), question))
}

/// The answer as JSON.
#[derive(Serialize)]
struct Line<'a> {
    inputs: Vec<Input>,
    question: &'a str,
    answer: &'a str,
    #[serde(flatten)]
    account: Account,
}

#[derive(Serialize)]
struct Input {
    path: String,
    kind: &'static str,
    size: [u32; 2],
    frames: u32,
}

impl Input {
    fn new(path: &Path, visual: &Visual) -> Self {
        Input {
            path: path.display().to_string(),
            kind: if visual.is_video { "video" } else { "picture" },
            size: visual.size,
            frames: visual.patches.grid_thw[0],
        }
    }
}
