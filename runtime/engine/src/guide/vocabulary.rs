//! A vocabulary as the matcher walks it: the bytes that each token adds to an answer.

use std::sync::Arc;

use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use tokenizer::Tokenizer;

use crate::generate::TAGS;

/// Tokens by their bytes. Control tokens are left out but for the tags that answers are made of, which count as
/// what they spell.
struct Vocabulary {
    trie: TokTrie,
}

/// The vocabulary of `tokenizer`, in which any of `stops` ends an answer; `None` if it has no such token.
pub(super) fn of(tokenizer: &Tokenizer, stops: &[u32]) -> Option<TokEnv> {
    let n = tokenizer.vocab_size() as u32;
    let stops: Vec<u32> = stops.iter().copied().filter(|&stop| stop < n).collect();
    let tags: Vec<u32> = TAGS.iter().filter_map(|tag| tokenizer.token_id(tag)).collect();
    let words: Vec<Vec<u8>> = (0..n)
        .map(|id| match tokenizer.token_bytes(id) {
            _ if stops.contains(&id) || (tokenizer.is_control(id) && !tags.contains(&id)) => Vec::new(),
            // No text has this byte, and the matcher has a meaning of its own for it.
            bytes if bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER) => Vec::new(),
            bytes => bytes,
        })
        .collect();
    let trie = TokTrie::from(&TokRxInfo::new(n, *stops.first()?), &words).with_eos_tokens(&stops);
    Some(Arc::new(Vocabulary { trie }))
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.greedy_tokenize(bytes)
    }

    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}
