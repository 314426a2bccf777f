//! Broken, truncated and foreign model files: one clear line, exit code 2, at once.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{ocelli, recorded, world};

/// As promised; a process that starts on a busy machine gets as much again.
const PROMISED: Duration = Duration::from_secs(2);

#[track_caller]
fn check(dir: &Path, model: &str) {
    for command in [&["inspect", model][..], &["ask", "--model", model, "Hello?"]] {
        let start = Instant::now();
        let run = ocelli(dir, command).expect(2);
        let time = start.elapsed();
        assert!(run.stderr.starts_with("error: ") && run.stderr.trim_end().lines().count() == 1, "{run:#?}");
        assert!(run.stdout.is_empty(), "{run:#?}");
        assert!(time < PROMISED, "{model} took {time:?}");
    }
}

#[test]
fn missing_and_foreign_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::write(dir.path().join("text.gguf"), "not a model").unwrap();
    fs::write(dir.path().join("zero.gguf"), "").unwrap();
    fs::write(dir.path().join("picture.safetensors"), b"\x89PNG\r\n\x1a\n and so on").unwrap();
    fs::write(dir.path().join("archive.zip"), b"PK\x03\x04").unwrap();
    for model in ["none", "empty", "text.gguf", "zero.gguf", "picture.safetensors", "archive.zip"] {
        check(dir.path(), model);
    }
}

#[test]
fn mutated_files_are_refused() {
    let dir = world();
    let gguf = fs::read(recorded("gguf_q8_0/model.gguf")).unwrap();
    let flip = |at: usize| {
        let mut bytes = gguf.clone();
        bytes[at] ^= 0x80;
        bytes
    };
    let cases = [
        ("short.gguf", gguf[..gguf.len() / 2].to_vec()),
        ("header.gguf", gguf[..200].to_vec()),
        ("magic.gguf", flip(0)),
        ("n_tensors.gguf", flip(14)),
        ("n_values.gguf", flip(22)),
        ("key_len.gguf", flip(30)),
    ];
    for (name, bytes) in cases {
        fs::write(dir.path().join(name), bytes).unwrap();
        check(dir.path(), name);
    }

    let weights = dir.path().join("model/model.safetensors");
    let config = dir.path().join("model/config.json");
    let (good_weights, good_config) = (fs::read(&weights).unwrap(), fs::read_to_string(&config).unwrap());
    let mut huge = good_weights.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    for bytes in [&good_weights[..good_weights.len() - 100], &good_weights[..5], &huge] {
        fs::write(&weights, bytes).unwrap();
        check(dir.path(), "model");
    }
    fs::write(&weights, &good_weights).unwrap();
    for (from, to) in [
        ("\"hidden_size\":48", "\"hidden_size\":4800000000"),
        ("\"num_hidden_layers\":3", "\"num_hidden_layers\":3000000"),
        ("\"moe_k\":3", "\"moe_k\":0"),
        ("\"hidden_size\":48", "\"hidden_size\":64"),
        ("{", ""),
    ] {
        assert!(good_config.contains(from), "{from}");
        fs::write(&config, good_config.replacen(from, to, 1)).unwrap();
        check(dir.path(), "model");
    }
    fs::write(&config, &good_config).unwrap();
    ocelli(dir.path(), &["inspect", "model"]).expect(0);
}
