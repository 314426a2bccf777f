//! From candidates to the next token: pure functions and a generator of their own.
//!
//! The order is that of transformers: penalties, then greedy at temperature 0, else temperature, top-k, top-p
//! and min-p. All arithmetic is `f64` without calls into the platform's maths library, so the same logits,
//! options and seed give the same token everywhere.

use std::cmp::Ordering;
use std::collections::HashMap;

use tensor::Candidate;

use crate::{Error, Result};

/// How the next token is chosen. The default is greedy.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerOptions {
    /// Divides the logits; 0 takes the best token, without chance.
    pub temperature: f64,
    /// Only this many of the best tokens take part; 0 for all.
    pub top_k: usize,
    /// Only the fewest best tokens that together have this probability take part; 1 for all.
    pub top_p: f64,
    /// Only tokens with at least this share of the best one's probability take part; 0 for all.
    pub min_p: f64,
    /// Divides positive and multiplies negative logits of the tokens in prompt and answer (CTRL); 1 for none.
    pub repetition_penalty: f64,
    /// Is subtracted for each time that a token is in the answer so far; 0 for none.
    pub frequency_penalty: f64,
    /// Is subtracted if a token is in the answer so far; 0 for none.
    pub presence_penalty: f64,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
        }
    }
}

impl SamplerOptions {
    /// Checks that every number makes sense.
    ///
    /// # Errors
    /// Names the first option that does not, its value and its range.
    pub fn validate(&self) -> Result<()> {
        let ranges = [
            ("temperature", self.temperature, 0.0, f64::MAX),
            ("top_p", self.top_p, f64::MIN_POSITIVE, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("repetition_penalty", self.repetition_penalty, f64::MIN_POSITIVE, f64::MAX),
            ("frequency_penalty", self.frequency_penalty, f64::MIN, f64::MAX),
            ("presence_penalty", self.presence_penalty, f64::MIN, f64::MAX),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                let range = match (least, most) {
                    (0.0, 1.0) => "between 0 and 1",
                    (_, 1.0) => "above 0 and at most 1",
                    (0.0, _) => "a number of at least 0",
                    (f64::MIN, _) => "a number",
                    _ => "a number above 0",
                };
                return Err(Error::Options(format!("{name} is {value}, but must be {range}")));
            }
        }
        Ok(())
    }

    fn penalises(&self) -> bool {
        self.repetition_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }

    /// Whether a penalty can raise a logit, so that any token may become the best.
    fn rewards(&self) -> bool {
        self.repetition_penalty < 1.0 || self.frequency_penalty < 0.0 || self.presence_penalty < 0.0
    }
}

/// How many tokens a draw looks at before it sorts more.
const SORTED_AT_FIRST: usize = 128;

/// Chooses tokens one after the other and remembers what it needs for the penalties.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplerOptions,
    random: SplitMix64,
    /// How often each token of the prompt (0 times) and of the answer was generated.
    seen: HashMap<u32, u32>,
}

impl Sampler {
    /// A sampler for an answer to `prompt`.
    ///
    /// # Errors
    /// If an option is out of its range.
    pub fn new(options: &SamplerOptions, seed: u64, prompt: &[u32]) -> Result<Self> {
        options.validate()?;
        let seen =
            if options.penalises() { prompt.iter().map(|&id| (id, 0)).collect() } else { HashMap::new() };
        Ok(Self { options: options.clone(), random: SplitMix64::new(seed), seen })
    }

    /// How many of the best candidates [`sample`](Self::sample) needs to be exact; `usize::MAX` for all.
    ///
    /// Penalties that only lower logits leave the true best `k` among the `k + penalised` best raw ones.
    pub fn n_candidates(&self) -> usize {
        let o = &self.options;
        match (o.temperature == 0.0, o.top_k) {
            _ if o.rewards() => usize::MAX,
            (true, _) => 1 + self.seen.len(),
            (false, 0) => usize::MAX,
            (false, k) => k.saturating_add(self.seen.len()),
        }
    }

    /// Chooses the next token among the `n_candidates` best.
    ///
    /// # Errors
    /// If a logit is NaN or +∞, or none is finite.
    pub fn sample(&mut self, candidates: &[Candidate]) -> Result<u32> {
        let mut scored = self.penalised(candidates)?;
        let choice = match scored.iter().min_by(|a, b| best_first(a, b)) {
            None => return Err(Error::Logits("the model gave no token a finite logit".into())),
            Some(&(id, _)) if self.options.temperature == 0.0 => id,
            Some(&(_, best)) => self.draw(&mut scored, best),
        };
        if self.options.penalises() {
            *self.seen.entry(choice).or_insert(0) += 1;
        }
        Ok(choice)
    }

