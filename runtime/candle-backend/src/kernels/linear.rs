//! `x · wᵀ + bias` for weights in any storage: exactly from the stored values, or with `x` rounded.

use std::ops::Range;

use ::kernels::{Activations, Columns, Matrix, Tile};
use tensor::{DType, RawTensor};

use super::EXACT_ROWS;
use super::gemm::{Threads, TileMut, Tiles, View, matmul, matmul_tile};
use super::pointwise::swiglu_in_place;
use super::simd::dots;
use crate::{Stored, team};

/// Weight values a task reads at least when it goes row by row.
const DOT_VALUES: usize = 1 << 14;
/// Weight values decoded for one matrix product: they stay in the second-level cache.
const TILE_VALUES: usize = 1 << 18;
/// Weight values a task multiplies at least in integers.
const INTEGER_VALUES: usize = 1 << 17;
/// Most parts of a product in integers for each thread: the start of every part is read before it can be foreseen.
const PARTS_PER_THREAD: usize = 4;

/// `x` `[n, cols]` through a dense weight `[rows, cols]` → `[n, rows]`.
pub(crate) fn dense(x: &[f32], w: &[f32], bias: Option<&[f32]>, cols: usize, threads: Threads) -> Vec<f32> {
    let (n, rows) = (x.len() / cols, w.len() / cols);
    let mut y = start(n, rows, bias);
    if n <= EXACT_ROWS {
        by_rows(&mut y, x, cols, threads, |range, tile| {
            for (j, w) in w[range.start * cols..range.end * cols].chunks_exact(cols).enumerate() {
                add_dots(tile, j, x, w);
            }
        });
    } else {
        matmul(&mut y, View::new(x, n, cols), View::new(w, rows, cols).t(), bias.is_some(), threads);
    }
    y
}

/// `x` `[n, cols]` through a stored weight `[rows, cols]` → `[n, rows]`.
///
/// Block-quantised weights multiply in `integers`, if those are given, and a few rows with halves straight from where
/// they lie; all others are decoded, a tile at a time.
pub(crate) fn stored(
    x: &[f32],
    w: &Stored,
    bias: Option<&[f32]>,
    integers: Option<::kernels::Path>,
    threads: Threads,
) -> Vec<f32> {
    let (rows, cols) = (w.rows(), w.cols());
    if let Some(path) = integers.filter(|_| w.dtype.is_quantized()) {
        let [y] = in_integers(x, [(w, bias)], path, threads);
        return y;
    }
    if let Some(values) = as_f32(w) {
        return dense(x, values, bias, cols, threads);
    }
    let n = x.len() / cols;
    if let Some(path) = integers.filter(|path| n <= EXACT_ROWS && path.has_float_kernels()) {
        let x = Activations::plain(x, cols).expect(WHOLE_ROWS);
        let [y] = products(&x, [(w, bias)], path, threads);
        return y;
    }
    let mut y = start(n, rows, bias);
    if n <= EXACT_ROWS {
        by_rows(&mut y, x, cols, threads, |range, tile| {
            let mut row = vec![0.0; cols];
            for (j, i) in range.enumerate() {
                decode(w, i..i + 1, &mut row);
                add_dots(tile, j, x, &row);
            }
        });
    } else {
        let tile_rows = (TILE_VALUES / cols).clamp(16, rows.div_ceil(4).max(16));
        by_columns(&mut y, rows, tile_rows, threads, |range, tile| {
            let mut values = vec![0.0; range.len() * cols];
            decode(w, range.clone(), &mut values);
            let w = View::new(&values, range.len(), cols);
            matmul_tile(tile, View::new(x, n, cols), w.t(), bias.is_some(), Threads::One);
        });
    }
    y
}

/// `x` `[n, cols]`, rounded once to signed bytes, through block-quantised weights `[rows, cols]` → `[n, rows]` each.
pub(crate) fn in_integers<const N: usize>(
    x: &[f32],
    ws: [(&Stored, Option<&[f32]>); N],
    path: ::kernels::Path,
    threads: Threads,
) -> [Vec<f32>; N] {
    let cols = ws.first().map_or(1, |(w, _)| w.cols());
    let tiles = rounded(x, cols, path, threads);
    let x = Activations::from_tiles(x, cols, &tiles).expect(WHOLE_TILES);
    products(&x, ws, path, threads)
}

