//! Pictures and videos by path: which files are meant, and what the model gets of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use engine::Part;
use vision::video::{Frames, Sampling, VideoOptions};
use vision::{DecodeOptions, Note, Patches, Preprocessor};

/// How pictures are read; shared by all commands that take some.
#[derive(Debug, Clone, Args)]
pub(crate) struct PictureArgs {
    /// Shrink pictures and video frames to at most this many pixels before the model sees them
    #[arg(long, value_name = "N", help_heading = "Pictures")]
    max_pixels: Option<u32>,
    /// Leave pictures as their pixels lie, and do not turn them as their EXIF data asks
    #[arg(long, help_heading = "Pictures")]
    no_exif: bool,
}

impl PictureArgs {
    pub(crate) fn decode_options(&self) -> DecodeOptions {
        DecodeOptions { apply_orientation: !self.no_exif, ..DecodeOptions::default() }
    }

    /// The model's preprocessor within the wished limit.
    pub(crate) fn preprocessor(&self, model: &Preprocessor) -> anyhow::Result<Preprocessor> {
        let mut pre = model.clone();
        if let Some(max) = self.max_pixels {
            if max < pre.factor().pow(2) {
                bail!("--max-pixels is {max}, but one token takes {} pixels", pre.factor().pow(2));
            }
            pre.max_pixels = pre.max_pixels.min(max);
            pre.min_pixels = pre.min_pixels.min(max);
            pre.video_max_pixels = pre.video_max_pixels.min(max);
            pre.video_min_pixels = pre.video_min_pixels.min(max);
        }
        Ok(pre)
    }
}

/// How videos are read.
#[derive(Debug, Clone, Args)]
pub(crate) struct VideoArgs {
    /// Frames to take from each second of a video [default: 2]
    #[arg(long, value_name = "X", help_heading = "Videos")]
    fps: Option<f64>,
    /// Take exactly this many frames, spread over the video
    #[arg(long, value_name = "N", help_heading = "Videos", conflicts_with_all = ["fps", "min_frames", "max_frames"])]
    frames: Option<usize>,
    /// Take at least this many frames, if the video has them [default: 16]
    #[arg(long, value_name = "N", help_heading = "Videos")]
    min_frames: Option<usize>,
    /// Take at most this many frames [default: 180]
    #[arg(long, value_name = "N", help_heading = "Videos")]
    max_frames: Option<usize>,
    /// Frames a second of a folder of pictures [default: 2]
    #[arg(long, value_name = "X", help_heading = "Videos")]
    folder_fps: Option<f64>,
    /// Do not write the time on each frame
    #[arg(long, help_heading = "Videos")]
    no_timestamps: bool,
}

impl VideoArgs {
    pub(crate) fn options(&self, decode: DecodeOptions) -> VideoOptions {
        let default = VideoOptions::default();
        let sampling = Sampling {
            fps: self.fps.unwrap_or(default.sampling.fps),
            max_frames: self.max_frames.unwrap_or(default.sampling.max_frames),
            // A small maximum alone says what is meant.
            min_frames: self
                .min_frames
                .unwrap_or(default.sampling.min_frames.min(self.max_frames.unwrap_or(usize::MAX))),
            target_frames: self.frames,
            pick: default.sampling.pick,
        };
        VideoOptions {
            decode,
            sampling,
            draw_time: !self.no_timestamps,
            folder_fps: self.folder_fps.unwrap_or(default.folder_fps),
            timeout: default.timeout,
        }
    }
}

/// A picture or a video as the model gets it.
pub(crate) struct Visual {
    /// Width and height in pixels, upright, before resizing.
    pub(crate) size: [u32; 2],
    pub(crate) is_video: bool,
    pub(crate) patches: Arc<Patches>,
}

impl Visual {
    /// What a message holds of it.
    pub(crate) fn part(&self) -> Part {
        let patches = Arc::clone(&self.patches);
        if self.is_video { Part::Video(patches) } else { Part::Image(patches) }
    }

