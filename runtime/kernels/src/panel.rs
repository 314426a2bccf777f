//! Sixteen weight rows side by side: the form in which weights are multiplied.

use tensor::DType;

use crate::lanes::{Lanes, PanelLanes};
use crate::unpack::{Group, Sink};

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
    fn take(&mut self, index: usize, group: Group<L>) {
        for (j, codes) in group.codes.into_iter().enumerate() {
            codes.store(&mut self.codes[GROUP / 4 * index + j]);
        }
        match group.second_scale {
            None => group.scale.store_f32(&mut self.scales[index]),
            Some(second) => {
                group.scale.store_f32(&mut self.scales[2 * index]);
                second.store_f32(&mut self.scales[2 * index + 1]);
            }
        }
        if let Some(minimum) = group.minimum {
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

/// The same bytes of [`LANES`] rows of one matrix.
///
/// A panel is read in sixteen short runs, which a processor does not foresee; but a later panel is one piece
/// of memory. So each read asks for as much of that one.
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

    /// `len` bytes from `offset` of each row.
    pub(crate) fn part(self, offset: usize, len: usize) -> Self {
        assert!(offset + len <= self.len, "bytes beyond the row");
        Self { bytes: &self.bytes[offset..], len, ahead: self.ahead.wrapping_add(LANES * offset), ..self }
    }

    /// The rows of [`LANES`] / 2 from number `half` · [`LANES`] / 2 on.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn half(self, half: usize) -> Self {
        let n = half * LANES / 2;
        Self { bytes: &self.bytes[n * self.stride..], ahead: self.ahead.wrapping_add(16 * n), ..self }
    }

    /// Bytes of each row.
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// The 16 bytes from `offset` of each row: four vectors of four bytes of every row.
    #[inline(always)]
    pub(crate) fn words<L: Lanes>(self, offset: usize) -> [L; 4] {
        assert!(offset + 16 <= self.len, "bytes beyond the row");
        L::prefetch(self.ahead.wrapping_add(LANES * offset), L::N / 4);
        // SAFETY: each row has `len` bytes, `stride` apart, by construction, and at least as many rows are
        // left as there are lanes: these are all rows, or lanes and rows are halves.
        #[expect(unsafe_code, reason = "one check for the loads of all rows")]
        unsafe {
            L::load(self.bytes.as_ptr().add(offset), self.stride)
        }
    }

    /// The 4 bytes from `offset` of each row.
    #[inline(always)]
    pub(crate) fn word<L: Lanes>(self, offset: usize) -> L {
        assert!(offset + 4 <= self.len, "bytes beyond the row");
        L::prefetch(self.ahead.wrapping_add(LANES * offset), 1);
        // SAFETY: as in `words`.
        #[expect(unsafe_code, reason = "one check for the loads of all rows")]
        unsafe {
            L::load_word(self.bytes.as_ptr().add(offset), self.stride)
        }
    }
}
