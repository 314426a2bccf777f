//! A tiny model that answers: recorded weights, and a vocabulary that fits them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use engine::{Device, Engine, ModelFiles};
use serde_json::{Map, Value, json};
use tensor::SharedBytes;

pub(crate) fn recorded(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recorded").join(path)
}

/// Names and contents of the files of a vision-language model.
pub(crate) fn tiny_files() -> Vec<(String, Vec<u8>)> {
    let read = |path: &str| std::fs::read(recorded(path)).unwrap();
    let limits = json!({ "min_pixels": 784, "max_pixels": 16 * 784 });
    vec![
        ("config.json".to_owned(), read("vl_image/config.json")),
        ("model.safetensors".to_owned(), read("vl_image/model.safetensors")),
        ("tokenizer.json".to_owned(), tokenizer_json().to_string().into_bytes()),
        ("chat_template.jinja".to_owned(), read("chat/vl.jinja")),
        ("preprocessor_config.json".to_owned(), limits.to_string().into_bytes()),
    ]
}

pub(crate) fn model_files(files: &[(String, Vec<u8>)]) -> ModelFiles {
    let share = |(name, bytes): &(String, Vec<u8>)| (name.clone(), SharedBytes::new(bytes.clone()));
    ModelFiles::from_bytes("tiny", files.iter().map(share).collect())
}

pub(crate) fn open(files: &ModelFiles, device: Device) -> engine::Result<Engine> {
    let start = Instant::now();
    Engine::open(files, device, Box::new(move || start.elapsed().as_secs_f64() * 1e3))
}

/// Printable ASCII by the character, and the control tokens where `vl_image/config.json` has them.
fn tokenizer_json() -> Value {
    let mut vocab = Map::new();
    let mut added = Vec::new();
    for (id, token) in [
        (0, "<unk>"),
        (1, "<s>"),
        (2, "</s>"),
        (187, "<think>"),
        (188, "<|begin_of_sentence|>"),
        (189, "<|end_of_sentence|>"),
        (190, "<|IMAGE_PLACEHOLDER|>"),
        (191, "<|IMAGE_START|>"),
        (192, "<|IMAGE_END|>"),
        (193, "<|VIDEO_START|>"),
        (194, "<|VIDEO_END|>"),
    ] {
        vocab.insert(token.to_owned(), id.into());
        added.push(json!({
            "id": id, "content": token, "special": true,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        }));
    }
    for (id, c) in (3..).zip((' '..='~').chain(['\n'])) {
        vocab.insert(c.to_string(), id.into());
    }
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": [],
        },
    })
}
