//! Opening videos by path: folders of pictures, animations, and files for `ffmpeg`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{FrameSource, Frames, Timeline, VideoOptions, ffmpeg};
use crate::container::frame_durations;
use crate::decode::decode;
use crate::files::{io_error, is_picture_file, natural_order, open, read_file};
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
            if is_picture_file(&entry.path()) { files.push(entry.path()) } else { n_skipped += 1 }
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
            each(open(path, &self.decode).map_err(|source| Error::Frame {
                name: path.display().to_string(),
                source: Box::new(source),
            })?)?;
        }
        Ok(())
    }
}
