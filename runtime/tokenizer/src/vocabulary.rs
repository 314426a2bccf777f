//! The table of tokens, and how each is spelt in text.

use std::collections::HashMap;

use crate::error::{Result, inconsistent};

/// More ids than any vocabulary has; a damaged file must not make us allocate for them.
pub(crate) const MAX_ID: u32 = 1 << 20;

/// What an id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A piece of text in the vocabulary's own spelling.
    Piece,
    /// One byte.
    Byte(u8),
    /// An added token that is text: spelt verbatim, and user text may contain it (ERNIE's digits).
    Verbatim,
    /// Only prompts contain it. A `special` one is left out where special tokens are skipped.
    Control { special: bool },
    /// A number without a meaning.
    Unused,
}

/// How pieces write text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// `▁` for a space; `strip_space` if the first space of a text is the encoder's own.
    SentencePiece { strip_space: bool },
    /// One printable character for each byte, as in GPT-2.
    ByteLevel,
}

/// All tokens by id and by name.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    entries: Vec<Option<(String, Kind)>>,
    ids: HashMap<String, u32>,
    byte_ids: HashMap<u8, u32>,
    spelling: Spelling,
}

impl Vocabulary {
    pub(crate) fn new(spelling: Spelling) -> Self {
        Self { entries: Vec::new(), ids: HashMap::new(), byte_ids: HashMap::new(), spelling }
    }

    /// Adds a token, or changes the kind of one that has this text already.
    pub(crate) fn set(&mut self, id: u32, text: &str, kind: Kind) -> Result<()> {
        if id >= MAX_ID {
            return Err(inconsistent(format!("the id {id} of {text:?} is too high")));
        }
        let slot = id as usize;
        if self.entries.len() <= slot {
            self.entries.resize_with(slot + 1, || None);
        }
        match &mut self.entries[slot] {
            Some((before, _)) if before != text => {
                return Err(inconsistent(format!("the id {id} is both {before:?} and {text:?}")));
            }
            Some((_, old)) => *old = kind,
            empty => *empty = Some((text.to_owned(), kind)),
        }
        // Of two ids with one text the first is the one to encode with.
        self.ids.entry(text.to_owned()).or_insert(id);
        if let Some(byte) = self.byte_of(text, kind) {
            self.byte_ids.entry(byte).or_insert(id);
        }
        Ok(())
    }

    /// Says that a control token belongs to the text of an answer; other ids stay as they are.
    pub(crate) fn show(&mut self, id: u32) {
        if let Some(Some((_, Kind::Control { special }))) = self.entries.get_mut(id as usize) {
            *special = false;
        }
    }

    fn byte_of(&self, text: &str, kind: Kind) -> Option<u8> {
        match (kind, self.spelling) {
            (Kind::Byte(byte), _) => Some(byte),
            (Kind::Piece, Spelling::ByteLevel) => {
                let mut chars = text.chars();
                let byte = byte_of_char(chars.next()?)?;
                chars.next().is_none().then_some(byte)
            }
            _ => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    pub(crate) fn byte_id(&self, byte: u8) -> Option<u32> {
        self.byte_ids.get(&byte).copied()
    }

    fn entry(&self, id: u32) -> Option<(&str, Kind)> {
        let (text, kind) = self.entries.get(id as usize)?.as_ref()?;
        Some((text, *kind))
    }

    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        self.entry(id).map(|(text, _)| text)
    }

    pub(crate) fn is_control(&self, id: u32) -> bool {
        matches!(self.entry(id), Some((_, Kind::Control { .. })))
    }

    pub(crate) fn controls(&self) -> impl Iterator<Item = (&str, u32)> {
        (0..self.entries.len() as u32).filter_map(|id| match self.entry(id)? {
            (text, Kind::Control { .. }) => Some((text, id)),
            _ => None,
        })
    }

    /// Whether pieces are spelt in characters that stand for bytes.
    pub(crate) fn is_byte_level(&self) -> bool {
        matches!(self.spelling, Spelling::ByteLevel)
    }

    /// Whether a decoded text loses the space it begins with.
    pub(crate) fn strips_space(&self) -> bool {
        self.spelling == Spelling::SentencePiece { strip_space: true }
    }

    /// Appends the bytes that `id` stands for.
    pub(crate) fn spell(&self, id: u32, skip_special: bool, out: &mut Vec<u8>) {
        let Some((text, kind)) = self.entry(id) else { return };
        match (kind, self.spelling) {
            (Kind::Byte(byte), _) => out.push(byte),
            (Kind::Control { special: true }, _) if skip_special => {}
            (Kind::Control { .. } | Kind::Verbatim | Kind::Unused, _) => {
                out.extend_from_slice(text.as_bytes())
            }
            (Kind::Piece, Spelling::SentencePiece { .. }) => {
                out.extend_from_slice(text.replace('▁', " ").as_bytes());
            }
            (Kind::Piece, Spelling::ByteLevel) => {
                for c in text.chars() {
                    match byte_of_char(c) {
                        Some(byte) => out.push(byte),
                        None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
            }
        }
    }
}

/// Whether an added token marks structure: a tag like `<think>` or `[INST]`, which user text must not forge
/// even where the file does not call it special.
pub(crate) fn is_tag(text: &str) -> bool {
    text.len() > 2
        && (text.starts_with('<') && text.ends_with('>') || text.starts_with('[') && text.ends_with(']'))
}

/// The byte of a piece like `<0x0A>`.
pub(crate) fn byte_piece(text: &str) -> Option<u8> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() == 2 { u8::from_str_radix(hex, 16).ok() } else { None }
}

/// The byte that GPT-2's alphabet writes as `c`.
///
/// Printable bytes stand for themselves, the other 68 for U+0100 and on.
fn byte_of_char(c: char) -> Option<u8> {
    let code = c as u32;
    match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 0x7F) as u8),
        0x143 => Some(0xAD),
        _ => None,
    }
}