    /// Ids with finite logits after all penalties.
    fn penalised(&self, candidates: &[Candidate]) -> Result<Vec<(u32, f64)>> {
        let o = &self.options;
        let mut scored = Vec::with_capacity(candidates.len());
        for &Candidate { id, logit } in candidates {
            if logit.is_nan() || logit == f32::INFINITY {
                return Err(Error::Logits(format!("the model gave token {id} the logit {logit}")));
            }
            let mut score = f64::from(logit);
            if let Some(&count) = self.seen.get(&id) {
                score *= if score > 0.0 { 1.0 / o.repetition_penalty } else { o.repetition_penalty };
                if count > 0 {
                    score -= f64::from(count) * o.frequency_penalty + o.presence_penalty;
                }
            }
            if score > f64::NEG_INFINITY {
                scored.push((id, score));
            }
        }
        Ok(scored)
    }

    /// Draws one of `scored` by its probability.
    ///
    /// They are taken best first, and only as many are sorted as it takes to come to the one that is drawn: a vocabulary
    /// is large, and most of the probability is in few of its tokens.
    fn draw(&mut self, scored: &mut Vec<(u32, f64)>, best: f64) -> u32 {
        let o = &self.options;
        let mut n_sorted = 0;
        if 0 < o.top_k && o.top_k < scored.len() {
            scored.select_nth_unstable_by(o.top_k - 1, best_first);
            scored.truncate(o.top_k);
            // Sums below have one order, whatever the candidates' was.
            scored.sort_unstable_by(best_first);
            n_sorted = o.top_k;
        }
        for (_, score) in scored.iter_mut() {
            *score = exp((*score - best) / o.temperature);
        }
        let all_mass = scored.iter().map(|&(_, p)| p).sum::<f64>();
        let (mut n, mut mass) = (0, 0.0);
        if o.top_p == 1.0 && o.min_p == 0.0 {
            (n, mass) = (scored.len(), all_mass);
        }
        while n < scored.len() {
            sort_to(scored, n, &mut n_sorted);
            let p = scored[n].1;
            // The best token has 1 here, so `min_p` is a plain bound.
            if n > 0 && ((o.top_p < 1.0 && mass >= o.top_p * all_mass) || p < o.min_p) {
                break;
            }
            mass += p;
            n += 1;
        }
        let mut rest = self.random.unit() * mass;
        for i in 0..n {
            sort_to(scored, i, &mut n_sorted);
            let (id, p) = scored[i];
            if rest < p {
                return id;
            }
            rest -= p;
        }
        // Rounding used up the mass before the last token with any.
        scored[..n].iter().rev().find(|&&(_, p)| p > 0.0).map_or(scored[0].0, |&(id, _)| id)
    }
}

/// Sorts `scored`, of which the first `n_sorted` are in order, at least up to `i`.
fn sort_to(scored: &mut [(u32, f64)], i: usize, n_sorted: &mut usize) {
    if i < *n_sorted {
        return;
    }
    let rest = &mut scored[*n_sorted..];
    // Twice as many each time, so that all of them cost little more than in one go.
    let n = rest.len().min((*n_sorted).max(SORTED_AT_FIRST));
    if n < rest.len() {
        rest.select_nth_unstable_by(n - 1, best_first);
    }
    rest[..n].sort_unstable_by(best_first);
    *n_sorted += n;
}

