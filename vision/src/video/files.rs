//! Opening videos by path: folders of pictures, animations, and files for `ffmpeg`.

use std::cmp::Ordering;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{FrameSource, Frames, Timeline, VideoOptions, ffmpeg};
use crate::container::frame_durations;
use crate::decode::decode;
use crate::{DecodeOptions, Error, Note, Picture, Result};

impl Frames {
    /// Opens a folder of pictures (in natural order of their names), an animated GIF, WebP or APNG,
    /// a still picture as a video of one frame, or a video file if `ffmpeg` and `ffprobe` are on PATH.
    ///
    /// # Errors
    /// If the path cannot be read, a limit is passed, there are no frames, or a video file needs
    /// `ffmpeg` and it is missing or fails.
    pub fn open(path: &Path, options: &VideoOptions) -> Result<Self> {
        if path.is_dir() {
            return Frames::from_folder(path, options);
        }
        let mut start = [0; 32];
        let mut file = fs::File::open(path).map_err(|source| io_error(path, source))?;
        let n_read = file.read(&mut start).map_err(|source| io_error(path, source))?;
        if image::guess_format(&start[..n_read]).is_err() {
            return ffmpeg::open(path, options);
        }
        let bytes = read_file(path, &options.decode)?;
        if frame_durations(&bytes).is_empty() {
            return Frames::from_pictures(vec![decode(&bytes, &options.decode)?], 1.0);
        }
        Frames::from_animation(bytes, &options.decode)
    }

    fn from_folder(path: &Path, options: &VideoOptions) -> Result<Self> {
        let mut files = Vec::new();
        let mut n_skipped = 0;
        for entry in fs::read_dir(path).map_err(|source| io_error(path, source))? {
            let entry = entry.map_err(|source| io_error(path, source))?;
            if is_picture_name(&entry.path()) { files.push(entry.path()) } else { n_skipped += 1 }
        }
        files.sort_by(|a, b| natural_order(&a.to_string_lossy(), &b.to_string_lossy()));

        let timeline = Timeline::constant(files.len(), options.folder_fps)?;
        let folder = Folder { files, decode: options.decode.clone() };
        let mut frames = Frames::new(format!("the folder {}", path.display()), timeline, Box::new(folder))?;
        frames.notes.push(Note::FrameRateAssumed { milli_fps: (options.folder_fps * 1000.0).round() as u64 });
        if n_skipped > 0 {
            frames.notes.push(Note::FilesSkipped { count: n_skipped });
        }
        Ok(frames)
    }
}

struct Folder {
    files: Vec<PathBuf>,
    decode: DecodeOptions,
}

impl FrameSource for Folder {
    fn read(&self, indices: &[usize], each: &mut dyn FnMut(Picture) -> Result<()>) -> Result<()> {
        for &index in indices {
            let path = &self.files[index];
            let picture = read_file(path, &self.decode).and_then(|bytes| decode(&bytes, &self.decode));
            each(picture.map_err(|source| Error::Frame {
                name: path.display().to_string(),
                source: Box::new(source),
            })?)?;
        }
        Ok(())
    }
}

/// Reads a file that is within the byte limit, and no more of it should it grow meanwhile.
fn read_file(path: &Path, options: &DecodeOptions) -> Result<Vec<u8>> {
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

fn io_error(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.to_path_buf(), source }
}

fn is_picture_name(path: &Path) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    let known = matches!(
        extension.as_deref(),
        Some("png" | "apng" | "jpg" | "jpeg" | "jpe" | "webp" | "gif" | "bmp" | "dib")
    );
    known && !is_hidden && path.is_file()
}

/// Orders `frame2` before `frame10`: runs of digits compare as numbers of any length.
fn natural_order(a: &str, b: &str) -> Ordering {
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
