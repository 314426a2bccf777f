//! SentencePiece's byte pair encoding: of all neighbours that form a piece, the best score is merged first.
//!
//! Source: google/sentencepiece: src/bpe_model.cc.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use crate::error::{Result, damaged, inconsistent};
use crate::token_set::TokenSet;
use crate::vocabulary::Vocabulary;

/// What a piece is for; the numbers are those of SentencePiece and GGUF alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PieceKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl PieceKind {
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::Normal => 1,
            Self::Unknown => 2,
            Self::Control => 3,
            Self::UserDefined => 4,
            Self::Unused => 5,
            Self::Byte => 6,
        }
    }

    pub(crate) fn from_number(number: u64) -> Result<Self> {
        Ok(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return Err(damaged(format!("{number} is no type of token"))),
        })
    }
}

/// A piece; its id is its place in the list.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) score: f32,
    pub(crate) kind: PieceKind,
}

/// What a model does to text before it is split.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flags {
    pub(crate) add_dummy_prefix: bool,
    pub(crate) remove_extra_whitespaces: bool,
    pub(crate) escape_whitespaces: bool,
    pub(crate) byte_fallback: bool,
}

/// The encoder.
#[derive(Debug)]
pub(crate) struct SpBpe {
    pieces: HashMap<String, Candidate>,
    user_defined: TokenSet,
    byte_ids: Option<Box<[u32; 256]>>,
    unk_id: Option<u32>,
    flags: Flags,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    score: f32,
    unused: bool,
}

impl SpBpe {
    /// `extra` are text tokens added beside the pieces.
    pub(crate) fn new(
        pieces: &[Piece],
        extra: &[(u32, String)],
        vocabulary: &Vocabulary,
        flags: Flags,
    ) -> Result<Self> {
        let mut candidates = HashMap::with_capacity(pieces.len());
        let mut whole: Vec<(Cow<'_, str>, u32)> = Vec::new();
        let mut unk_id = None;
        for (id, piece) in (0u32..).zip(pieces) {
            if piece.score.is_nan() {
                return Err(damaged(format!("the score of {:?} is no number", piece.text)));
            }
            if piece.kind == PieceKind::Unknown {
                unk_id = unk_id.or(Some(id));
            }
            let mergeable =
                matches!(piece.kind, PieceKind::Normal | PieceKind::UserDefined | PieceKind::Unused);
            if !mergeable || piece.text.is_empty() || vocabulary.is_control(id) {
                continue;
            }
            let unused = piece.kind == PieceKind::Unused;
            candidates.entry(piece.text.clone()).or_insert(Candidate { id, score: piece.score, unused });
            if piece.kind == PieceKind::UserDefined {
                whole.push((Cow::Borrowed(&piece.text), id));
            }
        }
        for (id, text) in extra {
            whole.push((escape(text, flags), *id));
        }
        let byte_ids = match flags.byte_fallback {
            true => Some(byte_ids(vocabulary)?),
            false => None,
        };
        let user_defined = TokenSet::new(whole.iter().map(|(text, id)| (text.as_ref(), *id)));
        Ok(Self { pieces: candidates, user_defined, byte_ids, unk_id, flags })
    }

    /// Appends the ids of `text`.
    pub(crate) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let text = self.prepare(text);
        let mut merger = Merger::new(self, &text);
        merger.run();
        let mut unknown_before = false;
        for symbol in merger.symbols.iter().filter(|symbol| symbol.end > symbol.start) {
            let known = ids.len();
            match symbol.id {
                Some(id) => ids.push(id),
                None => merger.resegment(symbol.start, symbol.end, ids),
            }
            // Neighbouring unknown characters share one id.
            let unknown = ids.len() == known;
            if unknown && !unknown_before {
                ids.extend(self.unk_id);
            }
            unknown_before = unknown;
        }
    }

    fn prepare<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        if self.flags.remove_extra_whitespaces {
            let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
            text = Cow::Owned(words.join(" "));
        }
        if self.flags.add_dummy_prefix && !text.is_empty() {
            text = Cow::Owned(format!(" {text}"));
        }
        match escape(&text, self.flags) {
            Cow::Owned(escaped) => Cow::Owned(escaped),
            Cow::Borrowed(_) => text,
        }
    }
}

fn escape(text: &str, flags: Flags) -> Cow<'_, str> {
    if flags.escape_whitespaces && text.contains(' ') {
        Cow::Owned(text.replace(' ', "▁"))
    } else {
        Cow::Borrowed(text)
    }
}

