//! `ocelli caption`: says what each picture shows.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Args;
use engine::{Answer, CAPTION_PROMPT, Engine, GenerateOptions, Message, Part, Role};
use serde::Serialize;

use crate::answer::{self, Account, OnText};
use crate::args::{ModelArgs, SamplingArgs};
use crate::inputs::{self, Collected, PictureArgs, Reader};
use crate::output::{Output, explain, name_it, plural};
use crate::{Outcome, is_broken_pipe};

/// Say what pictures show
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct CaptionArgs {
    /// Picture files, folders of pictures, or patterns such as 'trip/*.jpg'
    #[arg(required = true, value_name = "FILE|DIR|GLOB")]
    inputs: Vec<PathBuf>,
    /// Look into folders of folders too
    #[arg(long, short)]
    recursive: bool,
    /// What to ask about each picture
    #[arg(long, value_name = "TEXT", default_value = CAPTION_PROMPT)]
    prompt: String,
    /// Write one line of JSON a picture
    #[arg(long)]
    json: bool,
    /// Leave out notes and progress
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pictures: PictureArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

pub(crate) fn run(args: CaptionArgs, output: &mut Output) -> anyhow::Result<Outcome> {
    output.set_quiet(args.quiet);
    let found = inputs::collect(&args.inputs, args.recursive)?;
    let engine = args.model.engine(output)?;
    answer::check_sight(&engine)?;
    let reader = Reader::new(engine.preprocessor(), &args.pictures)?;
    say_what_is_left_out(&found, output);

    let n = found.files.len();
    let options = args.sampling.options();
    let mut captioner = Captioner { engine, reader, options, prompt: args.prompt };
    // Somebody who waits for one caption sees it grow; others get each when it is whole.
    let is_streamed = n == 1 && !args.json && output.is_watched();
    let mut n_failed = 0;
    output.start_progress(n);
    for path in &found.files {
        output.working_on(&path.display().to_string());
        let result = captioner.caption(path, &mut |text| {
            if is_streamed {
                output.piece(text)?;
            }
            Ok(ControlFlow::Continue(()))
        });
        match result {
            Ok(caption) if args.json => output.json(&Line::captioned(path, &caption))?,
            Ok(caption) => {
                match (is_streamed, n) {
                    (true, _) => output.line("")?,
                    (false, 1) => output.line(&caption.answer.text)?,
                    (false, _) => output.named_line(&path.display().to_string(), &caption.answer.text)?,
                }
                let name = (n > 1).then(|| path.display().to_string());
                answer::say_about(&caption.answer, name.as_deref(), output);
            }
            Err(error) if is_broken_pipe(&error) => return Err(error),
            Err(error) => {
                n_failed += 1;
                let error = name_it(error, path);
                output.error(&error);
                if args.json {
                    output.json(&Line::failed(path, &error))?;
                }
            }
        }
        output.advance();
    }
    output.end_progress();
    if n_failed > 0 && n > 1 {
        output.note(&format!("{n_failed} of {} not captioned", plural(n, "picture")));
    }
    Ok(if n_failed == 0 { Outcome::Done } else { Outcome::SomeFailed })
}

/// Says which files of folders were passed over.
fn say_what_is_left_out(found: &Collected, output: &Output) {
    if found.n_skipped > 0 {
        output.note(&format!("skipped {} of another kind", plural(found.n_skipped, "file")));
    }
    if found.n_folders > 0 {
        output.note(&format!("did not enter {}; --recursive does", plural(found.n_folders, "folder")));
    }
}

struct Captioner {
    engine: Engine,
    reader: Reader,
    options: GenerateOptions,
    prompt: String,
}

struct Caption {
    size: [u32; 2],
    answer: Answer,
}

impl Captioner {
    fn caption(&mut self, path: &Path, on_text: &mut OnText<'_>) -> anyhow::Result<Caption> {
        let picture = self.reader.picture(path)?;
        let parts = vec![picture.part(), Part::Text(self.prompt.clone())];
        let messages = [Message { role: Role::User, parts }];
        let answer = answer::answer(&mut self.engine, &messages, &self.options, on_text)?;
        Ok(Caption { size: picture.size, answer })
    }
}

/// One line of `--json`.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Captioned {
        path: String,
        caption: &'a str,
        size: [u32; 2],
        #[serde(flatten)]
        account: Account,
    },
    Failed {
        path: String,
        error: String,
    },
}

impl<'a> Line<'a> {
    fn captioned(path: &Path, caption: &'a Caption) -> Self {
        Line::Captioned {
            path: path.display().to_string(),
            caption: &caption.answer.text,
            size: caption.size,
            account: Account::new(&caption.answer),
        }
    }

    fn failed(path: &Path, error: &anyhow::Error) -> Self {
        Line::Failed { path: path.display().to_string(), error: explain(error) }
    }
}
