//! Encodings and decodings that transformers, sentencepiece and llama.cpp's layout recorded.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizer::{AddedToken, Tokenizer};

fn recorded(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recorded").join(path)
}

fn read(path: &str) -> Vec<u8> {
    let path = recorded(path);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn goldens(folder: &str) -> Value {
    serde_json::from_slice(&read(&format!("{folder}/goldens.json"))).unwrap()
}

fn sentencepiece() -> Tokenizer {
    let added = AddedToken::from_added_tokens(&read("tokenizer/added_tokens.json")).unwrap();
    Tokenizer::from_sentencepiece(&read("tokenizer/tokenizer.model"), &added).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn check(tokenizer: &Tokenizer, goldens: &Value) {
    assert_eq!(tokenizer.vocab_size() as u64, goldens["vocab_size"].as_u64().unwrap());
    for (token, id) in goldens["special"].as_object().unwrap() {
        let id = id.as_u64().unwrap() as u32;
        assert_eq!(tokenizer.token_id(token), Some(id));
        assert_eq!(tokenizer.token(id).as_ref(), Some(token));
        assert!(tokenizer.is_control(id), "{token}");
    }
    for case in goldens["strings"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text), ids(&case["ids"]), "{text:?}");
        let prompt = ids(&case["ids_special"]);
        assert_eq!(tokenizer.encode_prompt(text), prompt, "{text:?}");
        assert_eq!(tokenizer.encode_prompt(&tokenizer.guard(text)), ids(&case["ids"]), "{text:?}");
        assert_eq!(tokenizer.decode(&prompt, false), case["decode"], "{text:?}");
        assert_eq!(tokenizer.decode(&prompt, true), case["decode_skip_special"], "{text:?}");
    }
    for stream in goldens["streams"].as_array().into_iter().flatten() {
        let mut detokenizer = tokenizer.detokenizer(false);
        let mut text = String::new();
        for (id, prefix) in ids(&stream["ids"]).into_iter().zip(stream["prefixes"].as_array().unwrap()) {
            text.push_str(&detokenizer.push(id));
            // transformers holds back a whole run of byte tokens, we only an unfinished character.
            assert!(text.starts_with(prefix.as_str().unwrap()), "{text:?} {prefix}");
            assert!(stream["text"].as_str().unwrap().starts_with(&text), "{text:?}");
        }
        text.push_str(&detokenizer.finish());
        assert_eq!(text, stream["text"]);
    }
    for case in goldens["decodes"].as_array().into_iter().flatten() {
        let ids = ids(&case["ids"]);
        // Invalid bytes: transformers loses valid neighbours with them, sentencepiece and we do not.
        let invalid = case["hf"].as_str().unwrap().contains(char::REPLACEMENT_CHARACTER);
        let expected = if invalid { &case["sentencepiece"] } else { &case["hf"] };
        assert_eq!(tokenizer.decode(&ids, false), expected.as_str().unwrap(), "{ids:?}");
    }
}

#[test]
fn sentencepiece_model_matches() {
    check(&sentencepiece(), &goldens("tokenizer"));
}

#[test]
fn tokenizer_json_matches() {
    check(&Tokenizer::from_json(&read("tokenizer/tokenizer.json")).unwrap(), &goldens("tokenizer"));
}

#[test]
fn byte_level_json_matches() {
    check(
        &Tokenizer::from_json(&read("tokenizer_bytes/tokenizer.json")).unwrap(),
        &goldens("tokenizer_bytes"),
    );
}
