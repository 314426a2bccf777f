//! How far the predictions of a model are from those of another: what quantising costs, in the end.

/// Sums over positions of a text at which two models predicted the next token.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Divergence {
    /// Kullback-Leibler divergence at each position, in nats.
    kl: Vec<f64>,
    same_best: usize,
    /// `−log p` of the tokens that came, and how many those are.
    reference_loss: f64,
    loss: f64,
    n_known: usize,
}

impl Divergence {
    /// Takes the logits of both at one position, and the token that really comes next if there is one.
    ///
    /// # Panics
    /// If their vocabularies differ in size or are empty, or the token is in none.
    pub fn add(&mut self, reference: &[f32], logits: &[f32], next: Option<u32>) {
        assert_eq!(reference.len(), logits.len(), "both models predict the same tokens");
        let (expected, found) = (log_probabilities(reference), log_probabilities(logits));
        let kl = expected
            .iter()
            .zip(&found)
            .map(|(&p, &q)| if p > f64::NEG_INFINITY { p.exp() * (p - q) } else { 0.0 });
        // Rounding may leave a little less than nothing.
        self.kl.push(kl.sum::<f64>().max(0.0));
        self.same_best += usize::from(best(reference) == best(logits));
        if let Some(next) = next {
            self.reference_loss -= expected[next as usize];
            self.loss -= found[next as usize];
            self.n_known += 1;
        }
    }

    /// Positions compared.
    #[must_use]
    pub fn n(&self) -> usize {
        self.kl.len()
    }

    /// Mean divergence, in nats.
    #[must_use]
    pub fn mean_kl(&self) -> f64 {
        self.kl.iter().sum::<f64>() / self.n() as f64
    }

    /// The divergence that a share `q` of all positions does not exceed.
    #[must_use]
    pub fn quantile_kl(&self, q: f64) -> f64 {
        let mut sorted = self.kl.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        sorted.get((q * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
    }

    /// Share of positions at which both think the same token the likeliest.
    #[must_use]
    pub fn top1_agreement(&self) -> f64 {
        self.same_best as f64 / self.n() as f64
    }

    /// Perplexity of the text to the reference, and to the other.
    #[must_use]
    pub fn perplexities(&self) -> [f64; 2] {
        [self.reference_loss, self.loss].map(|loss| (loss / self.n_known as f64).exp())
    }
}

fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    let log_sum = f64::from(max) + sum.ln();
    logits.iter().map(|&x| f64::from(x) - log_sum).collect()
}

/// Of equal ones the first.
fn best(logits: &[f32]) -> usize {
    (1..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits<const N: usize>(shares: [f32; N]) -> [f32; N] {
        shares.map(|share| share.ln() + 3.0)
    }

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
    }

    #[test]
    fn a_model_does_not_differ_from_itself() {
        let mut divergence = Divergence::default();
        divergence.add(&logits([0.5, 0.25, 0.25]), &logits([0.5, 0.25, 0.25]), Some(1));
        assert_eq!((divergence.n(), divergence.top1_agreement()), (1, 1.0));
        close(divergence.mean_kl(), 0.0);
        divergence.perplexities().into_iter().for_each(|perplexity| close(perplexity, 4.0));
    }

    #[test]
    fn divergence_is_that_of_the_definition() {
        let mut divergence = Divergence::default();
        divergence.add(&logits([0.5, 0.5]), &logits([0.25, 0.75]), Some(0));
        divergence.add(&logits([0.9, 0.1]), &logits([0.9, 0.1]), None);
        close(divergence.quantile_kl(1.0), 0.5 * 2.0f64.ln() + 0.5 * (2.0f64 / 3.0).ln());
        close(divergence.quantile_kl(0.0), 0.0);
        close(divergence.mean_kl(), divergence.quantile_kl(1.0) / 2.0);
        assert_eq!(divergence.top1_agreement(), 0.5);
        let [reference, other] = divergence.perplexities();
        close(reference, 2.0);
        close(other, 4.0);
    }

    #[test]
    fn tokens_that_are_ruled_out_count_nothing() {
        let mut divergence = Divergence::default();
        divergence.add(&[0.0, f32::NEG_INFINITY], &[0.0, -50.0], None);
        close(divergence.mean_kl(), 0.0);
    }
}
