//! `ocelli`: captions, questions and chat about pictures, and a look inside the models that answer.
//!
//! Each command is one module that parses its own arguments, drives the engine and hands text to
//! [`output`], the only module that prints. The program ends with 0 when all went well, 1 when some
//! inputs failed and the others were done, and 2 when nothing could be done: wrong usage or a model
//! that cannot be used.

mod agent;
mod answer;
mod args;
mod ask;
mod bench;
mod caption;
mod chat;
mod compare;
mod confine;
mod desk;
#[cfg(all(feature = "desktop", target_os = "linux"))]
mod desktop;
mod embedded;
mod eval;
mod fit;
mod inputs;
mod inspect;
mod interrupt;
mod mcp;
mod memory;
mod output;
#[cfg(feature = "page")]
mod page;
mod quantize;
mod serve;
mod server_key;
mod sessions;
mod settings;

use std::io;
use std::process::ExitCode;
use std::thread;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use engine::Team;

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
    Agent(Box<agent::AgentArgs>),
    Sessions(sessions::SessionsArgs),
    Serve(serve::ServeArgs),
    Mcp(mcp::McpArgs),
    #[cfg(all(feature = "desktop", target_os = "linux"))]
    Desktop(desktop::DesktopArgs),
    Inspect(inspect::InspectArgs),
    Bench(bench::BenchArgs),
    Eval(eval::EvalArgs),
    Quantize(quantize::QuantizeArgs),
    Compare(compare::CompareArgs),
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    Confine(confine::ConfineArgs),
    /// Print a script that completes commands and options in a shell.
    Completions {
        /// Which shell; write the script where it looks for completions.
        shell: Shell,
    },
}

impl Command {
    /// How many threads it computes on; `None` is all.
    fn threads(&self) -> Option<u16> {
        match self {
            Command::Caption(args) => args.model.threads,
            Command::Ask(args) => args.model.threads,
            Command::Chat(args) => args.model.threads,
            Command::Agent(args) => args.model.threads,
            Command::Serve(args) => args.model.threads,
            Command::Mcp(args) => args.model.threads,
            #[cfg(all(feature = "desktop", target_os = "linux"))]
            Command::Desktop(args) => args.serve.model.threads,
            Command::Bench(args) => args.model.threads,
            Command::Eval(args) => args.model.threads,
            Command::Quantize(args) => args.threads,
            Command::Compare(args) => args.threads,
            #[cfg(target_os = "linux")]
            Command::Confine(_) => Some(1),
            Command::Inspect(_) | Command::Sessions(_) | Command::Completions { .. } => Some(1),
        }
    }
}

/// How a command ended that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    SomeFailed,
}

/// As much as the main thread has.
const STACK_BYTES: usize = 8 << 20;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut output = Output::new();
    match on_threads(cli.command.threads(), || run(cli.command, &mut output)) {
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

/// Does all work on a thread with a large stack, whose operations `n` threads share.
fn on_threads<T: Send>(n: Option<u16>, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let team = n.map_or_else(Team::of_all_cores, |n| Team::new(n.into()));
    // What is not an operation of a model, such as encoding weights, uses rayon.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(team.n_threads());
    pool.build_global().context("cannot start the threads to compute on")?;
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("ocelli".to_owned()).stack_size(STACK_BYTES);
        let worker = builder.spawn_scoped(scope, || team.install(work)).context("cannot start a thread")?;
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn run(command: Command, output: &mut Output) -> anyhow::Result<Outcome> {
    match command {
        Command::Caption(args) => caption::run(args, output),
        Command::Ask(args) => ask::run(args, output),
        Command::Chat(args) => chat::run(args, output),
        Command::Agent(args) => agent::run(*args, output),
        Command::Sessions(args) => sessions::run(args, output),
        Command::Serve(args) => serve::run(args, output),
        Command::Mcp(args) => mcp::run(args, output),
        #[cfg(all(feature = "desktop", target_os = "linux"))]
        Command::Desktop(args) => desktop::run(args, output),
        Command::Inspect(args) => inspect::run(args, output),
        Command::Bench(args) => bench::run(args, output),
        Command::Eval(args) => eval::run(args, output),
        Command::Quantize(args) => quantize::run(args, output),
        Command::Compare(args) => compare::run(args, output),
        #[cfg(target_os = "linux")]
        Command::Confine(args) => confine::run(&args),
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
