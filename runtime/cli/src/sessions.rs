//! `ocelli sessions`: the conversations that are kept.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::agent::{Content, Role};
use anyhow::Context;
use clap::{Args, Subcommand};

use crate::Outcome;
use crate::agent::unfinished;
use crate::chat::store;
use crate::output::{Output, plural};

/// List, search, show, export and delete the conversations that were kept
#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Name all of them, the latest first
    List {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Find messages that hold all these words
    Search {
        /// What to look for; a word also finds those that begin with it
        #[arg(required = true)]
        words: Vec<String>,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Print a conversation
    Show {
        /// The beginning of its name, or `last`
        session: String,
    },
    /// Give a conversation another title
    Rename {
        /// The beginning of its name, or `last`
        session: String,
        /// What it is about
        title: String,
    },
    /// Write a conversation with its branches and pictures as JSON
    Export {
        /// The beginning of its name, or `last`
        session: String,
        /// Where to write it [default: standard output]
        file: Option<PathBuf>,
    },
    /// Add a conversation that was exported
    Import {
        /// The file
        file: PathBuf,
    },
    /// Delete a conversation, with pictures that no other one shows
    Delete {
        /// The beginning of its name; more than one may be given
        #[arg(required = true)]
        session: Vec<String>,
    },
}

pub(crate) fn run(args: SessionsArgs, output: &mut Output) -> anyhow::Result<Outcome> {
    let mut store = store()?;
    match args.command {
        Command::List { json } => {
            for session in store.list()? {
                match json {
                    true => output.json(&session)?,
                    false => output.line(&format!(
                        "{}  {}  {}  ({}{})",
                        session.id.0,
                        day(session.updated_ms),
                        session.title,
                        plural(session.n_turns, "message"),
                        if unfinished(&session).is_some() { ", not ended" } else { "" }
                    ))?,
                }
            }
        }
        Command::Search { words, json } => {
            let hits = store.search(&words.join(" "), 100)?;
            for hit in &hits {
                match json {
                    true => output.json(hit)?,
                    false => output
                        .named_line(&format!("{} {}", hit.session.0, hit.title), &one_line(&hit.excerpt))?,
                }
            }
            if hits.is_empty() {
                output.note("nothing found");
            }
        }
        Command::Show { session } => {
            let session = store.find(&session)?;
            for entry in store.turns(&session.id)? {
                let name = match entry.turn.role {
                    Role::System => "system",
                    Role::User => "you",
                    Role::Assistant => "model",
                    Role::Tool => "tool",
                };
                let parts = entry.turn.parts.iter().map(|part| match &part.content {
                    Content::Text(text) => text.clone(),
                    Content::Picture(_) => "[picture] ".into(),
                    Content::Call(call) => {
                        format!("[{} {}] ", call.name, serde_json::Value::Object(call.arguments.clone()))
                    }
                });
                output.named_line(name, &parts.collect::<String>())?;
            }
        }
        Command::Rename { session, title } => {
            let id = store.find(&session)?.id;
            store.rename(&id, &title)?;
        }
        Command::Export { session, file } => {
            let id = store.find(&session)?.id;
            let text = format!("{}\n", store.export(&id)?);
            match file {
                Some(file) => ::sessions::write_privately(&file, text.as_bytes())
                    .with_context(|| format!("cannot write {}", file.display()))?,
                None => output.bytes(text.as_bytes())?,
            }
        }
        Command::Import { file } => {
            let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let exported =
                serde_json::from_slice(&bytes).with_context(|| format!("{} is not JSON", file.display()))?;
            output.line(&store.import(exported)?.0)?;
        }
        Command::Delete { session } => {
            for name in session {
                let id = store.find(&name)?.id;
                store.delete(&id)?;
                output.note(&format!("deleted {}", id.0));
            }
        }
    }
    Ok(Outcome::Done)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The day and time of a moment, in UTC.
fn day(ms: i64) -> String {
    let time: SystemTime = UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text[..16].replace('T', " ")
}