    fn new(is_video: bool, patches: Patches) -> Self {
        // Either the size was changed, and a note says from what, or it is what it was.
        let from = |note: &Note| if let Note::Resized { from, .. } = note { Some(*from) } else { None };
        let (height, width) = patches.resized();
        let size = patches.notes.iter().find_map(from).unwrap_or([width, height]);
        Visual { size, is_video, patches: Arc::new(patches) }
    }
}

/// Reads the files that a command names.
pub(crate) struct Reader {
    preprocessor: Preprocessor,
    decode: DecodeOptions,
}

impl Reader {
    pub(crate) fn new(model: &Preprocessor, args: &PictureArgs) -> anyhow::Result<Self> {
        Ok(Reader { preprocessor: args.preprocessor(model)?, decode: args.decode_options() })
    }

    /// How pictures are cut into patches.
    pub(crate) fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    /// A picture file; of an animation its first frame.
    pub(crate) fn picture(&self, path: &Path) -> anyhow::Result<Visual> {
        let picture = vision::open(path, &self.decode)?;
        Ok(Visual::new(false, self.preprocessor.image(&picture)?))
    }

    /// A video file, an animation, or a folder of frames.
    pub(crate) fn video(&self, path: &Path, args: &VideoArgs) -> anyhow::Result<Visual> {
        let options = args.options(self.decode.clone());
        let clip = Frames::open(path, &options)?.clip(&self.preprocessor, &options)?;
        Ok(Visual::new(true, clip.patches))
    }

    /// A picture, or a video if the file holds one: by the name of a video file, or by its frames.
    pub(crate) fn picture_or_video(&self, path: &Path, args: &VideoArgs) -> anyhow::Result<Visual> {
        if path.is_dir() {
            bail!("it is a folder; give --video to take its pictures as the frames of a video");
        }
        if is_video_name(path) {
            return self.video(path, args);
        }
        let picture = self.picture(path)?;
        let is_animation =
            picture.patches.notes.iter().any(|note| matches!(note, Note::FramesDropped { of: 2.., .. }));
        if is_animation { self.video(path, args) } else { Ok(picture) }
    }
}

/// Whether a file is named like one that only `ffmpeg` can read.
fn is_video_name(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    matches!(
        extension.as_deref(),
        Some("mp4" | "m4v" | "mov" | "mkv" | "webm" | "avi" | "mpg" | "mpeg" | "ogv" | "wmv" | "flv" | "3gp")
    )
}

/// The picture files that a command names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    /// In the order named; inside a folder in the natural order of names.
    pub(crate) files: Vec<PathBuf>,
    /// Files of folders that are no pictures.
    pub(crate) n_skipped: usize,
    /// Folders inside folders that were not entered.
    pub(crate) n_folders: usize,
}

/// Finds the files behind paths, folders and patterns.
///
/// A path that does not exist stays in the list, so that it is reported like any unreadable picture.
/// Hidden files are passed over.
pub(crate) fn collect(inputs: &[PathBuf], recursive: bool) -> anyhow::Result<Collected> {
    let mut found = Collected::default();
    for input in inputs {
        let pattern = input.to_str().filter(|text| text.contains(['*', '?', '[']) && !input.exists());
        let Some(pattern) = pattern else {
            found.add(input.clone(), recursive)?;
            continue;
        };
        let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
        let matches =
            glob::glob_with(pattern, options).with_context(|| format!("`{pattern}` is no pattern"))?;
        let mut matches = matches.collect::<Result<Vec<_>, _>>()?;
        matches.sort_by(|a, b| vision::natural_order(&a.to_string_lossy(), &b.to_string_lossy()));
        if matches.is_empty() {
            bail!("no file matches `{pattern}`");
        }
        matches.into_iter().try_for_each(|path| found.add(path, recursive))?;
    }
    if found.files.is_empty() {
        let hint =
            if found.n_folders > 0 { "; give --recursive to look into folders of folders" } else { "" };
        bail!("no pictures found{hint}");
    }
    Ok(found)
}

