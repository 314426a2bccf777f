//! `ocelli`: captions, questions and chat about pictures, and a look inside the models that answer.
//!
//! Each command is one module that parses its own arguments, drives the engine and hands text to
//! [`output`], the only module that prints. The program ends with 0 when all went well, 1 when some
//! inputs failed and the others were done, and 2 when nothing could be done: wrong usage or a model
//! that cannot be used.

mod answer;
mod args;
mod ask;
mod bench;
mod caption;
mod chat;
mod eval;
mod inputs;
mod inspect;
mod interrupt;
mod memory;
mod output;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use output::Output;

/// Looks at pictures and tells what they show, with ERNIE 4.5 on this machine.
#[derive(Debug, Parser)]
#[command(name = "ocelli", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Caption(caption::CaptionArgs),
    Ask(ask::AskArgs),
    Chat(chat::ChatArgs),
    Inspect(inspect::InspectArgs),
    Bench(bench::BenchArgs),
    Eval(eval::EvalArgs),
    /// Print a script that completes commands and options in a shell.
    Completions {
        /// Which shell; write the script where it looks for completions.
        shell: Shell,
    },
}

/// How a command ended that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    SomeFailed,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut output = Output::new();
    match run(cli.command, &mut output) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::SomeFailed) => ExitCode::from(1),
        // Nobody reads on, as in `ocelli … | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::from(2)
        }
    }
}

fn run(command: Command, output: &mut Output) -> anyhow::Result<Outcome> {
    match command {
        Command::Caption(args) => caption::run(args, output),
        Command::Ask(args) => ask::run(args, output),
        Command::Chat(args) => chat::run(args, output),
        Command::Inspect(args) => inspect::run(args, output),
        Command::Bench(args) => bench::run(args, output),
        Command::Eval(args) => eval::run(args, output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "ocelli", &mut script);
            output.bytes(&script)?;
            Ok(Outcome::Done)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
