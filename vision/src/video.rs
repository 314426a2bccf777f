//! Videos: which frames to take, the time written on them, and where they come from.
//!
//! A video is a folder of pictures, an animated GIF, WebP or APNG, or any file that an installed
//! `ffmpeg` can read. Frames are decoded, stamped, resized and stacked one at a time, so only the
//! patches of a long video are held in memory.

mod animation;
#[cfg(not(target_arch = "wasm32"))]
mod ffmpeg;
#[cfg(not(target_arch = "wasm32"))]
mod files;
mod sampling;
mod timestamp;
mod webp;

use std::time::Duration;

pub use sampling::{Pick, Sampling, Timeline};
pub use timestamp::{TimestampPen, timestamp_text};

use crate::{DecodeOptions, Error, Note, Patches, Picture, Preprocessor, Result};

/// How videos are read.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoOptions {
    /// Limits on each frame, and whether EXIF orientation is applied.
    pub decode: DecodeOptions,
    /// Which frames are taken.
    pub sampling: Sampling,
    /// Write the time on each frame, as the model saw it in training. Default true.
    pub draw_time: bool,
    /// Frames per second of a folder of pictures, which cannot say so itself. Default 2, at which
    /// every picture is used.
    pub folder_fps: f64,
    /// How long `ffprobe` and `ffmpeg` may run, each. Default two minutes.
    pub timeout: Duration,
}

impl Default for VideoOptions {
    fn default() -> Self {
        VideoOptions {
            decode: DecodeOptions::default(),
            sampling: Sampling::default(),
            draw_time: true,
            folder_fps: 2.0,
            timeout: Duration::from_secs(120),
        }
    }
}

/// A video whose frames can be read.
pub struct Frames {
    /// What error messages call it.
    name: String,
    timeline: Timeline,
    source: Box<dyn FrameSource>,
    notes: Vec<Note>,
}

/// The chosen frames of a video as patches, with their places in time.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// The frames' patches, and notes on what was left out.
    pub patches: Patches,
    /// Source index of each frame that was read, ascending. A repeated last frame is not counted.
    pub indices: Vec<usize>,
    /// The time of each of these frames in seconds.
    pub seconds: Vec<f64>,
}

/// Anything that can deliver frames by index.
trait FrameSource {
    /// Calls `each` with the frames at `indices`, which are strictly ascending. A source that ends
    /// early just stops.
    fn read(&self, indices: &[usize], each: &mut dyn FnMut(Picture) -> Result<()>) -> Result<()>;
}

impl Frames {
    /// Pictures in memory, shown at a constant rate.
    ///
    /// # Errors
    /// If there are none, or `fps` is not a positive number.
    pub fn from_pictures(pictures: Vec<Picture>, fps: f64) -> Result<Self> {
        let timeline = Timeline::constant(pictures.len(), fps)?;
        Frames::new("the list of pictures".to_string(), timeline, Box::new(pictures))
    }

    fn new(name: String, timeline: Timeline, source: Box<dyn FrameSource>) -> Result<Self> {
        if timeline.n_frames() == 0 {
            return Err(Error::NoFrames { source_name: name });
        }
        Ok(Frames { name, timeline, source, notes: Vec::new() })
    }

