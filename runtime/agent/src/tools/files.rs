//! Files below folders that the user granted. `cap-std` opens everything relative to an open folder, so neither
//! `..` nor a link leads out of one.

mod search;
mod tool;

use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use serde_json::json;

use crate::Error;
use crate::tool::{ToolSpec, Toolbox};
use search::Search;
use tool::FileTool;

/// Bytes of a file that is read or searched.
const MAX_FILE: u64 = 48 << 20;
/// Entries of a list, and lines of a search.
const MAX_LINES: usize = 200;
/// Bytes of a file that is written.
const MAX_WRITTEN: usize = 4 << 20;
/// Names that are tried for a file in the making.
const MAX_PARTS: usize = 100;

/// A folder that the user granted.
#[derive(Debug)]
pub struct Folder {
    name: String,
    /// Where it is on this machine: rules outlive the run, and another folder may have the same last name.
    full: PathBuf,
    dir: Dir,
    may_write: bool,
}

impl Folder {
    /// Opens a folder. The model knows it by its last name.
    ///
    /// # Errors
    /// If it cannot be opened or has no name.
    pub fn open(path: &Path, may_write: bool) -> Result<Self, Error> {
        let failed =
            |error: io::Error| Error::Setup(format!("cannot open the folder {}: {error}", path.display()));
        let full = path.canonicalize().map_err(failed)?;
        let name = full.file_name().and_then(|name| name.to_str());
        let name = name
            .ok_or_else(|| Error::Setup(format!("the folder {} has no name", path.display())))?
            .to_owned();
        let dir = Dir::open_ambient_dir(&full, ambient_authority()).map_err(failed)?;
        Ok(Self { name, full, dir, may_write })
    }
}

/// The folders that tools may use.
#[derive(Debug, Default)]
pub struct Folders {
    folders: Vec<Folder>,
}

impl Folders {
    /// Those that were opened.
    ///
    /// # Errors
    /// If two have one name.
    pub fn new(folders: Vec<Folder>) -> Result<Self, Error> {
        for (i, folder) in folders.iter().enumerate() {
            if folders[..i].iter().any(|earlier| earlier.name == folder.name) {
                return Err(Error::Setup(format!(
                    "two granted folders are called `{}`; rename one",
                    folder.name
                )));
            }
        }
        Ok(Self { folders })
    }

    /// Puts the tools for these folders into a toolbox; the one that writes only if some folder may be written.
    ///
    /// # Errors
    /// If tools of these names are there.
    pub fn add_to(self, tools: &mut Toolbox) -> Result<(), Error> {
        let may_write = self.folders.iter().any(|folder| folder.may_write);
        let shared = Rc::new(self);
        for kind in [Kind::List, Kind::Read, Kind::Search, Kind::Write] {
            if kind != Kind::Write || may_write {
                tools.add(FileTool { kind, spec: shared.spec(kind), folders: Rc::clone(&shared) })?;
            }
        }
        Ok(())
    }

    fn spec(&self, kind: Kind) -> ToolSpec {
        let names: Vec<&str> = self.folders.iter().map(|folder| folder.name.as_str()).collect();
        let names = names.join(", ");
        let path = |what: &str| json!({ "type": "string", "maxLength": 400, "description": what });
        let (name, description, properties, required) = match kind {
            Kind::List => (
                "list_files",
                format!("Lists a folder. The granted folders are: {names}. Without a path these are listed."),
                json!({ "path": path("such as FOLDER/sub") }),
                json!([]),
            ),
            Kind::Read => (
                "read_file",
                "Shows a text or a picture file.".to_owned(),
                json!({
                    "path": path("such as FOLDER/notes.txt"),
                    "offset": { "type": "integer", "minimum": 0, "maximum": MAX_FILE, "description": "first byte" },
                }),
                json!(["path"]),
            ),
            Kind::Search => (
                "search_files",
                "Finds lines that hold a text, in all text files below a folder, whatever their case."
                    .to_owned(),
                json!({ "path": path("such as FOLDER"), "text": path("what to look for") }),
                json!(["path", "text"]),
            ),
            Kind::Write => (
                "write_file",
                "Writes a text file, in place of one that is there.".to_owned(),
                json!({ "path": path("such as FOLDER/notes.txt"), "content": { "type": "string" } }),
                json!(["path", "content"]),
            ),
        };
        ToolSpec {
            name: name.into(),
            description,
            parameters: json!({
                "type": "object", "properties": properties, "required": required, "additionalProperties": false,
            }),
        }
    }