fn byte_ids(vocabulary: &Vocabulary) -> Result<Box<[u32; 256]>> {
    let mut ids = Box::new([0; 256]);
    for byte in 0..=255u8 {
        let id = vocabulary.byte_id(byte);
        ids[usize::from(byte)] =
            id.ok_or_else(|| inconsistent(format!("there is no piece <0x{byte:02X}>")))?;
    }
    Ok(ids)
}

/// A stretch of the text; empty once it has been merged into its left neighbour.
struct Symbol {
    start: usize,
    end: usize,
    previous: Option<usize>,
    next: Option<usize>,
    /// The piece of this text, if there is one that may appear.
    id: Option<u32>,
    /// User-defined symbols are never merged.
    fixed: bool,
}

/// Two neighbours that form a piece.
struct Pair {
    left: usize,
    right: usize,
    start: usize,
    end: usize,
    candidate: Candidate,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        let score = self.candidate.score.partial_cmp(&other.candidate.score);
        score.unwrap_or(Ordering::Equal).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}

struct Merger<'a> {
    bpe: &'a SpBpe,
    text: &'a str,
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Pair>,
    /// Where an unused piece was merged, by its text: it must be split again.
    halves: HashMap<&'a str, usize>,
}

impl<'a> Merger<'a> {
    fn new(bpe: &'a SpBpe, text: &'a str) -> Self {
        let mut symbols = Vec::new();
        let mut start = 0;
        while let Some(c) = text[start..].chars().next() {
            let found = bpe.user_defined.longest_at(text, start);
            let end = found.as_ref().map_or(start + c.len_utf8(), |found| found.end);
            let piece = bpe.pieces.get(&text[start..end]).filter(|piece| !piece.unused);
            symbols.push(Symbol {
                start,
                end,
                previous: symbols.len().checked_sub(1),
                next: (end < text.len()).then_some(symbols.len() + 1),
                id: found.as_ref().map(|found| found.id).or(piece.map(|piece| piece.id)),
                fixed: found.is_some(),
            });
            start = end;
        }
        Self { bpe, text, symbols, queue: BinaryHeap::new(), halves: HashMap::new() }
    }

    fn run(&mut self) {
        for left in 0..self.symbols.len() {
            self.offer(Some(left), self.symbols[left].next);
        }
        while let Some(pair) = self.queue.pop() {
            let (left, right) = (&self.symbols[pair.left], &self.symbols[pair.right]);
            let stale = left.start != pair.start
                || left.end != right.start
                || right.end != pair.end
                || right.start == right.end
                || left.start == left.end;
            if !stale {
                self.merge(&pair);
            }
        }
    }

    fn merge(&mut self, pair: &Pair) {
        let next = self.symbols[pair.right].next;
        let right = &mut self.symbols[pair.right];
        let split = right.start;
        (right.start, right.end) = (pair.end, pair.end);
        let left = &mut self.symbols[pair.left];
        left.end = pair.end;
        left.next = next;
        left.id = (!pair.candidate.unused).then_some(pair.candidate.id);
        let previous = left.previous;
        if pair.candidate.unused {
            self.halves.insert(&self.text[pair.start..pair.end], split - pair.start);
        }
        if let Some(next) = next {
            self.symbols[next].previous = Some(pair.left);
        }
        self.offer(previous, Some(pair.left));
        self.offer(Some(pair.left), next);
    }

    fn offer(&mut self, left: Option<usize>, right: Option<usize>) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let (a, b) = (&self.symbols[left], &self.symbols[right]);
        if a.fixed || b.fixed {
            return;
        }
        if let Some(&candidate) = self.bpe.pieces.get(&self.text[a.start..b.end]) {
            self.queue.push(Pair { left, right, start: a.start, end: b.end, candidate });
        }
    }

    /// Appends the ids of a stretch that is no piece to be used: its halves, or its bytes.
    fn resegment(&self, start: usize, end: usize, ids: &mut Vec<u32>) {
        let mut stack = vec![(start, end)];
        while let Some((start, end)) = stack.pop() {
            let text = &self.text[start..end];
            match (self.bpe.pieces.get(text), self.halves.get(text)) {
                (Some(piece), _) if !piece.unused => ids.push(piece.id),
                (_, Some(half)) => stack.extend([(start + half, end), (start, start + half)]),
                _ => {
                    let bytes = self.bpe.byte_ids.as_ref();
                    ids.extend(bytes.into_iter().flat_map(|ids| text.bytes().map(|b| ids[usize::from(b)])));
                }
            }
        }
    }
}
