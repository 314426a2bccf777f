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
    /// Of `token` among `candidates`, which are all tokens, best first.
    pub(crate) fn new(candidates: &[Candidate], token: u32, n_top: usize) -> Self {
        let best = candidates.first().map_or(0.0, |candidate| f64::from(candidate.logit));
        let mass: f64 = candidates.iter().map(|candidate| (f64::from(candidate.logit) - best).exp()).sum();
        let logprob = |candidate: &Candidate| (f64::from(candidate.logit) - best - mass.ln()) as f32;
        let chosen = candidates.iter().find(|candidate| candidate.id == token);
        Self {
            token,
            logprob: chosen.map_or(f32::NEG_INFINITY, logprob),
            top: candidates.iter().take(n_top).map(|candidate| (candidate.id, logprob(candidate))).collect(),
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
        assert_eq!(TokenLogprobs::new(&candidates, 7, 2).top, found.top[..2]);
    }
}