/// `x` `[n, cols]` through weights `[rows, cols]` as they are stored → `[n, rows]` each.
fn products<const N: usize>(
    x: &Activations<'_>,
    ws: [(&Stored, Option<&[f32]>); N],
    path: ::kernels::Path,
    threads: Threads,
) -> [Vec<f32>; N] {
    let mut ys = [const { Vec::new() }; N];
    let mut parts = Vec::new();
    for ((w, _), y) in ws.iter().zip(&mut ys) {
        let (matrix, width) = (w.matrix(), width_of_parts(w));
        let columns = unwritten(y, x.n_rows(), w.rows());
        parts.extend(columns.chunks(width).enumerate().map(|(i, y)| (matrix, i * width, y)));
    }
    let run = |(w, start, mut y): (Matrix<'_>, usize, Columns<'_>)| {
        ::kernels::matmul(path, x, &w, start..start + y.n_cols(), &mut y).expect(FITTING);
    };
    match threads {
        Threads::All => team::for_each_of(parts, |_, part| run(part)),
        Threads::One => parts.into_iter().for_each(run),
    }
    for ((w, bias), y) in ws.iter().zip(&mut ys) {
        written(y, x.n_rows() * w.rows());
        if let Some(bias) = bias {
            y.chunks_exact_mut(w.rows())
                .for_each(|y| y.iter_mut().zip(*bias).for_each(|(y, bias)| *y += bias));
        }
    }
    ys
}

/// `silu(gate) · up` of the products that [`in_integers`] makes of two weights of one shape. Whoever makes some columns
/// of both goes on with them at once.
pub(crate) fn gated_in_integers(
    x: &[f32],
    gate: (&Stored, Option<&[f32]>),
    up: (&Stored, Option<&[f32]>),
    path: ::kernels::Path,
    threads: Threads,
) -> Vec<f32> {
    let (rows, cols) = (gate.0.rows(), gate.0.cols());
    let tiles = rounded(x, cols, path, threads);
    let x = Activations::from_tiles(x, cols, &tiles).expect(WHOLE_TILES);
    let mut y = Vec::new();
    let width = width_of_parts(gate.0);
    let multiply = |(w, bias): (&Stored, Option<&[f32]>), columns: Range<usize>, y: &mut Columns<'_>| {
        ::kernels::matmul(path, &x, &w.matrix(), columns.clone(), y).expect(FITTING);
        if let Some(bias) = bias.map(|bias| &bias[columns]) {
            (0..x.n_rows()).for_each(|row| y.row(row).iter_mut().zip(bias).for_each(|(y, bias)| *y += bias));
        }
    };
    let run = |i: usize, mut y: Columns<'_>| {
        let columns = i * width..i * width + y.n_cols();
        let mut scratch = Vec::new();
        let mut other = unwritten(&mut scratch, x.n_rows(), columns.len());
        multiply(gate, columns.clone(), &mut y);
        multiply(up, columns, &mut other);
        (0..x.n_rows()).for_each(|row| swiglu_in_place(y.row(row), other.row(row)));
    };
    let parts: Vec<_> = unwritten(&mut y, x.n_rows(), rows).chunks(width).collect();
    match threads {
        Threads::All => team::for_each_of(parts, run),
        Threads::One => parts.into_iter().enumerate().for_each(|(i, part)| run(i, part)),
    }
    written(&mut y, x.n_rows() * rows);
    y
}

/// Room for a product `[n, cols]` in an empty `y`: filling it with zeros first takes a tenth of the time of a prompt.
fn unwritten(y: &mut Vec<f32>, n: usize, cols: usize) -> Columns<'_> {
    y.reserve_exact(n * cols);
    // SAFETY: a product writes its columns in all rows, and nobody reads them before.
    #[expect(unsafe_code, reason = "columns of a product are written before they are read")]
    unsafe {
        Columns::unwritten(&mut y.spare_capacity_mut()[..n * cols], cols)
    }
}

/// Takes the `n` values over that products have written to [`unwritten`] columns, which are all.
fn written(y: &mut Vec<f32>, n: usize) {
    // SAFETY: every column was given to a product, which has written it in all rows or panicked.
    #[expect(unsafe_code, reason = "the values are there")]
    unsafe {
        y.set_len(n);
    }
}

const WHOLE_ROWS: &str = "whole rows";
const WHOLE_TILES: &str = "one tile for every few rows";
const FITTING: &str = "sizes fit";

/// `x` `[n, cols]` rounded to signed bytes, a tile for every few rows.
fn rounded(x: &[f32], cols: usize, path: ::kernels::Path, threads: Threads) -> Vec<Tile> {
    let chunks: Vec<&[f32]> = x.chunks(Tile::MAX_ROWS * cols).collect();
    let round = |i: usize| Tile::quantize(path, chunks[i], cols).expect("whole rows of whole blocks");
    match threads {
        Threads::All => team::map(chunks.len(), round),
        Threads::One => (0..chunks.len()).map(round).collect(),
    }
}

