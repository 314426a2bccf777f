//! Products with weights stored as plain floats.

use std::ops::Range;

use crate::path::Kind;
use crate::{Activations, Columns, Matrix, Path};

/// Partial sums of a dot product: four vectors of sixteen hide the latency of an addition.
const PARTS: usize = 64;

/// `out = x · wᵀ` for the weight rows `rows`; the sizes were checked.
pub(crate) fn matmul(
    path: Path,
    x: &Activations<'_>,
    w: &Matrix<'_>,
    rows: Range<usize>,
    out: &mut Columns<'_>,
) {
    let mut values = vec![0.0; w.n_cols()];
    for (column, row) in rows.enumerate() {
        w.dtype().dequantize(w.row(row), &mut values).expect("the matrix has whole rows");
        for i in 0..x.n_rows() {
            out.row(i)[column] = dot(path, &x.values()[i * x.n_cols()..][..x.n_cols()], &values);
        }
    }
}

fn dot(path: Path, a: &[f32], b: &[f32]) -> f32 {
    match path.kind() {
        Kind::Scalar => dot_parts(a, b),
        // SAFETY: the path exists only where its instructions do.
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "calls a function compiled for AVX2")]
        Kind::Avx2 => unsafe { dot_avx2(a, b) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "calls a function compiled for AVX-512")]
        Kind::Avx512 => unsafe { dot_avx512(a, b) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn dot_avx2(a: &[f32], b: &[f32]) -> f32 {
    dot_parts(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn dot_avx512(a: &[f32], b: &[f32]) -> f32 {
    dot_parts(a, b)
}

/// The dot product in [`PARTS`] interleaved sums, halved until one is left.
#[inline(always)]
fn dot_parts(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; PARTS];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<PARTS>(), b.as_chunks::<PARTS>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..PARTS {
            sums[i] += a[i] * b[i];
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *sum += a * b;
    }
    let mut n = PARTS;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            sums[i] += sums[n + i];
        }
    }
    sums[0]
}
