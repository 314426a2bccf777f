//! A SentencePiece model as the vocabulary of a GGUF file.

use super::{is_tag, parse};
use crate::added::AddedToken;
use crate::error::Result;
use crate::gguf::{ADDED_SCORE, GgufVocab};
use crate::sp_bpe::PieceKind;

impl GgufVocab {
    /// Takes over a SentencePiece BPE model (`tokenizer.model`) and the tokens added beside it.
    ///
    /// # Errors
    /// If the file is damaged or not BPE, or if an id is too high.
    pub fn from_sentencepiece(model: &[u8], added: &[AddedToken]) -> Result<Self> {
        let (pieces, flags) = parse(model)?;
        let mut vocab = Self {
            model: "llama".to_owned(),
            pre: Some("default".to_owned()),
            add_space_prefix: flags.add_dummy_prefix,
            ..Self::default()
        };
        for piece in pieces {
            vocab.push(piece.text, piece.score, piece.kind);
        }
        for token in added {
            let kind = if token.special { PieceKind::Control } else { PieceKind::UserDefined };
            vocab.set(token.id, &token.content, ADDED_SCORE, kind)?;
            if !token.special && is_tag(&token.content) {
                vocab.shown.push(token.id);
            }
        }
        Ok(vocab)
    }
}
