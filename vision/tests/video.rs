//! Videos from folders, animations and `ffmpeg`.

mod support;

use std::fs;
use std::path::Path;

use image::{DynamicImage, ImageFormat};
use support::{apng, file, gif, sample, webp};
use vision::video::{Clip, Frames, Sampling, VideoOptions};
use vision::{DecodeOptions, Error, Note, Picture, Preprocessor};

/// All frames, without the time, so that patches can be compared.
fn plain() -> VideoOptions {
    let sampling = Sampling { target_frames: Some(1000), ..Sampling::default() };
    VideoOptions { sampling, draw_time: false, ..VideoOptions::default() }
}

fn clip_of(frames: &Frames) -> Clip {
    frames.clip(&Preprocessor::default(), &plain()).unwrap()
}

/// What a clip of these pictures looks like.
fn patches_of(pictures: &[DynamicImage]) -> Vec<f32> {
    let picture = |p: &DynamicImage| Picture::new(p.width(), p.height(), p.to_rgb8().into_raw()).unwrap();
    let pictures: Vec<Picture> = pictures.iter().map(picture).collect();
    Preprocessor::default().video(&pictures).unwrap().pixel_values
}

fn turning(n: u32) -> Vec<DynamicImage> {
    (0..n).map(|i| sample(40, 30).adjust_contrast(-10.0 * i as f32)).collect()
}

#[test]
fn a_folder_is_a_video_in_natural_order() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = turning(12);
    for (i, picture) in pictures.iter().enumerate() {
        fs::write(folder.path().join(format!("frame{i}.png")), file(picture, ImageFormat::Png)).unwrap();
    }
    fs::write(folder.path().join("notes.txt"), "not a picture").unwrap();
    fs::write(folder.path().join(".hidden.png"), "not for us").unwrap();

    let frames = Frames::open(folder.path(), &plain()).unwrap();
    assert_eq!((frames.timeline().n_frames(), frames.timeline().duration()), (12, 6.0));
    let clip = clip_of(&frames);
    assert!(clip.patches.pixel_values == patches_of(&pictures));
    assert_eq!(clip.seconds[..3], [0.0, 0.5, 1.0]);
    assert!(clip.patches.notes.contains(&Note::FrameRateAssumed { milli_fps: 2000 }));
    assert!(clip.patches.notes.contains(&Note::FilesSkipped { count: 2 }));
}

#[test]
fn a_folder_names_its_bad_frame() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Frames::open(folder.path(), &plain()), Err(Error::NoFrames { .. })));

    let good = file(&sample(40, 30), ImageFormat::Png);
    fs::write(folder.path().join("1.png"), &good).unwrap();
    fs::write(folder.path().join("2.png"), &good[..100]).unwrap();
    let frames = Frames::open(folder.path(), &plain()).unwrap();
    let error = frames.clip(&Preprocessor::default(), &plain()).unwrap_err();
    assert!(error.to_string().contains("2.png"), "{error}");

    fs::write(folder.path().join("2.png"), file(&sample(30, 40), ImageFormat::Png)).unwrap();
    let error = frames.clip(&Preprocessor::default(), &plain()).unwrap_err();
    assert!(matches!(error, Error::FrameSize { index: 1, .. }), "{error}");
}

#[test]
fn an_apng_gives_its_frames_and_times() {
    let pictures = turning(3);
    let bytes = apng(&pictures, &[200, 300, 500]);
    let frames = Frames::from_animation(bytes, &DecodeOptions::default()).unwrap();
    let clip = clip_of(&frames);
    assert!(clip.patches.pixel_values == patches_of(&pictures));
    assert_eq!(clip.seconds, [0.0, 0.2, 0.5]);
    assert!(clip.patches.notes.contains(&Note::FrameRepeated));
}

#[test]
fn a_gif_gives_its_frames_and_times() {
    // Few colours, so that the palette is exact.
    let frame = |grey: u8| DynamicImage::from(image::RgbImage::from_pixel(40, 30, image::Rgb([grey; 3])));
    let pictures = [frame(0), frame(120), frame(255), frame(60)];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gif");
    fs::write(&path, gif(&pictures, &[20, 20, 20, 20])).unwrap();
    let frames = Frames::open(&path, &plain()).unwrap();
    assert_eq!(frames.timeline().duration(), 0.8);
    assert!(clip_of(&frames).patches.pixel_values == patches_of(&pictures));
}

#[test]
fn a_webp_lays_its_frames_over_each_other() {
    let blank = |pixel: [u8; 4]| DynamicImage::from(image::RgbaImage::from_pixel(20, 10, image::Rgba(pixel)));
    let over = |base: &DynamicImage, color: [u8; 3], x: i64, y: i64| {
        let mut base = base.to_rgb8();
        image::imageops::overlay(&mut base, &image::RgbImage::from_pixel(20, 10, image::Rgb(color)), x, y);
        DynamicImage::from(base)
    };
    let first = sample(40, 30);
    let bytes = webp(
        (40, 30),
        &[
            (DynamicImage::from(first.to_rgba8()), (0, 0), 100, 2),
            (blank([9, 8, 7, 255]), (4, 6), 100, 0),     // stays
            (blank([1, 2, 3, 255]), (10, 10), 100, 1),   // is cleared after
            (blank([200, 100, 0, 0]), (10, 10), 100, 0), // fully transparent: shows the cleared canvas
            (blank([0, 0, 0, 0]), (0, 0), 100, 2),       // replaces by transparency
        ],
    );
    let second = over(&first, [9, 8, 7], 4, 6);
    let third = over(&second, [1, 2, 3], 10, 10);
    let fourth = over(&second, [255; 3], 10, 10);
    let fifth = over(&fourth, [255; 3], 0, 0);

    let frames = Frames::from_animation(bytes, &DecodeOptions::default()).unwrap();
    assert!(clip_of(&frames).patches.pixel_values == patches_of(&[first, second, third, fourth, fifth]));
}

#[test]
fn a_still_picture_is_a_video_of_one_frame() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("still.png");
    fs::write(&path, file(&sample(40, 30), ImageFormat::Png)).unwrap();
    let clip = clip_of(&Frames::open(&path, &plain()).unwrap());
    assert_eq!((clip.indices.as_slice(), clip.patches.grid_thw[0]), (&[0][..], 2));

    let error = Frames::from_animation(fs::read(&path).unwrap(), &DecodeOptions::default());
    assert!(matches!(error, Err(Error::NoFrames { .. })));
    assert!(matches!(Frames::open(Path::new("/no/such/file"), &plain()), Err(Error::Io { .. })));
}
