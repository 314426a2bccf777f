//! Files of every format and colour type to upright RGB, and the limits that hold before.

mod support;

use image::{DynamicImage, ImageFormat};
use support::{exif, file, gif, png_with_orientation, sample};
use vision::{DecodeOptions, Error, Limits, Note, decode};

#[track_caller]
fn check(bytes: &[u8], expected: &DynamicImage, notes: &[Note]) {
    let picture = decode(bytes, &DecodeOptions::default()).unwrap();
    assert_eq!((picture.width, picture.height), (expected.width(), expected.height()));
    assert!(picture.rgb == expected.to_rgb8().into_raw(), "pixels differ");
    assert_eq!(picture.notes, notes);
}

#[test]
fn every_lossless_format_keeps_its_pixels() {
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp] {
        check(&file(&sample(37, 21), format), &sample(37, 21), &[]);
        check(&file(&sample(1, 1), format), &sample(1, 1), &[]);
    }
    let grey = sample(37, 21).grayscale();
    check(&file(&grey, ImageFormat::Png), &grey, &[]);
}

#[test]
fn jpeg_stays_close() {
    let smooth = image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([(x * 2) as u8, (y * 3) as u8, 90]));
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95);
    smooth.write_with_encoder(encoder).unwrap();
    let picture = decode(&bytes, &DecodeOptions::default()).unwrap();
    let worst = picture.rgb.iter().zip(smooth.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(worst <= Some(8), "{worst:?}");
}

#[test]
fn transparency_becomes_white() {
    let mut rgba = sample(16, 16).to_rgba8();
    rgba.enumerate_pixels_mut().for_each(|(x, _, pixel)| pixel[3] = (x * 17) as u8);
    let mut expected = sample(16, 16).to_rgb8();
    expected.enumerate_pixels_mut().for_each(|(x, _, pixel)| {
        let alpha = x * 17;
        // PIL's `alpha_composite`, see `flatten`.
        pixel.0 = pixel.0.map(|sample| {
            let weighted = (u32::from(sample) * alpha + 255 * (255 - alpha)) * 128 + 128 * 128;
            ((((weighted >> 8) + weighted) >> 8) >> 7) as u8
        });
    });
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        check(&file(&rgba.clone().into(), format), &expected.clone().into(), &[Note::AlphaOnWhite]);
    }

    let opaque = DynamicImage::from(sample(16, 16).to_rgba8());
    check(&file(&opaque, ImageFormat::Png), &opaque, &[]);
}

#[test]
fn sixteen_bits_keep_the_high_byte() {
    let deep = image::ImageBuffer::from_fn(5, 3, |x, y| {
        image::Rgb([(x * 13000) as u16, 0x12ff, (y * 20000) as u16])
    });
    let expected = image::RgbImage::from_fn(5, 3, |x, y| {
        image::Rgb([((x * 13000) >> 8) as u8, 0x12, ((y * 20000) >> 8) as u8])
    });
    let deep = DynamicImage::ImageRgb16(deep);
    check(&file(&deep, ImageFormat::Png), &expected.into(), &[Note::SixteenBitReduced]);

    let grey = DynamicImage::ImageLuma16(image::ImageBuffer::from_fn(5, 3, |x, _| {
        image::Luma([(x * 16000) as u16])
    }));
    let expected = image::GrayImage::from_fn(5, 3, |x, _| image::Luma([((x * 16000) >> 8) as u8]));
    check(&file(&grey, ImageFormat::Png), &expected.into(), &[Note::SixteenBitReduced]);
}

/// Where the pixel that is shown at `(x, y)` is stored, in a picture stored as `w` by `h`.
fn stored_at(orientation: u8, w: u32, h: u32, x: u32, y: u32) -> (u32, u32) {
    match orientation {
        2 => (w - 1 - x, y),
        3 => (w - 1 - x, h - 1 - y),
        4 => (x, h - 1 - y),
        5 => (y, x),
        6 => (y, h - 1 - x),
        7 => (w - 1 - y, h - 1 - x),
        8 => (w - 1 - y, x),
        _ => (x, y),
    }
}

#[test]
fn exif_orientation_is_applied_and_said() {
    let (w, h) = (13, 7);
    let stored = sample(w, h).to_rgb8();
    for orientation in 1..=8 {
        let (shown_w, shown_h) = if orientation >= 5 { (h, w) } else { (w, h) };
        let shown = image::RgbImage::from_fn(shown_w, shown_h, |x, y| {
            let (x, y) = stored_at(orientation, w, h, x, y);
            *stored.get_pixel(x, y)
        });
        let notes = if orientation == 1 { vec![] } else { vec![Note::OrientationApplied(orientation)] };
        check(&png_with_orientation(&sample(w, h), orientation), &shown.into(), &notes);
    }
}

