//! Video files through child processes, played by shell scripts so that no `ffmpeg` is needed.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use vision::video::{Frames, VideoOptions};
use vision::{Note, Preprocessor};

/// Names the video in a child of this test program; see [`read_with`].
const VIDEO: &str = "VISION_TEST_VIDEO";
/// How long that child waits, in seconds.
const TIMEOUT: &str = "VISION_TEST_TIMEOUT";

const PROBE: &str = r#"echo '{"streams":[{"width":4,"height":2,"avg_frame_rate":"4/1","nb_frames":"6"}]}'"#;
/// Six frames of 4 by 2 pixels.
const FRAMES: &str = r#"for i in 1 2 3 4 5 6; do printf 'P6\n4 2\n255\n%s' 'abcdefghijklmnopqrstuvwx'; done"#;

/// Reads a video in a child process that has these scripts as its only programs, and returns what it
/// printed. PATH belongs to the whole process, so tests must not change their own.
fn read_with(scripts: &[(&str, &str)], timeout: u64) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, body) in scripts {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let video = folder.path().join("-a video.mp4");
    fs::write(&video, "no picture at all").unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_reads_a_video", "--nocapture"])
        .env("PATH", folder.path())
        .env(VIDEO, &video)
        .env(TIMEOUT, timeout.to_string())
        .output()
        .unwrap();
    String::from_utf8_lossy(&child.stdout).replace(&video.display().to_string(), "VIDEO")
}

/// Does nothing unless [`read_with`] started it.
#[test]
fn child_that_reads_a_video() {
    let Some(path) = std::env::var_os(VIDEO) else { return };
    let timeout = Duration::from_secs(std::env::var(TIMEOUT).unwrap().parse().unwrap());
    let options = VideoOptions { timeout, ..VideoOptions::default() };
    let clip =
        Frames::open(Path::new(&path), &options).and_then(|f| f.clip(&Preprocessor::default(), &options));
    #[expect(clippy::print_stdout, reason = "the parent test reads it")]
    match clip {
        Ok(clip) => {
            let missing = clip.patches.notes.iter().find(|note| matches!(note, Note::FramesMissing { .. }));
            println!("frames {:?} at {:?}, missing {missing:?}", clip.indices, clip.seconds);
        }
        Err(error) => println!("error: {error}"),
    }
}

#[track_caller]
fn check(scripts: &[(&str, &str)], expected: &str) {
    // Programs that answer at once still wait for their turn on a busy machine.
    let output = read_with(scripts, 60);
    assert!(output.contains(expected), "{output}");
}

#[test]
fn frames_come_from_ffmpeg() {
    check(
        &[("ffprobe", PROBE), ("ffmpeg", FRAMES)],
        "frames [0, 1, 2, 3, 4, 5] at [0.0, 0.25, 0.5, 0.75, 1.0, 1.25], missing None",
    );
}

#[test]
fn ffmpeg_gets_the_path_as_a_file_and_the_frames_by_number() {
    let show = r#"echo "got $*" >&2; exit 1"#;
    check(&[("ffprobe", PROBE), ("ffmpeg", show)], "-protocol_whitelist file -i file:VIDEO");
    check(&[("ffprobe", PROBE), ("ffmpeg", show)], "select='eq(n,0)+eq(n,1)+");
}

#[test]
fn frames_are_counted_when_the_file_does_not_say() {
    let probe = r#"case "$*" in
        *-count_packets*) n='"nb_read_packets":"6"';;
        *) n='"nb_frames":"N/A"';;
    esac
    echo "{\"streams\":[{\"width\":4,\"height\":2,\"avg_frame_rate\":\"4/1\",$n}]}""#;
    check(&[("ffprobe", probe), ("ffmpeg", FRAMES)], "frames [0, 1, 2, 3, 4, 5]");
}

#[test]
fn a_video_that_ends_early_is_used_and_said() {
    let probe = PROBE.replace('6', "9");
    check(
        &[("ffprobe", &probe), ("ffmpeg", FRAMES)],
        "frames [0, 1, 2, 3, 4, 5] at [0.0, 0.25, 0.5, 0.75, 1.0, 1.25], missing Some(FramesMissing { got: 6, of: 9 })",
    );
    check(&[("ffprobe", PROBE), ("ffmpeg", "true")], "error: VIDEO holds no frames");
}

#[test]
fn missing_programs_are_named() {
    check(&[], "error: `ffprobe` is needed to read VIDEO and is not on PATH; install ffmpeg");
    check(&[("ffprobe", PROBE)], "error: `ffmpeg` is needed to read VIDEO and is not on PATH");
}

#[test]
fn failures_are_told_in_the_programs_own_words() {
    let fail = "echo moov atom not found >&2; exit 1";
    check(&[("ffprobe", fail)], "error: `ffprobe` could not read VIDEO: moov atom not found");
    check(
        &[("ffprobe", PROBE), ("ffmpeg", fail)],
        "error: `ffmpeg` could not read VIDEO: moov atom not found",
    );
    check(&[("ffprobe", "echo nonsense")], "error: `ffprobe` could not read VIDEO: its answer is not JSON");
    check(&[("ffprobe", "echo '{}'")], "the file holds no video");
    check(&[("ffprobe", PROBE), ("ffmpeg", "echo nonsense")], "unexpected frame header");
    let huge = PROBE.replace("\"width\":4", "\"width\":400000");
    check(&[("ffprobe", &huge)], "error: the picture is 400000x2, the limit is 32768 pixels a side");
}

#[test]
fn slow_programs_are_stopped() {
    let slow = "exec /bin/sleep 60";
    let probing = read_with(&[("ffprobe", slow)], 1);
    assert!(probing.contains("error: `ffprobe` was stopped after 1 s on VIDEO"), "{probing}");
    // The probe has this long too.
    let reading = read_with(&[("ffprobe", PROBE), ("ffmpeg", slow)], 5);
    assert!(reading.contains("error: `ffmpeg` was stopped after 5 s on VIDEO"), "{reading}");
}