    /// When each frame is shown.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Reads the sampled frames, writes the time on them, and cuts them into patches.
    ///
    /// # Errors
    /// If the sampling is impossible, a frame cannot be read, or frames differ in size.
    pub fn clip(&self, pre: &Preprocessor, options: &VideoOptions) -> Result<Clip> {
        let mut indices = options.sampling.indices(&self.timeline)?;
        let unique: Vec<usize> = indices.chunk_by(|a, b| a == b).map(|same| same[0]).collect();

        let mut stack = pre.stack();
        let mut pen = None;
        // Sampling may name a frame more than once; it is read once and pushed as often.
        let mut repeats = indices.chunk_by(|a, b| a == b);
        self.source.read(&unique, &mut |mut frame| {
            let Some(same) = repeats.next() else { return Ok(()) };
            if options.draw_time {
                let pen = pen.get_or_insert_with(|| TimestampPen::new(frame.width, frame.height));
                pen.draw(&mut frame, self.timeline.seconds(same[0]));
            }
            same.iter().try_for_each(|_| stack.push(&frame))
        })?;

        let n_read = stack.n_frames();
        if n_read == 0 {
            return Err(Error::NoFrames { source_name: self.name.clone() });
        }
        let mut patches = stack.finish()?;
        patches.notes.extend(self.notes.iter().cloned());
        if n_read < indices.len() {
            patches.notes.push(Note::FramesMissing { got: n_read, of: indices.len() });
            indices.truncate(n_read);
        }
        let n_frames = self.timeline.n_frames();
        if unique.len() < n_frames {
            patches.notes.push(Note::FramesDropped { kept: unique.len(), of: n_frames });
        }
        let seconds = indices.iter().map(|&index| self.timeline.seconds(index)).collect();
        Ok(Clip { patches, indices, seconds })
    }
}

impl FrameSource for Vec<Picture> {
    fn read(&self, indices: &[usize], each: &mut dyn FnMut(Picture) -> Result<()>) -> Result<()> {
        indices.iter().try_for_each(|&index| each(self[index].clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey_frames(n: usize) -> Vec<Picture> {
        let frame = |i: usize| Picture::new(320, 240, vec![i as u8; 320 * 240 * 3]).unwrap();
        (0..n).map(frame).collect()
    }

    #[test]
    fn a_clip_says_what_it_left_out() {
        let frames = Frames::from_pictures(grey_frames(40), 24.0).unwrap();
        let clip = frames.clip(&Preprocessor::default(), &VideoOptions::default()).unwrap();
        assert_eq!(clip.indices.len(), 16);
        assert_eq!(clip.indices[..4], [0, 2, 5, 7]);
        assert!((clip.seconds[1] - 2.0 / 24.0).abs() < 1e-12);
        assert_eq!(clip.patches.grid_thw, [16, 30, 40]);
        assert!(clip.patches.notes.contains(&Note::FramesDropped { kept: 16, of: 40 }));
        assert!(clip.patches.notes.contains(&Note::TimestampDrawn));
        assert!(clip.patches.notes.contains(&Note::Resized { from: [320, 240], to: [560, 420] }));
    }

    #[test]
    fn without_the_time_a_clip_is_its_frames() {
        let pre = Preprocessor::default();
        let pictures = grey_frames(4);
        let plain = pre.video(&pictures).unwrap();
        let options = VideoOptions { draw_time: false, ..VideoOptions::default() };
        let clip = Frames::from_pictures(pictures.clone(), 2.0).unwrap().clip(&pre, &options).unwrap();
        assert_eq!(clip.patches.pixel_values, plain.pixel_values);

        let stamped = Frames::from_pictures(pictures, 2.0).unwrap().clip(&pre, &VideoOptions::default());
        assert_ne!(stamped.unwrap().patches.pixel_values, plain.pixel_values);
    }

    #[test]
    fn frames_shown_longer_than_a_step_are_used_again() {
        // One frame a second, two samples a second.
        let frames = Frames::from_pictures(grey_frames(10), 1.0).unwrap();
        let options = VideoOptions {
            sampling: Sampling { min_frames: 1, ..Sampling::default() },
            ..VideoOptions::default()
        };
        let clip = frames.clip(&Preprocessor::default(), &options).unwrap();
        assert_eq!(clip.indices[..6], [0, 0, 1, 2, 2, 2]);
        assert_eq!(clip.patches.grid_thw[0] as usize, clip.indices.len().next_multiple_of(2));
    }

    #[test]
    fn no_frames_is_an_error() {
        assert!(matches!(Frames::from_pictures(vec![], 2.0), Err(Error::NoFrames { .. })));
    }
}
