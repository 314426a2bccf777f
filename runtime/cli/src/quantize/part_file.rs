//! The file while it grows: `OUT.gguf.part`, which a later run can continue.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use engine::quantize::Quantization;

/// A file that holds a header and the first tensors of a plan.
pub(super) struct PartFile<'a> {
    path: PathBuf,
    file: File,
    plan: &'a Quantization,
    n_done: usize,
    /// Bytes of the file so far.
    len: u64,
}

impl<'a> PartFile<'a> {
    /// Continues what an earlier run left, if it was made of the same model in the same way; else begins anew.
    pub(super) fn open(out: &Path, plan: &'a Quantization, anew: bool) -> anyhow::Result<Self> {
        let mut path = OsString::from(out);
        path.push(".part");
        let path = PathBuf::from(path);
        let cannot = || format!("cannot write {}", path.display());
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.with_context(cannot)?;
        match file.try_lock() {
            // Where files cannot be locked there is nothing to go by.
            Ok(()) | Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) => bail!("another process is writing {}", path.display()),
        }
        let mut part = Self { path, file, plan, n_done: 0, len: 0 };
        if !anew {
            part.n_done = part.n_whole()?;
        }
        if part.n_done == 0 {
            let header = plan.layout().header();
            part.file.set_len(0)?;
            part.file.rewind()?;
            part.append(&header)?;
        } else {
            part.len = plan.layout().range(part.n_done - 1).end;
            part.file.set_len(part.len).with_context(|| format!("cannot write {}", part.path.display()))?;
            part.file.seek(SeekFrom::End(0))?;
        }
        part.pad_to_next()?;
        Ok(part)
    }

    /// Tensors that are written.
    pub(super) fn n_done(&self) -> usize {
        self.n_done
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the next bytes of the next tensor.
    pub(super) fn append(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let written = self.file.write_all(bytes);
        written.with_context(|| format!("cannot write {}", self.path.display()))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// All bytes of the next tensor are written.
    pub(super) fn end_tensor(&mut self) -> anyhow::Result<()> {
        assert_eq!(self.len, self.plan.layout().range(self.n_done).end, "a tensor has the bytes planned");
        self.n_done += 1;
        self.pad_to_next()
    }

    /// All tensors are written: makes sure that they stay.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        self.file.sync_all().with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Gives the file its name.
    pub(super) fn rename(self, out: &Path) -> anyhow::Result<()> {
        fs::rename(&self.path, out)
            .with_context(|| format!("cannot rename {} to {}", self.path.display(), out.display()))
    }

    fn pad_to_next(&mut self) -> anyhow::Result<()> {
        let layout = self.plan.layout();
        let next = match self.n_done {
            n if n == layout.tensors().len() => layout.file_len(),
            n => layout.range(n).start,
        };
        self.append(&vec![0; (next - self.len) as usize])
    }

    /// How many tensors of the plan the file holds. The first and the last of them must be what they would
    /// become now, or else the file is of another model or was damaged.
    fn n_whole(&mut self) -> anyhow::Result<usize> {
        let layout = self.plan.layout();
        let header = layout.header();
        let len = self.file.metadata()?.len();
        if len < header.len() as u64 || self.read(0, header.len())? != header {
            return Ok(0);
        }
        let n = (0..layout.tensors().len()).take_while(|&i| layout.range(i).end <= len).count();
        for i in [0, n.saturating_sub(1)].into_iter().filter(|&i| i < n) {
            let (mut at, chunks) = (layout.range(i).start, self.plan.chunks(i));
            let last = chunks.len() - 1;
            for (c, chunk) in chunks.iter().enumerate() {
                let chunk_len = self.plan.chunk_bytes(i, chunk);
                let is_probe = c == 0 || c == last;
                if is_probe && self.read(at, chunk_len)? != self.plan.encode(i, chunk)? {
                    return Ok(0);
                }
                at += chunk_len as u64;
            }
        }
        Ok(n)
    }

    fn read(&mut self, at: u64, len: usize) -> anyhow::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file.seek(SeekFrom::Start(at))?;
        let read = self.file.read_exact(&mut bytes);
        read.with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(bytes)
    }
}
