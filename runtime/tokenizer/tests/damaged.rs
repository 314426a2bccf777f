//! Damaged vocabularies are errors, and those that load all the same encode and decode: no panic, no hang.

#[path = "../../../tests/random.rs"]
mod random;

use std::path::Path;

use random::Random;
use serde_json::{Value, json};
use tokenizer::{AddedToken, GgufVocab, Tokenizer};

fn recorded(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recorded/tokenizer").join(name))
        .unwrap()
}

/// Uses a vocabulary in every way; whatever it says, this returns. Whether it could be loaded.
fn use_up(tokenizer: tokenizer::Result<Tokenizer>) -> bool {
    let Ok(tokenizer) = tokenizer else { return false };
    let text = "  Hello, <s>w\u{f6}rld</s> 2026!\n\u{1f600}\u{2581}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\0";
    for text in [text, "", " ", "\u{2581}"] {
        let guarded = tokenizer.guard(text).into_owned();
        for ids in [tokenizer.encode(text), tokenizer.encode_prompt(text), tokenizer.encode_prompt(&guarded)]
        {
            let _ = tokenizer.decode(&ids, true);
        }
    }
    let last = tokenizer.vocab_size() as u32;
    let _ = tokenizer.decode(&[0, 1, 2, 50, 300, last, u32::MAX], false);
    let _ = tokenizer.control_tokens();
    true
}

/// Cuts a file short and changes its bytes.
fn damage(file: &[u8], load: impl Fn(&[u8]) -> bool) {
    assert!(load(file));
    let mut random = Random(file.len() as u64);
    for _ in 0..60 {
        load(&file[..random.below(file.len())]);
    }
    for _ in 0..150 {
        let mut damaged = file.to_vec();
        for _ in 0..1 + random.below(4) {
            // Most of it where the switches are.
            let range = if random.below(2) == 0 { file.len().min(2000) } else { file.len() };
            damaged[random.below(range)] ^= 1 << random.below(8);
        }
        load(&damaged);
    }
}

#[test]
fn damaged_bytes_do_not_panic() {
    damage(&recorded("tokenizer.model"), |bytes| use_up(Tokenizer::from_sentencepiece(bytes, &[])));
    damage(&recorded("tokenizer.json"), |bytes| use_up(Tokenizer::from_json(bytes)));
    damage(&recorded("added_tokens.json"), |bytes| AddedToken::from_added_tokens(bytes).is_ok());
    damage(&recorded("tokenizer_config.json"), |bytes| AddedToken::from_tokenizer_config(bytes).is_ok());
}

#[test]
fn steps_that_would_panic_are_refused() {
    let file: Value = serde_json::from_slice(&recorded("tokenizer.json")).unwrap();
    let fixed = json!({"type": "FixedLength", "length": 0});
    for (place, value, expected) in [
        ("/pre_tokenizer", fixed.clone(), "pre-tokenizer of type FixedLength"),
        ("/pre_tokenizer", json!({"type": "Sequence", "pretokenizers": [fixed]}), "of type FixedLength"),
        (
            "/normalizer",
            json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
            "of type Precompiled",
        ),
        ("/model/continuing_subword_prefix", json!("#"), "the prefix \"#\" of continued words"),
    ] {
        let mut damaged = file.clone();
        *damaged.pointer_mut(place).unwrap() = value;
        let error = Tokenizer::from_json(damaged.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

fn gguf(model: &str) -> GgufVocab {
    let mut tokens: Vec<String> = (0..=255u8).map(|byte| format!("<0x{byte:02X}>")).collect();
    tokens.extend(["a", "b", "ab", "<s>", "\u{2581}", "\u{120}"].map(str::to_owned));
    let mut token_types = vec![6; 256];
    token_types.extend([1, 1, 1, 3, 1, 1]);
    GgufVocab {
        model: model.to_owned(),
        scores: (0..tokens.len()).map(|i| -(i as f32)).collect(),
        tokens,
        token_types,
        merges: vec!["a b".to_owned()],
        ..GgufVocab::default()
    }
}

#[test]
fn vocabularies_that_contradict_themselves_do_not_panic() {
    for model in ["llama", "gpt2"] {
        assert!(use_up(Tokenizer::from_gguf(gguf(model))), "{model}");
        let changes: [fn(&mut GgufVocab); 16] = [
            |v| v.tokens.clear(),
            |v| v.scores.clear(),
            |v| v.token_types.clear(),
            |v| v.tokens.truncate(100),
            |v| v.scores.fill(f32::NAN),
            |v| v.scores.fill(f32::INFINITY),
            |v| v.token_types.fill(-1),
            |v| v.token_types.fill(i32::MAX),
            |v| v.token_types.fill(6),
            |v| v.token_types.fill(4),
            |v| v.tokens.fill(String::new()),
            |v| v.tokens.fill("a".to_owned()),
            |v| v.tokens[256] = "x".repeat(1 << 20),
            |v| v.merges = vec![String::new(), " ".to_owned(), "a".to_owned(), "a b c".to_owned()],
            |v| v.merges = vec!["absent b".to_owned()],
            |v| v.pre = Some("qwen2".to_owned()),
        ];
        for change in changes {
            let mut vocab = gguf(model);
            change(&mut vocab);
            use_up(Tokenizer::from_gguf(vocab));
        }
    }
    assert!(!use_up(Tokenizer::from_gguf(gguf("bert"))));
    let unknown = GgufVocab { pre: Some("nonsense".to_owned()), ..gguf("gpt2") };
    assert!(!use_up(Tokenizer::from_gguf(unknown)));
}

#[test]
fn an_absurd_id_takes_no_memory() {
    let mut file: Value = serde_json::from_slice(&recorded("tokenizer.json")).unwrap();
    file["model"]["vocab"]["a"] = json!(4_000_000_000_u32);
    let error = Tokenizer::from_json(file.to_string().as_bytes()).unwrap_err().to_string();
    assert!(error.contains("too high"), "{error}");
}
