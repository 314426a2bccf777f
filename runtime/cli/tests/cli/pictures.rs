//! `caption` and `ask`: single pictures, batches, damage on the way.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use image::codecs::gif::GifEncoder;
use image::{Frame, RgbaImage};

use crate::support::{command, ocelli, picture, world};

const MODEL: [&str; 4] = ["--model", "model", "--max-tokens", "6"];

fn with_model<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &MODEL].concat()
}

#[test]
fn one_picture_gives_one_caption() {
    let dir = world();
    picture(&dir.path().join("a.png"), 56, 84);
    let run = ocelli(dir.path(), &with_model(&["caption", "a.png"])).expect(0);
    assert!(!run.stdout.trim().is_empty() && !run.stdout.starts_with("a.png"), "{run:#?}");
    assert!(run.stdout.ends_with('\n'));
    let again =
        ocelli(dir.path(), &with_model(&["caption", "a.png", "--quiet", "--prefill-chunk", "3"])).expect(0);
    assert_eq!(run.stdout, again.stdout);
}

#[test]
fn a_damaged_picture_does_not_stop_the_others() {
    let dir = world();
    let pictures = dir.path().join("trip");
    fs::create_dir(&pictures).unwrap();
    for name in ["p2.png", "p10.jpg"] {
        picture(&pictures.join(name), 300, 200);
    }
    fs::write(pictures.join("p3.png"), &fs::read(pictures.join("p2.png")).unwrap()[..60]).unwrap();
    fs::write(pictures.join("notes.txt"), "x").unwrap();

    let run = ocelli(dir.path(), &with_model(&["caption", "trip", "missing.png", "--json"])).expect(1);
    let lines = run.json();
    let paths: Vec<_> = lines.iter().map(|line| line["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["trip/p2.png", "trip/p3.png", "trip/p10.jpg", "missing.png"]);
    for captioned in [&lines[0], &lines[2]] {
        assert!(captioned["caption"].is_string() && captioned["error"].is_null(), "{captioned}");
        assert_eq!(captioned["size"], serde_json::json!([300, 200]));
        assert!(captioned["notes"].to_string().contains("resized from 300x200"), "{captioned}");
        assert!(captioned["tokens"]["prompt"].as_u64() > Some(8), "{captioned}");
        assert!(captioned["timings"]["ttft_ms"].as_f64() > Some(0.0), "{captioned}");
    }
    assert!(lines[1]["error"].as_str().unwrap().contains("damaged PNG"), "{}", lines[1]);
    assert!(lines[3]["error"].as_str().unwrap().contains("cannot read missing.png"), "{}", lines[3]);

    let text = ocelli(dir.path(), &with_model(&["caption", "trip"])).expect(1);
    assert!(text.stdout.contains("trip/p2.png: ") && text.stdout.contains("trip/p10.jpg: "), "{text:#?}");
    assert!(text.stderr.contains("error: trip/p3.png: damaged PNG"), "{text:#?}");
    assert!(text.stderr.contains("skipped 1 file") && text.stderr.contains("1 of 3 pictures"), "{text:#?}");
    let quiet = ocelli(dir.path(), &with_model(&["caption", "trip", "--quiet"])).expect(1);
    assert_eq!(quiet.stderr.lines().count(), 1, "{quiet:#?}");
}

#[test]
fn nothing_to_caption_is_wrong_usage() {
    let dir = world();
    fs::create_dir(dir.path().join("empty")).unwrap();
    for (input, expected) in [("empty", "no pictures"), ("*.bmp", "no file matches")] {
        let run = ocelli(dir.path(), &with_model(&["caption", input])).expect(2);
        assert!(run.stderr.contains(expected), "{run:#?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let dir = world();
    picture(&dir.path().join("a.png"), 56, 56);
    let sample = |seed: &str| {
        let args = ["ask", "a.png", "What is this?", "--temperature", "3", "--seed", seed];
        ocelli(dir.path(), &with_model(&args)).expect(0).stdout
    };
    assert_eq!(sample("1"), sample("1"));
    assert_ne!(sample("1"), sample("2"));
}

#[test]
fn pictures_and_videos_answer_questions() {
    let dir = world();
    picture(&dir.path().join("a.png"), 56, 56);
    animation(&dir.path().join("b.gif"), 4);
    fs::write(dir.path().join("text.png"), "just text").unwrap();
    fs::create_dir(dir.path().join("frames")).unwrap();
    for name in ["1.png", "2.png", "3.png"] {
        picture(&dir.path().join("frames").join(name), 64, 64);
    }
    let run = ocelli(dir.path(), &with_model(&["ask", "a.png", "b.gif", "What moved?", "--json"])).expect(0);
    let answer = &run.json()[0];
    assert_eq!(answer["question"], "What moved?");
    let kinds: Vec<_> = (0..2).map(|i| answer["inputs"][i]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["picture", "video"]);
    assert!(answer["answer"].is_string());

    let run =
        ocelli(dir.path(), &with_model(&["ask", "--video", "frames", "What moved?", "--json"])).expect(0);
    assert_eq!(run.json()[0]["inputs"][0]["frames"], 4, "an odd number of frames is filled up");

    for (args, expected) in [
        (&["ask", "frames", "What?"][..], "give --video"),
        (&["ask", "a.png"], "last argument is the question"),
        (&["ask", "none.png", "What?"], "error: cannot read none.png: No such file"),
        (&["ask", "a.png", " "], "it is empty"),
        (&["ask", "text.png", "What?"], "a file that begins with \"just text\""),
        (&["ask", "b.gif", "What?", "--frames", "0"], "at least one"),
        (&["ask", "a.png", "What?", "--max-pixels", "5"], "--max-pixels"),
    ] {
        let run = ocelli(dir.path(), &with_model(args)).expect(2);
        assert!(run.stderr.contains(expected), "{run:#?}");
    }
}

fn animation(path: &Path, n: u8) {
    let mut encoder = GifEncoder::new(File::create(path).unwrap());
    for i in 0..n {
        let frame = RgbaImage::from_pixel(60, 60, image::Rgba([i * 50, 80, 90, 255]));
        encoder.encode_frame(Frame::new(frame)).unwrap();
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let dir = world();
    let mut child = command(dir.path(), &["completions", "zsh"]).spawn().unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(child.wait().unwrap().success() && stderr.is_empty(), "{stderr}");
}
