//! The tools over granted folders.

use std::rc::Rc;

use protocol::agent::{Effect, Origin, Subject, ToolOutput};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Folders, Kind};
use crate::LocalFuture;
use crate::tool::{Context, Tool, ToolSpec, read_arguments};

/// Bytes of text that one call shows.
const MAX_SHOWN: usize = 32 << 10;

#[derive(Debug)]
pub(super) struct FileTool {
    pub(super) kind: Kind,
    pub(super) spec: ToolSpec,
    pub(super) folders: Rc<Folders>,
}

#[derive(Deserialize)]
struct ListArguments {
    #[serde(default)]
    path: String,
}

#[derive(Deserialize)]
struct ReadArguments {
    path: String,
    #[serde(default)]
    offset: usize,
}

#[derive(Deserialize)]
struct SearchArguments {
    path: String,
    text: String,
}

#[derive(Deserialize)]
struct WriteArguments {
    path: String,
    content: String,
}

impl Tool for FileTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn effect(&self, arguments: &Map<String, Value>) -> Effect {
        let path = arguments.get("path").and_then(Value::as_str).filter(|_| self.kind == Kind::Write);
        match path.map(|path| self.folders.find(path)) {
            Some(Ok((folder, rest))) => {
                // A rule for a folder must not be led elsewhere by `..`; such paths are of no folder.
                let is_plain =
                    !rest.split('/').any(|name| matches!(name, ".." | "." | "") || name.contains('\\'));
                let inner = rest.rsplit_once('/').map_or("", |(inner, _)| inner);
                let full = folder.full.join(inner).to_str().map(|full| full.trim_end_matches('/').to_owned());
                Effect::Changes(full.filter(|_| is_plain).map_or(Subject::Anything, Subject::Folder))
            }
            _ => Effect::None,
        }
    }

    fn call<'a>(
        &'a self,
        arguments: &'a Map<String, Value>,
        context: Context<'a>,
    ) -> LocalFuture<'a, ToolOutput> {
        fn of<T: DeserializeOwned>(arguments: &Map<String, Value>) -> Result<T, String> {
            read_arguments(arguments)
        }
        Box::pin(async move {
            let folders = &*self.folders;
            let text = match self.kind {
                Kind::List => of(arguments).and_then(|it: ListArguments| folders.list(&it.path)),
                Kind::Search => {
                    of(arguments).and_then(|it: SearchArguments| folders.search(&it.path, &it.text))
                }
                Kind::Write => {
                    let written =
                        of(arguments).and_then(|it: WriteArguments| folders.write(&it.path, &it.content));
                    return match written {
                        Ok(text) => ToolOutput::text(Origin::Computed, text),
                        Err(error) => ToolOutput::error(error),
                    };
                }
                Kind::Read => {
                    let it: ReadArguments = match of(arguments) {
                        Ok(it) => it,
                        Err(error) => return ToolOutput::error(error),
                    };
                    match folders.bytes(&it.path) {
                        Ok(bytes) if image::guess_format(&bytes).is_ok() => {
                            return match context.pictures.part(Origin::Picture, bytes) {
                                Ok(picture) => ToolOutput::picture(format!("{}:", it.path), picture),
                                Err(error) => ToolOutput::error(format!("{}: {error}", it.path)),
                            };
                        }
                        Ok(bytes) => page(&it.path, bytes, it.offset),
                        Err(error) => Err(error),
                    }
                }
            };
            match text {
                Ok(text) => ToolOutput::text(Origin::File, text),
                Err(error) => ToolOutput::error(error),
            }
        })
    }
}

/// A piece of a text file, and where it goes on.
fn page(path: &str, bytes: Vec<u8>, offset: usize) -> Result<String, String> {
    let text =
        String::from_utf8(bytes).map_err(|_| format!("{path} is neither text in UTF-8 nor a picture"))?;
    let start = text.ceil_char_boundary(offset);
    let end = text.floor_char_boundary(start.saturating_add(MAX_SHOWN).min(text.len()));
    match (start > text.len() || start >= end, end < text.len()) {
        (true, _) if text.is_empty() => Ok("the file is empty".into()),
        (true, _) => Err(format!("{path} has only {} bytes", text.len())),
        (false, true) => {
            Ok(format!("{}\n… of {} bytes; go on with offset {end}", &text[start..end], text.len()))
        }
        (false, false) => Ok(text[start..end].to_owned()),
    }
}
