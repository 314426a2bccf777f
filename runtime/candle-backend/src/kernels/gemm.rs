//! Matrix products over slices, through the `gemm` crate.

use std::marker::PhantomData;
use std::ops::Range;

use gemm::Parallelism;

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
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        // Below this the hand-over costs more than the product.
        Threads::All if a.rows * a.cols * b.cols < 1 << 18 => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
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
            parallelism,
        );
    }
}
