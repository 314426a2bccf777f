//! How often each expert is chosen.

use super::blocks::Random;

/// Which experts random rows prefer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Routing {
    /// None: all are chosen equally often.
    Even,
    /// The expert of rank `r` of a layer `r^-s` as often as the first, as far as no expert gets more than
    /// nearly all rows.
    Zipf(f64),
}

/// Nobody is chosen by more of the rows.
const MOST: f64 = 0.95;
const STEPS: usize = 3000;
const ROWS_A_STEP: usize = 64;

impl Routing {
    /// How many of the rows choose the expert of each rank; their sum is `top_k`.
    #[must_use]
    pub fn shares(self, n_experts: usize, top_k: usize) -> Vec<f64> {
        let s = match self {
            Self::Even => 0.0,
            Self::Zipf(s) => s,
        };
        let weights: Vec<f64> = (1..=n_experts).map(|rank| (rank as f64).powf(-s)).collect();
        // What the first ones cannot take goes to the others.
        let mut n_full = 0;
        loop {
            let left = top_k as f64 - MOST * n_full as f64;
            let scale = left / weights[n_full..].iter().sum::<f64>();
            if n_full + 1 >= n_experts || weights[n_full] * scale <= MOST {
                let full = (0..n_full).map(|_| MOST);
                return full.chain(weights[n_full..].iter().map(|weight| weight * scale)).collect();
            }
            n_full += 1;
        }
    }

    /// Correction biases that make routers of normal logits choose so, found as training finds them: raised
    /// where an expert is chosen too seldom.
    pub(super) fn correction(self, n_experts: usize, top_k: usize) -> Vec<f32> {
        let mut bias = vec![0.0; n_experts];
        if self == Self::Even {
            return bias;
        }
        let shares = self.shares(n_experts, top_k);
        let mut random = Random::new(0, 0, 0);
        for step in 0..STEPS {
            let counts = choices(&bias, top_k, ROWS_A_STEP, &mut random);
            let rate = 0.02 * (1.0 - step as f64 / STEPS as f64);
            for ((bias, count), share) in bias.iter_mut().zip(counts).zip(&shares) {
                *bias += (rate * (share - count as f64 / ROWS_A_STEP as f64)) as f32;
            }
        }
        bias
    }
}

/// How many of `n_rows` random rows choose each expert.
fn choices(bias: &[f32], top_k: usize, n_rows: usize, random: &mut Random) -> Vec<usize> {
    let mut counts = vec![0; bias.len()];
    for _ in 0..n_rows {
        let exps: Vec<f32> = bias.iter().map(|_| random.normal().exp()).collect();
        let sum: f32 = exps.iter().sum();
        let mut ranked: Vec<usize> = (0..bias.len()).collect();
        let score = |e: usize| exps[e] / sum + bias[e];
        ranked.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
        ranked[..top_k].iter().for_each(|&e| counts[e] += 1);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_none_is_too_large() {
        for routing in [Routing::Even, Routing::Zipf(0.3), Routing::Zipf(1.0), Routing::Zipf(2.0)] {
            let shares = routing.shares(64, 6);
            assert!((shares.iter().sum::<f64>() - 6.0).abs() < 1e-9);
            assert!(shares.is_sorted_by(|a, b| a >= b) && shares[0] <= MOST, "{routing:?} {shares:?}");
        }
        assert_eq!(Routing::Even.shares(8, 2), [0.25; 8]);
    }

    #[test]
    fn routers_choose_as_asked() {
        let routing = Routing::Zipf(0.7);
        let bias = routing.correction(16, 3);
        let counts = choices(&bias, 3, 20_000, &mut Random::new(9, 9, 9));
        for (count, share) in counts.iter().zip(routing.shares(16, 3)) {
            let found = *count as f64 / 20_000.0;
            assert!((found - share).abs() < 0.03 + 0.1 * share, "{found} is not {share}");
        }
    }
}
