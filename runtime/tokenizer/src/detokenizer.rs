//! Ids to text, one at a time.

use crate::Tokenizer;

/// Decodes a stream of ids; what it returns, joined, is what [`Tokenizer::decode`] returns.
#[derive(Clone, Debug)]
pub struct Detokenizer {
    tokenizer: Tokenizer,
    skip_special: bool,
    /// Bytes that may still become a character; after each `push` at most three.
    pending: Vec<u8>,
    strip_space: bool,
}

impl Detokenizer {
    pub(crate) fn new(tokenizer: Tokenizer, skip_special: bool) -> Self {
        let strip_space = tokenizer.vocabulary().strips_space();
        Self { tokenizer, skip_special, pending: Vec::new(), strip_space }
    }

    /// Takes one id and returns the text that is complete with it, which may be empty.
    ///
    /// A character is held back until its last byte is there.
    pub fn push(&mut self, id: u32) -> String {
        let mut text = String::new();
        self.push_into(id, &mut text);
        text
    }

    pub(crate) fn push_into(&mut self, id: u32, text: &mut String) {
        self.tokenizer.vocabulary().spell(id, self.skip_special, &mut self.pending);
        if self.strip_space && !self.pending.is_empty() {
            self.strip_space = false;
            if self.pending[0] == b' ' {
                self.pending.remove(0);
            }
        }
        let mut done = 0;
        loop {
            match std::str::from_utf8(&self.pending[done..]) {
                Ok(rest) => {
                    text.push_str(rest);
                    self.pending.clear();
                    return;
                }
                Err(error) => {
                    let valid = done + error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.pending[done..valid]));
                    let Some(invalid) = error.error_len() else {
                        self.pending.drain(..valid);
                        return;
                    };
                    self.replace(invalid, text);
                    done = valid + invalid;
                }
            }
        }
    }

    /// Ends the stream: an unfinished character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        let mut text = String::new();
        if !self.pending.is_empty() {
            self.replace(self.pending.len(), &mut text);
            self.pending.clear();
        }
        text
    }

    /// Stands in for `n_bytes` that begin a character and do not end it: as in the reference, U+FFFD for
    /// each where bytes are tokens, and for all of them where tokens are made of bytes.
    fn replace(&self, n_bytes: usize, text: &mut String) {
        let n = if self.tokenizer.vocabulary().is_byte_level() { 1 } else { n_bytes };
        text.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, n));
    }
}
