//! Parallel loops over rows, and moving rows about.

use super::simd::vectorize;
use crate::team;

/// Values one task works on: long enough to pay for its start, short enough to share the work.
const CHUNK: usize = 1 << 14;

/// Calls `f(first_row, rows)` for chunks of `out`, vectorised and in parallel.
pub(crate) fn for_chunks(out: &mut [f32], cols: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = chunk_rows(cols);
    if out.len() <= CHUNK {
        vectorize(|| f(0, out));
    } else {
        team::for_each_of(out.chunks_mut(rows * cols), |i, chunk| vectorize(|| f(i * rows, chunk)));
    }
}

/// As [`for_chunks`] with two outputs.
pub(crate) fn for_chunks2(
    out: [&mut [f32]; 2],
    cols: usize,
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let rows = chunk_rows(cols);
    let [a, b] = out;
    if a.len() <= CHUNK {
        vectorize(|| f(0, a, b));
    } else {
        let parts = a.chunks_mut(rows * cols).zip(b.chunks_mut(rows * cols));
        team::for_each_of(parts, |i, (a, b)| vectorize(|| f(i * rows, a, b)));
    }
}

/// Rows of `cols` values in one chunk.
pub(crate) fn chunk_rows(cols: usize) -> usize {
    (CHUNK / cols.max(1)).max(1)
}

/// The sum over rows of what `f(first_row, rows, sum)` adds for each chunk of `x`, in order of the chunks.
pub(crate) fn sum_chunks(x: &[f32], cols: usize, f: impl Fn(usize, &[f32], &mut [f32]) + Sync) -> Vec<f32> {
    // Longer chunks than elsewhere: every chunk costs a pass over its own sum.
    let rows = 4 * chunk_rows(cols);
    let chunks: Vec<&[f32]> = x.chunks(rows * cols.max(1)).collect();
    let parts = team::map(chunks.len(), |i| {
        let mut sum = vec![0.0; cols];
        vectorize(|| f(i * rows, chunks[i], &mut sum));
        sum
    });
    let mut total = vec![0.0; cols];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
    }
    total
}

/// The sum of all rows.
pub(crate) fn column_sums(x: &[f32], cols: usize) -> Vec<f32> {
    sum_chunks(x, cols, |_, rows, sum| {
        for row in rows.chunks_exact(cols) {
            sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
        }
    })
}

/// Rows `rows` of `x`.
pub(crate) fn gather(x: &[f32], cols: usize, rows: &[u32]) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows.len() * cols);
    for &row in rows {
        out.extend_from_slice(&x[row as usize * cols..][..cols]);
    }
    out
}

/// Adds row `i` of `src` to row `rows[i]` of `out`, in order of `i`.
pub(crate) fn scatter_add(out: &mut [f32], cols: usize, rows: &[u32], src: &[f32]) {
    for (&row, src) in rows.iter().zip(src.chunks_exact(cols)) {
        let out = &mut out[row as usize * cols..][..cols];
        out.iter_mut().zip(src).for_each(|(o, s)| *o += s);
    }
}
