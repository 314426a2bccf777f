//! `ocelli chat`: a conversation, at a terminal or line by line from a pipe.

mod record;

use std::io::{self, BufRead, IsTerminal};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use engine::{Answer, Engine, GenerateOptions, Message, Part, Role, StopReason};

use crate::answer::{self, ExpertAccount};
use crate::args::{ModelArgs, SamplingArgs};
use crate::inputs::{PictureArgs, Reader, VideoArgs, Visual};
use crate::interrupt::Interrupt;
use crate::output::{Output, bytes, name_it};
use crate::{Outcome, is_broken_pipe};
use record::{Record, Shown};
pub(crate) use record::{conversations, recall, remember, store};

const HELP: &str = "\
/image PATH    show a picture with your next message
/video PATH    show a video, an animation or a folder of frames with it
/system TEXT   tell the model how to behave; without TEXT, nothing
/again         have the last answer made again, in other words if answers are drawn
/edit TEXT     ask this in place of the last message
/back          take the last message and its answer back
/reset         begin another conversation; /system stays
/stats         speed and memory of the last answer
/help          this list
/exit          leave (so does Ctrl-D; Ctrl-C ends an answer)";

/// Talk with the model, about pictures too
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct ChatArgs {
    /// Show a picture with the first message; may be given more than once
    #[arg(long, value_name = "PATH")]
    image: Vec<PathBuf>,
    /// Tell the model how to behave
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Go on with a conversation that was kept: the beginning of its name, or the last one
    #[arg(long, value_name = "SESSION", num_args = 0..=1, default_missing_value = "last")]
    resume: Option<String>,
    /// Keep the conversation [default: at a terminal]
    #[arg(long)]
    keep: bool,
    /// Keep nothing
    #[arg(long, conflicts_with_all = ["keep", "resume"])]
    private: bool,
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

pub(crate) fn run(args: ChatArgs, output: &mut Output) -> anyhow::Result<Outcome> {
    output.set_quiet(args.quiet);
    let files = args.model.files()?;
    let mut engine = args.model.engine_of(&files, output)?;
    let reader = Reader::new(engine.preprocessor(), &args.pictures)?;
    let (mut record, mut turns, mut system) = (None, Vec::new(), None);
    if let Some(name) = &args.resume {
        let (resumed, said, was) =
            Record::resume(name, files.fingerprint(), &mut engine, reader.preprocessor(), output)?;
        (record, turns, system) = (Some(resumed), said, was);
    } else if !args.private && (args.keep || io::stdin().is_terminal()) {
        record = Some(Record::begin(files.fingerprint())?);
    }
    let mut chat = Chat {
        reader,
        videos: args.videos,
        options: args.sampling.options_of(&files.generation_defaults()?),
        engine,
        interrupt: Interrupt::listen()?,
        output,
        system: args.system.or(system),
        record,
        turns,
        attached: Vec::new(),
        last: None,
    };
    for path in &args.image {
        chat.attach(path, false)?;
    }

    // Somebody at a terminal sees each error and goes on; a script must be told at the end.
    let is_typed = io::stdin().is_terminal();
    if is_typed {
        chat.output.note(&format!("{} · /help lists commands", files.name()));
    }
    let mut outcome = Outcome::Done;
    let mut lines = io::stdin().lock().split(b'\n');
    loop {
        if is_typed {
            chat.output.prompt();
        }
        let Some(line) = lines.next() else {
            if is_typed {
                chat.output.end_prompt();
            }
            break;
        };
        match chat.take(&line.context("cannot read the next message")?) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => break,
            Err(error) if is_broken_pipe(&error) => return Err(error),
            Err(error) => {
                chat.output.error(&error);
                outcome = if is_typed { Outcome::Done } else { Outcome::SomeFailed };
            }
        }
    }
    if let Some(record) = &chat.record {
        record.end(&mut chat.engine)?;
    }
    Ok(outcome)
}

