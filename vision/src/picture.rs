//! A decoded picture: 8-bit RGB, rows from the top.

use crate::{Error, Note, Result};

/// Upright 8-bit RGB pixels and what happened to them so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels, at least 1.
    pub width: u32,
    /// Height in pixels, at least 1.
    pub height: u32,
    /// `[height, width, 3]`, rows from the top, red first.
    pub rgb: Vec<u8>,
    /// What decoding changed, in the order it happened.
    pub notes: Vec<Note>,
}

impl Picture {
    /// Wraps pixels that are already 8-bit RGB.
    ///
    /// # Errors
    /// If a side is zero or `rgb` does not hold `width * height * 3` bytes.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self> {
        let picture = Picture { width, height, rgb, notes: Vec::new() };
        picture.check()?;
        Ok(picture)
    }

    /// The same check as [`Picture::new`], for pictures whose public fields were filled by hand.
    pub(crate) fn check(&self) -> Result<()> {
        let Picture { width, height, .. } = *self;
        if width == 0 || height == 0 {
            return Err(Error::Empty { width, height });
        }
        let expected = (width as usize)
            .checked_mul(height as usize)
            .and_then(|pixels| pixels.checked_mul(3))
            .unwrap_or(usize::MAX);
        if self.rgb.len() != expected {
            return Err(Error::PixelCount { width, height, expected, found: self.rgb.len() });
        }
        Ok(())
    }
}
