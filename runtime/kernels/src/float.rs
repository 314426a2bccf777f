//! Products with weights stored as plain floats.

use std::ops::Range;

use tensor::DType;

use crate::path::arch;
use crate::{Activations, Columns, Matrix, Path};

/// Partial sums of a dot product: enough to hide the latency of an addition.
pub(crate) const PARTS: usize = 32;
/// Activation rows that are multiplied with a weight row together.
pub(crate) const ROWS: usize = 4;
/// Weight rows that stay in the second-level cache for all activation rows.
const BLOCK: usize = 32;

/// `out = x · wᵀ` for the weight rows `rows`; the sizes were checked.
pub(crate) fn matmul(
    path: Path,
    x: &Activations<'_>,
    w: &Matrix<'_>,
    rows: Range<usize>,
    out: &mut Columns<'_>,
) {
    let x: Vec<&[f32]> = (0..x.n_rows()).map(|i| &x.values()[i * x.n_cols()..][..x.n_cols()]).collect();
    for start in rows.clone().step_by(BLOCK) {
        for (i, x) in x.chunks(ROWS).enumerate() {
            for row in start..(start + BLOCK).min(rows.end) {
                let mut dots = [0.0; ROWS];
                arch::dots(path.kind(), w.dtype(), w.row(row), x, &mut dots[..x.len()]);
                for (j, &dot) in dots[..x.len()].iter().enumerate() {
                    out.unwritten_row(ROWS * i + j)[row - rows.start].write(dot);
                }
            }
        }
    }
}

/// Products of each row of `x` with a weight row.
pub(crate) fn dots(dtype: DType, w: &[u8], x: &[&[f32]], dots: &mut [f32]) {
    for (x, dot) in x.iter().zip(dots) {
        *dot = finish(dtype, w, x, [0.0; PARTS], 0);
    }
}

/// Adds the columns from `start`, column `i` to sum `i % PARTS`, and halves the sums until one is left.
///
/// Every path adds in this order, so all have the same bits, however many rows there are.
pub(crate) fn finish(dtype: DType, w: &[u8], x: &[f32], mut sums: [f32; PARTS], start: usize) -> f32 {
    let size = dtype.block().bytes;
    for (x, w) in x[start..].chunks(PARTS).zip(w[start * size..].chunks(PARTS * size)) {
        let mut values = [0.0; PARTS];
        dtype.dequantize(w, &mut values[..x.len()]).expect("as many weights as activations");
        for ((sum, x), w) in sums.iter_mut().zip(x).zip(values) {
            *sum += x * w;
        }
    }
    let mut n = PARTS;
    while n > 1 {
        n /= 2;
        for part in 0..n {
            sums[part] += sums[n + part];
        }
    }
    sums[0]
}
