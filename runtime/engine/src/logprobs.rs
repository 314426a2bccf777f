//! How likely the model held the tokens of its answer.

use tensor::Candidate;

/// A chosen token among its alternatives, by the model's own distribution: before penalties, temperature and
/// whatever else the sampler does.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    /// The chosen token.
    pub token: u32,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens with their logarithms, best first; the chosen one need not be among them.
    pub top: Vec<(u32, f32)>,
}

impl TokenLogprobs {
    /// Of `token` among `candidates`, which are all tokens, in any order.
    pub(crate) fn new(candidates: &[Candidate], token: u32, n_top: usize) -> Self {
        let best = candidates.iter().map(|candidate| candidate.logit).fold(f32::NEG_INFINITY, f32::max);
        let best = f64::from(best);
        let mass: f64 = candidates.iter().map(|candidate| (f64::from(candidate.logit) - best).exp()).sum();
        let logprob = |candidate: &Candidate| (f64::from(candidate.logit) - best - mass.ln()) as f32;
        let chosen = candidates.iter().find(|candidate| candidate.id == token);
        let best_first = |a: &&Candidate, b: &&Candidate| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id));
        let mut top: Vec<&Candidate> = candidates.iter().collect();
        if 0 < n_top && n_top < top.len() {
            top.select_nth_unstable_by(n_top - 1, best_first);
        }
        top.truncate(n_top);
        top.sort_unstable_by(best_first);
        Self {
            token,
            logprob: chosen.map_or(f32::NEG_INFINITY, logprob),
            top: top.into_iter().map(|candidate| (candidate.id, logprob(candidate))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_add_up() {
        let candidates: Vec<Candidate> =
            (0..40).map(|id| Candidate { id, logit: 90.0 - id as f32 * 0.3 }).collect();
        let found = TokenLogprobs::new(&candidates, 7, 40);
        let sum: f64 = found.top.iter().map(|&(_, logprob)| f64::from(logprob).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        assert_eq!(found.logprob, found.top[7].1);
        assert!((found.top[0].1 - found.top[1].1 - 0.3).abs() < 1e-5);
        for n_top in [0, 2, 39] {
            assert_eq!(TokenLogprobs::new(&candidates, 7, n_top).top, found.top[..n_top]);
        }
        let turned: Vec<Candidate> = candidates.into_iter().rev().collect();
        assert_eq!(TokenLogprobs::new(&turned, 7, 3).top, found.top[..3]);
    }
}
