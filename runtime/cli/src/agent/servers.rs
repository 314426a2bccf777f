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
    /// Send the MCP server at this address the key in a variable, as tools.example.com=TOOLS_KEY; may be given more
    /// than once
    #[arg(long, value_name = "HOST=VARIABLE", help_heading = "Tools", requires = "mcp", value_parser = Key::parse)]
    mcp_key: Vec<Key>,
    /// Allow the list of tools with this SHA-256 without being asked; may be given more than once
    #[arg(long, value_name = "SHA256", help_heading = "Tools", requires = "mcp")]
    mcp_allow: Vec<String>,
    /// Let its command touch every file that you can, instead of only those of the system and of granted folders
    #[arg(long, help_heading = "Tools", requires = "mcp")]
    mcp_unconfined: bool,
}

/// Who is sent a key, and which.
#[derive(Debug, Clone)]
struct Key {
    /// With a port, only the server at that port.
    host: String,
    variable: String,
}

impl Key {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((host, variable)) if !host.is_empty() && !host.contains('/') && !variable.is_empty() => {
                Ok(Self { host: host.to_ascii_lowercase(), variable: variable.to_owned() })
            }
            _ => Err("give a host and a variable of the environment, as tools.example.com=TOOLS_KEY".into()),
        }
    }

    fn is_for(&self, target: &Target) -> bool {
        let Target::Http { url, .. } = target else { return false };
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        self.host == host || self.host == format!("{host}:{port}")
    }
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
        if let Some(key) = self.mcp_key.iter().find(|key| !targets.iter().any(|target| key.is_for(target))) {
            bail!("--mcp-key gives a key for {}, but no --mcp is an address there", key.host);
        }
        let is_program = |target: &Target| matches!(target, Target::Command { .. });
        let scratch = match targets.iter().any(is_program) && self.confines(trace)? {
            true => Some(TempDir::new().context("cannot make a folder for servers of tools")?),
            false => None,
        };
        let mut running = Running { scratch, servers: Vec::new() };
        for target in &targets {
            let mut launch = Launch {
                confine: Vec::new(),
                environment: self.environment()?,
                key: self.key(target, trace)?,
            };
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

    /// The key for a server; one that others can read on its way is told of.
    fn key(&self, target: &Target, trace: &Trace<'_>) -> anyhow::Result<Option<String>> {
        let Some(key) = self.mcp_key.iter().find(|key| key.is_for(target)) else { return Ok(None) };
        let name = &key.variable;
        let value = env::var(name).with_context(|| format!("cannot read {name}, named by --mcp-key"))?;
        if let Target::Http { url, .. } = target
            && remote::is_overheard(url)
        {
            trace.warning(&format!("the key in {name} is sent to {target} without encryption"))?;
        }
        Ok(Some(value))
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
