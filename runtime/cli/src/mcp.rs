//! `ocelli mcp`: the model as a server of tools for other agents, over standard input and output.

use std::path::PathBuf;
use std::sync::Arc;

use ::agent::tools::{Folder, Folders};
use ::mcp::{Job, Picture, Question};
use anyhow::{Context, anyhow};
use clap::Args;
use engine::{CAPTION_PROMPT, Engine, GenerateOptions, Message, Part, Role};
use server::Asker;

use crate::Outcome;
use crate::answer::{answer, check_sight};
use crate::args::{ModelArgs, SamplingArgs};
use crate::output::{Output, explain};

/// Questions that may wait.
const QUEUE: usize = 16;

/// Offer the tools `caption` and `ask` to programs that speak MCP, over standard input and output
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct McpArgs {
    /// Let questions name pictures of this folder; may be given more than once
    #[arg(long, value_name = "FOLDER")]
    grant: Vec<PathBuf>,
    /// Leave out notes
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

pub(crate) fn run(args: McpArgs, output: &mut Output) -> anyhow::Result<Outcome> {
    output.set_quiet(args.quiet);
    let files = args.model.files()?;
    let mut eyes = Eyes {
        engine: args.model.engine_of(&files, output)?,
        options: args.sampling.options_of(&files.generation_defaults()?),
        folders: folders(&args.grant)?,
    };
    // The model computes on this thread; what is said goes in and out on others.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (ask, mut asked) = tokio::sync::mpsc::channel(QUEUE);
    let serving = runtime.spawn(::mcp::serve_stdio(ask));
    output.note(&format!("{} waits for questions; it ends when its input does", files.name()));
    while let Some(job) = asked.blocking_recv() {
        let answer = eyes.answer(&job);
        job.answer(answer.map_err(|error| explain(&error)));
    }
    let served = runtime.block_on(serving).context("the server broke down")?;
    // A thread that still waits for input keeps nothing back.
    runtime.shutdown_background();
    served?;
    Ok(Outcome::Done)
}

/// The folders whose pictures questions may name, as `FOLDER/picture.png`.
pub(crate) fn folders(granted: &[PathBuf]) -> Result<Folders, ::agent::Error> {
    let folders = granted.iter().map(|path| Folder::open(path, false)).collect::<Result<_, _>>()?;
    Folders::new(folders)
}

/// The route `/mcp` of a server: questions go into its queue.
pub(crate) fn routes(asker: Asker, folders: Arc<Folders>) -> axum::Router {
    let (ask, mut asked) = tokio::sync::mpsc::channel(QUEUE);
    tokio::spawn(async move {
        while let Some(job) = asked.recv().await {
            let (asker, folders) = (asker.clone(), Arc::clone(&folders));
            tokio::spawn(async move {
                let answer = answer_with(&asker, folders, &job).await;
                job.answer(answer);
            });
        }
    });
    axum::Router::new().route_service("/mcp", ::mcp::serve_http(ask))
}

async fn answer_with(asker: &Asker, folders: Arc<Folders>, job: &Job) -> Result<String, String> {
    let Question { text, pictures, max_tokens } = job.question.clone();
    let read =
        move || pictures.into_iter().map(|picture| bytes(&folders, picture)).collect::<Result<Vec<_>, _>>();
    let pictures =
        tokio::task::spawn_blocking(read).await.map_err(|_| "the pictures could not be read")??;
    let text = text.unwrap_or_else(|| CAPTION_PROMPT.to_owned());
    // Whether the client still waits is seen below.
    let answer = asker.ask(text, pictures, max_tokens, |n| {
        let _ = job.progress(n);
    });
    tokio::select! {
        answer = answer => answer,
        () = job.cancelled() => Err("the client cancelled".into()),
    }
}

fn bytes(folders: &Folders, picture: Picture) -> Result<Vec<u8>, String> {
    match picture {
        Picture::Bytes(bytes) => Ok(bytes),
        Picture::File(path) => folders.bytes(&path),
    }
}

struct Eyes {
    engine: Engine,
    options: GenerateOptions,
    folders: Folders,
}

impl Eyes {
    fn answer(&mut self, job: &Job) -> anyhow::Result<String> {
        let Question { text, pictures, max_tokens } = &job.question;
        if !pictures.is_empty() {
            check_sight(&self.engine)?;
        }
        let mut parts = Vec::new();
        for picture in pictures {
            let picture = match picture {
                Picture::Bytes(bytes) => self.part(bytes)?,
                Picture::File(path) => {
                    let bytes = self.folders.bytes(path).map_err(|error| anyhow!(error))?;
                    self.part(&bytes).with_context(|| path.clone())?
                }
            };
            parts.push(picture);
        }
        parts.push(Part::Text(text.clone().unwrap_or_else(|| CAPTION_PROMPT.to_owned())));
        let options = GenerateOptions { max_tokens: *max_tokens, ..self.options.clone() };
        let mut n_pieces = 0;
        let mut on_text = |text: &str| {
            n_pieces += usize::from(!text.is_empty());
            Ok(job.progress(n_pieces))
        };
        let message = Message { role: Role::User, parts };
        Ok(answer(&mut self.engine, &[message], &options, &mut on_text)?.text)
    }

    fn part(&self, bytes: &[u8]) -> anyhow::Result<Part> {
        let picture = vision::decode(bytes, &vision::DecodeOptions::default())?;
        Ok(Part::Image(Arc::new(self.engine.preprocessor().image(&picture)?)))
    }
}
