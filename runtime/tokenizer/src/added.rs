//! Tokens added beside a SentencePiece model.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Result, damaged};
use crate::vocabulary::is_tag;

/// A token that a repository adds to its SentencePiece model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedToken {
    /// Its id, usually after the last piece.
    pub id: u32,
    /// Its text.
    pub content: String,
    /// Whether it is markup rather than text; digits, for example, are not.
    pub special: bool,
}

impl AddedToken {
    /// Reads `added_tokens.json`, which maps texts to ids; tags such as `<think>` count as special.
    ///
    /// # Errors
    /// If it is not such a map.
    pub fn from_added_tokens(json: &[u8]) -> Result<Vec<Self>> {
        let map: BTreeMap<String, u32> =
            serde_json::from_slice(json).map_err(|e| damaged(format!("added_tokens.json: {e}")))?;
        let mut tokens: Vec<Self> =
            map.into_iter().map(|(content, id)| Self { id, special: is_tag(&content), content }).collect();
        tokens.sort_by_key(|token| token.id);
        Ok(tokens)
    }

    /// Reads `added_tokens_decoder` of a `tokenizer_config.json`; none if it has no such entry.
    ///
    /// # Errors
    /// If the file is no JSON object or an entry lacks its id or content.
    pub fn from_tokenizer_config(json: &[u8]) -> Result<Vec<Self>> {
        let bad = |what: String| damaged(format!("tokenizer_config.json: {what}"));
        let config: Value = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
        let Some(decoder) = config.get("added_tokens_decoder").and_then(Value::as_object) else {
            return Ok(Vec::new());
        };
        let mut tokens = Vec::with_capacity(decoder.len());
        for (id, entry) in decoder {
            let number = id.parse().map_err(|_| bad(format!("{id:?} is no token id")))?;
            let content = entry.get("content").and_then(Value::as_str);
            let content = content.ok_or_else(|| bad(format!("the added token {id} has no content")))?;
            let special = entry.get("special").and_then(Value::as_bool).unwrap_or(false);
            tokens.push(Self { id: number, content: content.to_owned(), special });
        }
        tokens.sort_by_key(|token| token.id);
        Ok(tokens)
    }
}
