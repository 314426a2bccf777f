//! Where this program keeps what belongs to its user.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The folder of settings: what the user decided.
///
/// # Errors
/// If no variable says where it is.
pub(crate) fn folder() -> anyhow::Result<PathBuf> {
    let parent = set("XDG_CONFIG_HOME")
        .or_else(|| set("APPDATA"))
        .or_else(|| Some(set("HOME")?.join(".config")))
        .context("nothing can be kept: none of XDG_CONFIG_HOME, APPDATA and HOME is set")?;
    Ok(parent.join("ocelli"))
}

/// The folder of what was said: conversations.
///
/// # Errors
/// If no variable says where it is.
pub(crate) fn data_folder() -> anyhow::Result<PathBuf> {
    let parent = set("XDG_DATA_HOME")
        .or_else(|| set("LOCALAPPDATA"))
        .or_else(|| Some(set("HOME")?.join(".local").join("share")))
        .context("nothing can be kept: none of XDG_DATA_HOME, LOCALAPPDATA and HOME is set")?;
    Ok(parent.join("ocelli"))
}

fn set(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Reads a JSON file of the settings; `None` if there is none.
///
/// # Errors
/// If it cannot be read or is damaged.
pub(crate) fn read<T: DeserializeOwned>(name: &str) -> anyhow::Result<Option<T>> {
    read_at(&folder()?.join(name))
}

/// As [`read`], of any file.
pub(crate) fn read_at<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .with_context(|| format!("{} is damaged; delete it to begin anew", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a JSON file of the settings, for nobody else to read.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write(name: &str, value: &impl Serialize) -> anyhow::Result<()> {
    write_at(&folder()?.join(name), value)
}

/// As [`write()`], to any file.
pub(crate) fn write_at(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    sessions::write_privately(path, text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}
