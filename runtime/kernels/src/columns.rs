//! The part of a result that one thread writes.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Neighbouring columns of a row-major result `[n_rows, n_cols]`.
///
/// A whole result is taken apart into disjoint columns, one part for each thread:
///
/// ```
/// let mut y = [0.0; 6]; // [2, 3]
/// let parts: Vec<_> = kernels::Columns::new(&mut y, 3).chunks(2).collect();
/// std::thread::scope(|s| {
///     for mut part in parts {
///         s.spawn(move || part.row(1).fill(1.0));
///     }
/// });
/// assert_eq!(y, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
/// ```
#[derive(Debug)]
pub struct Columns<'a> {
    /// Row 0, column 0 of these columns; row `i` is `i * stride` values further.
    data: *mut f32,
    n_rows: usize,
    n_cols: usize,
    stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: as `&mut [f32]`: the columns are reached through this value only.
#[expect(unsafe_code, reason = "threads write columns of one result")]
unsafe impl Send for Columns<'_> {}

// SAFETY: a shared reference gives access to no value (`part` is the caller's to keep sound).
#[expect(unsafe_code, reason = "threads take columns of one result")]
unsafe impl Sync for Columns<'_> {}

impl<'a> Columns<'a> {
    /// All columns of a result with rows of `n_cols`.
    ///
    /// # Panics
    /// If `y` is not whole rows.
    #[must_use]
    pub fn new(y: &'a mut [f32], n_cols: usize) -> Self {
        Self::over(y.as_mut_ptr(), y.len(), n_cols)
    }

    /// All columns of a result with rows of `n_cols` that has not been written yet.
    ///
    /// # Safety
    /// [`row`](Self::row) is asked for a row only after a product has written it.
    ///
    /// # Panics
    /// If `y` is not whole rows.
    #[expect(unsafe_code, reason = "what is written first is the caller's to keep")]
    #[must_use]
    pub unsafe fn unwritten(y: &'a mut [MaybeUninit<f32>], n_cols: usize) -> Self {
        Self::over(y.as_mut_ptr().cast(), y.len(), n_cols)
    }

    /// All columns of the `len` values from `data` on, which are borrowed for as long as this lives.
    fn over(data: *mut f32, len: usize, n_cols: usize) -> Self {
        assert!(len.is_multiple_of(n_cols.max(1)), "the result is not whole rows");
        Self { data, n_rows: len / n_cols.max(1), n_cols, stride: n_cols, lifetime: PhantomData }
    }

    /// Number of rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Number of columns.
    #[must_use]
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// These columns in row `i`.
    ///
    /// # Panics
    /// If there are fewer rows.
    pub fn row(&mut self, i: usize) -> &mut [f32] {
        // SAFETY: all values were there from the beginning, or a product has written these (`unwritten`).
        #[expect(unsafe_code, reason = "a result may have begun without values")]
        unsafe {
            self.unwritten_row(i).assume_init_mut()
        }
    }

    /// These columns in row `i`, for writing.
    pub(crate) fn unwritten_row(&mut self, i: usize) -> &mut [MaybeUninit<f32>] {
        assert!(i < self.n_rows, "row {i} of {}", self.n_rows);
        // SAFETY: row `i` lies in the slice of `new` or `unwritten`, and these columns of it are in no other live part.
        #[expect(unsafe_code, reason = "rows of a part are not adjacent")]
        unsafe {
            std::slice::from_raw_parts_mut(self.data.add(i * self.stride).cast(), self.n_cols)
        }
    }

    /// Parts of `width` columns, left to right; the last may be narrower.
    ///
    /// # Panics
    /// If `width` is zero.
    pub fn chunks(self, width: usize) -> impl Iterator<Item = Self> {
        assert!(width > 0, "parts have a width");
        (0..self.n_cols.div_ceil(width)).map(move |i| {
            let columns = i * width..((i + 1) * width).min(self.n_cols);
            // SAFETY: the ranges are disjoint, and `self` is gone when the last part is.
            #[expect(unsafe_code, reason = "parts of one result")]
            unsafe {
                self.part(columns)
            }
        })
    }

    /// The columns `columns`, for threads that take theirs by number.
    ///
    /// # Safety
    /// Parts that are alive at the same time do not overlap, and these columns are not written meanwhile.
    ///
    /// # Panics
    /// If there are fewer columns.
    #[expect(unsafe_code, reason = "disjointness is the caller's to keep")]
    #[must_use]
    pub unsafe fn part(&self, columns: Range<usize>) -> Self {
        assert!(columns.start <= columns.end && columns.end <= self.n_cols, "columns beyond the result");
        // An empty result has no value to point to, so this may not be `add`.
        let data = self.data.wrapping_add(columns.start);
        Self { data, n_cols: columns.len(), ..*self }
    }
}
