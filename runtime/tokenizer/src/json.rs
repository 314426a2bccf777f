//! `tokenizer.json`, by way of the `tokenizers` crate.
//!
//! The crate only ever sees ordinary text: control tokens are taken out of its vocabulary before it is
//! built, so that no text can produce one, and are found and spelt by us.

mod gguf;

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use tokenizers::ModelWrapper;

use crate::error::{Result, damaged, inconsistent, unsupported};
use crate::vocabulary::{Kind, Spelling, Vocabulary, byte_piece, is_tag};

pub(crate) fn load(json: &[u8]) -> Result<(Vocabulary, tokenizers::Tokenizer)> {
    let file = serde_json::from_slice(json).map_err(|e| damaged(format!("tokenizer.json: {e}")))?;
    build(file)
}

/// Builds a tokenizer from the content of a `tokenizer.json`.
pub(crate) fn build(mut file: Value) -> Result<(Vocabulary, tokenizers::Tokenizer)> {
    let added = added_tokens(&file)?;
    let spelling = spelling(&file["decoder"])?;
    check_steps("pre-tokenizer", &file["pre_tokenizer"])?;
    check_steps("normalizer", &file["normalizer"])?;
    let model = file.get_mut("model").and_then(Value::as_object_mut);
    let model = model.ok_or_else(|| damaged("tokenizer.json has no model"))?;
    check_model(model)?;

    let vocabulary = vocabulary(model, &added, spelling)?;
    hide_controls(model, &vocabulary)?;
    show_verbatim(model, &added)?;
    let verbatim: Vec<Value> =
        added.iter().filter(|token| !token.is_control()).map(|token| token.source.clone()).collect();
    file["added_tokens"] = Value::Array(verbatim);
    for key in ["truncation", "padding", "post_processor"] {
        file[key] = Value::Null;
    }
    let encoder = serde_json::from_value(file).map_err(|e| damaged(format!("tokenizer.json: {e}")))?;
    Ok((vocabulary, encoder))
}

/// Empties the crate's table of words that it has met, which pays within one text. Kept for longer, it grows with
/// every text, and holds what somebody wrote for as long as the program runs.
pub(crate) fn forget_words(encoder: &tokenizers::Tokenizer) {
    if let ModelWrapper::BPE(model) = encoder.get_model() {
        model.clear_cache();
    }
}

struct Added {
    id: u32,
    content: String,
    special: bool,
    source: Value,
}

impl Added {
    fn is_control(&self) -> bool {
        self.special || is_tag(&self.content)
    }
}

fn added_tokens(file: &Value) -> Result<Vec<Added>> {
    let Some(list) = file.get("added_tokens").and_then(Value::as_array) else { return Ok(Vec::new()) };
    list.iter()
        .map(|source| {
            let id = source.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
            let content = source.get("content").and_then(Value::as_str);
            let (Some(id), Some(content)) = (id, content) else {
                return Err(damaged("an added token lacks its id or content"));
            };
            let special = source.get("special").and_then(Value::as_bool).unwrap_or(false);
            Ok(Added { id, content: content.to_owned(), special, source: source.clone() })
        })
        .collect()
}

fn check_model(model: &mut Map<String, Value>) -> Result<()> {
    // Files of old leave the type out, and only BPE has merges.
    let kind = model.get("type").and_then(Value::as_str);
    if !matches!(kind, Some("BPE") | None) || !model.contains_key("merges") {
        return Err(unsupported(format!("a model of type {}", kind.unwrap_or("unknown"))));
    }
    let Some(vocab) = model.get("vocab").and_then(Value::as_object) else {
        return Err(damaged("the model has no vocabulary"));
    };
    if let Some(unk) = model.get("unk_token").and_then(Value::as_str)
        && !vocab.contains_key(unk)
    {
        return Err(inconsistent(format!("the unknown token {unk:?} is not in the vocabulary")));
    }
    // The crate cuts merges at the length of the prefix, wherever that is.
    if let Some(prefix) =
        model.get("continuing_subword_prefix").filter(|prefix| !prefix.is_null() && *prefix != "")
    {
        return Err(unsupported(format!("the prefix {prefix:.80} of continued words")));
    }
    model.insert("dropout".into(), Value::Null);
    Ok(())
}

