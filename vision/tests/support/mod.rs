//! Picture files made on the spot, for the tests of this folder.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::Cursor;

use image::codecs::png::PngEncoder;
use image::{DynamicImage, ExtendedColorType, ImageEncoder, ImageFormat};

/// A small picture in which every pixel is different.
pub(crate) fn sample(width: u32, height: u32) -> DynamicImage {
    let pixel = |x: u32, y: u32| image::Rgb([(x * 7) as u8, (y * 11) as u8, (x * y) as u8]);
    image::RgbImage::from_fn(width, height, pixel).into()
}

/// A picture as a file. WebP is lossless.
pub(crate) fn file(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("the encoder takes this colour type");
    bytes.into_inner()
}

/// A PNG with an EXIF block that holds nothing but the orientation.
pub(crate) fn png_with_orientation(picture: &DynamicImage, orientation: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif(orientation)).expect("PNG holds EXIF");
    let rgb = picture.to_rgb8();
    encoder.write_image(&rgb, rgb.width(), rgb.height(), ExtendedColorType::Rgb8).expect("PNG holds RGB");
    bytes
}

/// Little-endian TIFF with one entry: tag 0x112, type short, count 1.
pub(crate) fn exif(orientation: u8) -> Vec<u8> {
    let mut bytes = b"II\x2a\0\x08\0\0\0\x01\0".to_vec();
    bytes.extend([0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0]);
    bytes.extend([0; 4]);
    bytes
}

/// A GIF of full frames that are shown for the given hundredths of a second.
pub(crate) fn gif(frames: &[DynamicImage], delays: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
    for (frame, &delay) in frames.iter().zip(delays) {
        let delay = image::Delay::from_numer_denom_ms(u32::from(delay) * 10, 1);
        let frame = image::Frame::from_parts(frame.to_rgba8(), 0, 0, delay);
        encoder.encode_frame(frame).expect("GIF takes frames");
    }
    drop(encoder);
    bytes
}

/// An APNG of full RGB frames that are shown for the given milliseconds.
pub(crate) fn apng(frames: &[DynamicImage], delays: &[u16]) -> Vec<u8> {
    let chunk = |name: &[u8; 4], data: &[u8]| {
        let body = [name, data].concat();
        [&(data.len() as u32).to_be_bytes()[..], &body, &crc32(&body).to_be_bytes()].concat()
    };
    let stills: Vec<Vec<u8>> = frames.iter().map(|frame| file(frame, ImageFormat::Png)).collect();
    let (width, height) = (frames[0].width().to_be_bytes(), frames[0].height().to_be_bytes());

    let mut bytes = stills[0][..33].to_vec(); // signature and header
    bytes.extend(chunk(b"acTL", &[(frames.len() as u32).to_be_bytes(), [0; 4]].concat()));
    let mut sequence = 0u32;
    for (i, still) in stills.iter().enumerate() {
        let delay = [delays[i].to_be_bytes(), 1000u16.to_be_bytes()].concat();
        let header = [&sequence.to_be_bytes()[..], &width, &height, &[0; 8], &delay, &[0, 0]].concat();
        bytes.extend(chunk(b"fcTL", &header));
        sequence += 1;
        for data in png_data(still) {
            if i == 0 {
                bytes.extend(chunk(b"IDAT", data));
            } else {
                bytes.extend(chunk(b"fdAT", &[&sequence.to_be_bytes()[..], data].concat()));
                sequence += 1;
            }
        }
    }
    bytes.extend(chunk(b"IEND", &[]));
    bytes
}

/// The contents of a PNG's `IDAT` chunks.
fn png_data(png: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut at = 8;
    while at < png.len() {
        let len = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        if &png[at + 4..at + 8] == b"IDAT" {
            found.push(&png[at + 8..at + 8 + len]);
        }
        at += 12 + len;
    }
    found
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// An animated WebP. Each frame is a picture, its place, its milliseconds and its flags
/// (1 clears it after display, 2 replaces instead of blending).
pub(crate) fn webp(canvas: (u32, u32), frames: &[(DynamicImage, (u32, u32), u32, u8)]) -> Vec<u8> {
    let three = |n: u32| n.to_le_bytes()[..3].to_vec();
    let chunk = |name: &[u8; 4], data: &[u8]| {
        let mut bytes = [name, &(data.len() as u32).to_le_bytes()[..], data].concat();
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        bytes
    };
    let mut body = b"WEBP".to_vec();
    body.extend(chunk(b"VP8X", &[vec![0x12, 0, 0, 0], three(canvas.0 - 1), three(canvas.1 - 1)].concat()));
    body.extend(chunk(b"ANIM", &[0; 6]));
    for (picture, (x, y), ms, flags) in frames {
        let mut data = [x / 2, y / 2, picture.width() - 1, picture.height() - 1, *ms].map(three).concat();
        data.push(*flags);
        data.extend(&file(picture, ImageFormat::WebP)[12..]);
        body.extend(chunk(b"ANMF", &data));
    }
    [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat()
}
