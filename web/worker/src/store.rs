//! Models by address: fetched once, kept on this device, checked whenever they are read.
//!
//! A model is a folder of the origin private file system: its files, and `record.json`, which says what each
//! chunk hashed to when it came. A chunk counts only once the record names it, so that an interruption at any
//! moment loses at most one. One tab writes at a time; the others wait for it and find the work done.

use js_sys::Uint8Array;
use protocol::{Problem, StoredModel};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, Blob, File, FileSystemDirectoryHandle};

use crate::browser::{self, Writer, message};
use crate::chunks::{FileRecord, Manifest, Record, check_size, lacks_room, megabytes, sha256};
use crate::fetch::{Ask, Body};

const RECORD: &str = "record.json";
const MANIFEST_LIMIT: usize = 8 << 20;
/// Waits between attempts to go on with a broken download; the count begins anew with every chunk.
const RETRY_MS: [f64; 5] = [250.0, 500.0, 1000.0, 2000.0, 4000.0];
const EXTENSIONS: [&str; 1] = [".gguf"];

/// A model whose files are in memory.
pub(crate) struct Fetched {
    pub(crate) name: String,
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) notes: Vec<String>,
}

/// Progress of a whole model.
pub(crate) struct Progress<'a> {
    pub(crate) file: &'a str,
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) from_store: bool,
}

/// Brings the files of the model at `url` into memory, from this device as far as they are here.
pub(crate) async fn fetch(
    url: &str,
    signal: &AbortSignal,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Fetched, Problem> {
    let mut notes = Vec::new();
    let key = sha256(url.as_bytes())[..16].to_owned();
    let _lock = browser::hold(&format!("ocelli-model-{key}")).await.map_err(|error| storage(&error))?;
    if signal.aborted() {
        return Err(Problem::Cancelled);
    }
    let mut folder = match browser::folder(&key, true).await {
        Ok(folder) => folder,
        Err(error) => {
            notes.push(format!("nothing is kept on this device: {}", message(&error)));
            None
        }
    };
    let kept = match &folder {
        Some(folder) => read_record(folder).await,
        None => None,
    };
    let record = plan(url, kept, signal, &mut notes).await?;
    let (total, here) = (record.total(), record.bytes_here());
    if folder.is_some() && here < total {
        let (usage, quota) = browser::estimate().await;
        if let Some(note) = lacks_room(total - here, usage, quota) {
            notes.push(note);
            folder = None;
        }
    }
    let mut shelf = Shelf { record, folder, notes, done: 0, progress, signal };
    let mut files = Vec::new();
    for i in 0..shelf.record.files.len() {
        files.push((shelf.record.files[i].name.clone(), shelf.file(i).await?));
    }
    Ok(Fetched { name: shelf.record.name, files, notes: shelf.notes })
}

/// What is kept, with what the browser stores for this site at most.
pub(crate) async fn list() -> Result<(Vec<StoredModel>, u64, u64), Problem> {
    let mut models = Vec::new();
    for key in browser::keys().await.map_err(|error| storage(&error))? {
        let folder = browser::folder(&key, false).await.map_err(|error| storage(&error))?;
        let Some(folder) = folder else { continue };
        let record = read_record(&folder).await;
        let (bytes, total) = record.as_ref().map_or((0, 0), |r| (r.bytes_here(), r.total()));
        let url = record.map_or_else(|| "?".to_owned(), |record| record.url);
        models.push(StoredModel { key, url, bytes: bytes as f64, total: total as f64 });
    }
    let (usage, quota) = browser::estimate().await;
    Ok((models, usage, quota))
}

/// Removes a model.
pub(crate) async fn forget(key: &str) -> Result<(), Problem> {
    let _lock = browser::hold(&format!("ocelli-model-{key}")).await.map_err(|error| storage(&error))?;
    browser::forget(key).await.map_err(|error| storage(&error))
}

/// Reads `bytes` of a blob that start at `at` into memory of ours.
pub(crate) async fn read_range(blob: &Blob, at: u64, bytes: &mut [u8]) -> Result<(), JsValue> {
    let end = at + bytes.len() as u64;
    let slice = blob.slice_with_f64_and_f64(at as f64, end as f64)?;
    let buffer = Uint8Array::new(&JsFuture::from(slice.array_buffer()).await?);
    if buffer.length() as usize != bytes.len() {
        return Err(js_sys::Error::new("the file is shorter than it was").into());
    }
    buffer.copy_to(bytes);
    Ok(())
}

/// Memory for a file, if there is some.
#[expect(clippy::slow_vector_initialization, reason = "`vec!` would end the worker where there is no room")]
pub(crate) fn room(name: &str, size: u64) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    match bytes.try_reserve_exact(size as usize) {
        Ok(()) => {
            bytes.resize(size as usize, 0);
            Ok(bytes)
        }
        Err(_) => Err(Problem::Device {
            message: format!(
                "there is no memory for the {} of `{name}`; a smaller model may fit",
                megabytes(size)
            ),
        }),
    }
}

