//! Resized pictures to normalised patches, in the order in which the tower merges them.

use std::array;

use protocol::Sight;

use crate::preprocessor::resize_note;
use crate::{Error, Note, Picture, Preprocessor, Result};

/// The rows that the vision tower reads, for one picture or one video.
#[derive(Debug, Clone, PartialEq)]
pub struct Patches {
    /// `[n_patches, 3 * patch_size²]`, each patch channel-major (`c * 196 + row * 14 + col`).
    /// Patches lie in blocks of `merge_size` by `merge_size`, blocks and their insides row-major.
    pub pixel_values: Vec<f32>,
    /// Frames, patch rows, patch columns.
    pub grid_thw: [u32; 3],
    /// Width and height before resizing.
    pub original: [u32; 2],
    /// All that the picture went through, from decoding on.
    pub notes: Vec<Note>,
    /// Side of a patch in pixels.
    pub patch_size: u32,
    /// Patches per side of a block that becomes one token.
    pub merge_size: u32,
    /// Frames that become one token; pictures have one frame and ignore it.
    pub temporal_merge: u32,
}

impl Patches {
    /// Room for `[frames, height, width]` pixels of pictures that were of another size.
    pub(crate) fn with_capacity(
        pre: &Preprocessor,
        original: [u32; 2],
        [t, height, width]: [u32; 3],
    ) -> Self {
        Patches {
            pixel_values: Vec::with_capacity(t as usize * height as usize * width as usize * 3),
            grid_thw: [0, height / pre.patch_size, width / pre.patch_size],
            original,
            notes: Vec::new(),
            patch_size: pre.patch_size,
            merge_size: pre.merge_size,
            temporal_merge: pre.temporal_merge,
        }
    }

    /// Rows of `pixel_values`.
    pub fn n_patches(&self) -> usize {
        self.grid_thw.iter().map(|&n| n as usize).product()
    }

    /// Placeholder tokens in the prompt, which is also the number of rows the resampler gives back.
    pub fn n_tokens(&self) -> usize {
        let [t, h, w] = self.grid_thw.map(|n| n as usize);
        let merge = self.merge_size as usize;
        let frames = if t == 1 { 1 } else { t / self.temporal_merge as usize };
        frames * (h / merge) * (w / merge)
    }

    /// `(height, width)` in pixels after resizing.
    pub fn resized(&self) -> (u32, u32) {
        (self.grid_thw[1] * self.patch_size, self.grid_thw[2] * self.patch_size)
    }

    /// What became of the picture, for those who show it.
    pub fn sight(&self) -> Sight {
        let (height, width) = self.resized();
        Sight {
            original: self.original,
            resized: [width, height],
            patch_size: self.patch_size,
            merge_size: self.merge_size,
            n_tokens: self.n_tokens(),
            notes: self.notes.iter().map(ToString::to_string).collect(),
        }
    }

    /// Normalises one frame of the size this was made for, and appends its patches.
    pub(crate) fn push_frame(&mut self, pre: &Preprocessor, rgb: &[u8]) {
        let levels = normalised_levels(pre);
        let [_, grid_h, grid_w] = self.grid_thw.map(|n| n as usize);
        let (patch, merge) = (self.patch_size as usize, self.merge_size as usize);
        let row_len = grid_w * patch * 3;
        debug_assert_eq!(rgb.len(), grid_h * patch * row_len);

        for block_y in (0..grid_h).step_by(merge) {
            for block_x in (0..grid_w).step_by(merge) {
                for y in block_y..block_y + merge {
                    for x in block_x..block_x + merge {
                        let rows = rgb[y * patch * row_len..][..patch * row_len].chunks_exact(row_len);
                        for (c, levels) in levels.iter().enumerate() {
                            for row in rows.clone() {
                                let (pixels, _) = row[x * patch * 3..][..patch * 3].as_chunks::<3>();
                                self.pixel_values
                                    .extend(pixels.iter().map(|pixel| levels[pixel[c] as usize]));
                            }
                        }
                    }
                }
            }
        }
        self.grid_thw[0] += 1;
    }

    /// Appends the last frame once more.
    fn repeat_last_frame(&mut self) {
        let frame_len = self.pixel_values.len() / self.grid_thw[0] as usize;
        self.pixel_values.extend_from_within(self.pixel_values.len() - frame_len..);
        self.grid_thw[0] += 1;
    }
}

/// What each of the 256 levels becomes, per channel: `x / 255`, less the mean, by the deviation,
/// each step rounded to f32 as in the reference.
fn normalised_levels(pre: &Preprocessor) -> [[f32; 256]; 3] {
    array::from_fn(|c| array::from_fn(|x| (x as f32 / 255.0 - pre.mean[c]) / pre.std[c]))
}

/// Collects the frames of a video one at a time, so that only their patches are held.
#[derive(Debug)]
pub struct FrameStack<'a> {
    pre: &'a Preprocessor,
    stacked: Option<Patches>,
}

impl<'a> FrameStack<'a> {
    pub(crate) fn new(pre: &'a Preprocessor) -> Self {
        FrameStack { pre, stacked: None }
    }

    /// Number of frames pushed so far.
    pub fn n_frames(&self) -> usize {
        self.stacked.as_ref().map_or(0, |patches| patches.grid_thw[0] as usize)
    }

