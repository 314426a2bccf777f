//! A file cannot make the program allocate what it merely claims: the most that opening a damaged model takes
//! at once stays near the size of the file.

#[path = "../../../tests/counting.rs"]
mod counting;
#[path = "support/damage.rs"]
mod damage;
#[path = "../../../tests/random.rs"]
mod random;
mod support;

use engine::{Device, ModelFiles};
use random::Random;
use serde_json::{Value, json};
use support::{model_files, recorded, tiny_files};

/// For tables that do not depend on the file: the highest id of a vocabulary, the caches of a context.
const ALWAYS: usize = 64 << 20;
/// JSON in memory, decoded weights, and strings in several tables.
const TIMES_THE_FILE: usize = 16;

/// Opens a model in every way. Only the peak matters.
#[track_caller]
fn check(files: &[(String, Vec<u8>)], what: &str) {
    let files_len: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let model: ModelFiles = model_files(files);
    let (_, taken) = counting::peak(|| {
        let _ = (model.chat_template(), model.preprocessor(), model.generation_defaults(), model.tokenizer());
        let _ = model.checkpoint();
        let _ = engine::load(&model, Device::Cpu);
        let _ = support::open(&model, Device::Cpu);
    });
    let allowed = ALWAYS + TIMES_THE_FILE * files_len;
    assert!(taken <= allowed, "{what} of {files_len} bytes took {taken}");
}

// One test, so that nothing else allocates meanwhile.
#[test]
fn damaged_models_take_no_more_memory_than_their_files_account_for() {
    let gguf = |case: &str| vec![("model.gguf".to_owned(), std::fs::read(recorded(case)).unwrap())];
    let read = |name: &str| (name.to_owned(), std::fs::read(recorded("tokenizer").join(name)).unwrap());
    let mut sentencepiece = tiny_files();
    sentencepiece.retain(|(name, _)| name != "tokenizer.json");
    sentencepiece.extend(["tokenizer.model", "added_tokens.json", "tokenizer_config.json"].map(read));
    let models = [
        ("gguf", gguf("gguf_k_quants/model.gguf")),
        ("experts", gguf("gguf_moe_mixed/model.gguf")),
        ("vocabulary", gguf("tokenizer/tokenizer.gguf")),
        ("safetensors", tiny_files()),
        ("sentencepiece", sentencepiece),
    ];
    let mut random = Random(9);
    for (what, files) in &models {
        check(files, what);
        for which in 0..files.len() {
            for i in 0..60 {
                let mut damaged = files.clone();
                damaged[which].1 = random.damage(&files[which].1, 2500);
                check(&damaged, &format!("{what}, {}, damage {i}", files[which].0));
            }
        }
        // Every count and length of a GGUF header, one after the other.
        if files.len() == 1 {
            for at in (8..1200).step_by(4) {
                let mut damaged = files.clone();
                let end = (at + 8).min(damaged[0].1.len());
                damaged[0].1[at..end].copy_from_slice(&(1_u64 << 40).to_le_bytes()[..end - at]);
                check(&damaged, &format!("{what}, 2^40 at {at}"));
            }
        }
    }

    let good = tiny_files();
    let config: Value = serde_json::from_slice(&good[0].1).unwrap();
    for key in config.as_object().unwrap().keys() {
        for value in [json!(1_u64 << 18), json!(1_u64 << 30), json!(1_u64 << 40), json!(u64::MAX)] {
            let mut damaged = good.clone();
            let mut config = config.clone();
            config[key] = value;
            damaged[0].1 = config.to_string().into_bytes();
            check(&damaged, &format!("config.json, `{key}`"));
        }
    }
}