/// What is wanted, with what is here of it.
async fn plan(
    url: &str,
    kept: Option<Record>,
    signal: &AbortSignal,
    notes: &mut Vec<String>,
) -> Result<Record, Problem> {
    let wanted = match url.ends_with(".json") {
        true => listed(url, signal).await,
        // A file that is here as a whole needs no question whether it is there.
        false => match &kept {
            Some(record) if record.bytes_here() == record.total() => return Ok(record.clone()),
            _ => single(url, signal).await,
        },
    };
    match (wanted, kept) {
        (Ok(mut wanted), kept) => {
            for file in &mut wanted.files {
                let earlier = kept.iter().flat_map(|record| &record.files).find(|f| f.name == file.name);
                earlier.into_iter().for_each(|earlier| file.adopt(earlier));
            }
            Ok(wanted)
        }
        (Err(Problem::Network { message }), Some(kept)) if kept.bytes_here() == kept.total() => {
            notes.push(format!("the model kept on this device is used ({message})"));
            Ok(kept)
        }
        (Err(problem), _) => Err(problem),
    }
}

async fn listed(url: &str, signal: &AbortSignal) -> Result<Record, Problem> {
    let body = Body::open_file(&Ask { url, ..Ask::default() }, signal).await?;
    let manifest = Manifest::parse(&body.all(MANIFEST_LIMIT, signal).await?)
        .map_err(|error| Problem::Input { message: format!("`{url}` is no list of files: {error}") })?;
    let base = url.rsplit_once('/').map_or("", |(base, _)| base);
    let files = manifest.files.iter().map(|file| FileRecord::listed(file, format!("{base}/{}", file.name)));
    Ok(Record { url: url.to_owned(), name: manifest.name, files: files.collect() })
}

async fn single(url: &str, signal: &AbortSignal) -> Result<Record, Problem> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let name = path.rsplit('/').next().unwrap_or(path).to_owned();
    if !EXTENSIONS.iter().any(|extension| name.to_ascii_lowercase().ends_with(extension)) {
        let message = format!("`{url}` names no .gguf file and no .json list of files");
        return Err(Problem::Input { message });
    }
    let head = Body::open_file(&Ask { method: "HEAD", url, ..Ask::default() }, signal).await?;
    let size = head.header("content-length").and_then(|size| size.parse().ok()).ok_or_else(|| {
        Problem::Network { message: format!("the server of `{url}` does not say how long the file is") }
    })?;
    check_size(&name, size).map_err(|message| Problem::Input { message })?;
    let mut file = FileRecord::new(name.clone(), url.to_owned(), size);
    file.etag = head.header("etag");
    Ok(Record { url: url.to_owned(), name, files: vec![file] })
}

