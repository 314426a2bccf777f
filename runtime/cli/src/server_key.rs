//! The key of `ocelli serve`: made for the user, shown once, kept as a hash.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use server::{KeyHash, new_key};

use crate::output::Output;
use crate::settings;

/// The hash of the key made earlier, or of a new one, which is shown.
pub(crate) fn obtain(is_new: bool, output: &Output) -> anyhow::Result<KeyHash> {
    let path = settings::folder()?.join("server-key");
    if !is_new && let Some(hash) = read(&path)? {
        output.note("the key made earlier is needed; --new-key makes another");
        return Ok(hash);
    }
    let key = new_key().context("cannot make a key")?;
    let hash = KeyHash::of(&key);
    ::sessions::write_privately(&path, format!("{hash}\n").as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    output.reply(&format!("the key, which is shown only now: {key}"));
    Ok(hash)
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
