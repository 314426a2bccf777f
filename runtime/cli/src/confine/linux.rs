//! `ocelli confine`: runs a program that can touch only what it is given. It is not listed: agents start servers of
//! tools with it.
//!
//! Linux confines a process for good, and whatever it starts, by Landlock: the program reads its own files and those of
//! the system, reads or writes granted folders, and finds everything else closed. It also cannot look into other
//! processes or end them, and has none of root's powers. The network and sockets that have a path stay open to it.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use clap::Args;
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    Scope, path_beneath_rules,
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use super::Extent;
use crate::settings;

pub(super) const NOTHING: &str =
    "this kernel has no Landlock, so servers of tools can touch every file that you can";

/// The first version of Landlock that keeps signals in as well, that of Linux 6.12.
const VERSION: ABI = ABI::V6;
/// What programs need of a system.
const SYSTEM: [&str; 12] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc",
    "/proc",
    "/sys/devices/system",
    "/nix/store",
    "/run/systemd/resolve",
    "/dev/urandom",
];
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random"];

/// Run a program that can touch only what it is given
#[derive(Debug, Args)]
pub(crate) struct ConfineArgs {
    /// A file or folder that it may read
    #[arg(long, value_name = "PATH")]
    read: Vec<PathBuf>,
    /// A file or folder that it may read and write
    #[arg(long, value_name = "PATH")]
    write: Vec<PathBuf>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// How far this kernel confines.
pub(crate) fn extent() -> Extent {
    let strict = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let whole = strict().handle_access(AccessFs::from_all(VERSION));
    let whole = whole.and_then(|rules| rules.scope(Scope::from_all(VERSION))).and_then(Ruleset::create);
    let files = || strict().handle_access(AccessFs::from_all(ABI::V1)).and_then(Ruleset::create);
    match whole {
        Ok(_) => Extent::Whole,
        Err(_) if files().is_ok() => Extent::Files,
        Err(_) => Extent::Nothing,
    }
}

/// What stands in front of a command that is to be confined: it may read its own files and `read`, and change `write`.
pub(crate) fn prefix(words: &[String], read: &[PathBuf], write: &[PathBuf]) -> anyhow::Result<Vec<OsString>> {
    let mut line = vec![env::current_exe().context("this program cannot be found")?.into(), "confine".into()];
    let mut own = program_files(&words[0]);
    own.extend(words[1..].iter().map(PathBuf::from).filter(|path| path.exists()));
    for path in own.iter().chain(read) {
        line.extend(["--read".into(), path.into()]);
    }
    for path in write {
        line.extend(["--write".into(), path.into()]);
    }
    line.push("--".into());
    Ok(line)
}

/// Becomes the program. Returns only if that fails.
pub(crate) fn run(args: &ConfineArgs) -> anyhow::Result<crate::Outcome> {
    let (read, all) = (AccessFs::from_read(VERSION), AccessFs::from_all(VERSION));
    let on_devices = AccessFs::ReadFile | AccessFs::WriteFile;
    let status = Ruleset::default()
        .handle_access(all)?
        .scope(Scope::from_all(VERSION))?
        .create()?
        .add_rules(path_beneath_rules(SYSTEM, read))?
        .add_rules(path_beneath_rules(DEVICES, on_devices))?
        .add_rules(path_beneath_rules(&args.read, read))?
        .add_rules(path_beneath_rules(&args.write, all))?
        .restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        bail!("this kernel has no Landlock, so nothing can be confined");
    }
    // Those of root would lead around it: to the memory of other programs, for one.
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .context("cannot give up the powers of root")?;
    let program = &args.command[0];
    let error = Command::new(program).args(&args.command[1..]).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// The folders of a program: where it is, where it really is, and what was installed around it.
fn program_files(program: &str) -> Vec<PathBuf> {
    let Some(path) = found(program) else { return Vec::new() };
    let data = settings::data_folder().ok();
    let mut folders = Vec::new();
    for path in [path.canonicalize().ok(), Some(path)].into_iter().flatten() {
        let Some(folder) = path.parent() else { continue };
        let around = folder.parent().filter(|_| folder.ends_with("bin"));
        let around = around.filter(|around| around.join("lib").is_dir());
        // A home or ~/.local has folders of these names too, and much else.
        let is_wide = |around: &&Path| data.as_ref().is_some_and(|data| data.starts_with(around));
        folders.push(around.filter(|around| !is_wide(around)).unwrap_or(folder).to_owned());
    }
    folders
}

/// The file that a shell would start.
fn found(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program));
    }
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}
