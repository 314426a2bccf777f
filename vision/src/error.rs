//! What can go wrong between a picture file and its patches.

use std::path::PathBuf;

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a picture, a video or a preprocessor config was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is larger than [`Limits::max_bytes`](crate::Limits::max_bytes).
    #[error("the picture file has {found} bytes, the limit is {max}; shrink it or raise `max_bytes`")]
    TooManyBytes {
        /// Size of the file.
        found: usize,
        /// The limit it broke.
        max: usize,
    },

    /// The picture is larger than [`Limits`](crate::Limits) allow.
    #[error("the picture is {width}x{height}, the limit is {max}; shrink it or raise `{limit}`")]
    TooLarge {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The limit in words, such as `32768 pixels a side`.
        max: String,
        /// Which field of [`Limits`](crate::Limits) it broke.
        limit: &'static str,
    },

    /// The first bytes belong to no format we read.
    #[error(
        "{found} is not a picture we can read; PNG, JPEG, WebP, GIF and BMP are supported, so convert it first"
    )]
    UnknownFormat {
        /// What the bytes look like.
        found: String,
    },

    /// The format is known but this use of it is not supported.
    #[error("this {format} file uses {feature}, which is not supported; save it as plain 8-bit RGB")]
    Unsupported {
        /// Name of the format.
        format: &'static str,
        /// The feature that stopped us.
        feature: String,
    },

    /// The bytes are broken or end too early.
    #[error("damaged {format} file: {reason}")]
    Damaged {
        /// Name of the format.
        format: &'static str,
        /// What the decoder found.
        reason: String,
    },

    /// A picture without pixels.
    #[error("the picture is {width}x{height}, but needs at least one pixel")]
    Empty {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },

    /// The pixel buffer does not match the stated size.
    #[error("a {width}x{height} RGB picture needs {expected} bytes, but {found} were given")]
    PixelCount {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// `width * height * 3`.
        expected: usize,
        /// Length of the buffer.
        found: usize,
    },

    /// The picture is too long and thin to be resized to whole patches.
    #[error("the picture is {width}x{height}: its sides differ more than {max} times, so crop it first")]
    AspectRatio {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The largest ratio that is accepted.
        max: u32,
    },

    /// A preprocessor config that cannot be used.
    #[error("preprocessor config: {0}")]
    Config(String),

    /// A video without frames.
    #[error("{source_name} holds no frames")]
    NoFrames {
        /// Which folder or file.
        source_name: String,
    },

    /// Frames of one video must share their size.
    #[error(
        "frame {index} is {found_width}x{found_height}, but the first frame is {width}x{height}; give frames of one size"
    )]
    FrameSize {
        /// Position of the odd one out, counted from zero.
        index: usize,
        /// Its width in pixels.
        found_width: u32,
        /// Its height in pixels.
        found_height: u32,
        /// Width of the first frame.
        width: u32,
        /// Height of the first frame.
        height: u32,
    },

    /// Impossible wishes for frame sampling.
    #[error("frame sampling: {0}")]
    Sampling(String),

    /// One frame of a video could not be used.
    #[error("frame `{name}`")]
    Frame {
        /// File name or number of the frame.
        name: String,
        /// What is wrong with it.
        #[source]
        source: Box<Error>,
    },

    /// A program that video files need is not installed.
    #[error(
        "`{program}` is needed to read {path} and is not on PATH; install ffmpeg, or give a folder of frames, a GIF, a WebP or an APNG"
    )]
    ProgramMissing {
        /// `ffmpeg` or `ffprobe`.
        program: &'static str,
        /// The video that needs it.
        path: PathBuf,
    },

    /// A child process failed.
    #[error("`{program}` could not read {path}: {reason}")]
    ProgramFailed {
        /// `ffmpeg` or `ffprobe`.
        program: &'static str,
        /// The video it was given.
        path: PathBuf,
        /// The end of its own message.
        reason: String,
    },

    /// A child process ran past its time limit and was stopped.
    #[error("`{program}` was stopped after {seconds} s on {path}; give a shorter video or raise `timeout`")]
    ProgramTimeout {
        /// `ffmpeg` or `ffprobe`.
        program: &'static str,
        /// The video it was given.
        path: PathBuf,
        /// The limit that passed.
        seconds: u64,
    },

    /// A file or folder could not be read.
    #[error("cannot read {path}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
}
