//! The tools that a task may use.

use std::path::PathBuf;

use ::agent::{Toolbox, tools};
use anyhow::bail;
use clap::{Args, ValueEnum};
use remote::{Fetch, Host};

/// Which tools a model is offered.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ToolArgs {
    /// Offer only this tool; may be given more than once [default: all]
    #[arg(long, value_name = "NAME", help_heading = "Tools")]
    tool: Vec<ToolName>,
    /// Let tools read files of this folder; may be given more than once
    #[arg(long, value_name = "FOLDER", help_heading = "Tools")]
    pub(crate) grant: Vec<PathBuf>,
    /// Let tools read and write files of this folder; may be given more than once
    #[arg(long, value_name = "FOLDER", help_heading = "Tools")]
    pub(crate) grant_write: Vec<PathBuf>,
    /// Let tools fetch from this host, as example.com or *.example.com; may be given more than once
    #[arg(long, value_name = "HOST", help_heading = "Tools", value_parser = Host::parse)]
    pub(crate) allow_host: Vec<Host>,
    /// Let those hosts be on this machine or in a private network
    #[arg(long, help_heading = "Tools", requires = "allow_host")]
    pub(crate) allow_private_hosts: bool,
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
    /// Pages and pictures of the web
    Fetch,
}

impl ToolArgs {
    /// All tools, for a person who can be asked: which hosts are fetched from, they say then.
    pub(crate) fn attended(grant: Vec<PathBuf>, grant_write: Vec<PathBuf>) -> Self {
        let has_folders = !grant.is_empty() || !grant_write.is_empty();
        let is_possible = |name: &ToolName| has_folders || *name != ToolName::Files;
        let tool = ToolName::value_variants().iter().copied().filter(is_possible).collect();
        Self { tool, grant, grant_write, ..Self::default() }
    }

    pub(crate) fn toolbox(&self) -> anyhow::Result<Toolbox> {
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
        match (is_wanted(ToolName::Fetch), self.allow_host.is_empty()) {
            // Without a host that is allowed, each call is asked about.
            (true, true) if self.tool.is_empty() => {}
            (true, _) => toolbox.add(Fetch::new(self.allow_host.clone(), self.allow_private_hosts))?,
            (false, true) => {}
            (false, false) => bail!("hosts are allowed, but --tool leaves out `fetch`"),
        }
        Ok(toolbox)
    }
}