    /// Resizes a frame and appends its patches. Its notes are kept, each kind once a video.
    ///
    /// # Errors
    /// If the frame's buffer does not match its size, its sides differ more than 200 times, or it
    /// is not of the first frame's size.
    pub fn push(&mut self, frame: &Picture) -> Result<()> {
        frame.check()?;
        let n_frames = self.n_frames();
        let (height, width) = self.pre.smart_resize_frame(frame.height, frame.width)?;
        let size = [frame.width, frame.height];
        let patches =
            self.stacked.get_or_insert_with(|| Patches::with_capacity(self.pre, size, [2, height, width]));
        if size != patches.original {
            return Err(Error::FrameSize {
                index: n_frames,
                found_width: frame.width,
                found_height: frame.height,
                width: patches.original[0],
                height: patches.original[1],
            });
        }
        for note in frame.notes.iter().cloned().chain(resize_note(frame, height, width)) {
            if !patches.notes.contains(&note) {
                patches.notes.push(note);
            }
        }
        patches.push_frame(self.pre, &self.pre.resized(frame, height, width));
        Ok(())
    }

    /// The patches of all frames, with the last frame repeated where the tower needs whole groups.
    ///
    /// # Errors
    /// If no frame was pushed.
    pub fn finish(self) -> Result<Patches> {
        let Some(mut patches) = self.stacked else {
            return Err(Error::NoFrames { source_name: "the video".to_string() });
        };
        while patches.grid_thw[0] % self.pre.temporal_merge != 0 {
            patches.repeat_last_frame();
            patches.notes.push(Note::FrameRepeated);
        }
        Ok(patches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture already of its resized size, whose red is the patch's number in raster order and
    /// whose green and blue are the position within the patch.
    fn numbered(height: u32, width: u32) -> Picture {
        let mut rgb = Vec::new();
        for y in 0..height {
            for x in 0..width {
                rgb.extend([(y / 14 * (width / 14) + x / 14) as u8, (y % 14) as u8, (x % 14) as u8]);
            }
        }
        Picture::new(width, height, rgb).unwrap()
    }

    /// Undoes the normalisation.
    fn level(pre: &Preprocessor, value: f32, c: usize) -> u8 {
        ((value * pre.std[c] + pre.mean[c]) * 255.0).round() as u8
    }

    #[test]
    fn patches_lie_in_merge_blocks() {
        let pre = Preprocessor::default();
        let patches = pre.image(&numbered(56, 112)).unwrap();
        assert_eq!(patches.grid_thw, [1, 4, 8]);
        let order: Vec<u8> = patches.pixel_values.chunks(588).map(|patch| level(&pre, patch[0], 0)).collect();
        assert_eq!(order[..8], [0, 1, 8, 9, 2, 3, 10, 11]);
        assert_eq!(order[16..24], [16, 17, 24, 25, 18, 19, 26, 27]);
    }

    #[test]
    fn a_patch_is_channel_major() {
        let pre = Preprocessor::default();
        let patches = pre.image(&numbered(56, 56)).unwrap();
        let patch = &patches.pixel_values[588..1176];
        for row in 0..14 {
            for col in 0..14 {
                let at = row * 14 + col;
                let found = [0, 1, 2].map(|c| level(&pre, patch[c * 196 + at], c));
                assert_eq!(found, [1, row as u8, col as u8]);
            }
        }
    }

    #[test]
    fn levels_are_normalised_in_f32_steps() {
        let pre = Preprocessor::default();
        let patches = pre.image(&Picture::new(56, 56, [0, 128, 255].repeat(56 * 56)).unwrap()).unwrap();
        // numpy: (np.float32(x / 255) - mean) / std with f32 mean and std
        assert_eq!(patches.pixel_values[0].to_bits(), (-1.7922626f32).to_bits());
        assert_eq!(patches.pixel_values[196].to_bits(), (0.168_897_32_f32).to_bits());
        assert_eq!(patches.pixel_values[392].to_bits(), (2.145_897_f32).to_bits());
    }

    #[test]
    fn an_odd_number_of_frames_repeats_the_last() {
        let pre = Preprocessor::default();
        let frames: Vec<Picture> =
            (0..3).map(|i| Picture::new(640, 480, vec![i * 50; 640 * 480 * 3]).unwrap()).collect();
        let patches = pre.video(&frames).unwrap();
        assert_eq!(patches.grid_thw[0], 4);
        assert_eq!(patches.n_tokens(), 2 * (patches.grid_thw[1] / 2 * patches.grid_thw[2] / 2) as usize);
        assert_eq!(patches.pixel_values.len(), patches.n_patches() * 588);
        let (rest, last) = patches.pixel_values.split_at(patches.pixel_values.len() / 4 * 3);
        assert_eq!(&rest[rest.len() / 3 * 2..], last);
        assert!(patches.notes.contains(&Note::FrameRepeated));

        assert_eq!(pre.video(&frames[..1]).unwrap().grid_thw[0], 2);
    }

    #[test]
    fn a_video_has_frames_of_one_size() {
        let pre = Preprocessor::default();
        let frame = |w, h| Picture::new(w, h, vec![0; (w * h * 3) as usize]).unwrap();
        let error = pre.video(&[frame(64, 48), frame(48, 64)]).unwrap_err();
        assert!(matches!(error, Error::FrameSize { index: 1, found_width: 48, .. }));
        assert!(matches!(pre.video(&[]), Err(Error::NoFrames { .. })));
    }

    #[test]
    fn a_wrong_buffer_is_refused() {
        let picture = Picture { width: 100, height: 100, rgb: vec![0; 7], notes: vec![] };
        assert!(matches!(
            Preprocessor::default().image(&picture),
            Err(Error::PixelCount { expected: 30_000, found: 7, .. })
        ));
    }
}
