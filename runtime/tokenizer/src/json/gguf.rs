//! A `tokenizer.json` as the vocabulary of a GGUF file.

use std::collections::HashMap;

use serde_json::Value;

use super::{added_tokens, merge_pair, spelling};
use crate::error::{Result, damaged};
use crate::gguf::{ADDED_SCORE, GgufVocab};
use crate::sp_bpe::PieceKind;
use crate::vocabulary::{Spelling, byte_piece, is_tag};

impl GgufVocab {
    /// Takes over a `tokenizer.json` whose pieces are those of SentencePiece; `None` if they are byte-level,
    /// since such files name their way of splitting text and `tokenizer.json` describes it.
    ///
    /// Scores say in which order pieces are merged, as merges do there. That is not the same rule in every
    /// case, so compare what both make of texts.
    ///
    /// # Errors
    /// If the file is damaged or an id is too high.
    pub fn from_json(json: &[u8]) -> Result<Option<Self>> {
        let file: Value =
            serde_json::from_slice(json).map_err(|e| damaged(format!("tokenizer.json: {e}")))?;
        let Spelling::SentencePiece { strip_space } = spelling(&file["decoder"])? else { return Ok(None) };
        let model = &file["model"];
        let pieces = model["vocab"].as_object().ok_or_else(|| damaged("the model has no vocabulary"))?;
        let byte_fallback = model["byte_fallback"].as_bool() == Some(true);
        let merges = model["merges"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut ranks: HashMap<String, usize> = HashMap::new();
        for (rank, (left, right)) in merges.iter().filter_map(merge_pair).enumerate() {
            ranks.entry(format!("{left}{right}")).or_insert(rank);
        }

        let mut vocab = Self {
            model: "llama".to_owned(),
            pre: Some("default".to_owned()),
            add_space_prefix: strip_space,
            ..Self::default()
        };
        for (text, id) in pieces {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| damaged(format!("the token {text:?} has no id")))?;
            let kind = match byte_piece(text) {
                Some(_) if byte_fallback => PieceKind::Byte,
                _ if model["unk_token"] == text.as_str() => PieceKind::Unknown,
                _ => PieceKind::Normal,
            };
            // Single characters are there from the start, and no score of theirs counts.
            let score = ranks.get(text).map_or(0.0, |&rank| -(rank as f32) - 1.0);
            vocab.set(id, text, score, kind)?;
        }
        for token in added_tokens(&file)? {
            let kind = if token.special { PieceKind::Control } else { PieceKind::UserDefined };
            if model["unk_token"] != token.content.as_str() {
                vocab.set(token.id, &token.content, ADDED_SCORE, kind)?;
            }
            if !token.special && is_tag(&token.content) {
                vocab.shown.push(token.id);
            }
        }
        Ok(Some(vocab))
    }
}
