//! The key of `ocelli serve`: made for the user, shown once, kept as a hash.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use server::{KeyHash, new_key};

use crate::output::Output;

/// The hash of the key made earlier, or of a new one, which is shown.
pub(crate) fn obtain(is_new: bool, output: &Output) -> anyhow::Result<KeyHash> {
    let path = path()?;
    if !is_new && let Some(hash) = read(&path)? {
        output.note("the key made earlier is needed; --new-key makes another");
        return Ok(hash);
    }
    let key = new_key().context("cannot make a key")?;
    let hash = KeyHash::of(&key);
    write(&path, &hash).with_context(|| format!("cannot write {}", path.display()))?;
    output.reply(&format!("the key, which is shown only now: {key}"));
    Ok(hash)
}

/// Where settings of this user are.
fn path() -> anyhow::Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CONFIG_HOME")
        .or_else(|| set("APPDATA"))
        .or_else(|| Some(set("HOME")?.join(".config")))
        .context("a key cannot be kept: none of XDG_CONFIG_HOME, APPDATA and HOME is set")?;
    Ok(folder.join("ocelli").join("server-key"))
}

fn read(path: &Path) -> anyhow::Result<Option<KeyHash>> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let hash = text
                .parse()
                .with_context(|| format!("{} is damaged; --new-key makes another key", path.display()))?;
            Ok(Some(hash))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes the hash for nobody else to read.
fn write(path: &Path, hash: &KeyHash) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    writeln!(private().write(true).create(true).truncate(true).open(path)?, "{hash}")
}

/// Makes files that only this user can read.
#[cfg(unix)]
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Folders of settings are private to a user here.
#[cfg(not(unix))]
fn private() -> OpenOptions {
    OpenOptions::new()
}
