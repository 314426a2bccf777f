//! What a picture lost or gained on its way in, said aloud.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One change that the reader of an answer may want to know about.
///
/// Sizes are `[width, height]` in pixels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Note {
    /// The picture was turned upright as its EXIF orientation (2 to 8) asks.
    OrientationApplied(u8),
    /// The picture asks to be turned, but the caller switched that off.
    OrientationIgnored(u8),
    /// Some pixels were not opaque; they were laid over white.
    AlphaOnWhite,
    /// Samples had 16 bits; only the high byte was kept.
    SixteenBitReduced,
    /// A CMYK picture was converted without its colour profile, so its colours are approximate.
    CmykConverted,
    /// The picture was resized to whole patches within the pixel limits.
    Resized {
        /// Size before.
        from: [u32; 2],
        /// Size after.
        to: [u32; 2],
    },
    /// Only some frames of an animation or video were used.
    FramesDropped {
        /// Frames used.
        kept: usize,
        /// Frames in the file.
        of: usize,
    },
    /// The number of frames was odd, so the last one was used twice.
    FrameRepeated,
    /// The time was written on each frame.
    TimestampDrawn,
    /// The frames are too small to write the time on.
    TimestampSkipped,
    /// A folder of frames does not state a frame rate; this one was assumed.
    FrameRateAssumed {
        /// Frames per second in thousandths.
        milli_fps: u64,
    },
    /// Files of a folder that are no pictures were left out.
    FilesSkipped {
        /// How many.
        count: usize,
    },
    /// The video ended before all the frames it promises.
    FramesMissing {
        /// Frames delivered.
        got: usize,
        /// Frames asked for.
        of: usize,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::OrientationApplied(exif) => write!(f, "turned upright (EXIF orientation {exif})"),
            Note::OrientationIgnored(exif) => write!(f, "EXIF orientation {exif} not applied"),
            Note::AlphaOnWhite => write!(f, "transparency laid over white"),
            Note::SixteenBitReduced => write!(f, "16-bit samples reduced to 8 bits"),
            Note::CmykConverted => write!(f, "CMYK converted to RGB without its colour profile"),
            Note::Resized { from, to } => {
                write!(f, "resized from {}x{} to {}x{}", from[0], from[1], to[0], to[1])
            }
            Note::FramesDropped { kept, of } => write!(f, "{kept} of {of} frames used"),
            Note::FrameRepeated => write!(f, "last frame used twice to make the number even"),
            Note::TimestampSkipped => write!(f, "frames too small to write the time on"),
            Note::TimestampDrawn => write!(f, "time written on each frame"),
            Note::FrameRateAssumed { milli_fps } => {
                write!(f, "assumed {} frames a second", *milli_fps as f64 / 1000.0)
            }
            Note::FilesSkipped { count } => write!(f, "{count} files skipped that are no pictures"),
            Note::FramesMissing { got, of } => write!(f, "the video gave {got} of {of} frames"),
        }
    }
}