async fn read_record(folder: &FileSystemDirectoryHandle) -> Option<Record> {
    let file = browser::reader(folder, RECORD).await.ok()??;
    let mut bytes = vec![0; file.size() as usize];
    read_range(&file, 0, &mut bytes).await.ok()?;
    // A record cut short by a crash is worth as much as none: what it told of is fetched again.
    serde_json::from_slice(&bytes).ok()
}

/// The files of one model while they are brought in.
struct Shelf<'a> {
    record: Record,
    /// Where they are kept, as long as that works.
    folder: Option<FileSystemDirectoryHandle>,
    notes: Vec<String>,
    done: u64,
    progress: &'a mut dyn FnMut(Progress<'_>),
    signal: &'a AbortSignal,
}

impl Shelf<'_> {
    /// File `i`: each chunk from here if it is intact, else from where it came.
    async fn file(&mut self, i: usize) -> Result<Vec<u8>, Problem> {
        let file = self.record.files[i].clone();
        let mut bytes = room(&file.name, file.size)?;
        let mut kept = match &self.folder {
            Some(folder) if file.bytes_here() > 0 => browser::reader(folder, &file.name).await.ok().flatten(),
            _ => None,
        };
        let mut chunk = 0;
        while chunk < file.here.len() {
            if self.signal.aborted() {
                return Err(Problem::Cancelled);
            }
            if self.record.files[i].here[chunk].is_some() {
                if self.take_kept(i, chunk, kept.as_ref(), &mut bytes).await {
                    chunk += 1;
                    continue;
                }
                let note = format!("chunk {} of `{}` on this device was damaged", chunk + 1, file.name);
                self.notes.push(format!("{note}; it was fetched again"));
                chunk = self.bring(i, chunk, &mut bytes).await.map_err(|problem| match problem {
                    Problem::Network { message } => Problem::Storage {
                        message: format!("{note}, and it cannot be fetched again: {message}"),
                    },
                    problem => problem,
                })?;
            } else {
                chunk = self.bring(i, chunk, &mut bytes).await?;
            }
            // A blob is a picture of the file at one moment.
            kept = match &self.folder {
                Some(folder) => browser::reader(folder, &file.name).await.ok().flatten(),
                None => None,
            };
        }
        Ok(bytes)
    }

    /// Reads one chunk from this device; whether it is what once came.
    async fn take_kept(&mut self, i: usize, chunk: usize, kept: Option<&File>, bytes: &mut [u8]) -> bool {
        let file = &mut self.record.files[i];
        let range = file.range(chunk);
        let part = &mut bytes[range.start as usize..range.end as usize];
        let read = match kept {
            Some(kept) => read_range(kept, range.start, part).await.is_ok(),
            None => false,
        };
        let intact = file.check_kept(chunk, if read { part } else { &[] });
        if intact {
            self.advance(i, range.end - range.start, true);
        }
        intact
    }

    fn advance(&mut self, i: usize, n: u64, from_store: bool) {
        self.done += n;
        let (file, total) = (&self.record.files[i].name, self.record.total());
        (self.progress)(Progress { file, done: self.done, total, from_store });
    }

    /// Fetches the chunks that are missing from `chunk` on. Returns the first one that is not.
    async fn bring(&mut self, i: usize, chunk: usize, bytes: &mut [u8]) -> Result<usize, Problem> {
        let missing = self.record.files[i].missing_from(chunk);
        let (mut next, mut attempt) = (missing.start, 0);
        // Closed at the end, so that what was written can be read.
        let writers = &mut None;
        while next < missing.end {
            let before = next;
            match self.stream(i, &mut next, missing.end, writers, bytes).await {
                Ok(()) => {}
                Err(Problem::Network { message }) => {
                    attempt = if next > before { 0 } else { attempt + 1 };
                    let Some(&ms) = RETRY_MS.get(attempt) else {
                        let (here, total) = (self.record.bytes_here(), self.record.total());
                        let (here, total) = (megabytes(here), megabytes(total));
                        return Err(Problem::Network {
                            message: format!(
                                "{message}; {here} of {total} are here, and loading again goes on there"
                            ),
                        });
                    };
                    browser::sleep(ms).await;
                }
                Err(problem) => return Err(problem),
            }
        }
        Ok(missing.end)
    }

    /// One request for chunks `next..end`; `next` tells how far it came.
    async fn stream(
        &mut self,
        i: usize,
        next: &mut usize,
        end: usize,
        writers: &mut Option<(Writer, Writer)>,
        bytes: &mut [u8],
    ) -> Result<(), Problem> {
        let file = &self.record.files[i];
        let (url, name, etag) = (file.url.clone(), file.name.clone(), file.etag.clone());
        let from = file.range(*next).start;
        let body = Body::open_file(&Ask { url: &url, from, ..Ask::default() }, self.signal).await?;
        if let (Some(old), Some(new)) = (&etag, body.header("etag"))
            && *old != new
        {
            return Err(Problem::Input {
                message: format!(
                    "`{name}` has changed on its server since it was begun; remove it and load it again"
                ),
            });
        }
        if etag.is_none() {
            self.record.files[i].etag = body.header("etag");
        }
        // A server that knows no ranges begins at the beginning.
        let mut at = if body.status() == 206 { from } else { 0 };
        let mut begun = from;
        while let Some(piece) = body.next(self.signal).await? {
            let length = u64::from(piece.length());
            let skipped = begun.saturating_sub(at).min(length);
            let used = (length - skipped).min(bytes.len() as u64 - begun);
            let target = &mut bytes[begun as usize..(begun + used) as usize];
            piece.subarray(skipped as u32, (skipped + used) as u32).copy_to(target);
            at += length;
            begun += used;
            while *next < end && self.record.files[i].range(*next).end <= begun {
                self.keep(i, *next, writers, bytes).await?;
                *next += 1;
            }
            if *next == end {
                return Ok(());
            }
        }
        Err(Problem::Network {
            message: format!("`{url}` ended {} early", megabytes(self.record.files[i].size - begun)),
        })
    }

    /// Checks a chunk that has arrived, and writes it down.
    async fn keep(
        &mut self,
        i: usize,
        chunk: usize,
        writers: &mut Option<(Writer, Writer)>,
        bytes: &[u8],
    ) -> Result<(), Problem> {
        let range = self.record.files[i].range(chunk);
        let part = &bytes[range.start as usize..range.end as usize];
        let accepted = self.record.files[i].accept(chunk, part);
        accepted.map_err(|message| Problem::Network { message })?;
        if let Err(error) = self.write(i, range.start, part, writers).await {
            let (usage, quota) = browser::estimate().await;
            self.notes.push(format!(
                "the model is not kept on this device: writing {} at {} failed ({}); the browser stores {} of at \
                 most {} for this site",
                megabytes(part.len() as u64),
                megabytes(range.start),
                message(&error),
                megabytes(usage),
                megabytes(quota)
            ));
            self.folder = None;
        }
        self.advance(i, range.end - range.start, false);
        Ok(())
    }

    async fn write(
        &self,
        i: usize,
        at: u64,
        part: &[u8],
        writers: &mut Option<(Writer, Writer)>,
    ) -> Result<(), JsValue> {
        let Some(folder) = &self.folder else { return Ok(()) };
        if writers.is_none() {
            let file = Writer::open(folder, &self.record.files[i].name).await?;
            *writers = Some((file, Writer::open(folder, RECORD).await?));
        }
        if let Some((file, record)) = writers {
            file.write(at, part)?;
            record.replace(serde_json::to_string(&self.record).map_err(|e| e.to_string())?.as_bytes())?;
        }
        Ok(())
    }
}

fn storage(error: &JsValue) -> Problem {
    Problem::Storage { message: format!("the storage of this browser fails: {}", message(error)) }
}
