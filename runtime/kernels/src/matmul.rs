//! The product of activations with a range of weight rows.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::error::expect;
use crate::panel::{CHUNK, GROUP, LANES, Panel, Source};
use crate::path::arch;
use crate::{Activations, Columns, Error, Matrix, Path, Result, float};

/// Panels that are multiplied with a tile while its codes are in the first-level cache.
const PANELS: usize = 4;

/// `out = x · wᵀ` for the weight rows `rows`: `out` is `[x.n_rows(), rows.len()]`.
///
/// Rows are unpacked 16 at a time, with many activation rows 64: ranges of whole multiples waste nothing.
/// Of a packed weight they start at a multiple of [`Matrix::PANEL_ROWS`].
///
/// # Errors
/// If sizes do not fit together, or `w` is block-quantised and `x` plain.
pub fn matmul(
    path: Path,
    x: &Activations<'_>,
    w: &Matrix<'_>,
    rows: Range<usize>,
    out: &mut Columns<'_>,
) -> Result<()> {
    expect("matmul", "columns of the weight", w.n_cols(), x.n_cols())?;
    expect("matmul", "columns of the result", out.n_cols(), rows.len())?;
    expect("matmul", "weight rows beyond the last", rows.end.saturating_sub(w.n_rows()), 0)?;
    if rows.is_empty() {
        return Ok(());
    }
    expect("matmul", "rows of the result", out.n_rows(), x.n_rows())?;
    if x.n_rows() == 0 {
        return Ok(());
    }
    if !w.dtype().is_quantized() {
        float::matmul(path, x, w, rows, out);
    } else if x.tiles().is_empty() {
        return Err(Error::Plain(w.dtype()));
    } else if w.n_rows() < LANES {
        let bytes = w.padded_bytes();
        let padded = Matrix::new(w.dtype(), &bytes, LANES, w.n_cols())?;
        quantized(path, x, &padded, rows, |first, ahead| padded.rows(first, ahead), out);
    } else if w.is_packed() {
        expect("matmul", "rows of a panel before the first", rows.start % LANES, 0)?;
        quantized(path, x, w, rows, |first, _| (w.panel(first), 0), out);
    } else {
        quantized(path, x, w, rows, |first, ahead| w.rows(first, ahead), out);
    }
    Ok(())
}

/// The product with a block-quantised weight of at least [`LANES`] rows; the sizes were checked.
///
/// A weight block is read and unpacked once for all activations. Many activation rows take several panels
/// in turn for each tile; a few rows are bound by reading the weight and take one at a time. `panel` gives the
/// rows from one number while those of another are asked for, and the lane of the first.
fn quantized<S: Source>(
    path: Path,
    x: &Activations<'_>,
    w: &Matrix<'_>,
    rows: Range<usize>,
    panel: impl Fn(usize, usize) -> (S, usize),
    out: &mut Columns<'_>,
) {
    let n_panels = if x.tiles().len() > 1 { PANELS } else { 1 };
    let n_sums = x.tiles().iter().map(|tile| tile.stride()).sum();
    let mut panels: Vec<Panel> = (0..n_panels).map(|_| Panel::new()).collect();
    let mut sums = vec![vec![[0.0; LANES]; n_sums]; n_panels];
    let session = path.kind().begin();
    let mut first = rows.start;
    while first < rows.end {
        let n = (rows.end - first).div_ceil(LANES).min(n_panels);
        let places: Vec<_> = (0..n).map(|p| panel(first + p * LANES, n * LANES)).collect();
        sums.iter_mut().flatten().for_each(|sum| *sum = [0.0; LANES]);
        for start in (0..w.n_cols()).step_by(CHUNK) {
            let columns = start..(start + CHUNK).min(w.n_cols());
            let bytes = w.row_range(columns.clone());
            let (first_group, n_groups) = (columns.start / GROUP, columns.len() / GROUP);
            if let ([tile], [(rows, _)]) = (x.tiles(), &places[..]) {
                let (rows, x) = (rows.part(bytes.clone()), tile.chunk(first_group, n_groups));
                if arch::unpack_and_multiply(path.kind(), w.dtype(), rows, x, &mut sums[0]) {
                    continue;
                }
            }
            for (panel, (rows, _)) in panels.iter_mut().zip(&places) {
                arch::unpack(path.kind(), w.dtype(), rows.part(bytes.clone()), panel);
            }
            let mut at = 0;
            for tile in x.tiles() {
                let x = tile.chunk(first_group, n_groups);
                let sums = sums.iter_mut().map(|sums| &mut sums[at..][..tile.stride()]);
                arch::multiply(&session, w.dtype(), &panels[..n], x, sums);
                at += tile.stride();
            }
        }
        write(x, &places, &sums, first - rows.start, out);
        first += n * LANES;
    }
}

/// Writes the sums of each panel, from the lane of its first row, side by side from `column` on, as far as the result
/// goes.
fn write<S>(
    x: &Activations<'_>,
    places: &[(S, usize)],
    sums: &[Vec<[f32; LANES]>],
    column: usize,
    out: &mut Columns<'_>,
) {
    let mut row = 0;
    let mut at = 0;
    for tile in x.tiles() {
        for at in at..at + tile.n_rows() {
            let out = &mut out.unwritten_row(row)[column..];
            for ((out, sums), (_, lane)) in out.chunks_mut(LANES).zip(sums).zip(places) {
                match out.as_mut_array::<LANES>() {
                    Some(out) if *lane == 0 => *out = sums[at].map(MaybeUninit::new),
                    _ => {
                        let n = (LANES - lane).min(out.len());
                        out[..n].write_copy_of_slice(&sums[at][*lane..][..n]);
                    }
                }
            }
            row += 1;
        }
        at += tile.stride();
    }
}
