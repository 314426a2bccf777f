//! Tokens guessed ahead, so that one pass through the weights may bring several.
//!
//! Decoding reads all weights for one row; a few rows more cost little beside that. So the tokens that are
//! likely to follow are appended together with the one that was chosen. Each row then gives the candidates that
//! decoding one by one would have given, and the sampler chooses among them as ever: a guess that it does not
//! choose is forgotten with all rows behind it. Neither the answer nor the random numbers it takes depend on
//! what was guessed.

mod lookup;
mod pace;

use std::collections::VecDeque;

use tensor::Candidate;

use crate::generate::Speculation;
use lookup::Lookup;
use pace::Pace;

/// What guessing brought to an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Guesses {
    /// Tokens that were guessed and computed.
    pub drafted: usize,
    /// Those of them that are in the answer.
    pub accepted: usize,
}

/// Where a guess came from. They cost and hit differently, so each has a pace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The text so far.
    Lookup,
    /// A head of the model.
    Head,
}

/// The rows computed ahead of an answer, and what the next guess is made from.
#[derive(Debug)]
pub(crate) struct Lookahead {
    lookup: Option<(Lookup, Pace)>,
    head: Option<Pace>,
    /// Guessed tokens that may still be chosen, each with the candidates after it.
    rows: VecDeque<(u32, Vec<Candidate>)>,
    guesses: Guesses,
    /// The last step's guesses, until one was missed or all were met.
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    source: Source,
    drafted: usize,
    accepted: usize,
}

impl Lookahead {
    pub(crate) fn new(speculation: Speculation, prompt: &[u32]) -> Self {
        Self {
            lookup: (speculation != Speculation::Off).then(|| (Lookup::new(prompt), Pace::default())),
            head: (speculation == Speculation::Head).then(Pace::default),
            rows: VecDeque::new(),
            guesses: Guesses::default(),
            open: None,
        }
    }

    pub(crate) fn guesses(&self) -> Guesses {
        self.guesses
    }

    /// Whether anything is guessed, so that steps are worth timing.
    pub(crate) fn is_on(&self) -> bool {
        self.lookup.is_some()
    }

    /// Tells of a chosen token. Returns the candidates after it if its row was computed ahead; else every
    /// other row was in vain.
    pub(crate) fn choose(&mut self, token: u32) -> Option<Vec<Candidate>> {
        if let Some((lookup, _)) = &mut self.lookup {
            lookup.push(token);
        }
        let hit = self.rows.pop_front().filter(|&(guessed, _)| guessed == token);
        match hit {
            Some((_, candidates)) => {
                self.guesses.accepted += 1;
                if let Some(open) = &mut self.open {
                    open.accepted += 1;
                }
                Some(candidates)
            }
            None => {
                self.rows.clear();
                if let Some(Open { source, drafted, accepted }) = self.open.take()
                    && let Some(pace) = self.pace(source)
                {
                    pace.saw(drafted, accepted);
                }
                None
            }
        }
    }

    fn pace(&mut self, source: Source) -> Option<&mut Pace> {
        match source {
            Source::Lookup => self.lookup.as_mut().map(|(_, pace)| pace),
            Source::Head => self.head.as_mut(),
        }
    }

    /// At most `room` tokens that may follow those chosen so far, by what followed them before.
    pub(crate) fn draft(&mut self, room: usize) -> Vec<u32> {
        let Some((lookup, pace)) = &mut self.lookup else { return Vec::new() };
        let mut draft = lookup.draft(pace::LONGEST.min(room));
        draft.truncate(pace.length(draft.len()));
        draft
    }

    /// How many tokens to have guessed by the model's head, `room` at most.
    pub(crate) fn head_length(&mut self, room: usize) -> usize {
        self.head.as_mut().map_or(0, |pace| pace.length(pace::LONGEST.min(room)))
    }

    /// Tells of a step that appended the chosen token and `draft`: how long it took, and the candidates after
    /// each. Returns those after the chosen token.
    pub(crate) fn step(
        &mut self,
        draft: &[u32],
        source: Source,
        ms: f64,
        rows: Vec<Vec<Candidate>>,
    ) -> Vec<Candidate> {
        for any in [Source::Lookup, Source::Head] {
            if (draft.is_empty() || any == source)
                && let Some(pace) = self.pace(any)
            {
                pace.took(1 + draft.len(), ms);
            }
        }
        self.guesses.drafted += draft.len();
        self.open = (!draft.is_empty()).then_some(Open { source, drafted: draft.len(), accepted: 0 });
        let mut rows = rows.into_iter();
        let next = rows.next().expect("a step has a row for the chosen token");
        self.rows = draft.iter().copied().zip(rows).collect();
        next
    }
}
