//! Servers of tools that a task may use, once the user has seen what they offer.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ::agent::Toolbox;
use ::mcp::{Change, Launch, Pins, Server, Target};
use anyhow::{Context, bail};
use clap::Args;
use protocol::exact;
use tempfile::TempDir;

use super::ask;
use super::trace::Trace;
use crate::confine::{self, Extent};
use crate::output::Output;
use crate::settings;

/// Which tools of which server the user allowed, in the folder of settings.
const SERVERS: &str = "tool-servers.json";

/// Other programs with tools.
#[derive(Debug, Args)]
pub(super) struct McpArgs {
    /// Offer the tools of an MCP server too: a command with its arguments, or an address as http://…; may be given
    /// more than once
    #[arg(long, value_name = "SERVER", help_heading = "Tools")]
    mcp: Vec<String>,
    /// Give its command this variable of the environment, such as a key; may be given more than once
    #[arg(long, value_name = "VARIABLE", help_heading = "Tools", requires = "mcp")]
    mcp_env: Vec<String>,
    /// Allow the list of tools with this SHA-256 without being asked; may be given more than once
    #[arg(long, value_name = "SHA256", help_heading = "Tools", requires = "mcp")]
    mcp_allow: Vec<String>,
    /// Let its command touch every file that you can, instead of only those of the system and of granted folders
    #[arg(long, help_heading = "Tools", requires = "mcp")]
    mcp_unconfined: bool,
}

/// What has to stay for as long as servers run.
pub(super) struct Running {
    /// Where they may keep what they need for a while.
    scratch: Option<TempDir>,
    servers: Vec<Rc<Server>>,
}

impl Running {
    /// Lets all servers end.
    pub(super) async fn close(self) {
        for server in &self.servers {
            server.close().await;
        }
    }
}

impl McpArgs {
    /// Starts or reaches the servers and puts their tools into a toolbox. Runs inside of tokio.
    pub(super) async fn add_to(
        &self,
        toolbox: &mut Toolbox,
        folders: (&[PathBuf], &[PathBuf]),
        trace: &Trace<'_>,
        output: &Output,
        has_person: bool,
    ) -> anyhow::Result<Running> {
        let targets = self.mcp.iter().map(|text| Target::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let is_program = |target: &Target| matches!(target, Target::Command { .. });
        let scratch = match targets.iter().any(is_program) && self.confines(trace)? {
            true => Some(TempDir::new().context("cannot make a folder for servers of tools")?),
            false => None,
        };
        let mut running = Running { scratch, servers: Vec::new() };
        for target in &targets {
            let mut launch = Launch { confine: Vec::new(), environment: self.environment()? };
            if let (Target::Command { words, .. }, Some(scratch)) = (target, &running.scratch) {
                launch = confined(words, folders, scratch.path(), launch)?;
            }
            let server = Rc::new(Server::connect(target, &launch).await?);
            self.check(&server, output, has_person)?;
            server.add_to(toolbox)?;
            running.servers.push(server);
        }
        Ok(running)
    }

    fn environment(&self) -> anyhow::Result<Vec<(String, OsString)>> {
        let variable = |name: &String| {
            let value =
                env::var_os(name).with_context(|| format!("{name}, named by --mcp-env, is not set"))?;
            Ok((name.clone(), value))
        };
        self.mcp_env.iter().map(variable).collect()
    }

    /// Whether programs are confined; what this system cannot keep them from is told.
    fn confines(&self, trace: &Trace<'_>) -> io::Result<bool> {
        if self.mcp_unconfined {
            return Ok(false);
        }
        let extent = confine::extent();
        if let Some(lack) = extent.lack() {
            trace.warning(lack)?;
        }
        Ok(extent != Extent::Nothing)
    }

    /// Whether the user allows what a server offers; it is remembered.
    fn check(&self, server: &Server, output: &Output, has_person: bool) -> anyhow::Result<()> {
        let mut pins: Pins = settings::read(SERVERS)?.unwrap_or_default();
        let name = server.target().to_string();
        let Some(change) = pins.change(&name, server.offers()) else { return Ok(()) };
        if !self.mcp_allow.contains(&change.sha256) {
            output.reply(&told(&name, &change));
            if !has_person {
                bail!(
                    "nobody is there to allow the tools of `{name}`; at a terminal you are asked, and --mcp-allow {} \
                     says yes",
                    change.sha256
                );
            }
            if !ask::is_yes(output, "May the model read this and call these tools? y yes · n no") {
                bail!("the tools of `{name}` were not allowed");
            }
        }
        pins.allow(&name, server.offers());
        settings::write(SERVERS, &pins)
    }
}

/// The granted folders are for a program too, and one for what it needs for a while.
fn confined(
    words: &[String],
    (read, write): (&[PathBuf], &[PathBuf]),
    scratch: &Path,
    mut launch: Launch,
) -> anyhow::Result<Launch> {
    launch.environment.push(("TMPDIR".into(), scratch.into()));
    launch.confine = confine::prefix(words, read, &[write, &[scratch.to_owned()]].concat())?;
    Ok(launch)
}

fn told(name: &str, change: &Change) -> String {
    let what =
        if change.is_new { "offers these tools" } else { "has changed its tools since you allowed them" };
    exact(&format!("the server `{name}` {what}:\n{change}"))
}
