//! Sixteen weight rows side by side: the form in which weights are multiplied.

use std::marker::PhantomData;
use std::ops::Range;

use tensor::DType;

use crate::lanes::{Lanes, PanelLanes};
use crate::unpack::{Codes, Factors, Sink};

/// Weight rows that are multiplied together, one in each lane of a vector.
pub(crate) const LANES: usize = 16;
/// Values of a group: what shares one activation scale, and at least half of it one weight scale.
pub(crate) const GROUP: usize = 32;
/// Columns unpacked at a time: one K block, or eight small blocks.
pub(crate) const CHUNK: usize = 256;

/// [`CHUNK`] columns of [`LANES`] rows as unsigned codes: value = scale · (code − offset) + minimum.
///
/// At 5.5 KiB it stays in the first-level cache between unpacking and use.
#[repr(C, align(64))]
pub(crate) struct Panel {
    /// Four neighbouring codes of one row in each lane, the first in the lowest byte.
    pub(crate) codes: [[u32; LANES]; CHUNK / 4],
    /// The scale of each group, or of each half group if [`Coding::halves`].
    pub(crate) scales: [[f32; LANES]; CHUNK / 16],
    /// The minimum of each group, if [`Coding::minima`].
    pub(crate) minima: [[f32; LANES]; CHUNK / GROUP],
}

impl Panel {
    pub(crate) fn new() -> Self {
        Self {
            codes: [[0; LANES]; CHUNK / 4],
            scales: [[0.0; LANES]; CHUNK / 16],
            minima: [[0.0; LANES]; CHUNK / GROUP],
        }
    }
}

impl<L: PanelLanes> Sink<L> for Panel {
    #[inline(always)]
    fn expect(&self, n: usize) {
        assert!(n <= CHUNK / GROUP, "more groups than a panel has");
    }

    #[inline(always)]
    fn take(&mut self, index: usize, codes: impl Codes<L>, factors: Factors<L>) {
        for word in 0..GROUP / 4 {
            codes.word(word).store(&mut self.codes[GROUP / 4 * index + word]);
        }
        match factors.second_scale {
            None => factors.scale.store_f32(&mut self.scales[index]),
            Some(second) => {
                factors.scale.store_f32(&mut self.scales[2 * index]);
                second.store_f32(&mut self.scales[2 * index + 1]);
            }
        }
        if let Some(minimum) = factors.minimum {
            minimum.store_f32(&mut self.minima[index]);
        }
    }
}

/// How a type's codes become values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Coding {
    /// What is subtracted from each code.
    pub(crate) offset: i32,
    /// Whether each group has a minimum.
    pub(crate) minima: bool,
    /// Whether scales belong to 16 values, not 32.
    pub(crate) halves: bool,
}

impl Coding {
    /// The coding of a block-quantised type.
    pub(crate) const fn of(dtype: DType) -> Self {
        let offset = match dtype {
            DType::Q4_0 => 8,
            DType::Q5_0 => 16,
            DType::Q6_K => 32,
            DType::Q8_0 => 128,
            _ => 0,
        };
        Self { offset, minima: offset == 0, halves: matches!(dtype, DType::Q6_K) }
    }
}

/// The same whole blocks of [`LANES`] rows of one matrix, or of half of them: what unpacking reads from.
///
/// Offsets count bytes of a row. The vectors have as many lanes as there are rows.
pub(crate) trait Source: Copy {
    /// `N` neighbouring words of each row.
    type Words<L: Lanes, const N: usize>: Words<L>;

    /// Whether reading them costs less than keeping them in a few registers.
    #[cfg(target_arch = "x86_64")]
    const STRAIGHT: bool;

    /// Bytes of each row.
    fn len(self) -> usize;

    /// The bytes `range` of each row.
    fn part(self, range: Range<usize>) -> Self;

    /// The rows from number `half` · [`LANES`] / 2 on.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "wasm32"))]
    fn half(self, half: usize) -> Self;

    /// The `4 * N` bytes from `offset` of each row; `N` is a multiple of four.
    fn words<L: Lanes, const N: usize>(self, offset: usize) -> Self::Words<L, N>;

    /// The 4 bytes from `offset` of each row.
    fn word<L: Lanes>(self, offset: usize) -> L;

    /// The `f16` at `offset` of each row, which is not the last of its row, as `f32`.
    fn factor<L: Lanes>(self, offset: usize) -> L;

    /// The `f16` at `offset` of each row, which is not the first of its row, as `f32`.
    fn last_factor<L: Lanes>(self, offset: usize) -> L;
}

