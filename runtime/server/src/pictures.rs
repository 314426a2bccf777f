//! Pictures of a request: from data URLs, base64, and files of granted folders.

use std::borrow::Cow;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use engine::Part;
use vision::{DecodeOptions, Limits, Preprocessor};

use crate::problem::{Kind, Problem, Result};

/// What a picture file may ask of a server, which decodes several at a time.
const LIMITS: Limits = Limits { max_bytes: 48 << 20, max_side: 16_384, max_pixels: 40_000_000 };

/// Takes base64 with its padding and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where a picture comes from, and the field that says so.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    pub(crate) field: String,
    pub(crate) source: Source,
}

#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// Of a file, as it came.
    Base64(String),
    /// `data:` or `file:`.
    Url(String),
    /// Of a file, in full.
    Bytes(Vec<u8>),
}

impl Picture {
    /// Reads, decodes and cuts it into patches.
    pub(crate) fn part(&self, preprocessor: &Preprocessor, granted: &[Granted]) -> Result<Part> {
        let bytes = match &self.source {
            Source::Base64(text) => Cow::Owned(self.decode(text)?),
            Source::Url(url) => Cow::Owned(self.fetch(url, granted)?),
            Source::Bytes(bytes) => Cow::Borrowed(&bytes[..]),
        };
        let options = DecodeOptions { limits: LIMITS, ..DecodeOptions::default() };
        let patches = vision::decode(&bytes, &options).and_then(|picture| preprocessor.image(&picture));
        Ok(Part::Image(Arc::new(patches.map_err(|error| self.problem(&error.to_string()))?)))
    }

    fn fetch(&self, url: &str, granted: &[Granted]) -> Result<Vec<u8>> {
        if let Some(rest) = url.strip_prefix("data:") {
            let Some((kind, data)) = rest.split_once(',') else {
                return Err(self.problem("this data URL has no comma before its data"));
            };
            if !kind.ends_with(";base64") {
                return Err(self.problem("this data URL is not base64; write `data:image/png;base64,…`"));
            }
            return self.decode(data);
        }
        if let Some(path) = url.strip_prefix("file://") {
            return self
                .read(&percent_decoded(path).ok_or_else(|| self.problem("the path is not UTF-8"))?, granted);
        }
        let message = "pictures are not fetched from elsewhere; send the file as a data URL \
                       (`data:image/png;base64,…`), or as `file://` from a folder given by --grant";
        Err(Problem::unsupported(&self.field, message))
    }

    fn decode(&self, base64: &str) -> Result<Vec<u8>> {
        BASE64.decode(base64).map_err(|error| self.problem(&format!("it is not base64: {error}")))
    }

    fn read(&self, path: &str, granted: &[Granted]) -> Result<Vec<u8>> {
        let path = Path::new(path);
        let inside = granted.iter().find_map(|folder| Some((folder, path.strip_prefix(&folder.path).ok()?)));
        let Some((folder, inside)) = inside else {
            let message = "this file is in no granted folder; start the server with --grant FOLDER";
            return Err(Problem { kind: Kind::Forbidden, ..self.problem(message) });
        };
        // What escapes by `..` or a link looks like what is not there.
        let unreadable = |error: std::io::Error| self.problem(&format!("the file cannot be read: {error}"));
        // Opening a pipe would wait for a writer.
        let metadata = folder.dir.metadata(inside).map_err(unreadable)?;
        if !metadata.is_file() || metadata.len() > LIMITS.max_bytes as u64 {
            return Err(self.problem(&format!("it is no plain file of at most {} bytes", LIMITS.max_bytes)));
        }
        let mut bytes = Vec::new();
        let file = folder.dir.open(inside).map_err(unreadable)?;
        // One byte more than a picture may have, which then says so.
        file.take(LIMITS.max_bytes as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        Ok(bytes)
    }

    fn problem(&self, message: &str) -> Problem {
        Problem::field(&self.field, message)
    }
}

/// A folder whose files requests may name.
#[derive(Debug)]
pub(crate) struct Granted {
    path: PathBuf,
    dir: Dir,
}

impl Granted {
    /// Opens the folder: its files are reached through it, so that no path and no link leads out of it.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        let path = path.canonicalize()?;
        let dir = Dir::open_ambient_dir(&path, ambient_authority())?;
        Ok(Self { path, dir })
    }
}

/// The text behind the `%20`s of a URL.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| after.get(..2)).flatten();
        let decoded = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(source: Source) -> Picture {
        Picture { field: "image".into(), source }
    }

    #[track_caller]
    fn refused(source: Source, granted: &[Granted], expected: &str) {
        let problem = picture(source).part(&Preprocessor::default(), granted).unwrap_err();
        assert!(problem.message.starts_with("image: ") && problem.message.contains(expected), "{problem:?}");
    }

    fn png() -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(60, 60).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn data_urls_and_plain_base64_are_pictures() {
        let text = BASE64.encode(png());
        for source in [
            Source::Base64(text.trim_end_matches('=').to_owned()),
            Source::Url(format!("data:image/png;base64,{text}")),
        ] {
            let part = picture(source).part(&Preprocessor::default(), &[]).unwrap();
            assert!(matches!(part, Part::Image(_)));
        }
    }

    #[test]
    fn what_is_no_picture_is_explained() {
        refused(Source::Base64("a b".into()), &[], "not base64");
        refused(Source::Base64(BASE64.encode("hello, world")), &[], "");
        refused(Source::Url("https://example.com/a.png".into()), &[], "data URL");
        refused(Source::Url("data:image/png,abc".into()), &[], "not base64");
        refused(Source::Url("data:image/png;base64".into()), &[], "no comma");
        refused(Source::Url("file:///etc/passwd".into()), &[], "no granted folder");
    }

    #[test]
    fn granted_folders_have_no_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("in side");
        std::fs::create_dir_all(inside.join("sub")).unwrap();
        std::fs::write(inside.join("sub/a.png"), png()).unwrap();
        std::fs::write(dir.path().join("secret.png"), png()).unwrap();
        let granted = [Granted::open(&inside).unwrap()];
        let base = inside.canonicalize().unwrap().display().to_string();
        let url = |rest: &str| Source::Url(format!("file://{}/{rest}", base.replace(' ', "%20")));

        assert!(picture(url("sub/a.png")).part(&Preprocessor::default(), &granted).is_ok());
        refused(url("../secret.png"), &granted, "cannot be read");
        refused(url("sub/%2e%2e/../../secret.png"), &granted, "cannot be read");
        refused(url("sub"), &granted, "no plain file");
        refused(url("none.png"), &granted, "cannot be read");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(dir.path().join("secret.png"), inside.join("link.png")).unwrap();
            std::os::unix::fs::symlink("../secret.png", inside.join("relative.png")).unwrap();
            refused(url("link.png"), &granted, "cannot be read");
            refused(url("relative.png"), &granted, "cannot be read");
        }
    }
}
