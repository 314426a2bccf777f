//! `--device gpu`, which Mesa's `lavapipe` stands in for. Where there is no adapter, the program says so.

#![expect(clippy::print_stdout, reason = "a test that is passed over says so")]

use std::path::Path;

use serde_json::Value;

use crate::support::{Run, ocelli, world};

/// A run on the GPU, unless there is none: then its words are checked.
fn on_gpu(dir: &Path, args: &[&str]) -> Option<Run> {
    let run = ocelli(dir, &[args, &["--device", "gpu"]].concat());
    if run.code == 2 && run.stderr.contains("requesting a GPU") {
        assert!(run.stderr.contains("install its driver, or use the CPU"), "{run:#?}");
        println!("skipped: {}", run.stderr);
        return None;
    }
    Some(run.expect(0))
}

#[test]
fn captions_are_those_of_the_processor_and_the_gpu_is_named() {
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/images");
    let caption = ["caption", "--json", "cup.jpg", "two-apples.png"];
    let Some(run) = on_gpu(&pictures, &caption) else { return };
    let words = |run: &Run| run.json().iter().map(|line| line["caption"].clone()).collect::<Vec<_>>();
    assert_eq!(words(&run), words(&ocelli(&pictures, &caption).expect(0)));
    assert!(run.stderr.contains("on ") && run.stderr.contains("(f32"), "{run:#?}");
}

#[test]
fn a_gpu_is_measured_in_what_can_be_counted() {
    let dir = world();
    let bench = ["bench", "--model", "model", "--prompt", "8", "--generate", "4", "--repetitions", "1"];
    let Some(run) = on_gpu(dir.path(), &[&bench[..], &["--json"]].concat()) else { return };
    let report = run.json().remove(0);
    assert_eq!((&report["gpu"]["reads_per_token"], &report["bandwidth_share"]), (&1.0.into(), &Value::Null));
    for figure in ["dispatches_per_token", "weight_bytes_per_token", "bytes_read_back_per_token"] {
        assert!(report["gpu"][figure].as_f64() > Some(0.0), "{figure}: {report}");
    }
    let text = on_gpu(dir.path(), &bench).unwrap().stdout;
    assert!(text.contains("dispatches") && !text.contains("bandwidth"), "{text}");
}

#[test]
fn options_of_the_processor_are_refused() {
    let dir = world();
    let ask = ["ask", "--model", "model", "--device", "gpu", "Hello"];
    for option in ["--packed-memory=1MiB", "--expert-memory=60%", "--kv-type=f32", "--quantize=q8_0"] {
        let run = ocelli(dir.path(), &[&ask[..], &[option]].concat()).expect(2);
        let (name, _) = option.split_once('=').unwrap();
        assert!(run.stderr.contains(&format!("{name} is for the processor")), "{run:#?}");
    }
    let run = ocelli(dir.path(), &["bench", "--device", "gpu", "--profile"]).expect(2);
    assert!(run.stderr.contains("--profile is for the processor"), "{run:#?}");
}