/// Refuses the steps that the crate panics on if they are damaged; no file of this family has them.
fn check_steps(what: &str, step: &Value) -> Result<()> {
    if let Some(kind @ ("FixedLength" | "Precompiled")) = step.get("type").and_then(Value::as_str) {
        return Err(unsupported(format!("a {what} of type {kind}")));
    }
    let steps = ["pretokenizers", "normalizers"].into_iter().filter_map(|key| step.get(key)?.as_array());
    steps.flatten().try_for_each(|step| check_steps(what, step))
}

/// How the decoder says that pieces are spelt.
fn spelling(decoder: &Value) -> Result<Spelling> {
    let steps = match decoder.get("decoders").and_then(Value::as_array) {
        Some(steps) => steps.as_slice(),
        None => std::slice::from_ref(decoder),
    };
    let mut strip_space = false;
    for step in steps {
        match step.get("type").and_then(Value::as_str) {
            Some("ByteLevel") => return Ok(Spelling::ByteLevel),
            Some("Metaspace") => {
                let scheme = step.get("prepend_scheme").and_then(Value::as_str);
                let prefix = step.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(true);
                strip_space |= scheme.map_or(prefix, |scheme| scheme != "never");
            }
            Some("Strip") => strip_space |= step.get("start").and_then(Value::as_u64) == Some(1),
            Some("Replace") if step.pointer("/pattern/String").and_then(Value::as_str) == Some("▁") => {}
            Some("ByteFallback" | "Fuse") => {}
            other => return Err(unsupported(format!("a decoder of type {}", other.unwrap_or("unknown")))),
        }
    }
    Ok(Spelling::SentencePiece { strip_space })
}

fn vocabulary(model: &Map<String, Value>, added: &[Added], spelling: Spelling) -> Result<Vocabulary> {
    let byte_fallback = model.get("byte_fallback").and_then(Value::as_bool) == Some(true);
    let mut vocabulary = Vocabulary::new(spelling);
    for (text, id) in model["vocab"].as_object().into_iter().flatten() {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        let id = id.ok_or_else(|| damaged(format!("the token {text:?} has no id")))?;
        let byte = byte_piece(text).filter(|_| byte_fallback);
        vocabulary.set(id, text, byte.map_or(Kind::Piece, Kind::Byte))?;
    }
    for token in added {
        let kind = match token.is_control() {
            true => Kind::Control { special: token.special },
            false => Kind::Verbatim,
        };
        vocabulary.set(token.id, &token.content, kind)?;
        if vocabulary.id(&token.content) != Some(token.id) {
            return Err(inconsistent(format!("the added token {:?} has two ids", token.content)));
        }
    }
    Ok(vocabulary)
}

/// Removes the control tokens from the model, with the merges that make them; the unknown token stays.
fn hide_controls(model: &mut Map<String, Value>, vocabulary: &Vocabulary) -> Result<()> {
    let unk = model.get("unk_token").and_then(Value::as_str).map(str::to_owned);
    let unk = unk.as_deref();
    let hidden: HashSet<String> =
        vocabulary.controls().map(|(text, _)| text.to_owned()).filter(|text| unk != Some(text)).collect();
    if let Some(vocab) = model.get_mut("vocab").and_then(Value::as_object_mut) {
        vocab.retain(|text, _| !hidden.contains(text));
    }
    let merges = model.get_mut("merges").and_then(Value::as_array_mut);
    let merges = merges.ok_or_else(|| damaged("the merges are no list"))?;
    merges.retain(|merge| {
        let Some((left, right)) = merge_pair(merge) else { return true };
        let whole = format!("{left}{right}");
        ![left, right, &whole].iter().any(|&text| hidden.contains(text) || unk == Some(text))
    });
    Ok(())
}

/// A merge is a pair, or in older files one string with a space between its halves.
fn merge_pair(merge: &Value) -> Option<(&str, &str)> {
    match merge {
        Value::String(text) => text.split_once(' '),
        Value::Array(pair) => Some((pair.first()?.as_str()?, pair.get(1)?.as_str()?)),
        _ => None,
    }
}

/// Gives the crate the ids of added text tokens, which it would otherwise number itself.
fn show_verbatim(model: &mut Map<String, Value>, added: &[Added]) -> Result<()> {
    let vocab = model.get_mut("vocab").and_then(Value::as_object_mut);
    let vocab = vocab.ok_or_else(|| damaged("the model has no vocabulary"))?;
    for token in added.iter().filter(|token| !token.is_control()) {
        vocab.insert(token.content.clone(), json!(token.id));
    }
    Ok(())
}
