//! Finding whole tokens in a text.

use std::collections::HashMap;

/// Tokens to look for as they are, such as control tokens; at each place the longest wins.
#[derive(Debug)]
pub(crate) struct TokenSet {
    ids: HashMap<String, u32>,
    /// The lengths of the tokens that begin with a byte, longest first.
    lengths: HashMap<u8, Vec<usize>>,
    starts: Vec<char>,
}

/// A token at a place in a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) id: u32,
}

impl TokenSet {
    pub(crate) fn new<'a>(tokens: impl Iterator<Item = (&'a str, u32)>) -> Self {
        let mut set = Self { ids: HashMap::new(), lengths: HashMap::new(), starts: Vec::new() };
        for (text, id) in tokens {
            let (Some(&byte), Some(first)) = (text.as_bytes().first(), text.chars().next()) else { continue };
            set.ids.entry(text.to_owned()).or_insert(id);
            set.lengths.entry(byte).or_default().push(text.len());
            if !set.starts.contains(&first) {
                set.starts.push(first);
            }
        }
        for lengths in set.lengths.values_mut() {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
        }
        set
    }

    /// The first token at or after `from`; of several at one place the longest.
    pub(crate) fn find(&self, text: &str, from: usize) -> Option<Found> {
        text.bytes().enumerate().skip(from).find_map(|(start, byte)| self.at(text, start, byte))
    }

    fn at(&self, text: &str, start: usize, byte: u8) -> Option<Found> {
        self.lengths.get(&byte)?.iter().find_map(|&length| {
            let end = start + length;
            let &id = self.ids.get(text.get(start..end)?)?;
            Some(Found { start, end, id })
        })
    }

    /// The longest token exactly at `start`.
    pub(crate) fn longest_at(&self, text: &str, start: usize) -> Option<Found> {
        self.at(text, start, *text.as_bytes().get(start)?)
    }

    /// Whether some token begins with `c`.
    pub(crate) fn starts_with(&self, c: char) -> bool {
        self.starts.contains(&c)
    }
}