/// A line that was typed.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Empty,
    Say(&'a str),
    Image(&'a Path),
    Video(&'a Path),
    System(&'a str),
    Again,
    Edit(&'a str),
    Back,
    Reset,
    Stats,
    Help,
    Exit,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> anyhow::Result<Self> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(Line::Empty);
        }
        if !line.starts_with('/') {
            return Ok(Line::Say(line));
        }
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        // A path dropped on a terminal often comes in quotes.
        let path = || {
            let rest = rest.trim().trim_matches(['\'', '"']);
            if rest.is_empty() { anyhow::bail!("{command} needs a path") } else { Ok(Path::new(rest)) }
        };
        Ok(match command {
            "/image" => Line::Image(path()?),
            "/video" => Line::Video(path()?),
            "/system" => Line::System(rest.trim()),
            "/again" => Line::Again,
            "/edit" if rest.trim().is_empty() => anyhow::bail!("/edit needs the message to ask instead"),
            "/edit" => Line::Edit(rest.trim()),
            "/back" => Line::Back,
            "/reset" => Line::Reset,
            "/stats" => Line::Stats,
            "/help" => Line::Help,
            "/exit" | "/quit" => Line::Exit,
            _ => anyhow::bail!("there is no command {command}; /help lists them"),
        })
    }
}

/// A picture or a video, and what is kept of it.
struct Attached {
    part: Part,
    shown: Shown,
}

/// A message of the user.
struct Asked {
    text: String,
    parts: Vec<Part>,
    /// What is kept of the parts.
    shown: Vec<Shown>,
}

struct Chat<'a> {
    engine: Engine,
    reader: Reader,
    videos: VideoArgs,
    options: GenerateOptions,
    interrupt: Interrupt,
    output: &'a Output,
    system: Option<String>,
    record: Option<Record>,
    /// What was said so far, without the system text.
    turns: Vec<Message>,
    /// Shown with the next message.
    attached: Vec<Attached>,
    last: Option<Answer>,
}

impl Chat<'_> {
    fn take(&mut self, line: &[u8]) -> anyhow::Result<ControlFlow<()>> {
        let line = std::str::from_utf8(line).context("the message is not UTF-8 and was not sent")?;
        match Line::parse(line)? {
            Line::Empty => {}
            Line::Say(text) => self.say(text)?,
            Line::Image(path) => self.attach(path, false)?,
            Line::Video(path) => self.attach(path, true)?,
            Line::System(text) => self.system = Some(text.to_string()).filter(|text| !text.is_empty()),
            Line::Again => {
                let asked = self.take_back()?;
                self.options.seed = self.options.seed.wrapping_add(1);
                self.ask(asked)?;
            }
            Line::Edit(text) => {
                let mut asked = self.take_back()?;
                asked.text = text.to_string();
                self.ask(asked)?;
            }
            Line::Back => {
                self.take_back()?;
                self.output.note("the last message and its answer are taken back");
            }
            Line::Reset => self.reset(),
            Line::Stats => self.say_stats(),
            Line::Help => self.output.reply(HELP),
            Line::Exit => return Ok(ControlFlow::Break(())),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn attach(&mut self, path: &Path, is_video: bool) -> anyhow::Result<()> {
        answer::check_sight(&self.engine)?;
        let visual = match is_video {
            true => self.reader.video(path, &self.videos),
            false => self.reader.picture(path),
        };
        let visual: Visual = visual.map_err(|error| name_it(error, path))?;
        let [width, height] = visual.size;
        self.output.note(&format!(
            "{} ({width}x{height}, {} tokens) goes with your next message",
            path.display(),
            visual.patches.n_tokens()
        ));
        if is_video && self.record.is_some() {
            self.output.note("of a video only the name is kept with the conversation");
        }
        let shown = match is_video {
            true => Shown::Video(path.display().to_string()),
            false => Shown::Picture(std::fs::read(path)?.into()),
        };
        self.attached.push(Attached { part: visual.part(), shown });
        Ok(())
    }

    fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let attached = self.attached.iter();
        let (parts, shown) = attached.map(|it| (it.part.clone(), it.shown.clone())).unzip();
        if self.ask(Asked { text: text.to_string(), parts, shown })? {
            self.attached.clear();
        }
        Ok(())
    }

    /// Takes the last message and its answer back, and returns the message.
    fn take_back(&mut self) -> anyhow::Result<Asked> {
        let at = self.turns.iter().rposition(|turn| turn.role == Role::User).context("no message yet")?;
        let shown = self.record.as_mut().map_or_else(|| Ok(Vec::new()), Record::back)?;
        let message = self.turns.drain(at..).next().context("no message yet")?;
        let mut asked = Asked { text: String::new(), parts: Vec::new(), shown };
        for part in message.parts {
            match part {
                Part::Text(text) => asked.text.push_str(&text),
                part => asked.parts.push(part),
            }
        }
        Ok(asked)
    }

    /// Asks and shows the answer. Returns whether there was one.
    fn ask(&mut self, asked: Asked) -> anyhow::Result<bool> {
        let mut parts = asked.parts.clone();
        parts.push(Part::Text(asked.text.clone()));
        let mut messages = Vec::new();
        if let Some(system) = &self.system {
            messages.push(Message { role: Role::System, parts: vec![Part::Text(system.clone())] });
        }
        messages.extend(self.turns.iter().cloned());
        messages.push(Message { role: Role::User, parts });

        if let Some(record) = &mut self.record {
            record.asked(&asked.text, &asked.shown, self.system.as_deref())?;
        }
        self.interrupt.begin();
        let (output, interrupt) = (self.output, &self.interrupt);
        let answer = answer::answer(&mut self.engine, &messages, &self.options, &mut |text| {
            output.piece(text)?;
            Ok(if interrupt.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        self.interrupt.end();
        if let Some(record) = &mut self.record {
            match &answer {
                Ok(answer) if !is_empty(answer) => record.answered(answer)?,
                _ => record.withdraw()?,
            }
        }
        let answer = answer.map_err(|error| match error.downcast_ref() {
            Some(engine::Error::ContextTooLong { .. }) if !self.turns.is_empty() => {
                error.context("the message was not sent; /reset begins a new conversation")
            }
            _ => error,
        })?;
        self.output.line("")?;

        answer::say_about(&answer, None, self.output);
        let is_answered = !is_empty(&answer);
        if is_answered {
            self.turns.extend(messages.pop());
            let parts = vec![Part::Text(answer.text.clone())];
            self.turns.push(Message { role: Role::Assistant, parts });
        }
        self.last = Some(answer);
        Ok(is_answered)
    }

    fn reset(&mut self) {
        if let Some(record) = &mut self.record {
            record.reset();
        }
        self.turns.clear();
        self.attached.clear();
        self.last = None;
        self.output.note("the conversation is forgotten");
    }

    fn say_stats(&self) {
        let Some(answer) = &self.last else { return self.output.reply("no answer yet") };
        let rate = |tokens: usize, ms: f64| if ms > 0.0 { tokens as f64 / ms * 1000.0 } else { 0.0 };
        let memory = self.engine.bytes_resident();
        self.output.reply(&format!(
            "prompt   {} tokens, {} of them cached · {:.0} tokens/s · first token after {:.0} ms\n\
             answer   {} tokens · {:.1} tokens/s\n\
             memory   weights {} mapped, {} owned · cache {}\n\
             context  {} of {} tokens",
            answer.prompt_tokens,
            answer.cached_tokens,
            rate(answer.prompt_tokens - answer.cached_tokens, answer.prefill_ms),
            answer.ttft_ms,
            answer.generated_tokens,
            // The first token came with the prompt.
            rate(answer.generated_tokens.saturating_sub(1), answer.decode_ms),
            bytes(memory.weights_mapped),
            bytes(memory.weights_owned),
            bytes(memory.kv_cache),
            answer.prompt_tokens + answer.generated_tokens,
            self.engine.context_limit(),
        ));
        if let Some(usage) = self.engine.expert_use() {
            self.output.reply(&format!("experts  {}", ExpertAccount::from(usage).words()));
        }
    }
}

/// Whether it was cancelled before it began; then the message can be asked again.
fn is_empty(answer: &Answer) -> bool {
    answer.stop_reason == StopReason::Cancelled && answer.text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_messages_or_commands() {
        for (line, expected) in [
            ("  ", Line::Empty),
            (" What is this? ", Line::Say("What is this?")),
            ("/image  my cat.png", Line::Image(Path::new("my cat.png"))),
            ("/image 'my cat.png'", Line::Image(Path::new("my cat.png"))),
            ("/video clip", Line::Video(Path::new("clip"))),
            ("/system Be brief.", Line::System("Be brief.")),
            ("/system", Line::System("")),
            ("/again", Line::Again),
            ("/edit And now?", Line::Edit("And now?")),
            ("/back", Line::Back),
            ("/reset", Line::Reset),
            ("/stats", Line::Stats),
            ("/help", Line::Help),
            ("/quit", Line::Exit),
        ] {
            assert_eq!(Line::parse(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn wrong_commands_are_explained() {
        for (line, expected) in
            [("/image", "needs a path"), ("/edit ", "needs the message"), ("/imgae x", "/imgae; /help")]
        {
            let error = Line::parse(line).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
