//! How many tokens to guess: as many as pay, by what guesses brought and what steps took so far.

/// Guesses of a step at most. With more rows than this, products stop being bound by reading weights.
pub(super) const LONGEST: usize = 7;

/// Share of the past that each new observation leaves.
const MEMORY: f64 = 0.9;
/// A guess must promise to be this much faster than none: estimates are noisy, and rows cost energy.
const LEAST_GAIN: f64 = 1.05;
/// Before a step with guesses was timed: the cost of a row beside the first, over the cost of a step.
const USUAL_ROW_COST: f64 = 0.25;
/// What a guess is believed to hit before there was one, and the weight of that belief in guesses.
const FIRST_BELIEF: (f64, f64) = (0.6, 2.0);
/// Guesses that are passed over after one that did not pay; each time twice as many, up to the last.
const PAUSES: [usize; 2] = [8, 256];

/// What steps cost, how many guesses hit, and whether it is time to guess.
#[derive(Debug)]
pub(super) struct Pace {
    /// Milliseconds of a step of one row.
    one_row_ms: Option<f64>,
    /// Milliseconds that every row beside the first adds.
    more_row_ms: Option<f64>,
    /// Guesses that hit, and all whose fate was seen; old ones fade.
    hits: f64,
    trials: f64,
    /// Chances to pass over before the next trial, and how many the pause began with.
    wait: usize,
    pause: usize,
}

impl Default for Pace {
    fn default() -> Self {
        let (share, weight) = FIRST_BELIEF;
        Self {
            one_row_ms: None,
            more_row_ms: None,
            hits: share * weight,
            trials: weight,
            wait: 0,
            pause: PAUSES[0],
        }
    }
}

impl Pace {
    /// How many of `available` guesses to compute.
    pub(super) fn length(&mut self, available: usize) -> usize {
        if available == 0 {
            return 0;
        }
        if self.wait > 0 {
            self.wait -= 1;
            return 0;
        }
        match self.best(available) {
            0 => {
                // One short trial; unless it changes the estimates, the next pause is longer.
                self.wait = self.pause;
                self.pause = (2 * self.pause).min(PAUSES[1]);
                available.min(1)
            }
            n => {
                self.pause = PAUSES[0];
                n
            }
        }
    }

    /// The number of guesses that promises most tokens for the time; 0 if none promises enough.
    fn best(&self, available: usize) -> usize {
        let hit = self.hits / self.trials;
        let row_cost = match (self.one_row_ms, self.more_row_ms) {
            (Some(one), Some(more)) if one > 0.0 => (more / one).max(0.0),
            _ => USUAL_ROW_COST,
        };
        let (mut best, mut best_gain) = (0, LEAST_GAIN);
        let (mut tokens, mut all_hit) = (1.0, 1.0);
        for n in 1..=available.min(LONGEST) {
            all_hit *= hit;
            tokens += all_hit;
            let gain = tokens / (1.0 + row_cost * n as f64);
            if gain > best_gain {
                (best, best_gain) = (n, gain);
            }
        }
        best
    }

    /// Tells that a step of `rows` rows took `ms`.
    pub(super) fn took(&mut self, rows: usize, ms: f64) {
        let fade = |old: &mut Option<f64>, new: f64| {
            *old = Some(old.map_or(new, |old| MEMORY * old + (1.0 - MEMORY) * new));
        };
        match (rows, self.one_row_ms) {
            (1, _) => fade(&mut self.one_row_ms, ms),
            (_, Some(one)) => fade(&mut self.more_row_ms, (ms - one) / (rows - 1) as f64),
            (_, None) => {}
        }
    }

    /// Tells that of `drafted` guesses of a step the first `accepted` hit.
    pub(super) fn saw(&mut self, drafted: usize, accepted: usize) {
        // What lies behind a miss was not put to the test.
        for is_hit in (0..drafted.min(accepted + 1)).map(|i| i < accepted) {
            self.hits = MEMORY * self.hits + f64::from(u8::from(is_hit));
            self.trials = MEMORY * self.trials + 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is chosen after many steps whose rows cost `row_cost` and whose guesses hit or miss.
    fn settled(row_cost: f64, accepted: usize) -> Vec<usize> {
        let mut pace = Pace::default();
        pace.took(1, 10.0);
        let mut lengths = Vec::new();
        for _ in 0..400 {
            let n = pace.length(LONGEST);
            lengths.push(n);
            pace.took(1 + n, 10.0 * (1.0 + row_cost * n as f64));
            pace.saw(n, accepted.min(n));
        }
        lengths
    }

    #[test]
    fn guesses_that_hit_grow_long() {
        assert_eq!(settled(0.1, LONGEST)[399], LONGEST);
    }

    #[test]
    fn guesses_that_miss_become_rare() {
        let lengths = settled(0.3, 0);
        let guessed: usize = lengths.iter().sum();
        assert!(lengths[0] > 0 && guessed <= 12, "{guessed} rows in vain of 400 steps");
    }

    #[test]
    fn guesses_that_cost_too_much_become_rare() {
        let guessed: usize = settled(1.2, LONGEST).iter().sum();
        assert!(guessed <= 20, "{guessed} rows of 400 steps");
    }

    #[test]
    fn short_runs_of_hits_get_short_guesses() {
        let lengths = settled(0.15, 2);
        assert!((2..=4).contains(&lengths[399]), "{}", lengths[399]);
    }

    #[test]
    fn without_a_clock_rows_cost_what_is_usual() {
        let mut pace = Pace::default();
        pace.took(1, 0.0);
        pace.took(4, 0.0);
        assert!(pace.length(LONGEST) > 0);
    }

    #[test]
    fn hits_after_a_pause_are_noticed() {
        let mut pace = Pace::default();
        pace.took(1, 10.0);
        for _ in 0..30 {
            let n = pace.length(LONGEST);
            pace.saw(n, 0);
        }
        let tried = (0..2000).map(|_| {
            let n = pace.length(LONGEST);
            pace.took(1 + n, 10.0 + n as f64);
            pace.saw(n, n);
            n
        });
        assert_eq!(tried.last(), Some(LONGEST));
    }
}