fn best_first(a: &(u32, f64), b: &(u32, f64)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// `e^x` for `x <= 0`, from additions and multiplications alone: the maths libraries of platforms differ. It has no
/// branches, so a loop over a vocabulary is done in vectors.
fn exp(x: f64) -> f64 {
    /// Added to a small number, it leaves the nearest whole one in the lowest bits.
    const WHOLE: f64 = 1.5 * (1_u64 << 52) as f64;
    let shifted = x * std::f64::consts::LOG2_E + WHOLE;
    let n = shifted - WHOLE;
    // ln 2 in two parts, so that the product with n is exact (fdlibm, e_exp.c).
    let r = (x - n * 6.931_471_803_691_238e-1) - n * 1.908_214_929_270_587_8e-10;
    // Taylor to r^13: |r| <= 0.35, so the rest is below 1e-17.
    let series = INVERSE_FACTORIALS.iter().rev().fold(0.0, |sum, term| sum * r + term);
    let two_to_the_n = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    if x < -708.0 { 0.0 } else { series * two_to_the_n }
}

/// `1 / k!` for `k` from 0 on.
const INVERSE_FACTORIALS: [f64; 14] = {
    let (mut terms, mut factorial, mut k) = ([1.0; 14], 1.0, 1);
    while k < terms.len() {
        factorial *= k as f64;
        terms[k] = 1.0 / factorial;
        k += 1;
    }
    terms
};

/// Sebastiano Vigna's SplitMix64: a counter and a mix.
#[derive(Debug, Clone)]
struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly in `[0, 1)`, 53 bits.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(logits: &[f32]) -> Vec<Candidate> {
        logits.iter().enumerate().map(|(id, &logit)| Candidate { id: id as u32, logit }).collect()
    }

    fn options() -> SamplerOptions {
        SamplerOptions { temperature: 1.0, ..Default::default() }
    }

    /// Draws 20 000 times from logits `ln(weight)` and compares with `expected` shares.
    #[track_caller]
    fn check(options: SamplerOptions, weights: &[f32], expected: &[f64]) {
        let logits: Vec<f32> = weights.iter().map(|w| w.ln()).collect();
        let mut sampler = Sampler::new(&options, 7, &[]).unwrap();
        let mut counts = vec![0; weights.len()];
        for _ in 0..20_000 {
            counts[sampler.sample(&candidates(&logits)).unwrap() as usize] += 1;
        }
        for (id, (&count, &share)) in counts.iter().zip(expected).enumerate() {
            let found = f64::from(count) / 20_000.0;
            // Four standard deviations of a share of 20 000 draws are at most 0.0142.
            assert!((found - share).abs() < 0.0142, "token {id}: {found}, expected {share}");
            assert_eq!(share == 0.0, count == 0, "token {id}");
        }
    }

    #[test]
    fn shares_follow_the_softmax() {
        check(options(), &[1.0, 2.0, 5.0, 2.0], &[0.1, 0.2, 0.5, 0.2]);
    }

    #[test]
    fn temperature_sharpens() {
        let options = SamplerOptions { temperature: 0.5, ..options() };
        check(options, &[1.0, 2.0, 4.0], &[1.0 / 21.0, 4.0 / 21.0, 16.0 / 21.0]);
    }

    #[test]
    fn top_k_keeps_the_lower_id_on_ties() {
        check(
            SamplerOptions { top_k: 2, ..options() },
            &[1.0, 2.0, 5.0, 2.0],
            &[0.0, 2.0 / 7.0, 5.0 / 7.0, 0.0],
        );
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_it() {
        check(SamplerOptions { top_p: 0.6, ..options() }, &[1.0, 3.0, 5.0, 1.0], &[0.0, 0.375, 0.625, 0.0]);
        check(SamplerOptions { top_p: 0.45, ..options() }, &[1.0, 3.0, 5.0, 1.0], &[0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn min_p_is_relative_to_the_best() {
        check(SamplerOptions { min_p: 0.5, ..options() }, &[1.0, 3.0, 5.0, 1.0], &[0.0, 0.375, 0.625, 0.0]);
    }

    #[test]
    fn greedy_takes_the_lower_id_on_ties() {
        let mut sampler = Sampler::new(&SamplerOptions::default(), 0, &[]).unwrap();
        assert_eq!(sampler.n_candidates(), 1);
        assert_eq!(sampler.sample(&candidates(&[0.0, 3.0, 3.0])).unwrap(), 1);
    }

    #[test]
    fn repetition_penalty_covers_the_prompt_and_both_signs() {
        let options = SamplerOptions { repetition_penalty: 2.0, ..Default::default() };
        let mut sampler = Sampler::new(&options, 0, &[1]).unwrap();
        assert_eq!(sampler.n_candidates(), 2);
        assert_eq!(sampler.sample(&candidates(&[-1.5, -1.0])).unwrap(), 0);
        let mut sampler = Sampler::new(&options, 0, &[1]).unwrap();
        assert_eq!(sampler.sample(&candidates(&[2.5, 4.0])).unwrap(), 0);
    }

    #[test]
    fn frequency_and_presence_count_the_answer_only() {
        let options = SamplerOptions { frequency_penalty: 1.0, presence_penalty: 0.25, ..Default::default() };
        let mut sampler = Sampler::new(&options, 0, &[1]).unwrap();
        let answer: Vec<u32> = (0..5).map(|_| sampler.sample(&candidates(&[0.0, 2.0])).unwrap()).collect();
        // After one: 0.75 against 0; after two: -0.25 against 0; then 0 has had its turn too.
        assert_eq!(answer, [1, 1, 0, 1, 0]);
    }

    #[test]
    fn few_candidates_choose_as_all_do() {
        let logits: Vec<f32> = (0..50).map(|i| ((i * 37 % 50) as f32) / 7.0 - 3.0).collect();
        let options =
            SamplerOptions { top_k: 5, repetition_penalty: 1.3, frequency_penalty: 0.5, ..options() };
        let mut sampler = Sampler::new(&options, 3, &[4, 9]).unwrap();
        let mut exact = sampler.clone();
        for _ in 0..200 {
            let mut best = candidates(&logits);
            best.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id)));
            best.truncate(sampler.n_candidates());
            assert_eq!(sampler.sample(&best).unwrap(), exact.sample(&candidates(&logits)).unwrap());
        }
    }

    #[test]
    fn every_token_can_be_drawn() {
        let n = 3 * SORTED_AT_FIRST;
        check(options(), &vec![1.0; n], &vec![1.0 / n as f64; n]);
    }

    #[test]
    fn the_order_of_candidates_does_not_count() {
        let logits: Vec<f32> = (0..2000).map(|i| (i * 577 % 2000) as f32 / 500.0).collect();
        let mut sorted = candidates(&logits);
        sorted.sort_by(|a, b| b.logit.total_cmp(&a.logit));
        for options in [
            options(),
            SamplerOptions { top_p: 0.7, ..options() },
            SamplerOptions { min_p: 0.3, ..options() },
            SamplerOptions { top_k: 900, top_p: 0.9, ..options() },
        ] {
            let mut one = Sampler::new(&options, 5, &[]).unwrap();
            let mut other = one.clone();
            for _ in 0..100 {
                assert_eq!(one.sample(&sorted).unwrap(), other.sample(&candidates(&logits)).unwrap());
            }
        }
    }

    #[test]
    fn rewards_ask_for_all_candidates() {
        let options = SamplerOptions { presence_penalty: -1.0, ..Default::default() };
        assert_eq!(Sampler::new(&options, 0, &[]).unwrap().n_candidates(), usize::MAX);
    }

    #[test]
    fn broken_logits_are_errors() {
        let sample = |logits: &[f32]| {
            Sampler::new(&options(), 0, &[]).unwrap().sample(&candidates(logits)).map_err(|e| e.to_string())
        };
        assert!(sample(&[0.0, f32::NAN]).unwrap_err().contains("token 1 the logit NaN"));
        assert!(sample(&[f32::INFINITY, 0.0]).unwrap_err().contains("token 0 the logit inf"));
        assert!(sample(&[f32::NEG_INFINITY]).unwrap_err().contains("no token a finite logit"));
        assert_eq!(sample(&[f32::NEG_INFINITY, -5.0]), Ok(1));
    }

    #[test]
    fn options_out_of_range_are_named() {
        let options = SamplerOptions { top_p: 0.0, ..options() };
        let message = options.validate().unwrap_err().to_string();
        assert!(message.contains("top_p is 0, but must be above 0 and at most 1"), "{message}");
        assert!(SamplerOptions { temperature: f64::NAN, ..options }.validate().is_err());
    }

    #[test]
    fn exp_is_the_exponential() {
        for i in 0..7080 {
            let x = -f64::from(i) / 10.0;
            assert!((exp(x) - x.exp()).abs() <= 4e-16 * x.exp(), "{x}");
        }
        assert_eq!(exp(-1e9), 0.0);
    }

    #[test]
    fn random_numbers_are_those_of_splitmix64() {
        let mut random = SplitMix64::new(1234567);
        // From the reference implementation's page (prng.di.unimi.it/splitmix64.c).
        assert_eq!(random.next(), 6457827717110365317);
        assert_eq!(random.next(), 3203168211198807973);
    }
}
