//! Choosing experts, and the weights of those chosen.

/// `top_k` experts a row, by descending biased probability; ties go to the lower index.
///
/// Probabilities are computed in `f64`: a choice cannot be repaired downstream.
pub(crate) fn choose(logits: &[f32], n_experts: usize, bias: Option<&[f32]>, top_k: usize) -> Vec<u32> {
    let mut chosen = Vec::with_capacity(logits.len() / n_experts * top_k);
    let mut scores = vec![0.0f32; n_experts];
    for row in logits.chunks_exact(n_experts) {
        for (score, p) in scores.iter_mut().zip(softmax(row)) {
            *score = p as f32;
        }
        if let Some(bias) = bias {
            scores.iter_mut().zip(bias).for_each(|(score, bias)| *score += bias);
        }
        let first = chosen.len();
        for _ in 0..top_k {
            let free = (0..n_experts).filter(|&e| !chosen[first..].contains(&(e as u32)));
            let best = free.reduce(|best, e| if scores[e] > scores[best] { e } else { best });
            chosen.push(best.expect("top_k is at most the number of experts") as u32);
        }
    }
    chosen
}

/// The unbiased probabilities of the chosen experts, divided by `max(their sum, norm_min)`.
pub(crate) fn weights(
    logits: &[f32],
    n_experts: usize,
    chosen: &[u32],
    top_k: usize,
    norm_min: f32,
) -> Vec<f32> {
    let mut weights = Vec::with_capacity(chosen.len());
    for (row, chosen) in logits.chunks_exact(n_experts).zip(chosen.chunks_exact(top_k)) {
        let p: Vec<f64> = softmax(row).collect();
        let sum: f64 = chosen.iter().map(|&e| p[e as usize]).sum();
        let norm = sum.max(f64::from(norm_min));
        weights.extend(chosen.iter().map(|&e| (p[e as usize] / norm) as f32));
    }
    weights
}

/// Gradient of the logits from that of the weights.
pub(crate) fn backward(
    logits: &[f32],
    n_experts: usize,
    chosen: &[u32],
    top_k: usize,
    norm_min: f32,
    grad: &[f32],
) -> Vec<f32> {
    let mut d_logits = Vec::with_capacity(logits.len());
    let rows = logits.chunks_exact(n_experts).zip(chosen.chunks_exact(top_k)).zip(grad.chunks_exact(top_k));
    for ((row, chosen), grad) in rows {
        let p: Vec<f64> = softmax(row).collect();
        let sum: f64 = chosen.iter().map(|&e| p[e as usize]).sum();
        let norm = sum.max(f64::from(norm_min));
        // Below `norm_min` the divisor is a constant.
        let shared = if sum > f64::from(norm_min) {
            chosen.iter().zip(grad).map(|(&e, &g)| f64::from(g) * p[e as usize] / norm).sum()
        } else {
            0.0
        };
        let mut dp = vec![0.0; n_experts];
        for (&e, &g) in chosen.iter().zip(grad) {
            dp[e as usize] = (f64::from(g) - shared) / norm;
        }
        let mean: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
        d_logits.extend(p.iter().zip(&dp).map(|(p, dp)| (p * (dp - mean)) as f32));
    }
    d_logits
}

fn softmax(row: &[f32]) -> impl Iterator<Item = f64> + '_ {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp = move |v: f32| (f64::from(v) - f64::from(max)).exp();
    let sum: f64 = row.iter().map(|&v| exp(v)).sum();
    row.iter().map(move |&v| exp(v) / sum)
}