    /// The folder that a path begins with, and the rest of the path.
    fn find<'a>(&self, path: &'a str) -> Result<(&Folder, &'a str), String> {
        let path = path.trim_start_matches("./").trim_matches('/');
        let (name, rest) = path.split_once('/').unwrap_or((path, ""));
        match self.folders.iter().find(|folder| folder.name == name) {
            Some(folder) => Ok((folder, if rest.is_empty() { "." } else { rest })),
            None => {
                let names: Vec<&str> = self.folders.iter().map(|folder| folder.name.as_str()).collect();
                Err(format!("`{path}` is not in a granted folder; paths begin with one of {names:?}"))
            }
        }
    }

    fn list(&self, path: &str) -> Result<String, String> {
        if path.trim_matches(['.', '/']).is_empty() {
            let line = |f: &Folder| format!("{}/{}", f.name, if f.may_write { "" } else { " (read only)" });
            return Ok(self.folders.iter().map(line).collect::<Vec<_>>().join("\n"));
        }
        let (folder, rest) = self.find(path)?;
        let mut lines = Vec::new();
        for entry in folder.dir.read_dir(rest).map_err(|error| say(path, &error))? {
            let entry = entry.map_err(|error| say(path, &error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            lines.push(match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => format!("{name}/"),
                Ok(metadata) => format!("{name} ({} bytes)", metadata.len()),
                Err(_) => name,
            });
        }
        lines.sort();
        let n = lines.len();
        lines.truncate(MAX_LINES);
        if n > MAX_LINES {
            lines.push(format!("… and {} more", n - MAX_LINES));
        }
        Ok(if lines.is_empty() { "the folder is empty".into() } else { lines.join("\n") })
    }

    /// The bytes of a file, whose path begins with the name of its folder.
    ///
    /// # Errors
    /// Says what is wrong: the folder is not granted, or the file cannot be read.
    pub fn bytes(&self, path: &str) -> Result<Vec<u8>, String> {
        let (folder, rest) = self.find(path)?;
        read(&folder.dir, rest).map_err(|error| say(path, &error))
    }

    fn search(&self, path: &str, text: &str) -> Result<String, String> {
        if text.is_empty() {
            return Err("the text to look for is empty".into());
        }
        let (folder, rest) = self.find(path)?;
        let mut search = Search::new(text);
        let shown = path.trim_end_matches('/');
        let metadata = folder.dir.metadata(rest).map_err(|error| say(path, &error))?;
        if metadata.is_file() {
            search.file(&folder.dir, rest, shown);
        } else {
            let dir = folder.dir.open_dir(rest).map_err(|error| say(path, &error))?;
            search.folder(&dir, shown, 0);
        }
        Ok(search.found())
    }

    fn write(&self, path: &str, content: &str) -> Result<String, String> {
        let (folder, rest) = self.find(path)?;
        if !folder.may_write {
            return Err(format!("the folder `{}` may only be read", folder.name));
        }
        if content.len() > MAX_WRITTEN {
            return Err(format!("the content has {} bytes, the limit is {MAX_WRITTEN}", content.len()));
        }
        if let Some(parent) = Path::new(rest).parent().filter(|parent| !parent.as_os_str().is_empty()) {
            folder.dir.create_dir_all(parent).map_err(|error| say(path, &error))?;
        }
        write(&folder.dir, rest, content).map_err(|error| say(path, &error))?;
        Ok(format!("wrote {} bytes to {path}", content.len()))
    }
}

/// Writes beside the old file first, so that a full disk does not take it away.
fn write(dir: &Dir, path: &str, content: &str) -> io::Result<()> {
    // A file of that name may be somebody's own, so another name is tried.
    let new = OpenOptions::new().write(true).create_new(true).clone();
    let (part, mut file) = (0..MAX_PARTS)
        .find_map(|n| {
            let part = format!("{path}.{n}.part");
            match dir.open_with(&part, &new) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => None,
                opened => Some(opened.map(|file| (part, file))),
            }
        })
        .unwrap_or_else(|| Err(io::Error::other("too many files beside it end with `.part`")))?;
    let written = file.write_all(content.as_bytes()).and_then(|()| file.sync_all());
    let written = written.and_then(|()| dir.rename(&part, dir, path));
    if written.is_err() {
        let _ = dir.remove_file(&part);
    }
    written
}

fn say(path: &str, error: &io::Error) -> String {
    format!("{path}: {error}")
}

fn read(dir: &Dir, path: &str) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for somebody to write to it.
    if !dir.metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let file = dir.open(path)?;
    let metadata = file.metadata()?;
    if metadata.len() > MAX_FILE {
        return Err(io::Error::other(format!("it has {} bytes, the limit is {MAX_FILE}", metadata.len())));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    List,
    Read,
    Search,
    Write,
}

#[cfg(test)]
mod tests;
