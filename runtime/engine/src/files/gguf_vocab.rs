//! The vocabulary inside a GGUF file.

use tensor::weights::{Gguf, GgufArray, GgufValue};
use tokenizer::{GgufVocab, Tokenizer};

use super::SHOWN_TOKENS_KEY;
use crate::{Error, Result};

pub(super) fn read(gguf: &Gguf) -> Result<Tokenizer> {
    let value = |key: &str| gguf.value(&format!("tokenizer.ggml.{key}"));
    let bad = |key: &str| Error::Model {
        name: format!("tokenizer.ggml.{key}"),
        detail: "it is absent or of another type".to_owned(),
    };
    let text = |key: &str| value(key).and_then(GgufValue::as_str).map(str::to_owned);
    let strings = |key: &str| match value(key) {
        None => Ok(None),
        Some(value) => value.as_array().and_then(GgufArray::strings).map(Some).ok_or_else(|| bad(key)),
    };
    let numbers = |key: &str| match value(key) {
        None => Ok(Vec::new()),
        Some(value) => value.as_array().and_then(GgufArray::numbers).ok_or_else(|| bad(key)),
    };
    let architecture = gguf.value("general.architecture").and_then(GgufValue::as_str).unwrap_or_default();
    // llama.cpp's default is yes, but converters leave the entry out of ERNIE's files, which mean no.
    let default_prefix = !architecture.starts_with("ernie4_5");
    let shown =
        gguf.value(SHOWN_TOKENS_KEY).and_then(|value| value.as_array()?.numbers()).unwrap_or_default();
    Ok(Tokenizer::from_gguf(GgufVocab {
        model: text("model").ok_or_else(|| bad("model"))?,
        pre: text("pre"),
        tokens: strings("tokens")?.ok_or_else(|| bad("tokens"))?,
        scores: numbers("scores")?.into_iter().map(|score| score as f32).collect(),
        token_types: numbers("token_type")?.into_iter().map(|kind| kind as i32).collect(),
        merges: strings("merges")?.unwrap_or_default(),
        add_space_prefix: value("add_space_prefix").and_then(GgufValue::as_bool).unwrap_or(default_prefix),
        shown: shown.into_iter().map(|id| id as u32).collect(),
    })?)
}
