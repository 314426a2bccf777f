//! Models from the user's disk: files that were chosen, read by range.

use protocol::Problem;
use web_sys::{AbortSignal, File};

use crate::browser::message;
use crate::chunks::check_size;
use crate::store::{Fetched, Progress, read_range, room};

/// Bytes that are read at a time.
const STEP: usize = 8 << 20;
/// What a model consists of, by the end of the name; the rest of a folder is left alone.
const WANTED: [&str; 5] = [".gguf", ".safetensors", ".json", ".jinja", "tokenizer.model"];

/// Reads the files of a model into memory.
pub(crate) async fn read(
    name: String,
    files: Vec<File>,
    signal: &AbortSignal,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Fetched, Problem> {
    let (wanted, rest): (Vec<File>, Vec<File>) =
        files.into_iter().partition(|file| WANTED.iter().any(|end| file.name().ends_with(end)));
    let is_weights = |file: &File| [".gguf", ".safetensors"].iter().any(|end| file.name().ends_with(end));
    if !wanted.iter().any(is_weights) {
        let message = format!("there is no .gguf and no .safetensors file in `{name}`");
        return Err(Problem::Input { message });
    }
    let total = wanted.iter().map(|file| file.size() as u64).sum();
    let mut done = 0;
    let mut read = Vec::new();
    for file in &wanted {
        let (file_name, size) = (file.name(), file.size() as u64);
        check_size(&file_name, size).map_err(|message| Problem::Input { message })?;
        let mut bytes = room(&file_name, size)?;
        for (i, part) in bytes.chunks_mut(STEP).enumerate() {
            if signal.aborted() {
                return Err(Problem::Cancelled);
            }
            read_range(file, (i * STEP) as u64, part).await.map_err(|error| Problem::Storage {
                message: format!("cannot read `{file_name}`: {}", message(&error)),
            })?;
            done += part.len() as u64;
            progress(Progress { file: &file_name, done, total, from_store: true });
        }
        read.push((file_name, bytes));
    }
    let notes = match rest.len() {
        0 => Vec::new(),
        n => vec![format!("{n} files of `{name}` are not part of a model and were left alone")],
    };
    Ok(Fetched { name, files: read, notes })
}
