//! Opens and maps model files: the one place that touches the file system.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use memmap2::Mmap;
use tensor::{FileBytes, SharedBytes};

use super::{ModelFiles, SHARD_INDEX, has_extension, shards};
use crate::{Error, Result};

/// Everything but weights; what is absent is left out.
const SMALL_FILES: [&str; 11] = [
    "config.json",
    "generation_config.json",
    SHARD_INDEX,
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
];
/// The largest tokenizer.json of a published model has 33 MB.
const MAX_SMALL_FILE: u64 = 64 << 20;

impl ModelFiles {
    /// Opens a folder with `config.json` and weights, a `.gguf` file, or a `.safetensors` file with its
    /// configuration beside it. Weights are mapped, not read.
    ///
    /// # Errors
    /// If `path` is none of these, or a file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        if path.is_dir() {
            return open_folder(name, path, None);
        }
        let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let bytes = map(path)?;
        if bytes.as_ref().starts_with(b"GGUF") || has_extension(file_name, "gguf") {
            let file_name = if has_extension(file_name, "gguf") { file_name } else { "model.gguf" };
            return Ok(Self::from_bytes(name, vec![(file_name.to_owned(), bytes)]));
        }
        match path.parent() {
            Some(folder) if has_extension(file_name, "safetensors") => {
                open_folder(name, folder, Some((file_name.to_owned(), bytes)))
            }
            _ => {
                let detail = "it is neither a folder with config.json nor a .gguf or .safetensors file";
                Err(Error::Model { name, detail: detail.to_owned() })
            }
        }
    }
}

/// The small files of `folder`, with the weights given or those found there.
fn open_folder(name: String, folder: &Path, weights: Option<(String, SharedBytes)>) -> Result<ModelFiles> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut files = BTreeMap::new();
    for small in SMALL_FILES {
        if weights.is_some() && small == SHARD_INDEX {
            continue;
        }
        if let Some(bytes) = read_small(&folder.join(small))? {
            files.insert(small.to_owned(), bytes);
        }
    }
    let mut model = ModelFiles { name, files };
    let names = match weights {
        Some((name, bytes)) => {
            model.files.insert(name, bytes);
            return Ok(model);
        }
        None => match model.text(SHARD_INDEX)? {
            Some(json) => shards(json)?,
            None => weight_files(folder, model.files.contains_key("config.json"))?,
        },
    };
    for name in names {
        let bytes = map(&folder.join(&name))?;
        model.files.insert(name, bytes);
    }
    Ok(model)
}

/// `model.safetensors` if it is there, else all files of the kind that the folder holds.
fn weight_files(folder: &Path, has_config: bool) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|source| io(folder, source))? {
        let entry = entry.map_err(|source| io(folder, source))?;
        names.extend(entry.file_name().into_string().ok());
    }
    let with = |extension: &str| -> Vec<String> {
        names.iter().filter(|name| has_extension(name, extension)).cloned().collect()
    };
    if has_config && names.iter().any(|name| name == "model.safetensors") {
        return Ok(vec!["model.safetensors".to_owned()]);
    }
    let safetensors = if has_config { with("safetensors") } else { Vec::new() };
    Ok(if safetensors.is_empty() { with("gguf") } else { safetensors })
}

fn read_small(path: &Path) -> Result<Option<SharedBytes>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(path, error)),
    };
    let metadata = file.metadata().map_err(|source| io(path, source))?;
    if !metadata.is_file() || metadata.len() > MAX_SMALL_FILE {
        let detail = format!("it is no plain file of at most {} MiB", MAX_SMALL_FILE >> 20);
        return Err(Error::Model { name: path.display().to_string(), detail });
    }
    let mut bytes = Vec::new();
    // The size may have grown since.
    file.take(MAX_SMALL_FILE).read_to_end(&mut bytes).map_err(|source| io(path, source))?;
    Ok(Some(SharedBytes::new(bytes)))
}

#[expect(unsafe_code, reason = "mapping a file is unsafe")]
fn map(path: &Path) -> Result<SharedBytes> {
    let metadata = std::fs::metadata(path).map_err(|source| io(path, source))?;
    if !metadata.is_file() {
        return Err(Error::Model {
            name: path.display().to_string(),
            detail: "it is no plain file".to_owned(),
        });
    }
    let file = File::open(path).map_err(|source| io(path, source))?;
    if metadata.len() == 0 {
        return Ok(SharedBytes::new(Vec::new())); // an empty range cannot be mapped
    }
    // SAFETY: the map is read-only and private to this process, and every reader takes bytes as plain
    // numbers of any value. That no other process truncates the file while it is mapped is left to the
    // user, as with every program that maps its model.
    let map = unsafe { Mmap::map(&file) }.map_err(|source| io(path, source))?;
    Ok(SharedBytes::of_file(Mapped { map, file }))
}

/// A file that is mapped, and stays open for those who would rather read it.
struct Mapped {
    map: Mmap,
    file: File,
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl FileBytes for Mapped {
    #[cfg(unix)]
    fn read_at(&self, offset: usize, out: &mut [u8]) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, out, offset as u64)
    }

    #[cfg(windows)]
    fn read_at(&self, offset: usize, mut out: &mut [u8]) -> std::io::Result<()> {
        let mut offset = offset as u64;
        while !out.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&self.file, out, offset)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => (out, offset) = (&mut out[n..], offset + n as u64),
            }
        }
        Ok(())
    }
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.to_owned(), source }
}