/// Rows of a weight that are multiplied in one part: as many parts as share the work most evenly, none so small that
/// handing it over costs more than it does.
fn width_of_parts(w: &Stored) -> usize {
    let (n_panels, n_threads) = (w.rows().div_ceil(Matrix::PANEL_ROWS), team::n_threads());
    let most = (w.rows() * w.cols() / INTEGER_VALUES).clamp(1, PARTS_PER_THREAD * n_threads);
    let longest_share = |n: usize| n_panels.div_ceil(n) * n.div_ceil(n_threads);
    let n_parts = (1..=most).rev().min_by_key(|&n| longest_share(n)).expect("at least one part");
    n_panels.div_ceil(n_parts) * Matrix::PANEL_ROWS
}

/// Gradient of the input: `grad` `[n, rows]` through `w` `[rows, cols]` → `[n, cols]`.
pub(crate) fn input_gradient(grad: &[f32], w: &[f32], rows: usize, threads: Threads) -> Vec<f32> {
    let (n, cols) = (grad.len() / rows, w.len() / rows);
    let mut dx = vec![0.0; n * cols];
    matmul(&mut dx, View::new(grad, n, rows), View::new(w, rows, cols), false, threads);
    dx
}

/// Gradient of the weight: `gradᵀ · x`, `[rows, cols]`.
pub(crate) fn weight_gradient(
    grad: &[f32],
    x: &[f32],
    rows: usize,
    cols: usize,
    threads: Threads,
) -> Vec<f32> {
    let n = x.len() / cols;
    let mut dw = vec![0.0; rows * cols];
    matmul(&mut dw, View::new(grad, n, rows).t(), View::new(x, n, cols), false, threads);
    dw
}

/// Decodes `rows` of a weight whose sizes were checked when it was taken over.
pub(crate) fn decode(w: &RawTensor, rows: Range<usize>, out: &mut [f32]) {
    let row_bytes = w.bytes.len() / w.rows();
    let bytes = &w.bytes.as_ref()[rows.start * row_bytes..rows.end * row_bytes];
    ::kernels::widen(w.dtype, bytes, out).expect("sizes were checked when the weight was taken over");
}

/// The values of an `f32` weight where they lie, if the file happens to align them.
fn as_f32(w: &RawTensor) -> Option<&[f32]> {
    if w.dtype != DType::F32 || cfg!(target_endian = "big") {
        return None;
    }
    // SAFETY: every bit pattern is an `f32`; alignment is what `align_to` takes care of.
    #[expect(unsafe_code, reason = "reads mapped bytes as floats without a copy")]
    let (before, values, after) = unsafe { w.bytes.as_ref().align_to::<f32>() };
    (before.is_empty() && after.is_empty()).then_some(values)
}

/// The output before the product is added: the bias in every row, or zeros.
fn start(n: usize, rows: usize, bias: Option<&[f32]>) -> Vec<f32> {
    match bias {
        Some(bias) => bias.repeat(n),
        None => vec![0.0; n * rows],
    }
}

/// Adds the product of every row of `x` with one weight row to column `j`.
fn add_dots(tile: &mut TileMut<'_>, j: usize, x: &[f32], w: &[f32]) {
    dots(x, w, |i, product| tile.row(i)[j] += product);
}

/// Shares weight rows out for a product that goes row by row.
fn by_rows(
    y: &mut [f32],
    x: &[f32],
    cols: usize,
    threads: Threads,
    f: impl Fn(Range<usize>, &mut TileMut<'_>) + Sync,
) {
    if let Some(rows) = y.len().checked_div(x.len() / cols) {
        by_columns(y, rows, DOT_VALUES.div_ceil(cols), threads, f);
    }
}

/// Calls `f` with ranges of weight rows and the columns of `y` they fill.
fn by_columns(
    y: &mut [f32],
    rows: usize,
    tile_rows: usize,
    threads: Threads,
    f: impl Fn(Range<usize>, &mut TileMut<'_>) + Sync,
) {
    let n = y.len() / rows.max(1);
    let tiles = Tiles::new(y, rows);
    let run = |t: usize| {
        let range = t * tile_rows..((t + 1) * tile_rows).min(rows);
        // SAFETY: the ranges of different `t` do not overlap.
        #[expect(unsafe_code, reason = "threads write disjoint columns")]
        let mut tile = unsafe { tiles.tile(0..n, range.clone()) };
        f(range, &mut tile);
    };
    let n_tiles = rows.div_ceil(tile_rows);
    match threads {
        Threads::All => team::for_each(n_tiles, run),
        Threads::One => (0..n_tiles).for_each(run),
    }
}
