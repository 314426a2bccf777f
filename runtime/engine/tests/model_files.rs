//! Model files of every kind open, and broken ones are refused.

use std::path::{Path, PathBuf};

use engine::ModelFiles;
use tensor::SharedBytes;

fn recorded(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recorded").join(path)
}

/// Every recorded model, with pictures or without.
const CASES: [&str; 24] = [
    "dense",
    "dense_bias",
    "dense_bias_paddle",
    "dense_sharded",
    "moe",
    "moe_interval",
    "moe_paddle",
    "moe_stacked",
    "vl_image",
    "vl_converted",
    "vl_converted_experts",
    "vl_untied",
    "gguf_f32",
    "gguf_f16",
    "gguf_bf16",
    "gguf_q8_0",
    "gguf_q4_0",
    "gguf_q4_1",
    "gguf_q5_0",
    "gguf_q5_1",
    "gguf_k_quants",
    "gguf_llama",
    "gguf_moe_f16",
    "gguf_moe_mixed",
];

#[test]
fn every_recorded_model_opens_whole() {
    for case in CASES {
        let files = ModelFiles::open(&recorded(case)).unwrap();
        let checkpoint = files.checkpoint().unwrap_or_else(|e| panic!("{case}: {e}"));
        let extra: Vec<_> = checkpoint.ignored().filter(|(_, why)| *why == "unknown to this model").collect();
        assert!(extra.is_empty(), "{case}: {extra:?}");
        let ignored: std::collections::BTreeSet<_> = checkpoint.ignored().map(|(name, _)| name).collect();
        let index = checkpoint.index();
        // The head that predicts further tokens is not counted, as in the names of published models.
        let used = index.names().filter(|name| !ignored.contains(name) && !name.contains("mtp_"));
        let stored: u64 = used.map(|name| index.shape(name).unwrap().iter().product::<usize>() as u64).sum();
        assert_eq!(stored, checkpoint.config.n_parameters(), "{case}");
    }
}

#[test]
fn markers_are_found_beside_the_config() {
    let tokens = ModelFiles::open(&recorded("vl_untied")).unwrap().checkpoint().unwrap().config.tokens;
    assert_eq!((tokens.image_start, tokens.image_end), (191, 192));
    assert_eq!((tokens.video_start, tokens.video_end), (193, 194));
}

#[test]
fn single_files_open() {
    let weights = ModelFiles::open(&recorded("moe/model.safetensors")).unwrap();
    assert!(weights.checkpoint().is_ok());
    let gguf = ModelFiles::open(&recorded("gguf_q8_0/model.gguf")).unwrap();
    assert!(gguf.checkpoint().is_ok());
}

#[test]
fn vocabularies_of_all_files_agree() {
    let text = "  Hello, <s>wörld</s> 2026! ";
    let folder = ModelFiles::open(&recorded("tokenizer/tokenizer.gguf")).unwrap();
    let ids = folder.tokenizer().unwrap().encode(text);
    assert!(folder.chat_template().unwrap().unwrap().starts_with("{#- ERNIE 4.5 text models"));
    let without_flags = ModelFiles::open(&recorded("tokenizer/tokenizer-no-flags.gguf")).unwrap();
    assert_eq!(without_flags.tokenizer().unwrap().encode(text), ids);
    let read = |name: &str| {
        (name.to_owned(), SharedBytes::new(std::fs::read(recorded("tokenizer").join(name)).unwrap()))
    };
    for names in [&["tokenizer.json"][..], &["tokenizer.model", "added_tokens.json", "tokenizer_config.json"]]
    {
        let files = ModelFiles::from_bytes("test", names.iter().map(|name| read(name)).collect());
        assert_eq!(files.tokenizer().unwrap().encode(text), ids, "{names:?}");
    }
}

fn files(pairs: &[(&str, &str)]) -> ModelFiles {
    let own = |(name, text): &(&str, &str)| ((*name).to_owned(), SharedBytes::new(text.as_bytes().to_vec()));
    ModelFiles::from_bytes("test", pairs.iter().map(own).collect())
}

#[test]
fn sampling_defaults_and_templates_are_read() {
    let files = files(&[
        (
            "generation_config.json",
            r#"{"do_sample": true, "top_p": 0.8, "temperature": 0.8, "eos_token_id": 2, "x": []}"#,
        ),
        (
            "tokenizer_config.json",
            r#"{"chat_template": [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]}"#,
        ),
    ]);
    let defaults = files.generation_defaults().unwrap();
    assert_eq!((defaults.top_p, defaults.temperature, defaults.eos), (Some(0.8), Some(0.8), vec![2]));
    assert_eq!(files.chat_template().unwrap().as_deref(), Some("b"));
    assert_eq!(files.preprocessor().unwrap(), vision::Preprocessor::default());
}

#[test]
fn messages_say_what_is_missing() {
    let message = |files: &ModelFiles| files.checkpoint().unwrap_err().to_string();
    assert_eq!(message(&files(&[])), "test: it has no config.json and no GGUF file");
    assert!(files(&[]).tokenizer().is_err());
    let config = std::fs::read_to_string(recorded("dense/config.json")).unwrap();
    assert_eq!(message(&files(&[("config.json", &config)])), "test: it has no weights (model.safetensors)");
    let index = r#"{"weight_map": {"a": "../../etc/model.safetensors"}}"#;
    assert!(
        message(&files(&[("config.json", &config), ("model.safetensors.index.json", index)]))
            .contains("beside it")
    );
    let deep = "[".repeat(1 << 16);
    assert!(message(&files(&[("config.json", &deep)])).contains("config.json is not valid"));
    assert!(message(&files(&[("config.json", r#"{"model_type": "qwen2"}"#)])).contains("`qwen2`"));
    assert!(
        message(&files(&[("config.json", r#"{"model_type": "paddleocr_vl"}"#)])).contains("PaddleOCR-VL")
    );
}
