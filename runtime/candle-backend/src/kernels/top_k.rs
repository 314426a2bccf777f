//! The largest of many logits.

use std::cmp::Reverse;

use tensor::Candidate;

use super::simd::vectorize;

/// Logits whose largest is found first.
const BLOCK: usize = 64;

/// The `k` largest logits, largest first; equal ones by lower id. Ordered as [`f32::total_cmp`] does.
///
/// The k-th largest of the blocks' largest is at most the k-th largest of all: smaller ones are never looked at again.
pub(crate) fn top_k(logits: &[f32], k: usize) -> Vec<Candidate> {
    if k == 0 {
        return Vec::new();
    }
    let largest: Vec<i32> = vectorize(|| {
        logits.chunks(BLOCK).map(|block| block.iter().map(|&x| key(x)).fold(i32::MIN, i32::max)).collect()
    });
    let least = match largest.len() {
        n if n < k => i32::MIN,
        _ => *largest.clone().select_nth_unstable_by_key(k - 1, |&key| Reverse(key)).1,
    };
    let mut found = Vec::new();
    for (i, block) in logits.chunks(BLOCK).enumerate().filter(|&(i, _)| largest[i] >= least) {
        let ids = (i * BLOCK) as u32..;
        found.extend(
            ids.zip(block).filter(|&(_, &x)| key(x) >= least).map(|(id, &logit)| Candidate { id, logit }),
        );
    }
    let order = |x: &Candidate| (Reverse(key(x.logit)), x.id);
    if k < found.len() {
        found.select_nth_unstable_by_key(k - 1, order);
        found.truncate(k);
    }
    found.sort_unstable_by_key(order);
    found
}

/// An integer for each value, in their order.
#[inline(always)]
fn key(x: f32) -> i32 {
    let bits = x.to_bits().cast_signed();
    // Negative values are ordered the other way round.
    bits ^ ((bits >> 31).cast_unsigned() >> 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_of_sorting_all() {
        let special = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1.0, 1.0, f32::MAX];
        for n in [0, 1, 63, 64, 65, 1000, 5003] {
            // Few different values, so that many are equal.
            let mut logits: Vec<f32> =
                (0..n).map(|i: usize| (i.wrapping_mul(2_654_435_761) % 977) as f32 / 100.0 - 5.0).collect();
            for all_finite in [true, false] {
                if !all_finite {
                    logits
                        .iter_mut()
                        .skip(7)
                        .step_by(11)
                        .zip(special.iter().cycle())
                        .for_each(|(x, s)| *x = *s);
                }
                let mut sorted: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
                sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
                for k in [0, 1, 2, 15, 16, 64, 900, n, n + 1] {
                    let found: Vec<_> =
                        top_k(&logits, k).iter().map(|found| (found.id, found.logit.to_bits())).collect();
                    let expected: Vec<_> = sorted.iter().take(k).map(|(id, x)| (*id, x.to_bits())).collect();
                    assert_eq!(found, expected, "{k} of {n}");
                }
            }
        }
    }
}
