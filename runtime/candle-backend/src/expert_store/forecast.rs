//! What the next layer is likely to choose: what it chose before, after the same choices of this layer.

/// A new choice counts as much as the mean of those before, until there are so many; then old ones fade.
const MEMORY: f32 = 256.0;
/// Weight of an expert's popularity beside what was seen after one choice.
const PRIOR: f32 = 8.0;

/// How often each expert of one bank was chosen after each of another.
#[derive(Debug, Default)]
pub(super) struct Forecast {
    /// The bank whose choices are foretold.
    pub(super) next: Option<usize>,
    n_next: usize,
    /// Of each choice of this bank.
    seen: Vec<f32>,
    /// `[n, n_next]`
    followed: Vec<f32>,
}

impl Forecast {
    /// The bank `next` of `n_next` experts came after this one of `n`.
    pub(super) fn follow(&mut self, n: usize, next: usize, n_next: usize) {
        if self.next != Some(next) {
            *self = Self { next: Some(next), n_next, seen: vec![0.0; n], followed: vec![0.0; n * n_next] };
        }
    }

    /// One row chose `before` here and `after` there.
    pub(super) fn learn(&mut self, before: &[usize], after: &[usize]) {
        for &i in before {
            let row = &mut self.followed[i * self.n_next..][..self.n_next];
            if self.seen[i] >= MEMORY {
                self.seen[i] *= 0.5;
                row.iter_mut().for_each(|count| *count *= 0.5);
            }
            self.seen[i] += 1.0;
            after.iter().for_each(|&j| row[j] += 1.0);
        }
    }

    /// How probable it is that a row that chose `chosen` here will choose expert `j` there, of which a part
    /// `popularity` of all rows did.
    pub(super) fn probability(&self, chosen: &[usize], j: usize, popularity: f32) -> f32 {
        let (mut seen, mut followed) = (PRIOR, PRIOR * popularity);
        for &i in chosen {
            seen += self.seen[i];
            followed += self.followed[i * self.n_next + j];
        }
        (followed / seen).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_that_follow_one_another_are_expected_together() {
        let mut forecast = Forecast::default();
        forecast.follow(4, 1, 4);
        for _ in 0..100 {
            forecast.learn(&[0], &[3]);
            forecast.learn(&[1], &[2]);
        }
        assert!(forecast.probability(&[0], 3, 0.5) > 0.9);
        assert!(forecast.probability(&[0], 2, 0.5) < 0.1);
        // Nothing is known of the others but what is chosen at all.
        assert_eq!(forecast.probability(&[2], 3, 0.5), 0.5);
        forecast.follow(4, 2, 4);
        assert_eq!(forecast.probability(&[0], 3, 0.25), 0.25);
    }

    #[test]
    fn what_was_seen_long_ago_fades() {
        let mut forecast = Forecast::default();
        forecast.follow(1, 1, 2);
        (0..10_000).for_each(|_| forecast.learn(&[0], &[0]));
        (0..1000).for_each(|_| forecast.learn(&[0], &[1]));
        assert!(forecast.probability(&[0], 1, 0.5) > 0.8);
    }
}
