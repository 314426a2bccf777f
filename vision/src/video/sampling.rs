//! Which frames of a video the model sees.

use crate::{Error, Result};

/// When the frames of a video are shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    n_frames: usize,
    /// Seconds from the first frame to the end of the last.
    duration: f64,
    /// Start of each frame in seconds, for frames of unequal length only.
    starts: Option<Vec<f64>>,
}

impl Timeline {
    /// Frames at a constant rate.
    ///
    /// # Errors
    /// If `fps` is not a positive number.
    pub fn constant(n_frames: usize, fps: f64) -> Result<Self> {
        if !(fps.is_finite() && fps > 0.0) {
            return Err(Error::Sampling(format!("a source of {fps} frames a second is impossible")));
        }
        Ok(Timeline { n_frames, duration: n_frames as f64 / fps, starts: None })
    }

    /// Frames that are shown for the given seconds each.
    ///
    /// # Errors
    /// If a duration is not a positive number.
    pub fn from_durations(seconds: &[f64]) -> Result<Self> {
        if let Some(bad) = seconds.iter().find(|&&s| !(s.is_finite() && s > 0.0)) {
            return Err(Error::Sampling(format!("a frame cannot be shown for {bad} seconds")));
        }
        let Some(&first) = seconds.first() else { return Timeline::constant(0, 1.0) };
        if seconds.iter().all(|&s| s == first) {
            return Timeline::constant(seconds.len(), 1.0 / first);
        }
        let mut duration = 0.0;
        let starts = seconds
            .iter()
            .map(|s| {
                let start = duration;
                duration += s;
                start
            })
            .collect();
        Ok(Timeline { n_frames: seconds.len(), duration, starts: Some(starts) })
    }

    /// Number of frames.
    pub fn n_frames(&self) -> usize {
        self.n_frames
    }

    /// Seconds from the first frame to the end of the last.
    pub fn duration(&self) -> f64 {
        self.duration
    }

    /// When a frame is shown, in seconds.
    pub fn seconds(&self, index: usize) -> f64 {
        match &self.starts {
            None => index as f64 * self.duration / self.n_frames as f64,
            Some(starts) => starts[index],
        }
    }

    /// The frame that starts nearest to a time, the even one of two at equal distance. That is the
    /// reference's `round(time * fps)`, said for frames of any length. The end of the video counts
    /// as the start of a frame beyond the last.
    fn nearest(&self, time: f64, fps: f64) -> usize {
        let Some(starts) = &self.starts else { return (time * fps).round_ties_even() as usize };
        let after = starts.partition_point(|&start| start <= time);
        let Some(before) = after.checked_sub(1) else { return 0 };
        let next = starts.get(after).copied().unwrap_or(self.duration);
        let (to_before, to_next) = (time - starts[before], next - time);
        let is_next = to_next < to_before || (to_next == to_before && after % 2 == 0);
        if is_next { after } else { before }
    }
}

/// Where in its interval a frame is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pick {
    /// The first frame of each interval, as inference does.
    #[default]
    Leading,
    /// The middle frame of each interval, as training did.
    Middle,
}

/// How many frames are taken, and which. The default is ERNIE 4.5 VL's.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Frames per second of video. Default 2.
    pub fps: f64,
    /// A shorter video gives this many frames, if it has them. Default 16.
    pub min_frames: usize,
    /// A longer video gives this many frames. Default 180.
    pub max_frames: usize,
    /// Exactly this many frames instead, if the video has them. Default none.
    pub target_frames: Option<usize>,
    /// Where in its interval a frame is taken. Default leading.
    pub pick: Pick,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { fps: 2.0, min_frames: 16, max_frames: 180, target_frames: None, pick: Pick::Leading }
    }
}

impl Sampling {
    /// Indices of the frames to take, ascending. A frame that is shown longer than a sampling step
    /// is named more than once.
    ///
    /// # Errors
    /// If `fps` is not a positive number, or no frames are asked for.
    pub fn indices(&self, timeline: &Timeline) -> Result<Vec<usize>> {
        if !(self.fps.is_finite() && self.fps > 0.0) {
            return Err(Error::Sampling(format!("`fps` is {}, but must be positive", self.fps)));
        }
        if self.max_frames == 0 || self.target_frames == Some(0) {
            return Err(Error::Sampling("0 frames were asked for, but a video has at least one".to_string()));
        }
        if self.min_frames > self.max_frames {
            return Err(Error::Sampling(format!(
                "at least {} and at most {} frames were asked for, which cannot be met",
                self.min_frames, self.max_frames
            )));
        }
        if let Some(count) = self.target_frames {
            return Ok(self.by_count(count, timeline.n_frames));
        }
        let wanted = (timeline.duration * self.fps).floor();
        Ok(if wanted < self.min_frames as f64 {
            self.by_count(self.min_frames, timeline.n_frames)
        } else if wanted > self.max_frames as f64 {
            self.by_count(self.max_frames, timeline.n_frames)
        } else {
            self.by_time(timeline)
        })
    }