#[test]
fn exif_orientation_can_be_left_alone() {
    let options = DecodeOptions { apply_orientation: false, ..DecodeOptions::default() };
    let picture = decode(&png_with_orientation(&sample(13, 7), 6), &options).unwrap();
    assert_eq!((picture.width, picture.height), (13, 7));
    assert_eq!(picture.notes, [Note::OrientationIgnored(6)]);
}

#[test]
fn jpeg_orientation_is_read_too() {
    let jpeg = file(&sample(16, 8), ImageFormat::Jpeg);
    let block = [b"Exif\0\0".as_slice(), &exif(8)].concat();
    let segment = [&[0xff, 0xe1], &(block.len() as u16 + 2).to_be_bytes()[..], &block].concat();
    let turned = [&jpeg[..2], &segment, &jpeg[2..]].concat();
    let picture = decode(&turned, &DecodeOptions::default()).unwrap();
    assert_eq!((picture.width, picture.height), (8, 16));
    assert_eq!(picture.notes, [Note::OrientationApplied(8)]);
}

#[test]
fn the_first_frame_of_an_animation_is_used_and_said() {
    let frames = [sample(8, 8), sample(8, 8).rotate180(), sample(8, 8).fliph()];
    let bytes = gif(&frames, &[10, 10, 10]);
    let first = decode(&gif(&frames[..1], &[10]), &DecodeOptions::default()).unwrap();
    let picture = decode(&bytes, &DecodeOptions::default()).unwrap();
    assert_eq!(picture.rgb, first.rgb);
    assert_eq!(picture.notes, [Note::FramesDropped { kept: 1, of: 3 }]);
    assert_eq!(first.notes, []);
}

#[test]
fn limits_name_themselves() {
    let bytes = file(&sample(40, 30), ImageFormat::Png);
    let refuse = |limits: Limits| {
        decode(&bytes, &DecodeOptions { limits, ..DecodeOptions::default() }).unwrap_err().to_string()
    };
    let message = refuse(Limits { max_bytes: 10, ..Limits::default() });
    assert!(message.contains("`max_bytes`"), "{message}");
    let message = refuse(Limits { max_pixels: 1199, ..Limits::default() });
    assert_eq!(message, "the picture is 40x30, the limit is 1199 pixels; shrink it or raise `max_pixels`");
    let message = refuse(Limits { max_side: 39, ..Limits::default() });
    assert_eq!(message, "the picture is 40x30, the limit is 39 pixels a side; shrink it or raise `max_side`");
    let fitting = Limits { max_bytes: bytes.len(), max_side: 40, max_pixels: 1200 };
    assert!(decode(&bytes, &DecodeOptions { limits: fitting, ..DecodeOptions::default() }).is_ok());
}

#[test]
fn a_header_that_promises_too_much_is_refused_at_once() {
    let png = {
        let mut bytes = file(&sample(4, 4), ImageFormat::Png);
        bytes[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]); // 30000x30000
        let crc = crc_of_header(&bytes);
        bytes[29..33].copy_from_slice(&crc);
        bytes
    };
    let bmp = {
        let mut bytes = file(&sample(4, 4), ImageFormat::Bmp);
        bytes[18..26].copy_from_slice(&[0x30, 0x75, 0, 0, 0x30, 0x75, 0, 0]);
        bytes
    };
    let gif = {
        let mut bytes = gif(&[sample(4, 4)], &[1]);
        bytes[6..10].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
        bytes
    };
    let jpeg = {
        let mut bytes = file(&sample(4, 4), ImageFormat::Jpeg);
        let header = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        bytes[header + 5..header + 9].copy_from_slice(&[0x75, 0x30, 0x75, 0x30]);
        bytes
    };
    let webp = {
        // VP8L: 14 bits each of width less one and height less one.
        let mut bytes = file(&sample(4, 4), ImageFormat::WebP);
        let at = bytes.windows(4).position(|name| name == b"VP8L").unwrap() + 9;
        bytes[at..at + 4].copy_from_slice(&(0x3ffe | (0x3ffe << 14) as u32).to_le_bytes());
        bytes
    };
    for (name, bytes) in [("png", png), ("bmp", bmp), ("gif", gif), ("jpeg", jpeg), ("webp", webp)] {
        let error = decode(&bytes, &DecodeOptions::default()).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. } | Error::Damaged { .. }), "{name}: {error}");
        assert!(error.to_string().contains("limit"), "{name}: {error}");
    }
}

/// The checksum of a PNG's first chunk.
fn crc_of_header(png: &[u8]) -> [u8; 4] {
    let crc = png[12..29].iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    (!crc).to_be_bytes()
}

#[test]
fn other_files_are_named() {
    for (bytes, expected) in [
        (&b""[..], "an empty file is not a picture"),
        (b"hello world", "begins with \"hello world\""),
        (b"II\x2a\0\x08\0\0\0", "a TIFF file"),
        (b"%PDF-1.7", "begins with \"%PDF-1.7\""),
    ] {
        let message = decode(bytes, &DecodeOptions::default()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}