/// Neighbouring words of every row, one vector for each word.
pub(crate) trait Words<L>: Copy {
    /// Word `i` of every row.
    fn word(self, i: usize) -> L;

    /// The same words for one more use: what is read straight is read again, instead of kept on the stack.
    #[must_use]
    fn again(self) -> Self {
        self
    }
}

impl<L: Lanes, const N: usize> Words<L> for [L; N] {
    #[inline(always)]
    fn word(self, i: usize) -> L {
        self[i]
    }
}

/// Rows as they lie in a file.
///
/// They are read in sixteen short runs, which a processor does not foresee; but a later panel is one piece of
/// memory. So each read asks for as much of that one.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// Row `i` begins at `i * stride`; the last one ends with the slice or before.
    bytes: &'a [u8],
    stride: usize,
    len: usize,
    /// The piece of a later panel, which may lie beyond the matrix and is never read through.
    ahead: *const u8,
}

impl<'a> Rows<'a> {
    /// The first [`LANES`] rows of `stride` bytes each, while `ahead` rows further are asked for.
    pub(crate) fn new(bytes: &'a [u8], stride: usize, ahead: usize) -> Self {
        let ahead = bytes.as_ptr().wrapping_add(ahead * stride);
        Self { bytes: &bytes[..LANES * stride], stride, len: stride, ahead }
    }
}

impl Source for Rows<'_> {
    type Words<L: Lanes, const N: usize> = [L; N];

    #[cfg(target_arch = "x86_64")]
    const STRAIGHT: bool = false;

    fn len(self) -> usize {
        self.len
    }

    #[inline(always)]
    fn part(self, range: Range<usize>) -> Self {
        assert!(range.end <= self.len, "bytes beyond the row");
        let ahead = self.ahead.wrapping_add(LANES * range.start);
        Self { bytes: &self.bytes[range.start..], len: range.len(), ahead, ..self }
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "wasm32"))]
    fn half(self, half: usize) -> Self {
        let n = half * LANES / 2;
        Self { bytes: &self.bytes[n * self.stride..], ahead: self.ahead.wrapping_add(16 * n), ..self }
    }

    #[inline(always)]
    fn words<L: Lanes, const N: usize>(self, offset: usize) -> [L; N] {
        assert!(offset + 4 * N <= self.len, "bytes beyond the row");
        let mut words = [L::splat(0); N];
        for four in 0..N / 4 {
            let offset = offset + 16 * four;
            L::prefetch(self.ahead.wrapping_add(LANES * offset), L::N / 4);
            // SAFETY: each row has `len` bytes, `stride` apart, by construction, and at least as many rows are
            // left as there are lanes: these are all rows, or lanes and rows are halves.
            #[expect(unsafe_code, reason = "one check for the loads of all rows")]
            let read = unsafe { L::load(self.bytes.as_ptr().add(offset), self.stride) };
            words[4 * four..][..4].copy_from_slice(&read);
        }
        words
    }

    #[inline(always)]
    fn word<L: Lanes>(self, offset: usize) -> L {
        assert!(offset + 4 <= self.len, "bytes beyond the row");
        L::prefetch(self.ahead.wrapping_add(LANES * offset), 1);
        // SAFETY: as in `words`.
        #[expect(unsafe_code, reason = "one check for the loads of all rows")]
        unsafe {
            L::load_word(self.bytes.as_ptr().add(offset), self.stride)
        }
    }

    #[inline(always)]
    fn factor<L: Lanes>(self, offset: usize) -> L {
        self.word::<L>(offset).half_to_f32()
    }

    #[inline(always)]
    fn last_factor<L: Lanes>(self, offset: usize) -> L {
        self.word::<L>(offset - 2).shr(16).half_to_f32()
    }
}

/// Rows that [`pack`] laid out, which are read straight through.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a> {
    /// The panel, from the part on.
    bytes: &'a [u8],
    len: usize,
    /// The row in lane 0.
    first: usize,
}

/// Words of a packed piece, read when they are used.
#[derive(Clone, Copy)]
pub(crate) struct PackedWords<'a, L, const N: usize> {
    /// `N` words for each of [`LANES`] rows, word after word, from the row in lane 0 on.
    at: *const u8,
    panel: PhantomData<(&'a [u8], L)>,
}

/// How far ahead packed bytes are asked for.
const AHEAD: usize = 8192;

impl<'a> Packed<'a> {
    /// A panel of rows of `len` bytes.
    pub(crate) fn new(bytes: &'a [u8], len: usize) -> Self {
        Self { bytes: &bytes[..LANES * len], len, first: 0 }
    }

