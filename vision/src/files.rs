//! Pictures by path: the one module, beside that of `ffmpeg`, that touches the file system.

use std::cmp::Ordering;
use std::fs;
use std::io::Read;
use std::path::Path;

use crate::{DecodeOptions, Error, Picture, Result, decode};

/// Reads and decodes a picture file.
///
/// # Errors
/// If the file cannot be read, or as [`decode()`].
pub fn open(path: &Path, options: &DecodeOptions) -> Result<Picture> {
    decode(&read_file(path, options)?, options)
}

/// Reads a file that is within the byte limit, and no more of it should it grow meanwhile.
pub(crate) fn read_file(path: &Path, options: &DecodeOptions) -> Result<Vec<u8>> {
    let max = options.limits.max_bytes;
    let file = fs::File::open(path).map_err(|source| io_error(path, source))?;
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(|source| io_error(path, source))?;
    if bytes.len() > max {
        let found = fs::metadata(path).map_or(bytes.len(), |data| data.len() as usize);
        return Err(Error::TooManyBytes { found, max });
    }
    Ok(bytes)
}

pub(crate) fn io_error(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.to_path_buf(), source }
}

/// Whether a file is named like a picture we read, exists, and is not hidden.
pub fn is_picture_file(path: &Path) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    let known = matches!(
        extension.as_deref(),
        Some("png" | "apng" | "jpg" | "jpeg" | "jpe" | "webp" | "gif" | "bmp" | "dib")
    );
    known && !is_hidden && path.is_file()
}

/// Orders `frame2` before `frame10`: runs of digits compare as numbers of any length.
pub fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (Some(l), Some(r)) = (left.chars().next(), right.chars().next()) else {
            // Equal but for leading zeros: any fixed order will do.
            return left.len().cmp(&right.len()).then_with(|| a.cmp(b));
        };
        let order;
        if l.is_ascii_digit() && r.is_ascii_digit() {
            let (l, r) = (leading_digits(left), leading_digits(right));
            (left, right) = (&left[l.len()..], &right[r.len()..]);
            let (l, r) = (l.trim_start_matches('0'), r.trim_start_matches('0'));
            order = l.len().cmp(&r.len()).then_with(|| l.cmp(r));
        } else {
            (left, right) = (&left[l.len_utf8()..], &right[r.len_utf8()..]);
            order = l.cmp(&r);
        }
        if order != Ordering::Equal {
            return order;
        }
    }
}

fn leading_digits(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_as_people_do() {
        let sorted = ["a", "a1", "a1b", "a02", "a2", "a9", "a10", "a010b", "b1", "é"];
        let mut names = sorted;
        names.reverse();
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, sorted);
    }

    #[test]
    fn huge_numbers_do_not_overflow() {
        let (small, large) = (format!("{}8", "9".repeat(40)), format!("{}9", "9".repeat(40)));
        assert_eq!(natural_order(&small, &large), Ordering::Less);
    }
}
