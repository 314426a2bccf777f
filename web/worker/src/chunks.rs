//! The record of a model's files: which chunks are here, and what they must hash to.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of a chunk if nobody says otherwise. What a cut download loses is less than this.
pub const CHUNK: u64 = 1 << 20;
/// Nothing that is allocated in 32-bit WebAssembly has more bytes.
pub const MAX_FILE: u64 = i32::MAX as u64;
const MAX_FILES: usize = 4096;

/// The files of a model as its server lists them, in `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What to call the model.
    pub name: String,
    /// Its files.
    pub files: Vec<Listed>,
}

/// A file in a [`Manifest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name, which is also its address beside the manifest.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Bytes of each chunk but the last.
    pub chunk: u64,
    /// SHA-256 of each chunk, as hexadecimal digits.
    pub sha256: Vec<String>,
}

/// A model as it is kept: what is wanted, and what is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where the model comes from.
    pub url: String,
    /// What to call it.
    pub name: String,
    /// Its files.
    pub files: Vec<FileRecord>,
}

/// One file of a [`Record`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub url: String,
    /// Bytes.
    pub size: u64,
    /// Bytes of each chunk but the last.
    pub chunk: u64,
    /// The server's mark of this version of the file, if it tells one.
    #[serde(default)]
    pub etag: Option<String>,
    /// What each chunk must hash to, if the manifest says so.
    #[serde(default)]
    pub wanted: Option<Vec<String>>,
    /// What each chunk that is here hashed to when it came.
    pub here: Vec<Option<String>>,
}

impl Manifest {
    /// Reads a manifest whose numbers are not to be trusted.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if manifest.files.is_empty() || manifest.files.len() > MAX_FILES {
            return Err(format!("it lists {} files; 1 to {MAX_FILES} are possible", manifest.files.len()));
        }
        for file in &manifest.files {
            check_name(&file.name)?;
            check_size(&file.name, file.size)?;
            let whole = file.chunk.is_power_of_two() && (1 << 12..=1 << 26).contains(&file.chunk);
            if !whole || file.sha256.len() as u64 != file.size.div_ceil(file.chunk) {
                return Err(format!(
                    "`{}` has {} bytes, but {} chunks of {}",
                    file.name,
                    file.size,
                    file.sha256.len(),
                    file.chunk
                ));
            }
        }
        Ok(manifest)
    }
}

/// Only a file beside the manifest may be named.
fn check_name(name: &str) -> Result<(), String> {
    let harmless = !name.is_empty()
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if harmless { Ok(()) } else { Err(format!("{name:?} is no plain file name")) }
}

/// Refuses files that this machine could not hold.
///
/// # Errors
/// If it has no byte or too many.
pub fn check_size(name: &str, size: u64) -> Result<(), String> {
    match size {
        0 => Err(format!("`{name}` is empty")),
        1..=MAX_FILE => Ok(()),
        _ => Err(format!(
            "`{name}` has {}; a page can hold {} at most. Run `ocelli serve` and choose its model instead",
            megabytes(size),
            megabytes(MAX_FILE)
        )),
    }
}

impl FileRecord {
    /// A file of which nothing is here.
    pub fn new(name: String, url: String, size: u64) -> Self {
        let n_chunks = size.div_ceil(CHUNK) as usize;
        Self { name, url, size, chunk: CHUNK, etag: None, wanted: None, here: vec![None; n_chunks] }
    }

    /// A listed file of which nothing is here.
    pub fn listed(listed: &Listed, url: String) -> Self {
        Self {
            name: listed.name.clone(),
            url,
            size: listed.size,
            chunk: listed.chunk,
            etag: None,
            wanted: Some(listed.sha256.clone()),
            here: vec![None; listed.sha256.len()],
        }
    }

    /// Keeps what `earlier` has of the same bytes.
    pub fn adopt(&mut self, earlier: &FileRecord) {
        if earlier.size != self.size || earlier.chunk != self.chunk || earlier.here.len() != self.here.len() {
            return;
        }
        self.etag.clone_from(&earlier.etag);
        for (i, (mine, theirs)) in self.here.iter_mut().zip(&earlier.here).enumerate() {
            let is_wanted = self.wanted.as_ref().is_none_or(|wanted| theirs.as_ref() == Some(&wanted[i]));
            *mine = theirs.clone().filter(|_| is_wanted);
        }
    }

    /// Where chunk `i` lies in the file.
    pub fn range(&self, i: usize) -> Range<u64> {
        let start = i as u64 * self.chunk;
        start..(start + self.chunk).min(self.size)
    }

    /// The chunks from `i` on that are missing together.
    pub fn missing_from(&self, i: usize) -> Range<usize> {
        let end = self.here[i..].iter().position(Option::is_some).map_or(self.here.len(), |n| i + n);
        i..end
    }

    /// Bytes that are here.
    pub fn bytes_here(&self) -> u64 {
        let here = self.here.iter().enumerate().filter(|(_, sum)| sum.is_some());
        here.map(|(i, _)| self.range(i)).map(|range| range.end - range.start).sum()
    }

