//! The time in the corner of each frame, which is how the model knows when a frame is.

use std::collections::HashMap;

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};

use crate::{Note, Picture};

/// Roboto Regular, reduced to the characters of a timestamp; see `assets/fonts/README.md`.
const FONT: &[u8] = include_bytes!("../../../assets/fonts/Roboto-timestamp.ttf");

/// Text height as a part of the frame's shorter side.
const SIZE: f64 = 0.1;
/// Outline width as a part of the text height.
const STROKE: f64 = 0.1;

const BLACK: u8 = 0;
const WHITE: u8 = 255;

/// `time: HH:MM:SS.ss`. Seconds are rounded, so 59.996 gives `time: 00:00:60.00` as in the reference.
pub fn timestamp_text(seconds: f64) -> String {
    let hours = (seconds / 3600.0).floor();
    let seconds = seconds - hours * 3600.0;
    let minutes = (seconds / 60.0).floor();
    format!("time: {hours:02}:{minutes:02}:{:05.2}", seconds - minutes * 60.0)
}

/// Draws black text with a white outline at the top left of frames of one size.
///
/// The outline is a disc drawn around each pixel of the glyph, so results agree with PIL's to the
/// eye and not to the bit.
pub struct TimestampPen {
    font: FontRef<'static>,
    /// Pixels per em, zero for frames too small to write on.
    size: f32,
    stroke: i32,
    /// Glyphs drawn so far.
    stencils: HashMap<char, Stencil>,
}

/// One character, as far as drawing needs it.
struct Stencil {
    /// Pixels to the next character.
    advance: i32,
    fill: Mask,
    outline: Mask,
}

/// Coverage of a rectangle of pixels, relative to the pen.
#[derive(Clone, Default)]
struct Mask {
    left: i32,
    top: i32,
    width: i32,
    /// `[height, width]` in `0.0..=1.0`.
    coverage: Vec<f32>,
}

impl TimestampPen {
    /// A pen for frames of this size, which decides the size of the text.
    pub fn new(width: u32, height: u32) -> Self {
        let size = (f64::from(width.min(height)) * SIZE).floor();
        TimestampPen {
            font: FontRef::try_from_slice(FONT).expect("the font is part of the program"),
            size: size as f32,
            stroke: (size * STROKE) as i32,
            stencils: HashMap::new(),
        }
    }

    /// Writes the time on a frame and notes it. Frames under 10 pixels have no room and are noted too.
    pub fn draw(&mut self, frame: &mut Picture, seconds: f64) {
        if self.size < 1.0 {
            frame.notes.push(Note::TimestampSkipped);
            return;
        }
        let text = timestamp_text(seconds);
        for character in text.chars() {
            if !self.stencils.contains_key(&character) {
                let stencil = self.stencil(character);
                self.stencils.insert(character, stencil);
            }
        }
        // All outlines first: the outline of one character must not cover the one before it.
        self.paint(frame, &text, |stencil| &stencil.outline, WHITE);
        self.paint(frame, &text, |stencil| &stencil.fill, BLACK);
        frame.notes.push(Note::TimestampDrawn);
    }

    fn paint(&self, frame: &mut Picture, text: &str, layer: impl Fn(&Stencil) -> &Mask, level: u8) {
        let mut x = 0;
        for character in text.chars() {
            let stencil = &self.stencils[&character];
            layer(stencil).paint(frame, x, level);
            x += stencil.advance;
        }
    }

    fn stencil(&self, character: char) -> Stencil {
        // `ab_glyph` scales the line height to the given pixels, FreeType the em.
        let units_per_em = self.font.units_per_em().expect("the font states it");
        let scale = PxScale::from(self.size * self.font.height_unscaled() / units_per_em);
        let font = self.font.as_scaled(scale);
        let id = font.glyph_id(character);
        let glyph = Glyph { id, scale, position: point(0.0, font.ascent().ceil()) };

        let mut fill = Mask::default();
        if let Some(outline) = font.outline_glyph(glyph) {
            let bounds = outline.px_bounds();
            let (width, height) = (bounds.width() as usize, bounds.height() as usize);
            fill = Mask {
                left: bounds.min.x as i32,
                top: bounds.min.y as i32,
                width: width as i32,
                coverage: vec![0.0; width * height],
            };
            outline.draw(|x, y, coverage| fill.coverage[y as usize * width + x as usize] = coverage.min(1.0));
        }
        Stencil { advance: font.h_advance(id).round() as i32, outline: fill.grown(self.stroke), fill }
    }
}

