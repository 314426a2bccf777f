//! Picture files to upright 8-bit RGB, under limits that hold before memory is taken.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};

use crate::container::frame_durations;
use crate::flatten::flatten;
use crate::jpeg::JpegFacts;
use crate::{Error, Note, Picture, Result};

/// How much a picture file may ask of us. Checked on the header, before pixels are allocated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Size of the file. Default 128 MiB.
    pub max_bytes: usize,
    /// Longer side in pixels. Default 32768.
    pub max_side: u32,
    /// Width times height. Default 100 million, which is 0.3 GB as RGB and 0.8 GB as 16-bit RGBA.
    pub max_pixels: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_bytes: 128 << 20, max_side: 32_768, max_pixels: 100_000_000 }
    }
}

/// What [`decode`] is allowed and asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Bounds on the file and the picture.
    pub limits: Limits,
    /// Turn the picture upright as its EXIF data asks. Default true.
    pub apply_orientation: bool,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        DecodeOptions { limits: Limits::default(), apply_orientation: true }
    }
}

/// Decodes a PNG, JPEG, WebP, GIF or BMP file. The format is found from the bytes, not from a name.
///
/// - Transparent pixels are laid over white, with the rounding of PIL's `alpha_composite`.
/// - 16-bit samples keep their high byte. (PIL clips 16-bit grey to 255 instead, which turns such
///   pictures white.)
/// - Of an animation the first frame is used; see [`video`](crate::video) for the others.
///
/// All of this is listed in [`Picture::notes`].
///
/// # Errors
/// If a limit is passed, the format is unknown, or the file is damaged or cut short. No input
/// panics.
pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Picture> {
    let format = sniff(bytes, &options.limits)?;
    let mut notes = Vec::new();
    if format == ImageFormat::Jpeg {
        check_jpeg(bytes, &mut notes)?;
    }
    let decoder = open(bytes, format, &options.limits)?;
    let picture = read(decoder, format, options, notes)?;
    Ok(match frame_durations(bytes).len() {
        0 | 1 => picture,
        of => picture.with_note(Note::FramesDropped { kept: 1, of }),
    })
}

/// Checks the size of the file and finds its format.
pub(crate) fn sniff(bytes: &[u8], limits: &Limits) -> Result<ImageFormat> {
    if bytes.len() > limits.max_bytes {
        return Err(Error::TooManyBytes { found: bytes.len(), max: limits.max_bytes });
    }
    let unknown = |found: String| Err(Error::UnknownFormat { found });
    match image::guess_format(bytes) {
        Ok(
            format @ (ImageFormat::Png
            | ImageFormat::Jpeg
            | ImageFormat::WebP
            | ImageFormat::Gif
            | ImageFormat::Bmp),
        ) => Ok(format),
        Ok(other) => unknown(format!("a {} file", name(other))),
        Err(_) if bytes.is_empty() => unknown("an empty file".to_string()),
        Err(_) => {
            let start = String::from_utf8_lossy(&bytes[..bytes.len().min(12)]).into_owned();
            unknown(format!("a file that begins with {start:?}"))
        }
    }
}

/// Opens a decoder whose picture is known to be within the limits.
fn open<'a>(bytes: &'a [u8], format: ImageFormat, limits: &Limits) -> Result<impl ImageDecoder + 'a> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(decoder_limits(limits));
    let decoder = reader.into_decoder().map_err(|error| explain(error, format))?;
    let (width, height) = decoder.dimensions();
    limits.check(width, height)?;
    Ok(decoder)
}

/// A bound on what decoders keep beside the picture, such as colour profiles and compressed text.
/// The picture's own size is checked by [`Limits::check`], with a message that can name it.
pub(crate) fn decoder_limits(limits: &Limits) -> image::Limits {
    let mut inner = image::Limits::no_limits();
    inner.max_alloc = Some(limits.max_pixels.saturating_mul(8).saturating_add(64 << 20));
    inner
}

impl Limits {
    pub(crate) fn check(&self, width: u32, height: u32) -> Result<()> {
        if width == 0 || height == 0 {
            return Err(Error::Empty { width, height });
        }
        if width.max(height) > self.max_side {
            let max = format!("{} pixels a side", self.max_side);
            return Err(Error::TooLarge { width, height, max, limit: "max_side" });
        }
        if u64::from(width) * u64::from(height) > self.max_pixels {
            let max = format!("{} pixels", self.max_pixels);
            return Err(Error::TooLarge { width, height, max, limit: "max_pixels" });
        }
        Ok(())
    }
}

fn check_jpeg(bytes: &[u8], notes: &mut Vec<Note>) -> Result<()> {
    let facts = JpegFacts::read(bytes);
    if !facts.is_complete {
        let reason = "it ends before its end marker, so part of the picture is missing".to_string();
        return Err(Error::Damaged { format: "JPEG", reason });
    }
    if facts.n_components == 4 {
        notes.push(Note::CmykConverted);
    }
    Ok(())
}

fn read(
    mut decoder: impl ImageDecoder,
    format: ImageFormat,
    options: &DecodeOptions,
    mut notes: Vec<Note>,
) -> Result<Picture> {
    // A damaged EXIF block is no reason to refuse the pixels.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let (width, height) = decoder.dimensions();
    let color = decoder.color_type();
    let n_bytes = usize::try_from(decoder.total_bytes()).map_err(|_| {
        let max = "what this machine can address".to_string();
        Error::TooLarge { width, height, max, limit: "max_pixels" }
    })?;
    let mut samples = vec![0; n_bytes];
    decoder.read_image(&mut samples).map_err(|error| explain(error, format))?;

    let rgb = flatten(samples, color, &mut notes)
        .ok_or_else(|| Error::Unsupported { format: name(format), feature: format!("{color:?} samples") })?;
    let picture = Picture { width, height, rgb, notes };
    picture.check()?;
    Ok(picture.turned(orientation, options.apply_orientation))
}

impl Picture {
    pub(crate) fn with_note(mut self, note: Note) -> Self {
        self.notes.push(note);
        self
    }

    /// The picture as its EXIF orientation shows it, or just a note of it.
    pub(crate) fn turned(self, orientation: Orientation, apply: bool) -> Self {
        if orientation == Orientation::NoTransforms {
            return self;
        }
        if !apply {
            return self.with_note(Note::OrientationIgnored(orientation.to_exif()));
        }
        let Picture { width, height, rgb, notes } = self;
        let upright = RgbImage::from_raw(width, height, rgb).expect("`check` compared the lengths");
        let mut upright = DynamicImage::ImageRgb8(upright);
        upright.apply_orientation(orientation);
        let (width, height) = (upright.width(), upright.height());
        Picture { width, height, rgb: upright.into_rgb8().into_raw(), notes }
            .with_note(Note::OrientationApplied(orientation.to_exif()))
    }
}

/// The error of a decoder in our words.
pub(crate) fn explain(error: ImageError, format: ImageFormat) -> Error {
    let format = name(format);
    match error {
        ImageError::Unsupported(error) => Error::Unsupported { format, feature: error.to_string() },
        other => Error::Damaged { format, reason: other.to_string() },
    }
}

pub(crate) fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::Ico => "ICO",
        ImageFormat::Avif => "AVIF",
        ImageFormat::Hdr => "HDR",
        ImageFormat::OpenExr => "OpenEXR",
        ImageFormat::Dds => "DDS",
        ImageFormat::Pnm => "PNM",
        ImageFormat::Farbfeld => "Farbfeld",
        ImageFormat::Qoi => "QOI",
        _ => "picture",
    }
}
