//! Rotation of feature pairs by position.

use tensor::RopePairs;

use super::rows::for_chunks;

/// Rotates every head of `x` `[n, cols]` by `cos_sin` `[n, head_dim]`; `sign` −1 rotates back.
pub(crate) fn rotate(
    x: &[f32],
    cols: usize,
    cos_sin: &[f32],
    head_dim: usize,
    pairs: RopePairs,
    sign: f32,
) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for_chunks(&mut out, cols, |start, out| {
        let inputs =
            x[start * cols..].chunks_exact(cols).zip(cos_sin[start * head_dim..].chunks_exact(head_dim));
        for (out, (x, angles)) in out.chunks_exact_mut(cols).zip(inputs) {
            let (cos, sin) = angles.split_at(head_dim / 2);
            for (out, x) in out.chunks_exact_mut(head_dim).zip(x.chunks_exact(head_dim)) {
                match pairs {
                    RopePairs::Interleaved => interleaved(out, x, cos, sin, sign),
                    RopePairs::Halves => halves(out, x, cos, sin, sign),
                }
            }
        }
    });
    out
}

#[inline(always)]
fn interleaved(out: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32], sign: f32) {
    let (out, _) = out.as_chunks_mut::<2>();
    let (x, _) = x.as_chunks::<2>();
    for ((out, x), (&cos, &sin)) in out.iter_mut().zip(x).zip(cos.iter().zip(sin)) {
        let sin = sign * sin;
        *out = [x[0] * cos - x[1] * sin, x[1] * cos + x[0] * sin];
    }
}

#[inline(always)]
fn halves(out: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32], sign: f32) {
    let half = cos.len();
    let (out_a, out_b) = out.split_at_mut(half);
    let (a, b) = x.split_at(half);
    for i in 0..half {
        let sin = sign * sin[i];
        out_a[i] = a[i] * cos[i] - b[i] * sin;
        out_b[i] = b[i] * cos[i] + a[i] * sin;
    }
}
