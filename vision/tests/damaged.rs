//! Broken files are reported, never a panic.

mod support;

use image::{DynamicImage, ImageFormat};
use proptest::prelude::*;
use support::{apng, file, gif, png_with_orientation, sample, webp};
use vision::video::{Frames, VideoOptions};
use vision::{DecodeOptions, Error, Limits, Preprocessor, decode};

/// Small limits, so that a flipped bit in a size costs no time.
fn options() -> DecodeOptions {
    let limits = Limits { max_pixels: 1 << 20, ..Limits::default() };
    DecodeOptions { limits, ..DecodeOptions::default() }
}

/// Takes all the ways bytes can go through this crate.
fn swallow(bytes: &[u8]) {
    let _ = decode(bytes, &options());
    let video = VideoOptions { decode: options(), ..VideoOptions::default() };
    // One patch per frame is enough.
    let pre = Preprocessor { video_min_pixels: 784, video_max_pixels: 784, ..Preprocessor::default() };
    let _ = Frames::from_animation(bytes.to_vec(), &options()).and_then(|frames| frames.clip(&pre, &video));
}

/// One small file of each kind.
fn samples() -> Vec<Vec<u8>> {
    let picture = sample(24, 17);
    let rgba = DynamicImage::from(picture.to_rgba8());
    let frames = [picture.clone(), picture.rotate180()];
    vec![
        file(&picture, ImageFormat::Png),
        file(&picture, ImageFormat::Jpeg),
        file(&picture, ImageFormat::WebP),
        file(&picture, ImageFormat::Bmp),
        file(&rgba, ImageFormat::WebP),
        png_with_orientation(&picture, 6),
        gif(&frames, &[10, 20]),
        apng(&frames, &[100, 200]),
        webp((24, 17), &[(rgba.clone(), (0, 0), 50, 0), (rgba.crop_imm(0, 0, 8, 8), (4, 4), 60, 1)]),
    ]
}

#[test]
fn a_file_cut_anywhere_does_not_panic() {
    for bytes in samples() {
        for len in 0..bytes.len() {
            swallow(&bytes[..len]);
        }
    }
}

#[test]
fn a_file_cut_in_the_middle_is_damaged() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Bmp] {
        let bytes = file(&sample(64, 48), format);
        let error = decode(&bytes[..bytes.len() / 2], &options()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{format:?}: {error}");
    }
    let jpeg = file(&sample(64, 48), ImageFormat::Jpeg);
    let message = decode(&jpeg[..jpeg.len() - 2], &options()).unwrap_err().to_string();
    assert!(message.contains("ends before its end marker"), "{message}");
}

#[test]
fn a_flipped_bit_does_not_panic() {
    for bytes in samples() {
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            swallow(&bytes);
        }
    }
}

/// The first bytes of each format, so that noise gets past the sniffing.
const STARTS: [&[u8]; 8] = [
    b"",
    b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR",
    b"\xff\xd8\xff",
    b"GIF89a",
    b"BM",
    b"RIFF\xff\0\0\0WEBPVP8L",
    b"RIFF\xff\0\0\0WEBPVP8 ",
    b"RIFF\xff\0\0\0WEBPVP8X\x0a\0\0\0\x12\0\0\0\x07\0\0\x07\0\0ANIM\x06\0\0\0\0\0\0\0\0\0ANMF",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn noise_does_not_panic(start in 0..STARTS.len(), noise in prop::collection::vec(any::<u8>(), 0..400)) {
        swallow(&[STARTS[start], &noise].concat());
    }

    #[test]
    fn several_changes_do_not_panic(
        which in 0usize..9,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = samples().swap_remove(which);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        swallow(&bytes);
    }
}
