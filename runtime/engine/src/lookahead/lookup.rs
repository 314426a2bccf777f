//! Guesses from the text itself: what followed the last few tokens when they came before.
//!
//! Answers repeat their prompt (names, code, quotations) and themselves; no second model is needed to see that.
//! The method is known as prompt lookup.

use std::collections::HashMap;

/// How many tokens must have come before. Longer ones are tried first: they err less.
const LENGTHS: [usize; 2] = [4, 2];

/// All tokens so far, and where each short run of them last ended.
#[derive(Debug)]
pub(super) struct Lookup {
    tokens: Vec<u32>,
    /// For each of [`LENGTHS`]: a run, and the index behind its latest place but the last.
    ends: [HashMap<[u32; LENGTHS[0]], usize>; LENGTHS.len()],
}

impl Lookup {
    pub(super) fn new(prompt: &[u32]) -> Self {
        let mut lookup = Self { tokens: Vec::with_capacity(prompt.len()), ends: Default::default() };
        prompt.iter().for_each(|&token| lookup.push(token));
        lookup
    }

    pub(super) fn push(&mut self, token: u32) {
        // A run becomes known when it is no longer the last one, which is what is looked up.
        for (ends, n) in self.ends.iter_mut().zip(LENGTHS) {
            if let Some(run) = last_run(&self.tokens, n) {
                ends.insert(run, self.tokens.len());
            }
        }
        self.tokens.push(token);
    }

    /// At most `n` tokens that followed the last ones before.
    pub(super) fn draft(&self, n: usize) -> Vec<u32> {
        let find =
            |(ends, len): (&HashMap<_, usize>, usize)| ends.get(&last_run(&self.tokens, len)?).copied();
        let Some(start) = self.ends.iter().zip(LENGTHS).find_map(find) else { return Vec::new() };
        // Where the tokens found reach into the last ones, the text is a loop, and goes on as one.
        let period = self.tokens.len() - start;
        (0..n).map(|i| self.tokens[start + i % period]).collect()
    }
}

/// The last `n` tokens, as a key.
fn last_run(tokens: &[u32], n: usize) -> Option<[u32; LENGTHS[0]]> {
    let mut run = [0; LENGTHS[0]];
    run[..n].copy_from_slice(&tokens[tokens.len().checked_sub(n)?..]);
    Some(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tokens: &[u32], n: usize, expected: &[u32]) {
        assert_eq!(Lookup::new(tokens).draft(n), expected);
    }

    #[test]
    fn what_followed_before_is_guessed() {
        check(&[1, 2, 3, 4, 5, 1, 2], 3, &[3, 4, 5]);
        check(&[1, 2, 3, 4, 5, 1, 2], 1, &[3]);
    }

    #[test]
    fn the_latest_place_counts() {
        check(&[1, 2, 3, 1, 2, 4, 1, 2], 1, &[4]);
    }

    #[test]
    fn a_longer_run_goes_before_a_later_place() {
        check(&[9, 8, 1, 2, 3, 7, 7, 1, 2, 4, 9, 8, 1, 2], 1, &[3]);
    }

    #[test]
    fn loops_go_on() {
        check(&[5, 6, 5, 6, 5, 6], 5, &[5, 6, 5, 6, 5]);
        check(&[7, 7, 7], 3, &[7, 7, 7]);
    }

    #[test]
    fn new_text_gives_no_guess() {
        check(&[], 4, &[]);
        check(&[1], 4, &[]);
        check(&[1, 2, 3, 4], 4, &[]);
    }
}
