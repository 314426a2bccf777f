//! Vocabularies of GGUF files.

use serde_json::{Value, json};

use crate::error::{Result, inconsistent, unsupported};
use crate::sp_bpe::{Flags, Piece, PieceKind, SpBpe};
use crate::vocabulary::{Kind, MAX_ID, is_tag};
use crate::{Encoder, json, sentencepiece, vocabulary::Vocabulary};

/// The `tokenizer.ggml.*` entries of a GGUF file.
#[derive(Clone, Debug, Default)]
pub struct GgufVocab {
    /// `llama` (SentencePiece BPE) or `gpt2` (byte-level BPE).
    pub model: String,
    /// How `gpt2` splits text into words before merging; `default` if absent.
    pub pre: Option<String>,
    /// All tokens, in order of their ids.
    pub tokens: Vec<String>,
    /// A score for each token; only `llama` needs them.
    pub scores: Vec<f32>,
    /// A type for each token (1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte); all normal
    /// if empty.
    pub token_types: Vec<i32>,
    /// The merges of `gpt2`, best first, each with a space between its halves.
    pub merges: Vec<String>,
    /// Whether text gets a space in front; ERNIE's files lack the entry and mean no.
    pub add_space_prefix: bool,
    /// Control tokens that belong to the text of an answer, such as `<think>`; only files of our own say so.
    pub shown: Vec<u32>,
}

/// As converters give to tokens that are no pieces of the model.
pub(crate) const ADDED_SCORE: f32 = -1000.0;

pub(crate) fn load(vocab: GgufVocab) -> Result<(Vocabulary, Encoder)> {
    for (name, n) in [("scores", vocab.scores.len()), ("token types", vocab.token_types.len())] {
        if n != 0 && n != vocab.tokens.len() {
            return Err(inconsistent(format!("{} tokens, but {n} {name}", vocab.tokens.len())));
        }
    }
    match vocab.model.as_str() {
        "llama" => llama(vocab),
        "gpt2" => gpt2(vocab),
        other => Err(unsupported(format!("tokenizer.ggml.model is {other:?}"))),
    }
}

impl GgufVocab {
    pub(crate) fn push(&mut self, text: String, score: f32, kind: PieceKind) {
        self.tokens.push(text);
        self.scores.push(score);
        self.token_types.push(kind.number());
    }

    /// Puts a token at `id`. Ids between that have none become unused padding; a token that is there already
    /// keeps its score.
    pub(crate) fn set(&mut self, id: u32, text: &str, score: f32, kind: PieceKind) -> Result<()> {
        if id >= MAX_ID {
            return Err(inconsistent(format!("the id {id} of {text:?} is too high")));
        }
        let id = id as usize;
        for padding in self.tokens.len()..=id {
            self.push(format!("[PAD{padding}]"), ADDED_SCORE, PieceKind::Unused);
        }
        if self.tokens[id] != text {
            (self.tokens[id], self.scores[id]) = (text.to_owned(), score);
        }
        self.token_types[id] = kind.number();
        Ok(())
    }

    fn kind(&self, id: usize) -> Result<PieceKind> {
        match self.token_types.get(id) {
            None => Ok(PieceKind::Normal),
            // Some converters leave the type of padding undefined.
            Some(0) => Ok(PieceKind::Unused),
            Some(&number) => PieceKind::from_number(u64::try_from(number).unwrap_or(u64::MAX)),
        }
    }
}

fn llama(vocab: GgufVocab) -> Result<(Vocabulary, Encoder)> {
    if vocab.scores.len() != vocab.tokens.len() || vocab.tokens.is_empty() {
        return Err(inconsistent("a llama vocabulary needs tokens and their scores"));
    }
    let mut pieces = Vec::with_capacity(vocab.tokens.len());
    for (id, text) in vocab.tokens.iter().enumerate() {
        pieces.push(Piece { text: text.clone(), score: vocab.scores[id], kind: vocab.kind(id)? });
    }
    let flags = Flags {
        add_dummy_prefix: vocab.add_space_prefix,
        remove_extra_whitespaces: false,
        escape_whitespaces: true,
        byte_fallback: pieces.iter().any(|piece| piece.kind == PieceKind::Byte),
    };
    let mut vocabulary = sentencepiece::vocabulary(&pieces, flags)?;
    for &id in &vocab.shown {
        vocabulary.show(id);
    }
    let bpe = SpBpe::new(&pieces, &[], &vocabulary, flags)?;
    Ok((vocabulary, Encoder::SentencePiece(bpe)))
}

/// Writes the vocabulary as a `tokenizer.json`, so that there is one byte-level encoder.
fn gpt2(vocab: GgufVocab) -> Result<(Vocabulary, Encoder)> {
    let (pre_tokenizer, ignore_merges) = pre_tokenizer(vocab.pre.as_deref().unwrap_or("default"))?;
    let mut pieces = serde_json::Map::new();
    let mut added = Vec::new();
    let mut unused = Vec::new();
    for (id, text) in vocab.tokens.iter().enumerate() {
        let control = match vocab.kind(id)? {
            PieceKind::Normal | PieceKind::Byte => {
                pieces.entry(text.clone()).or_insert_with(|| json!(id));
                continue;
            }
            PieceKind::Unused => {
                unused.push((id as u32, text));
                continue;
            }
            PieceKind::UserDefined => is_tag(text),
            PieceKind::Control | PieceKind::Unknown => true,
        };
        added.push(json!({
            "id": id, "content": text, "special": control,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        }));
    }
    let merges: Vec<&str> = vocab.merges.iter().map(String::as_str).collect();
    let (mut vocabulary, encoder) = json::build(json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": ignore_merges,
            "vocab": pieces, "merges": merges,
        },
    }))?;
    for (id, text) in unused {
        vocabulary.set(id, text, Kind::Unused)?;
    }
    Ok((vocabulary, Encoder::Json(Box::new(encoder))))
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The splits that a name of llama.cpp stands for, and whether a word that is a token skips the merges.
///
/// Source: ggml-org/llama.cpp: src/llama-vocab.cpp.
fn pre_tokenizer(name: &str) -> Result<(Value, bool)> {
    let (patterns, ignore_merges): (&[&str], bool) = match name {
        "default" => (&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"], false),
        "gpt-2" => (&[GPT2], false),
        "llama-bpe" | "llama3" => (&[LLAMA3], true),
        "smollm" => (&[r"\p{N}", GPT2], false),
        "qwen2" => (&[QWEN2], false),
        other => return Err(unsupported(format!("tokenizer.ggml.pre is {other:?}"))),
    };
    let mut steps: Vec<Value> = patterns
        .iter()
        .map(|regex| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false}))
        .collect();
    steps.push(
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}),
    );
    Ok((json!({"type": "Sequence", "pretokenizers": steps}), ignore_merges))
}
