//! Frames of animated GIF, WebP and APNG files.

use std::io::Cursor;

use image::codecs::{gif::GifDecoder, png::PngDecoder};
use image::metadata::Orientation;
use image::{AnimationDecoder, ColorType, ImageDecoder, ImageError, ImageFormat};

use super::{FrameSource, Frames, Timeline, webp};
use crate::container::frame_durations;
use crate::decode::{decoder_limits, explain, name, sniff};
use crate::flatten::flatten;
use crate::{DecodeOptions, Picture, Result};

impl Frames {
    /// An animated GIF, WebP or APNG. Frames that ask for 10 ms or less are shown for 100 ms, as
    /// browsers do.
    ///
    /// # Errors
    /// If the file is larger than the limits, of another format, or not animated.
    pub fn from_animation(bytes: Vec<u8>, options: &DecodeOptions) -> Result<Self> {
        let format = sniff(&bytes, &options.limits)?;
        let timeline = Timeline::from_durations(&frame_durations(&bytes))?;
        let source = Animation { bytes, format, options: options.clone() };
        Frames::new(format!("the {} animation", name(format)), timeline, Box::new(source))
    }
}

struct Animation {
    bytes: Vec<u8>,
    format: ImageFormat,
    options: DecodeOptions,
}

impl FrameSource for Animation {
    /// Frames build on one another, so all up to the last wanted one are decoded.
    fn read(&self, indices: &[usize], each: &mut dyn FnMut(Picture) -> Result<()>) -> Result<()> {
        let (frames, orientation) = self.open()?;
        let mut wanted = indices.iter().peekable();
        for (index, frame) in frames.enumerate() {
            if wanted.peek().is_none() {
                break;
            }
            let frame = frame.map_err(|error| explain(error, self.format))?;
            if wanted.next_if(|&&next| next == index).is_some() {
                each(self.picture(frame, orientation)?)?;
            }
        }
        Ok(())
    }
}

impl Animation {
    fn open(&self) -> Result<(image::Frames<'_>, Orientation)> {
        let reader = Cursor::new(self.bytes.as_slice());
        let limits = decoder_limits(&self.options.limits);
        let explain = |error: ImageError| explain(error, self.format);
        match self.format {
            ImageFormat::Gif => {
                let mut decoder = GifDecoder::new(reader).map_err(explain)?;
                decoder.set_limits(limits).map_err(explain)?;
                let orientation = self.check(&mut decoder)?;
                Ok((decoder.into_frames(), orientation))
            }
            ImageFormat::WebP => webp::frames(&self.bytes, &self.options.limits),
            _ => {
                let mut decoder = PngDecoder::with_limits(reader, limits).map_err(explain)?;
                let orientation = self.check(&mut decoder)?;
                Ok((decoder.apng().map_err(explain)?.into_frames(), orientation))
            }
        }
    }

    /// Checks the canvas against the limits and reads how to turn it.
    fn check(&self, decoder: &mut impl ImageDecoder) -> Result<Orientation> {
        let (width, height) = decoder.dimensions();
        self.options.limits.check(width, height)?;
        Ok(decoder.orientation().unwrap_or(Orientation::NoTransforms))
    }

    fn picture(&self, frame: image::Frame, orientation: Orientation) -> Result<Picture> {
        let rgba = frame.into_buffer();
        let (width, height) = rgba.dimensions();
        let mut picture = Picture { width, height, rgb: Vec::new(), notes: Vec::new() };
        picture.rgb = flatten(rgba.into_raw(), ColorType::Rgba8, &mut picture.notes)
            .expect("RGBA is a known colour type");
        Ok(picture.turned(orientation, self.options.apply_orientation))
    }
}
