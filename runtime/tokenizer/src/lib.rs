//! Text to token ids and back, for SentencePiece models, `tokenizer.json` files and GGUF vocabularies.
//!
//! Two rules hold for every kind of file. Text of a user never becomes a control token:
//! [`Tokenizer::encode`] treats `<|im_start|>` as eleven characters, and [`Tokenizer::guard`] lets user text
//! travel through a chat template without forging one. And nothing is lost: [`Tokenizer::decode`] gives back
//! the text that was encoded, except that U+2581 is SentencePiece's way to write a space.

mod added;
mod detokenizer;
mod error;
mod gguf;
mod guard;
mod json;
mod protobuf;
mod sentencepiece;
mod sp_bpe;
mod token_set;
mod vocabulary;

use std::borrow::Cow;
use std::sync::Arc;

pub use added::AddedToken;
pub use detokenizer::Detokenizer;
pub use error::{Result, TokenizerError};
pub use gguf::GgufVocab;
pub use guard::GUARD;

use sp_bpe::SpBpe;
use token_set::TokenSet;
use vocabulary::Vocabulary;

/// A vocabulary with the rules to use it; clones share one copy.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    vocabulary: Vocabulary,
    controls: TokenSet,
    encoder: Encoder,
}

/// What turns ordinary text into ids.
pub(crate) enum Encoder {
    SentencePiece(SpBpe),
    Json(Box<tokenizers::Tokenizer>),
}

impl Tokenizer {
    /// Reads a SentencePiece BPE model (`tokenizer.model`) and the tokens added beside it.
    ///
    /// The model's `add_dummy_prefix`, `remove_extra_whitespaces` and `byte_fallback` are honoured; its
    /// character map is not, since ERNIE's text is never normalised.
    ///
    /// # Errors
    /// If the file is damaged or not BPE, or if an added token contradicts a piece.
    pub fn from_sentencepiece(model: &[u8], added: &[AddedToken]) -> Result<Self> {
        let (vocabulary, bpe) = sentencepiece::load(model, added)?;
        Ok(Self::assemble(vocabulary, Encoder::SentencePiece(bpe)))
    }

    /// Reads a `tokenizer.json` that holds a BPE model.
    ///
    /// # Errors
    /// If the file is damaged, or its model or decoder is of another kind.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let (vocabulary, encoder) = json::load(json)?;
        Ok(Self::assemble(vocabulary, Encoder::Json(Box::new(encoder))))
    }

    /// Takes over the vocabulary of a GGUF file.
    ///
    /// # Errors
    /// If its lists disagree, or its model or pre-tokenizer is unknown.
    pub fn from_gguf(vocab: GgufVocab) -> Result<Self> {
        let (vocabulary, encoder) = gguf::load(vocab)?;
        Ok(Self::assemble(vocabulary, encoder))
    }

    fn assemble(vocabulary: Vocabulary, encoder: Encoder) -> Self {
        let controls = TokenSet::new(vocabulary.controls());
        Self { inner: Arc::new(Inner { vocabulary, controls, encoder }) }
    }

    /// Encodes text of a user: control tokens typed in it stay text.
    ///
    /// Only a vocabulary without byte fallback answers a character it lacks with its unknown token.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.encode_into(text, &mut ids);
        ids
    }

    /// Encodes a rendered prompt: control tokens count, guarded text is freed of its marks.
    ///
    /// At each place the longest control token wins. Nothing is added in front or behind.
    pub fn encode_prompt(&self, rendered: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut start = 0;
        while let Some(found) = self.inner.controls.find(rendered, start) {
            self.encode_into(&guard::remove(&rendered[start..found.start]), &mut ids);
            ids.push(found.id);
            start = found.end;
        }
        self.encode_into(&guard::remove(&rendered[start..]), &mut ids);
        ids
    }

    fn encode_into(&self, text: &str, ids: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        match &self.inner.encoder {
            Encoder::SentencePiece(bpe) => bpe.encode(text, ids),
            Encoder::Json(encoder) => {
                match encoder.encode_fast(text, false) {
                    Ok(encoding) => ids.extend_from_slice(encoding.get_ids()),
                    // The loader leaves nothing that could fail; bytes are the honest answer if it did.
                    Err(_) => ids.extend(text.bytes().filter_map(|byte| self.inner.vocabulary.byte_id(byte))),
                }
                json::forget_words(encoder);
            }
        }
    }

    /// The text of `ids`; bytes that are no UTF-8 become U+FFFD, ids that do not exist become nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut detokenizer = self.detokenizer(skip_special);
        let mut text = String::new();
        for &id in ids {
            detokenizer.push_into(id, &mut text);
        }
        text.push_str(&detokenizer.finish());
        text
    }

    /// Decodes one id at a time, for streaming.
    pub fn detokenizer(&self, skip_special: bool) -> Detokenizer {
        Detokenizer::new(self.clone(), skip_special)
    }

    /// The id of a token, spelt as in the vocabulary (`▁the`, `<0x0A>`, `<|im_end|>`).
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.vocabulary.id(token)
    }

    /// The token behind an id, spelt as in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.vocabulary.text(id).map(str::to_owned)
    }

    /// The bytes that a token adds to a text, its spelling if it is a control token. They may be part of a
    /// character.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.inner.vocabulary.spell(id, false, &mut bytes);
        bytes
    }

    /// One more than the highest id.
    pub fn vocab_size(&self) -> usize {
        self.inner.vocabulary.len()
    }

    /// Whether `id` is a token that only a prompt may contain, never a user's text.
    pub fn is_control(&self, id: u32) -> bool {
        self.inner.vocabulary.is_control(id)
    }

    /// All control tokens, in order of their ids.
    pub fn control_tokens(&self) -> Vec<(String, u32)> {
        self.inner.vocabulary.controls().map(|(text, id)| (text.to_owned(), id)).collect()
    }

    /// Marks text so that [`encode_prompt`](Self::encode_prompt) finds no control token that begins in it.
    ///
    /// The mark is [`GUARD`], after every character that some control token begins with. `encode_prompt`
    /// takes the marks out again; a text that holds such marks already comes back unchanged too.
    pub fn guard<'a>(&self, text: &'a str) -> Cow<'a, str> {
        guard::insert(text, |c| self.inner.controls.starts_with(c))
    }

    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        &self.inner.vocabulary
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size()).finish_non_exhaustive()
    }
}
