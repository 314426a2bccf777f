//! Matrix products over slices, through the `gemm` crate.

use std::marker::PhantomData;
use std::ops::Range;

use gemm::Parallelism;

use crate::team;

/// Columns or rows of a product that one thread takes at least.
const PART: usize = 256;

/// A row-major matrix, or its transpose, inside a slice.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> View<'a> {
    /// A `[rows, cols]` matrix whose rows start `stride` values apart.
    pub(crate) fn strided(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(
            rows == 0 || cols == 0 || (rows - 1) * stride + cols <= data.len(),
            "matrix beyond its slice"
        );
        Self { data, rows, cols, row_stride: stride, col_stride: 1 }
    }

    /// A dense `[rows, cols]` matrix.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Some of its rows.
    fn rows(self, rows: Range<usize>) -> Self {
        assert!(rows.end <= self.rows, "rows beyond the matrix");
        Self {
            data: &self.data[(rows.start * self.row_stride).min(self.data.len())..],
            rows: rows.len(),
            ..self
        }
    }

    /// The transpose.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// A rectangle of a row-major matrix that one thread may write.
pub(crate) struct TileMut<'a> {
    data: *mut f32,
    rows: usize,
    cols: usize,
    stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

impl<'a> TileMut<'a> {
    /// All of a dense `[rows, cols]` matrix.
    pub(crate) fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "matrix size");
        Self { data: data.as_mut_ptr(), rows, cols, stride: cols, lifetime: PhantomData }
    }

    /// A rectangle of the tile.
    ///
    /// # Safety
    /// Parts that are alive at the same time do not overlap.
    #[expect(unsafe_code, reason = "disjointness is the caller's to keep")]
    unsafe fn part(&self, rows: Range<usize>, cols: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && cols.end <= self.cols, "part beyond the tile");
        let data = self.data.wrapping_add(rows.start * self.stride + cols.start);
        Self { data, rows: rows.len(), cols: cols.len(), ..*self }
    }

    /// Row `i` of the tile.
    pub(crate) fn row(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.rows, "row beyond the tile");
        // SAFETY: the tile lies inside its matrix and nobody else touches it (`new`, `Tiles::tile`).
        #[expect(unsafe_code, reason = "rows of a tile are not adjacent")]
        unsafe {
            std::slice::from_raw_parts_mut(self.data.add(i * self.stride), self.cols)
        }
    }
}

// SAFETY: a shared reference gives access to no value (`part` is the caller's to keep sound).
#[expect(unsafe_code, reason = "parts of one tile go to several threads")]
unsafe impl Sync for TileMut<'_> {}

/// A row-major matrix whose tiles are written by several threads.
pub(crate) struct Tiles<'a> {
    data: *mut f32,
    rows: usize,
    cols: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is only used through disjoint tiles, which `Tiles::tile` makes its caller's duty.
#[expect(unsafe_code, reason = "tiles of one matrix go to several threads")]
unsafe impl Sync for Tiles<'_> {}

impl<'a> Tiles<'a> {
    /// A dense matrix with rows of `cols`.
    pub(crate) fn new(data: &'a mut [f32], cols: usize) -> Self {
        let rows = data.len() / cols.max(1);
        Self { data: data.as_mut_ptr(), rows, cols, lifetime: PhantomData }
    }

    /// The tile `rows × cols`.
    ///
    /// # Safety
    /// Tiles that are alive at the same time do not overlap.
    #[expect(unsafe_code, reason = "disjointness is the caller's to keep")]
    pub(crate) unsafe fn tile(&self, rows: Range<usize>, cols: Range<usize>) -> TileMut<'a> {
        assert!(rows.end <= self.rows && cols.end <= self.cols, "tile beyond the matrix");
        // SAFETY: in bounds by the assertion; a tile without rows is never dereferenced.
        let data = unsafe { self.data.add((rows.start * self.cols).min(self.rows * self.cols)) };
        let data = data.wrapping_add(cols.start);
        TileMut { data, rows: rows.len(), cols: cols.len(), stride: self.cols, lifetime: PhantomData }
    }
}

/// How many threads one product may use.
#[derive(Clone, Copy)]
pub(crate) enum Threads {
    /// The calling one: inside a parallel region.
    One,
    /// All of the pool, if the product is large enough.
    All,
}

/// `out = a · b`, or `out += a · b` with `accumulate`; `out` is dense `[a.rows, b.cols]`.
pub(crate) fn matmul(out: &mut [f32], a: View<'_>, b: View<'_>, accumulate: bool, threads: Threads) {
    matmul_tile(&mut TileMut::new(out, a.rows, b.cols), a, b, accumulate, threads);
}

/// [`matmul_tile`] of columns that several threads take, or of rows if those are more.
fn by_parts(out: &mut TileMut<'_>, a: View<'_>, b: View<'_>, accumulate: bool) {
    let by_columns = out.cols >= out.rows;
    let n = if by_columns { out.cols } else { out.rows };
    team::for_each(n.div_ceil(PART), |i| {
        let part = i * PART..((i + 1) * PART).min(n);
        let (rows, cols) = if by_columns { (0..out.rows, part) } else { (part, 0..out.cols) };
        let (a, b) = (a.rows(rows.clone()), b.t().rows(cols.clone()).t());
        // SAFETY: the parts are disjoint, and `out` is borrowed until all are done.
        #[expect(unsafe_code, reason = "threads write disjoint parts")]
        let mut out = unsafe { out.part(rows, cols) };
        matmul_tile(&mut out, a, b, accumulate, Threads::One);
    });
}

/// `out = a · b`, or `out += a · b` with `accumulate`.
pub(crate) fn matmul_tile(
    out: &mut TileMut<'_>,
    a: View<'_>,
    b: View<'_>,
    accumulate: bool,
    threads: Threads,
) {
    assert_eq!(a.cols, b.rows, "inner dimensions");
    assert_eq!((out.rows, out.cols), (a.rows, b.cols), "output size");
    if out.rows == 0 || out.cols == 0 {
        return;
    }
    if a.cols == 0 {
        if !accumulate {
            (0..out.rows).for_each(|i| out.row(i).fill(0.0));
        }
        return;
    }
    // Below this the hand-over costs more than the product.
    if matches!(threads, Threads::All) && a.rows * a.cols * b.cols >= 1 << 18 {
        return by_parts(out, a, b, accumulate);
    }
    // SAFETY: `View`, `TileMut` and the assertions above guarantee that every element addressed by the
    // dimensions and strides lies inside its slice; `out` is exclusively borrowed.
    #[expect(unsafe_code, reason = "the gemm crate takes pointers and strides")]
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out.data,
            1,
            out.stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