impl Mask {
    /// The mask with a soft disc of this radius around each of its pixels.
    fn grown(&self, radius: i32) -> Mask {
        if radius == 0 || self.coverage.is_empty() {
            return self.clone();
        }
        let width = self.width + 2 * radius;
        let height = self.coverage.len() as i32 / self.width + 2 * radius;
        let mut grown = Mask {
            left: self.left - radius,
            top: self.top - radius,
            width,
            coverage: vec![0.0; (width * height) as usize],
        };
        for dy in -radius..=radius {
            for dx in -radius..=radius {
                let distance = f64::from(dx * dx + dy * dy).sqrt() as f32;
                let disc = (radius as f32 + 1.0 - distance).clamp(0.0, 1.0);
                for (y, row) in self.coverage.chunks_exact(self.width as usize).enumerate() {
                    let at = (y as i32 + radius + dy) * width + radius + dx;
                    let target = &mut grown.coverage[at as usize..][..row.len()];
                    for (target, coverage) in target.iter_mut().zip(row) {
                        *target = target.max(coverage * disc);
                    }
                }
            }
        }
        grown
    }

    /// Blends one grey level into the frame, as far as the mask lies within it.
    fn paint(&self, frame: &mut Picture, pen_x: i32, level: u8) {
        let (frame_width, frame_height) = (frame.width as i32, frame.height as i32);
        for (i, &coverage) in self.coverage.iter().enumerate() {
            let (x, y) = (pen_x + self.left + i as i32 % self.width, self.top + i as i32 / self.width);
            if coverage == 0.0 || !(0..frame_width).contains(&x) || !(0..frame_height).contains(&y) {
                continue;
            }
            let at = (y as usize * frame.width as usize + x as usize) * 3;
            for sample in &mut frame.rgb[at..at + 3] {
                let (old, new) = (f32::from(*sample), f32::from(level));
                *sample = (old + (new - old) * coverage).round() as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_equals_the_reference() {
        for (seconds, expected) in [
            (0.0, "time: 00:00:00.00"),
            (0.5, "time: 00:00:00.50"),
            (59.996, "time: 00:00:60.00"),
            (61.25, "time: 00:01:01.25"),
            (3599.99, "time: 00:59:59.99"),
            (3600.0, "time: 01:00:00.00"),
            (100.0 * 3600.0 + 62.0, "time: 100:01:02.00"),
        ] {
            assert_eq!(timestamp_text(seconds), expected);
        }
    }

    #[test]
    fn the_time_is_black_on_white_at_the_top_left() {
        let mut frame = Picture::new(640, 360, vec![90; 640 * 360 * 3]).unwrap();
        TimestampPen::new(640, 360).draw(&mut frame, 12.5);
        let level = |x: usize, y: usize| frame.rgb[(y * 640 + x) * 3];
        let corner = || (0..50).flat_map(|y| (0..320).map(move |x| (x, y)));
        let n_black = corner().filter(|&(x, y)| level(x, y) < 10).count();
        let n_white = corner().filter(|&(x, y)| level(x, y) > 245).count();
        assert!(n_black > 600, "{n_black}");
        assert!(n_white > 600, "{n_white}");
        // Text of 36 pixels ends above line 50 and before column 320.
        assert!((50..360).all(|y| (0..640).all(|x| level(x, y) == 90)));
        assert!((0..50).all(|y| (320..640).all(|x| level(x, y) == 90)));
        assert_eq!(frame.notes, [Note::TimestampDrawn]);
    }

    #[test]
    fn each_time_looks_different() {
        let stamped = |seconds| {
            let mut frame = Picture::new(320, 240, vec![90; 320 * 240 * 3]).unwrap();
            TimestampPen::new(320, 240).draw(&mut frame, seconds);
            frame.rgb
        };
        assert_eq!(stamped(1.0), stamped(1.0));
        assert_ne!(stamped(1.0), stamped(1.5));
    }

    #[test]
    fn tiny_frames_are_left_as_they_are() {
        let mut frame = Picture::new(9, 300, vec![90; 9 * 300 * 3]).unwrap();
        TimestampPen::new(9, 300).draw(&mut frame, 1.0);
        assert!(frame.rgb.iter().all(|&sample| sample == 90));
        assert_eq!(frame.notes, [Note::TimestampSkipped]);
    }
}
