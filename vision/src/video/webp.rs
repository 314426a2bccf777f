//! Frames of an animated WebP.
//!
//! The decoder's own animation (image-webp 0.2) rounds opaque pixels when it blends them and clears
//! the wrong rectangle after frames without alpha. So each frame is decoded as a still picture here,
//! and laid on the canvas as libwebp does.

use std::io::Cursor;

use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{
    Delay, DynamicImage, Frame, ImageDecoder, ImageError, ImageFormat, ImageResult, Rgba, RgbaImage,
};

use crate::container::riff_chunks;
use crate::decode::explain;
use crate::{Limits, Result};

/// The frames of an animated WebP on their canvas, and how to turn them upright.
pub(super) fn frames<'a>(bytes: &'a [u8], limits: &Limits) -> Result<(image::Frames<'a>, Orientation)> {
    let mut decoder =
        WebPDecoder::new(Cursor::new(bytes)).map_err(|error| explain(error, ImageFormat::WebP))?;
    let (width, height) = decoder.dimensions();
    limits.check(width, height)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);

    let mut canvas = Canvas { pixels: RgbaImage::new(width, height), to_clear: None };
    let frames = riff_chunks(&bytes[12..])
        .filter(|(name, _)| name == b"ANMF")
        .map(move |(_, payload)| canvas.show(payload).map(|()| canvas.pixels.clone()));
    // Durations are known already, see `frame_durations`.
    let frames = frames
        .map(|pixels| pixels.map(|rgba| Frame::from_parts(rgba, 0, 0, Delay::from_numer_denom_ms(0, 1))));
    Ok((image::Frames::new(Box::new(frames)), orientation))
}

struct Canvas {
    pixels: RgbaImage,
    /// What the last frame covered, if it is to be cleared before the next: x, y, width, height.
    to_clear: Option<[u32; 4]>,
}

impl Canvas {
    /// Lays the frame of an `ANMF` chunk on the canvas.
    fn show(&mut self, payload: &[u8]) -> ImageResult<()> {
        let (header, chunks) =
            payload.split_first_chunk::<16>().ok_or_else(|| damaged("a frame has no header"))?;
        let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], 0]);
        let [x, y, width, height] = [number(0) * 2, number(3) * 2, number(6) + 1, number(9) + 1];
        let (is_blended, is_cleared) = (header[15] & 2 == 0, header[15] & 1 != 0);
        // All are below 2^25, so sums do not overflow.
        if x + width > self.pixels.width() || y + height > self.pixels.height() {
            return Err(damaged("a frame lies outside the picture"));
        }

        let decoder = WebPDecoder::new(Cursor::new(still_file(chunks, width, height)))?;
        if decoder.dimensions() != (width, height) || decoder.has_animation() {
            return Err(damaged("a frame is not of its stated size"));
        }
        let frame = DynamicImage::from_decoder(decoder)?.into_rgba8();

        if let Some([x, y, width, height]) = self.to_clear.take() {
            self.rectangle(x, y, width, height, |_, _, pixel| *pixel = Rgba([0; 4]));
        }
        self.rectangle(x, y, width, height, |x, y, pixel| {
            let over = *frame.get_pixel(x, y);
            *pixel = if is_blended { blend(over, *pixel) } else { over };
        });
        if is_cleared {
            self.to_clear = Some([x, y, width, height]);
        }
        Ok(())
    }

    /// Calls `each` with the pixels of a rectangle and their places within it.
    fn rectangle(
        &mut self,
        x: u32,
        y: u32,
        width: u32,
        height: u32,
        mut each: impl FnMut(u32, u32, &mut Rgba<u8>),
    ) {
        for dy in 0..height {
            for dx in 0..width {
                each(dx, dy, self.pixels.get_pixel_mut(x + dx, y + dy));
            }
        }
    }
}

/// One pixel over another, both with straight alpha, in libwebp's integer arithmetic
/// (`BlendPixelNonPremult` in `src/demux/anim_decode.c`).
fn blend(over: Rgba<u8>, under: Rgba<u8>) -> Rgba<u8> {
    let alpha = u32::from(over[3]);
    if alpha == 255 {
        return over;
    }
    if alpha == 0 {
        return under;
    }
    let under_alpha = (u32::from(under[3]) * (256 - alpha)) >> 8;
    let sum = alpha + under_alpha;
    let scale = (1 << 24) / sum;
    let channel = |c: usize| {
        let weighted = u32::from(over[c]) * alpha + u32::from(under[c]) * under_alpha;
        ((weighted * scale) >> 24) as u8
    };
    Rgba([channel(0), channel(1), channel(2), sum as u8])
}

/// The chunks of a frame as a WebP file of its own.
fn still_file(chunks: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WEBP".to_vec();
    // Alpha beside a lossy picture needs the extended header.
    if chunks.starts_with(b"ALPH") {
        const HAS_ALPHA: u8 = 0x10;
        file.extend(b"VP8X\x0a\0\0\0");
        file.extend([HAS_ALPHA, 0, 0, 0]);
        file.extend(&(width - 1).to_le_bytes()[..3]);
        file.extend(&(height - 1).to_le_bytes()[..3]);
    }
    file.extend(chunks);
    let len = (file.len() - 8) as u32;
    file[4..8].copy_from_slice(&len.to_le_bytes());
    file
}

fn damaged(reason: &'static str) -> ImageError {
    let hint = image::error::ImageFormatHint::Exact(ImageFormat::WebP);
    ImageError::Decoding(image::error::DecodingError::new(hint, reason))
}
