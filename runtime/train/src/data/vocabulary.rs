//! Trains the vocabulary: a SentencePiece-like BPE with byte fallback, written as `tokenizer.json`.
//!
//! The layout follows ERNIE 4.5: `<unk>` `<s>` `</s>`, ten digits, 256 bytes, merged pieces, single
//! characters, control tokens. Space is `▁`; nothing is put before the text; digits never merge.

use std::collections::HashSet;

use anyhow::{Result, anyhow, ensure};
use serde_json::{Map, Value, json};
use tokenizers::Trainer as _;
use tokenizers::models::bpe::{BPE, BpeTrainer};

/// Control tokens, in id order after all pieces.
const CONTROL_TOKENS: [&str; 10] = [
    "<|end_of_sentence|>",
    "<|begin_of_sentence|>",
    "<|IMAGE_PLACEHOLDER|>",
    "<|IMAGE_START|>",
    "<|IMAGE_END|>",
    "<|VIDEO_START|>",
    "<|VIDEO_END|>",
    "<|VIDEO_PLACEHOLDER|>",
    "<think>",
    "</think>",
];

/// What the chat template writes around every turn; it must be cheap in tokens.
const TEMPLATE_WORDS: [&str; 4] = ["User: ", "Assistant: ", "Picture 1:", "User: Picture 2:"];
/// Once every this many lines of corpus, so that the template's words become single pieces.
const TEMPLATE_EVERY: usize = 50;

/// Ids before the first merged piece: three specials, ten digits, 256 bytes.
const FIRST_MERGE: usize = 3 + 10 + 256;

/// Learns at most `max_pieces` pieces (control tokens not counted) and returns the text of a `tokenizer.json`.
///
/// The same corpus gives the same text.
///
/// # Errors
/// If `max_pieces` does not leave room for digits, bytes and characters.
pub fn train_vocabulary(corpus: impl Iterator<Item = String>, max_pieces: usize) -> Result<String> {
    let mut lines: Vec<String> = corpus.collect();
    lines.extend(
        TEMPLATE_WORDS.iter().cycle().take(lines.len() / TEMPLATE_EVERY * 4).map(ToString::to_string),
    );
    // Printable ASCII without digits, which have ids of their own.
    let alphabet: HashSet<char> =
        (' '..='~').map(|c| if c == ' ' { '▁' } else { c }).filter(|c| !c.is_ascii_digit()).collect();
    ensure!(max_pieces > FIRST_MERGE + alphabet.len(), "a vocabulary needs more than {max_pieces} pieces");

    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(max_pieces - FIRST_MERGE)
        .min_frequency(3)
        .limit_alphabet(alphabet.len())
        .initial_alphabet(alphabet)
        .build();
    trainer.feed(lines.iter(), |line| Ok(words(line))).map_err(|e| anyhow!("{e}"))?;
    let mut model = BPE::default();
    trainer.train(&mut model).map_err(|e| anyhow!("{e}"))?;

    let trained = serde_json::to_value(&model)?;
    let merges = trained["merges"].as_array().cloned().unwrap_or_default();
    let mut characters: Vec<&String> = trained["vocab"]
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .filter(|p| p.chars().count() == 1)
        .collect();
    characters.sort();

    let mut pieces: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).into();
    pieces.extend(('0'..='9').map(String::from));
    pieces.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    pieces.extend(merges.iter().filter_map(joined_piece));
    pieces.extend(characters.into_iter().cloned());
    let n_pieces = pieces.len();
    let vocab: Map<String, Value> =
        pieces.into_iter().enumerate().map(|(id, piece)| (piece, json!(id))).collect();
    ensure!(vocab.len() == n_pieces, "the trained vocabulary has a piece twice");
    Ok(serde_json::to_string_pretty(&tokenizer_json(vocab, merges))?)
}

fn tokenizer_json(vocab: Map<String, Value>, merges: Vec<Value>) -> Value {
    let added = |id: usize, content: &str| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        })
    };
    let specials = ["<unk>", "<s>", "</s>"].iter().enumerate().map(|(id, token)| added(id, token));
    let controls = CONTROL_TOKENS.iter().enumerate().map(|(nth, token)| added(vocab.len() + nth, token));
    let added_tokens: Vec<Value> = specials.chain(controls).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens,
        "normalizer": { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" },
            { "type": "Fuse" },
        ] },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": "<unk>",
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": merges,
        },
    })
}

/// The piece that a merge makes.
fn joined_piece(merge: &Value) -> Option<String> {
    // Serialised either as a pair or as "left right".
    match merge {
        Value::Array(pair) => Some(pair.iter().filter_map(Value::as_str).collect()),
        Value::String(pair) => Some(pair.replace(' ', "")),
        _ => None,
    }
}

/// What merges may not cross: spaces begin words, and digits and punctuation stand alone.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut closed = true;
    for c in line.chars() {
        if c.is_ascii_digit() {
            closed = true;
            continue;
        }
        let alone = c.is_ascii_punctuation() && c != '\'';
        match words.last_mut() {
            Some(word) if !closed && !alone && c != ' ' => word.push(c),
            _ => words.push(if c == ' ' { "▁".into() } else { c.into() }),
        }
        closed = alone;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::Tokenizer;

    fn corpus() -> impl Iterator<Item = String> {
        let lines = ["A red dog on grass.", "Two dogs and a red star.", "I can't tell.", "Is there a dog?"];
        lines.into_iter().cycle().take(400).map(String::from)
    }

    fn trained() -> Tokenizer {
        train_vocabulary(corpus(), 600).unwrap().parse().unwrap()
    }

    #[track_caller]
    fn check_round_trip(text: &str) {
        let tokenizer = trained();
        let ids = tokenizer.encode(text, false).unwrap().get_ids().to_vec();
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
    }

    #[test]
    fn encoding_and_decoding_gives_the_text() {
        check_round_trip("A red dog on grass.");
        check_round_trip(" two  spaces, 1234 digits\nand 狗 é 😈");
        check_round_trip(
            "<|begin_of_sentence|>User: Picture 1:<|IMAGE_START|>Hi\nAssistant: <think>\n\n</think>\n\nYes.</s>",
        );
    }

    #[test]
    fn ids_are_laid_out_as_in_ernie() {
        let tokenizer = trained();
        let id = |token: &str| tokenizer.token_to_id(token).unwrap();
        assert_eq!([id("<unk>"), id("<s>"), id("</s>"), id("0"), id("9")], [0, 1, 2, 3, 12]);
        assert_eq!([id("<0x00>"), id("<0x0A>"), id("<0xFF>")], [13, 23, 268]);
        assert_eq!(tokenizer.encode("\n12", false).unwrap().get_ids(), [23, 4, 5]);
        let last = tokenizer.get_vocab_size(true) as u32 - 1;
        assert_eq!(id("</think>"), last);
        assert_eq!(id("<|end_of_sentence|>"), last - 9);
    }

    #[test]
    fn frequent_words_are_one_piece_and_never_cross_spaces() {
        let tokenizer = trained();
        assert_eq!(tokenizer.encode("A red dog.", false).unwrap().get_tokens(), ["A", "▁red", "▁dog", "."]);
        assert!(tokenizer.get_vocab(false).keys().all(|piece| !piece.chars().skip(1).any(|c| c == '▁')));
    }

    #[test]
    fn the_same_corpus_gives_the_same_file() {
        assert_eq!(train_vocabulary(corpus(), 600).unwrap(), train_vocabulary(corpus(), 600).unwrap());
    }
}