    /// Where the piece at `offset` of `len` bytes of each row begins, for rows that have `run` bytes of it in a row.
    ///
    /// The runs of as many rows as there are lanes can be read from there, and from every further `LANES * run` bytes
    /// on, `len / run` times.
    #[inline(always)]
    fn lanes<L: Lanes>(self, offset: usize, len: usize, run: usize) -> *const u8 {
        assert!(offset + len <= self.len && self.first + L::N <= LANES, "bytes beyond the row");
        let ahead = LANES * offset + len * self.first + AHEAD;
        L::prefetch(self.bytes.as_ptr().wrapping_add(ahead), (len * L::N).div_ceil(64));
        self.bytes.as_ptr().wrapping_add(LANES * offset + run * self.first)
    }
}

impl<'a> Source for Packed<'a> {
    type Words<L: Lanes, const N: usize> = PackedWords<'a, L, N>;

    #[cfg(target_arch = "x86_64")]
    const STRAIGHT: bool = true;

    fn len(self) -> usize {
        self.len
    }

    #[inline(always)]
    fn part(self, range: Range<usize>) -> Self {
        assert!(range.end <= self.len, "bytes beyond the row");
        Self { bytes: &self.bytes[LANES * range.start..], len: range.len(), ..self }
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "wasm32"))]
    fn half(self, half: usize) -> Self {
        Self { first: half * LANES / 2, ..self }
    }

    #[inline(always)]
    fn words<L: Lanes, const N: usize>(self, offset: usize) -> PackedWords<'a, L, N> {
        PackedWords { at: self.lanes::<L>(offset, 4 * N, 4), panel: PhantomData }
    }

    #[inline(always)]
    fn word<L: Lanes>(self, offset: usize) -> L {
        // SAFETY: the words of all rows lie in the panel, as `lanes` checked.
        #[expect(unsafe_code, reason = "the check is the panel's")]
        unsafe {
            L::read(self.lanes::<L>(offset, 4, 4))
        }
    }

    #[inline(always)]
    fn factor<L: Lanes>(self, offset: usize) -> L {
        // SAFETY: the halves of all rows lie in the panel, as `lanes` checked.
        #[expect(unsafe_code, reason = "the check is the panel's")]
        unsafe {
            L::read_halves(self.lanes::<L>(offset, 2, 2))
        }
    }

    #[inline(always)]
    fn last_factor<L: Lanes>(self, offset: usize) -> L {
        self.factor(offset)
    }
}

impl<L: Lanes, const N: usize> Words<L> for PackedWords<'_, L, N> {
    #[inline(always)]
    fn word(self, i: usize) -> L {
        assert!(i < N, "words beyond the piece");
        // SAFETY: the piece has `N` words, which lie in the panel, as `lanes` checked.
        #[expect(unsafe_code, reason = "the check is the panel's")]
        unsafe {
            L::read(self.at.add(4 * LANES * i))
        }
    }

    #[inline(always)]
    fn again(self) -> Self {
        Self { at: L::forget(self.at), ..self }
    }
}

/// Bytes of the pieces of a block that are read at once: the same piece of [`LANES`] rows lies together.
const fn pieces(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::Q4_0 => &[2, 16],
        DType::Q4_1 => &[4, 16],
        DType::Q5_0 => &[2, 4, 16],
        DType::Q5_1 => &[4, 4, 16],
        DType::Q8_0 => &[2, 16, 16],
        DType::Q4_K => &[16; 9],
        DType::Q5_K => &[16; 11],
        DType::Q6_K => &[16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 2],
        _ => &[],
    }
}

/// Lays out [`LANES`] rows of `rows.len() / LANES` bytes as [`Packed`] reads them.
///
/// Piece after piece; of each, word after word; of each word, row after row.
pub(crate) fn pack(dtype: DType, rows: &[u8], out: &mut [u8]) {
    let stride = rows.len() / LANES;
    let mut offset = 0;
    while offset < stride {
        for &piece in pieces(dtype) {
            let out = &mut out[LANES * offset..][..LANES * piece];
            for (row, rows) in rows.chunks_exact(stride).enumerate() {
                let bytes = &rows[offset..][..piece];
                match piece {
                    2 => out.as_chunks_mut::<2>().0[row].copy_from_slice(bytes),
                    _ => {
                        let words = out.as_chunks_mut::<4>().0.iter_mut().skip(row).step_by(LANES);
                        words.zip(bytes.as_chunks::<4>().0).for_each(|(out, word)| *out = *word);
                    }
                }
            }
            offset += piece;
        }
    }
}
