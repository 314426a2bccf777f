//! A vocabulary of invented words, with the tokens that have a meaning where the configuration has them.

use model::config::Config;
use tensor::weights::{GgufEntry, GgufLayout};

use crate::Result;

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;

pub(super) fn put(config: &Config, layout: &mut GgufLayout) -> Result<()> {
    let n = config.text.vocab_size;
    // The published ids of the delimiters of an answer.
    let mut named = vec![(100_272, "<|end_of_sentence|>"), (100_273, "<|begin_of_sentence|>")];
    if config.vision.is_some() {
        let ids = &config.tokens;
        named.extend([
            (ids.image_placeholder, "<|IMAGE_PLACEHOLDER|>"),
            (ids.image_start, "<|IMAGE_START|>"),
            (ids.image_end, "<|IMAGE_END|>"),
            (ids.video_start, "<|VIDEO_START|>"),
            (ids.video_end, "<|VIDEO_END|>"),
        ]);
    }
    let first = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)];
    let first = first.map(|(token, kind)| (token.to_owned(), kind));
    let bytes = (0..256).map(|byte| (format!("<0x{byte:02X}>"), BYTE));
    let mut others = first.into_iter().chain(bytes).chain((0..).map(|i| (word(i), NORMAL)));
    let (tokens, types): (Vec<String>, Vec<i32>) = (0..n as u32)
        .map(|id| match named.iter().find(|(named, _)| *named == id) {
            Some((_, token)) => ((*token).to_owned(), CONTROL),
            None => others.next().expect("words never end"),
        })
        .unzip();
    let scores: Vec<f32> = (0..n).map(|id| -(id as f32)).collect();
    layout.put("tokenizer.ggml.model", GgufEntry::Str("llama"))?;
    layout.put("tokenizer.ggml.tokens", GgufEntry::Strings(&tokens))?;
    layout.put("tokenizer.ggml.scores", GgufEntry::F32s(&scores))?;
    layout.put("tokenizer.ggml.token_type", GgufEntry::I32s(&types))?;
    layout.put("tokenizer.ggml.unknown_token_id", GgufEntry::U32(0))?;
    layout.put("tokenizer.ggml.bos_token_id", GgufEntry::U32(1))?;
    layout.put("tokenizer.ggml.eos_token_id", GgufEntry::U32(2))?;
    Ok(())
}

/// The `i`-th word: letters as digits, every other one behind a space.
fn word(i: usize) -> String {
    let mut word = if i % 2 == 1 { "\u{2581}".to_owned() } else { String::new() };
    let mut rest = i / 2;
    loop {
        word.push((b'a' + (rest % 26) as u8) as char);
        rest /= 26;
        match rest.checked_sub(1) {
            Some(less) => rest = less,
            None => return word,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_comes_twice() {
        let words: std::collections::HashSet<String> = (0..103_424).map(word).collect();
        assert_eq!(words.len(), 103_424);
        assert_eq!([0, 1, 51, 52].map(word), ["a", "\u{2581}a", "\u{2581}z", "aa"].map(str::to_owned));
    }
}