    /// One frame from each of `count` equal intervals. Their edges are whole-number division; the
    /// reference's `linspace` rounds some edges of long videos one frame lower.
    fn by_count(&self, count: usize, n_frames: usize) -> Vec<usize> {
        let count = count.min(n_frames);
        let edge = |i: usize| (n_frames as u128 * i as u128 / count as u128) as usize;
        (0..count)
            .map(|i| match self.pick {
                Pick::Leading => edge(i),
                Pick::Middle => (edge(i) + edge(i + 1) - 1) / 2,
            })
            .collect()
    }

    /// One frame each `1 / fps` seconds.
    fn by_time(&self, timeline: &Timeline) -> Vec<usize> {
        let step = 1.0 / self.fps;
        let first = match self.pick {
            Pick::Leading => 0.0,
            Pick::Middle => step / 2.0,
        };
        let source_fps = timeline.n_frames as f64 / timeline.duration;
        // As many steps as numpy's `arange(first, first + duration, step)` has.
        let n_steps = ((first + timeline.duration - first) / step).ceil() as usize;
        (0..n_steps)
            .map(|i| timeline.nearest(first + i as f64 * step, source_fps))
            .filter(|&index| index < timeline.n_frames)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(n_frames: usize, fps: f64, pick: Pick, expected: &[usize]) {
        let timeline = Timeline::constant(n_frames, fps).unwrap();
        let sampling = Sampling { pick, ..Sampling::default() };
        assert_eq!(sampling.indices(&timeline).unwrap(), expected);
    }

    #[test]
    fn indices_equal_the_reference() {
        let every =
            |first: usize, step: usize, n: usize| (0..n).map(|i| first + i * step).collect::<Vec<_>>();
        check(240, 24.0, Pick::Leading, &every(0, 12, 20));
        check(240, 24.0, Pick::Middle, &every(6, 12, 20));
        check(48, 24.0, Pick::Leading, &every(0, 3, 16));
        check(48, 24.0, Pick::Middle, &every(1, 3, 16));
        check(30, 10.0, Pick::Leading, &[0, 1, 3, 5, 7, 9, 11, 13, 15, 16, 18, 20, 22, 24, 26, 28]);
        check(5, 10.0, Pick::Leading, &[0, 1, 2, 3, 4]);
        check(1, 10.0, Pick::Middle, &[0]);
    }

    #[test]
    fn long_videos_give_the_maximum() {
        let timeline = Timeline::constant(30 * 600, 30.0).unwrap();
        let indices = Sampling::default().indices(&timeline).unwrap();
        assert_eq!(indices.len(), 180);
        assert_eq!(indices[..3], [0, 100, 200]);

        let exactly = Sampling { target_frames: Some(3), ..Sampling::default() };
        assert_eq!(exactly.indices(&timeline).unwrap(), [0, 6000, 12000]);
    }

    #[test]
    fn ties_go_to_the_even_frame() {
        // 3 frames a second: half a second is frame 1.5, one and a half are frame 4.5.
        let timeline = Timeline::constant(60, 3.0).unwrap();
        assert_eq!(Sampling::default().indices(&timeline).unwrap()[..6], [0, 2, 3, 4, 6, 8]);
    }

    #[test]
    fn unequal_frames_are_taken_by_their_start() {
        let mut seconds = vec![0.5; 20];
        let constant = Timeline::from_durations(&seconds).unwrap();
        seconds[3] = 2.0;
        let timeline = Timeline::from_durations(&seconds).unwrap();
        assert_eq!(constant.duration(), 10.0);
        assert_eq!(timeline.duration(), 11.5);
        assert_eq!((timeline.seconds(3), timeline.seconds(4)), (1.5, 3.5));
        // 1.5, 2.0 are nearest to frame 3; 2.5 is as near to 3 as to 4, and 4 is even.
        let indices = Sampling::default().indices(&timeline).unwrap();
        assert_eq!(indices[..9], [0, 1, 2, 3, 3, 4, 4, 4, 5]);
        assert_eq!(indices.last(), Some(&19));
    }

    #[test]
    fn the_general_rule_equals_the_constant_one() {
        let constant = Timeline::constant(100, 7.0).unwrap();
        let starts = Some((0..100).map(|i| constant.seconds(i)).collect());
        let general = Timeline { starts, ..constant.clone() };
        // Sixths of the step: ties, where the last bit decides, are left out.
        for i in (0..600).filter(|i| i % 6 != 3) {
            let time = f64::from(i) / 42.0;
            assert_eq!(general.nearest(time, 7.0), constant.nearest(time, 7.0), "at {time}");
        }
    }

    #[test]
    fn impossible_wishes_are_refused() {
        let timeline = Timeline::constant(10, 1.0).unwrap();
        for sampling in [
            Sampling { fps: 0.0, ..Sampling::default() },
            Sampling { fps: f64::NAN, ..Sampling::default() },
            Sampling { max_frames: 3, ..Sampling::default() },
            Sampling { target_frames: Some(0), ..Sampling::default() },
        ] {
            assert!(matches!(sampling.indices(&timeline), Err(Error::Sampling(_))));
        }
        assert!(Timeline::constant(10, 0.0).is_err());
        assert!(Timeline::from_durations(&[0.1, f64::INFINITY]).is_err());
    }
}
