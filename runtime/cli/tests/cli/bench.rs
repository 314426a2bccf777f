//! `bench`, alone and against a stand-in of `llama-bench`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{ocelli, recorded, world};

#[test]
fn a_model_is_measured() {
    let dir = world();
    let args = ["bench", "--model", "model", "--prompt", "20", "--generate", "4", "--repetitions", "2"];
    let rest = ["--json", "--threads", "1", "--depth", "9", "--rows", "3"];
    let report = ocelli(dir.path(), &[&args[..], &rest].concat()).expect(0).json().remove(0);
    for key in [
        "prefill_tokens_per_s",
        "decode_tokens_per_s",
        "ttft_ms",
        "start_ms",
        "bytes_read_per_token",
        "prefill_operations_per_token",
        "bandwidth_bytes_per_s",
        "bandwidth_share",
        "f32_operations_per_s",
        "i8_operations_per_s",
        "i8_share",
    ] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {report}");
    }
    assert_eq!((&report["threads"], &report["depth"]), (&1.into(), &9.into()));
    let rows = &report["rows"];
    assert!(rows["n"] == 3 && rows["ratio"].as_f64() > Some(0.0), "{report}");
    assert!(report["picture"]["tokens"].as_u64() > Some(4), "{report}");
    assert!(report["kv_cache_bytes"].as_u64() > Some(0), "{report}");
    assert_eq!(report["peer"], Value::Null);
    let run = ocelli(dir.path(), &[&args[..], &["--profile", "--json"]].concat()).expect(0).json().remove(0);
    for phase in ["prefill", "decode"] {
        let ops = run["profile"][phase].as_array().unwrap();
        let share: f64 = ops.iter().map(|op| op["share"].as_f64().unwrap()).sum();
        assert!((share - 1.0).abs() < 1e-6, "{phase}: {run}");
        for name in ["linear", "attention", "expert_mlp"] {
            let found = ops.iter().any(|op| op["name"].as_str().unwrap().starts_with(name));
            assert!(found, "{name} in {phase}: {run}");
        }
    }
    let text = ocelli(dir.path(), &[&args[..], &["--profile"]].concat()).expect(0).stdout;
    for heading in ["decode", "batch", "process", "bandwidth", "arithmetic", "GOP/s"] {
        assert!(text.contains(heading), "{heading}: {text}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn threads_can_be_pinned() {
    let dir = world();
    let args =
        ["bench", "--model", "model", "--prompt", "5", "--generate", "2", "--repetitions", "1", "--pin"];
    let report =
        ocelli(dir.path(), &[&args[..], &["--threads", "1", "--json"]].concat()).expect(0).json().remove(0);
    assert_eq!(report["pinned"], true);
    let run = ocelli(dir.path(), &[&args[..], &["--threads", "1000"]].concat()).expect(2);
    assert!(run.stderr.contains("1000 threads, but only"), "{run:#?}");
}

#[test]
fn a_context_that_is_too_short_is_told_before_anything_runs() {
    let dir = world();
    let run = ocelli(dir.path(), &["bench", "--model", "model", "--depth", "10000000"]).expect(2);
    assert!(run.stderr.contains("beyond the model's context"), "{run:#?}");
}

/// A program that says what `llama-bench` would, and writes down what it was asked.
fn stand_in(dir: &Path, answer: &str) -> PathBuf {
    let path = dir.join("llama-bench");
    // Written by another process: one that this one had open for writing could not be run while other tests start
    // programs, which hold all open files for a moment.
    let mut writer = Command::new("sh")
        .args(["-ec", "rm -f \"$0\"; cat > \"$0\"; chmod +x \"$0\""])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let script = format!("#!/bin/sh\necho \"$@\" >> asked\n{answer}\n");
    writer.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success());
    path
}

const ENTRIES: &str = r#"cat <<'END'
[ { "build_commit": "abc123", "build_number": 7, "n_prompt": 0, "n_gen": 4, "avg_ts": 20.0 },
  { "build_commit": "abc123", "build_number": 7, "n_prompt": 0, "n_gen": 4, "avg_ts": 40.0 } ]
END"#;

#[test]
fn another_program_runs_in_turns_on_the_same_file() {
    let dir = world();
    let program = stand_in(dir.path(), ENTRIES);
    let gguf = recorded("gguf_q8_0/model.gguf");
    let args = ["bench", "--model", gguf.to_str().unwrap(), "--against", program.to_str().unwrap()];
    let rest = ["--prompt", "6", "--generate", "4", "--depth", "5", "--repetitions", "3", "--threads", "1"];
    let report = ocelli(dir.path(), &[&args[..], &rest, &["--json"]].concat()).expect(0).json().remove(0);
    let peer = &report["peer"];
    assert_eq!((&peer["pairs"], &peer["build"]), (&3.into(), &"abc123 (7)".into()), "{peer}");
    for figure in ["prefill_tokens_per_s", "decode_tokens_per_s"] {
        // Of two kinds of attention the faster one counts.
        assert_eq!(peer[figure]["theirs"], 40.0, "{peer}");
        let ratio = peer[figure]["ratio"].as_f64().unwrap();
        // Of three pairs with one other figure, the middle ratio is that of the middle figure.
        let expected = peer[figure]["ours"].as_f64().unwrap() / 40.0;
        assert!((ratio / expected - 1.0).abs() < 1e-9, "{figure}: {ratio}, {expected}");
    }
    assert!(peer["start_ms"]["theirs"].as_f64() > Some(0.0), "{peer}");
    let asked = fs::read_to_string(dir.path().join("asked")).unwrap();
    let model = format!("-m {} -t 1 -r 1 -o json", gguf.display());
    let tests =
        ["-p 6 -n 0", "-p 6 -n 0 --no-warmup", "-p 0 -n 4 -d 5 -fa 0,1"].map(|t| format!("{model} {t}"));
    let turns = [[&tests[0], &tests[1]].repeat(3), [&tests[2]].repeat(3)].concat();
    assert!(asked.lines().eq(turns), "{asked}");
    let text = ocelli(dir.path(), &[&args[..], &rest].concat()).expect(0).stdout;
    assert!(text.contains("abc123") && text.contains("3 pairs"), "{text}");
}

#[test]
fn a_program_that_is_no_llama_bench_is_named() {
    let dir = world();
    let gguf = recorded("gguf_q8_0/model.gguf");
    let bench = |program: &Path, model: &str| {
        let args = ["bench", "--prompt", "2", "--generate", "2", "--repetitions", "1", "--model", model];
        ocelli(dir.path(), &[&args[..], &["--against", program.to_str().unwrap()]].concat()).expect(2).stderr
    };
    let gguf = gguf.to_str().unwrap();
    let words = bench(&stand_in(dir.path(), "echo hello"), gguf);
    assert!(
        words.contains("llama-bench is no llama-bench") || words.contains("did not write its JSON"),
        "{words}"
    );
    let words = bench(&stand_in(dir.path(), "echo no such device >&2; exit 3"), gguf);
    assert!(words.contains("failed (exit status: 3): no such device"), "{words}");
    assert!(bench(&stand_in(dir.path(), "echo []"), gguf).contains("gave no figure"));
    assert!(bench(Path::new("/nowhere/llama-bench"), gguf).contains("cannot start /nowhere/llama-bench"));
    assert!(bench(Path::new("x"), "model").contains("needs one GGUF file"));
    let run = ocelli(dir.path(), &["bench", "--against", "x"]).expect(2);
    assert!(run.stderr.contains("--model"), "{run:#?}");
}