impl Collected {
    fn add(&mut self, path: PathBuf, recursive: bool) -> anyhow::Result<()> {
        if path.is_dir() {
            return self.walk(&path, recursive);
        }
        self.files.push(path);
        Ok(())
    }

    fn walk(&mut self, folder: &Path, recursive: bool) -> anyhow::Result<()> {
        let unreadable = || format!("cannot read the folder {}", folder.display());
        let entries = fs::read_dir(folder).with_context(unreadable)?;
        let mut entries = entries.collect::<Result<Vec<_>, _>>().with_context(unreadable)?;
        entries.retain(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
        entries.sort_by(|a, b| {
            vision::natural_order(&a.file_name().to_string_lossy(), &b.file_name().to_string_lossy())
        });
        for entry in entries {
            let path = entry.path();
            // Links to folders are not followed, so that a walk always ends.
            if entry.file_type().with_context(unreadable)?.is_dir() {
                if recursive { self.walk(&path, recursive)? } else { self.n_folders += 1 }
            } else if vision::is_picture_file(&path) {
                self.files.push(path);
            } else {
                self.n_skipped += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sub/.git")).unwrap();
        for name in ["b2.png", "b10.JPG", "a.webp", "notes.txt", ".hidden.png", "sub/c.gif", "sub/.git/d.png"]
        {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        dir
    }

    #[track_caller]
    fn check(inputs: &[&str], recursive: bool, expected: &[&str]) -> Collected {
        let dir = tree();
        let inputs: Vec<PathBuf> = inputs.iter().map(|input| dir.path().join(input)).collect();
        let found = collect(&inputs, recursive).unwrap();
        let names: Vec<PathBuf> =
            found.files.iter().map(|path| path.strip_prefix(dir.path()).unwrap().to_path_buf()).collect();
        assert_eq!(names, expected.iter().map(PathBuf::from).collect::<Vec<_>>());
        found
    }

    #[test]
    fn a_folder_is_its_pictures_in_natural_order() {
        let found = check(&[""], false, &["a.webp", "b2.png", "b10.JPG"]);
        assert_eq!((found.n_skipped, found.n_folders), (1, 1));
        let found = check(&[""], true, &["a.webp", "b2.png", "b10.JPG", "sub/c.gif"]);
        assert_eq!((found.n_skipped, found.n_folders), (1, 0));
    }

    #[test]
    fn files_and_patterns_are_taken_as_named() {
        check(&["b10.JPG", "notes.txt", "missing.png"], false, &["b10.JPG", "notes.txt", "missing.png"]);
        check(&["b*"], false, &["b2.png", "b10.JPG"]);
        check(&["*.png", "**/c.gif"], false, &["b2.png", "sub/c.gif"]);
    }

    #[test]
    fn finding_nothing_is_an_error() {
        let dir = tree();
        for (input, expected) in
            [("*.bmp", "no file matches"), ("sub/.git/e*", "no file"), ("sub/***", "no pattern")]
        {
            let error = collect(&[dir.path().join(input)], false).unwrap_err().to_string();
            assert!(error.contains(expected), "{input}: {error}");
        }
        fs::create_dir(dir.path().join("empty")).unwrap();
        assert!(collect(&[dir.path().join("empty")], true).is_err());
    }

    #[test]
    fn a_small_maximum_of_frames_lowers_the_minimum() {
        let args = VideoArgs {
            fps: None,
            frames: None,
            min_frames: None,
            max_frames: Some(4),
            folder_fps: None,
            no_timestamps: true,
        };
        let options = args.options(DecodeOptions::default());
        assert_eq!((options.sampling.min_frames, options.sampling.max_frames), (4, 4));
        assert!(!options.draw_time);
    }
}
