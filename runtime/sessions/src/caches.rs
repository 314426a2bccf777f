//! What models remember of sessions, in files beside the store. Losing one costs time, nothing else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Error, Result, SessionId, Store, write_privately};

/// Bytes that all caches take together.
const MAX_BYTES: u64 = 4 << 30;

impl Store {
    /// The bytes that [`keep_cache`](Self::keep_cache) was given for this session and this model.
    ///
    /// # Errors
    /// If the file is there, but cannot be read.
    pub fn cache(&self, session: &SessionId, model: u64) -> Result<Option<Vec<u8>>> {
        let path = self.cache_path(session, model);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { path, source }),
        }
    }

    /// Keeps what a model remembers of a session, in place of what it remembered before.
    ///
    /// # Errors
    /// If the file cannot be written; then the old one is still there.
    pub fn keep_cache(&self, session: &SessionId, model: u64, bytes: &[u8]) -> Result<()> {
        let path = self.cache_path(session, model);
        write_privately(&path, bytes).map_err(|source| Error::Io { path: path.clone(), source })?;
        self.make_room(&path, MAX_BYTES);
        Ok(())
    }

    /// Forgets the oldest caches but `latest` until the others fit. One that cannot be deleted is tried again the next
    /// time.
    pub(crate) fn make_room(&self, latest: &Path, limit: u64) {
        let Ok(entries) = fs::read_dir(self.cache_folder()) else { return };
        let mut caches: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((metadata.modified().ok()?, metadata.len(), entry.path()))
            })
            .collect();
        caches.sort();
        let mut bytes: u64 = caches.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in caches.iter().filter(|(_, _, path)| path != latest) {
            if bytes <= limit {
                return;
            }
            if fs::remove_file(path).is_ok() {
                bytes -= len;
            }
        }
    }

    /// Forgets what all models remember of a session.
    pub(crate) fn delete_caches(&self, session: &SessionId) -> Result<()> {
        let folder = self.cache_folder();
        let Ok(entries) = fs::read_dir(&folder) else { return Ok(()) };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&format!("{}-", session.0)) {
                fs::remove_file(entry.path()).map_err(|source| Error::Io { path: entry.path(), source })?;
            }
        }
        Ok(())
    }

    fn cache_folder(&self) -> PathBuf {
        self.path.with_extension("caches")
    }

    pub(crate) fn cache_path(&self, session: &SessionId, model: u64) -> PathBuf {
        self.cache_folder().join(format!("{}-{model:016x}.kv", session.0))
    }
}