    /// Takes a chunk that came over the network; its sum, if it is what the manifest wants.
    ///
    /// # Errors
    /// If it is not.
    pub fn accept(&mut self, i: usize, bytes: &[u8]) -> Result<(), String> {
        let sum = sha256(bytes);
        if let Some(wanted) = self.wanted.as_ref().map(|wanted| &wanted[i])
            && *wanted != sum
        {
            return Err(format!(
                "chunk {} of {} of `{}` arrived damaged: its SHA-256 is {sum}, not {wanted}",
                i + 1,
                self.here.len(),
                self.name
            ));
        }
        self.here[i] = Some(sum);
        Ok(())
    }

    /// Whether a chunk that was kept is still what came; if not, it is forgotten.
    pub fn check_kept(&mut self, i: usize, bytes: &[u8]) -> bool {
        let intact = self.here[i].as_ref().is_some_and(|sum| *sum == sha256(bytes));
        if !intact {
            self.here[i] = None;
        }
        intact
    }
}

impl Record {
    /// Bytes of all files.
    pub fn total(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Bytes of all files that are here.
    pub fn bytes_here(&self) -> u64 {
        self.files.iter().map(FileRecord::bytes_here).sum()
    }
}

/// SHA-256 as hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number of bytes as people say it.
pub fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// Says that a model of which `needed` bytes are missing cannot be kept, if a site that stores `usage` bytes of at
/// most `quota` has no room for them. A quota of 0 is not known.
#[must_use]
pub fn lacks_room(needed: u64, usage: u64, quota: u64) -> Option<String> {
    let free = quota.saturating_sub(usage);
    (quota > 0 && needed > free).then(|| {
        format!(
            "the model is not kept on this device: it needs {}, but the browser has room for {} more ({} of {} are \
             used)",
            megabytes(needed),
            megabytes(free),
            megabytes(usage),
            megabytes(quota)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8], chunk: usize) -> FileRecord {
        let sha256 = bytes.chunks(chunk).map(sha256).collect();
        let listed = Listed { name: "m".into(), size: bytes.len() as u64, chunk: chunk as u64, sha256 };
        FileRecord::listed(&listed, "u".into())
    }

    #[test]
    fn what_is_missing_is_fetched_in_one_piece() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let mut file = file(&bytes, 1024);
        file.accept(2, &bytes[2048..3072]).unwrap();
        assert_eq!((file.missing_from(0), file.missing_from(3)), (0..2, 3..5));
        assert_eq!(file.range(4), 4096..5000);
        assert_eq!(file.bytes_here(), 1024);
        file.accept(4, &bytes[4096..]).unwrap();
        assert_eq!(file.bytes_here(), 1024 + 904);
    }

    #[test]
    fn a_flipped_bit_is_caught_on_arrival_and_on_disk() {
        let bytes = vec![7; 3000];
        let mut file = file(&bytes, 1024);
        let mut damaged = bytes[..1024].to_vec();
        damaged[500] ^= 1;
        let error = file.accept(0, &damaged).unwrap_err();
        assert!(error.starts_with("chunk 1 of 3 of `m` arrived damaged"), "{error}");
        file.accept(0, &bytes[..1024]).unwrap();
        assert!(file.check_kept(0, &bytes[..1024]));
        assert!(!file.check_kept(0, &damaged));
        assert_eq!(file.bytes_here(), 0);
    }

    #[test]
    fn another_version_keeps_only_what_it_shares() {
        let (old, mut new) = (vec![1; 3000], vec![1; 3000]);
        new[1500] = 2;
        let mut earlier = file(&old, 1024);
        (0..3).for_each(|i| earlier.accept(i, &old[i * 1024..(i * 1024 + 1024).min(3000)]).unwrap());
        let mut wanted = file(&new, 1024);
        wanted.adopt(&earlier);
        assert_eq!(wanted.here.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
        let mut longer = file(&[1; 4000], 1024);
        longer.adopt(&earlier);
        assert_eq!(longer.bytes_here(), 0);
    }

    #[test]
    fn a_manifest_is_not_believed() {
        let parse = |name: &str, size: u64, n: usize| {
            let listed = Listed { name: name.into(), size, chunk: 1 << 20, sha256: vec![String::new(); n] };
            let manifest = Manifest { name: "x".into(), files: vec![listed] };
            Manifest::parse(&serde_json::to_vec(&manifest).unwrap()).map(|_| ())
        };
        assert_eq!(parse("model.gguf", 1 << 20, 1), Ok(()));
        assert!(parse("../model.gguf", 1 << 20, 1).unwrap_err().contains("no plain file name"));
        assert!(parse("model.gguf", 1 << 20, 2).unwrap_err().contains("2 chunks"));
        assert!(parse("model.gguf", 1 << 40, 1 << 20).unwrap_err().contains("can hold 2.15 GB"));
        assert!(Manifest::parse(b"{}").is_err());
    }

    #[test]
    fn a_model_is_kept_only_where_there_is_room() {
        assert_eq!(lacks_room(20_700_000, 1_000_000, 30_000_000), None);
        assert_eq!(lacks_room(20_700_000, 1_000_000, 0), None);
        let told = lacks_room(20_700_000, 1_000_000, 5_000_000).unwrap();
        let numbers =
            "it needs 20.7 MB, but the browser has room for 4.0 MB more (1.0 MB of 5.0 MB are used)";
        assert!(told.ends_with(numbers), "{told}");
    }
}
