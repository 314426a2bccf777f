//! Activations, rounded once to signed bytes and then multiplied with any number of weights.

use std::borrow::Cow;

use crate::error::expect;
use crate::panel::GROUP;
use crate::path::arch;
use crate::{Path, Result};

/// Largest code: symmetric, so that a sign never overflows.
const MAX_CODE: f32 = 127.0;
/// Groups below this are rounded to zero, because the reciprocal of their scale may overflow.
const SMALLEST: f32 = 1e-30;

/// Rows `[n_rows, n_cols]` to be multiplied with weights of `n_cols` columns.
#[derive(Debug, Clone)]
pub struct Activations<'a> {
    values: &'a [f32],
    n_cols: usize,
    tiles: Cow<'a, [Tile]>,
}

impl<'a> Activations<'a> {
    /// Rows for weights stored as plain floats.
    ///
    /// # Errors
    /// If `values` is not whole rows.
    pub fn plain(values: &'a [f32], n_cols: usize) -> Result<Self> {
        expect("activations", "what is left of the last row", values.len() % n_cols.max(1), 0)?;
        Ok(Self { values, n_cols, tiles: Cow::Borrowed(&[]) })
    }

    /// Rows for weights of any type.
    ///
    /// # Errors
    /// If `values` is not whole rows, or a row not whole groups of 32.
    pub fn quantize(path: Path, values: &'a [f32], n_cols: usize) -> Result<Self> {
        expect("activations", "the part of a row beyond groups of 32", n_cols % GROUP, 0)?;
        let tiles = values
            .chunks((Tile::MAX_ROWS * n_cols).max(1))
            .map(|rows| Tile::quantize(path, rows, n_cols))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { tiles: tiles.into(), ..Self::plain(values, n_cols)? })
    }

    /// Rows whose tiles of [`Tile::MAX_ROWS`] rows were rounded by several threads.
    ///
    /// # Errors
    /// If the tiles do not have the rows of `values`.
    pub fn from_tiles(values: &'a [f32], n_cols: usize, tiles: &'a [Tile]) -> Result<Self> {
        let plain = Self::plain(values, n_cols)?;
        expect("activations", "number of tiles", tiles.len(), plain.n_rows().div_ceil(Tile::MAX_ROWS))?;
        for (i, tile) in tiles.iter().enumerate() {
            let n_rows = (plain.n_rows() - i * Tile::MAX_ROWS).min(Tile::MAX_ROWS);
            expect("activations", "rows of a tile", tile.n_rows, n_rows)?;
            expect("activations", "columns of a tile", tile.n_groups * GROUP, n_cols)?;
        }
        Ok(Self { tiles: tiles.into(), ..plain })
    }

    /// Number of rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.values.len().checked_div(self.n_cols).unwrap_or(0)
    }

    /// Length of a row.
    #[must_use]
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// The values as they were given.
    pub(crate) fn values(&self) -> &[f32] {
        self.values
    }

    /// The rounded rows, or nothing if they are plain.
    pub(crate) fn tiles(&self) -> &[Tile] {
        &self.tiles
    }
}

/// Up to [`Tile::MAX_ROWS`] rows rounded to signed bytes, with one scale for every 32 values.
///
/// The rows lie group by group, so that a kernel walks all of them with one pointer.
#[derive(Debug, Clone)]
pub struct Tile {
    n_rows: usize,
    n_groups: usize,
    /// Rows in memory: `n_rows` and perhaps a few of zeros, so that there are fewer kernels than counts.
    stride: usize,
    /// `[n_groups, stride]`.
    codes: Vec<GroupCodes>,
    /// `[n_groups, 2, stride]`: minus the sums of the codes of each half group, where kernels start from.
    negated_half_sums: Vec<i32>,
    /// `[n_groups, stride]`: minus the sums of the codes of each group.
    negated_sums: Vec<i32>,
    /// `[n_groups, stride]`: value = scale · code.
    scales: Vec<f32>,
    /// `[n_groups, stride]`: scale · sum.
    scaled_sums: Vec<f32>,
}

impl Tile {
    /// Rows in a tile that is not the last: as many sums as fit in the registers of a kernel.
    pub const MAX_ROWS: usize = 12;

    /// Row counts that kernels exist for.
    pub(crate) const STRIDES: [usize; 7] = [1, 2, 3, 4, 6, 8, Self::MAX_ROWS];

    /// Rounds at most [`Tile::MAX_ROWS`] rows of `n_cols` values.
    ///
    /// A group with a value that is not finite has products that are not a number, which nobody overlooks.
    ///
    /// # Errors
    /// If there are more rows, or they are not whole rows of whole groups.
    pub fn quantize(path: Path, values: &[f32], n_cols: usize) -> Result<Self> {
        let n_rows = values.len() / n_cols.max(1);
        expect("tile", "what is left of the last row", values.len() % n_cols.max(1), 0)?;
        expect("tile", "the part of a row beyond groups of 32", n_cols % GROUP, 0)?;
        expect("tile", "rows beyond the largest tile", n_rows.saturating_sub(Self::MAX_ROWS), 0)?;
        let stride = Self::STRIDES.into_iter().find(|&stride| n_rows <= stride).unwrap_or(Self::MAX_ROWS);
        let n_groups = n_cols / GROUP;
        let n = n_groups * stride;
        let mut tile = Self {
            n_rows,
            n_groups,
            stride,
            codes: vec![GroupCodes::default(); n],
            negated_half_sums: vec![0; 2 * n],
            negated_sums: vec![0; n],
            scales: vec![0.0; n],
            scaled_sums: vec![0.0; n],
        };
        arch::round(path.kind(), &mut tile, values);
        Ok(tile)
    }

    /// Fills a tile of the right size with groups that `round` makes.
    #[inline(always)]
    pub(crate) fn round(&mut self, values: &[f32], round: impl Fn(&[f32; GROUP]) -> RoundedGroup) {
        let groups = values.as_chunks::<GROUP>().0;
        for row in 0..self.n_rows {
            for (group, values) in groups[row * self.n_groups..][..self.n_groups].iter().enumerate() {
                let RoundedGroup { scale, words, half_sums } = round(values);
                let at = group * self.stride + row;
                let sum = half_sums[0] + half_sums[1];
                self.codes[at] = GroupCodes(words);
                self.negated_half_sums[2 * group * self.stride + row] = -half_sums[0];
                self.negated_half_sums[(2 * group + 1) * self.stride + row] = -half_sums[1];
                self.negated_sums[at] = -sum;
                self.scales[at] = scale;
                self.scaled_sums[at] = scale * sum as f32;
            }
        }
    }

    /// Rows in memory.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// Rows that were given.
    pub(crate) fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The groups `first..first + n_groups` of all rows in memory.
    pub(crate) fn chunk(&self, first: usize, n_groups: usize) -> TileChunk<'_> {
        let (at, n) = (first * self.stride, n_groups * self.stride);
        TileChunk {
            n_groups,
            stride: self.stride,
            codes: &self.codes[at..][..n],
            negated_half_sums: &self.negated_half_sums[2 * at..][..2 * n],
            negated_sums: &self.negated_sums[at..][..n],
            scales: &self.scales[at..][..n],
            scaled_sums: &self.scaled_sums[at..][..n],
        }
    }
}

/// The codes of one group of one row, four in each word, the first in the lowest byte.
///
/// Aligned, because AMX reads a row that two cache lines share many times slower.
#[repr(C, align(32))]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GroupCodes(pub(crate) [u32; GROUP / 4]);

/// One group of one row as it goes into a tile.
#[derive(Debug, Default)]
pub(crate) struct RoundedGroup {
    pub(crate) scale: f32,
    /// Four codes each, the first in the lowest byte.
    pub(crate) words: [u32; GROUP / 4],
    /// Sums of the codes of each half.
    pub(crate) half_sums: [i32; 2],
}

/// Adding 1.5 · 2^23 leaves an integer, rounded to even, in the low bits; it vectorises everywhere.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// Rounds one group.
pub(crate) fn round_group(values: &[f32; GROUP]) -> RoundedGroup {
    // Without their signs, floats are ordered as integers are.
    let largest = values.iter().map(|v| v.to_bits() & 0x7fff_ffff).fold(0, u32::max);
    let (scale, inverse) = match scale(f32::from_bits(largest)) {
        (scale, Some(inverse)) => (scale, inverse),
        (scale, None) => return RoundedGroup { scale, ..RoundedGroup::default() },
    };
    let codes = values.map(|v| (v * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed());
    let (mut words, mut half_sums) = ([0; GROUP / 4], [0; 2]);
    for (i, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
        words[i] = u32::from_le_bytes(codes.map(|code| code as u8));
        half_sums[i / 4] += codes.iter().sum::<i32>();
    }
    RoundedGroup { scale, words, half_sums }
}

/// The scale of a group and its reciprocal, or no reciprocal if all its codes are zero.
#[inline(always)]
pub(crate) fn scale(largest: f32) -> (f32, Option<f32>) {
    if !largest.is_finite() {
        (f32::NAN, None)
    } else if largest < SMALLEST {
        (0.0, None)
    } else {
        (largest / MAX_CODE, Some(MAX_CODE / largest))
    }
}

/// Neighbouring groups of all rows of a tile; the fields are as in [`Tile`].
#[derive(Clone, Copy)]
pub(crate) struct TileChunk<'a> {
    n_groups: usize,
    stride: usize,
    pub(crate) codes: &'a [GroupCodes],
    pub(crate) negated_half_sums: &'a [i32],
    pub(crate) negated_sums: &'a [i32],
    pub(crate) scales: &'a [f32],
    pub(crate) scaled_sums: &'a [f32],
}

/// One group of one row.
pub(crate) struct RowGroup<'a> {
    pub(crate) codes: &'a [u32; GROUP / 4],
    pub(crate) negated_half_sums: [i32; 2],
    pub(crate) negated_sum: i32,
    pub(crate) scale: f32,
    pub(crate) scaled_sum: f32,
}

impl<'a> TileChunk<'a> {
    pub(crate) fn n_groups(&self) -> usize {
        self.n_groups
    }

    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    pub(crate) fn group(&self, group: usize, row: usize) -> RowGroup<'a> {
        let at = group * self.stride + row;
        RowGroup {
            codes: &self.codes[at].0,
            negated_half_sums: [0, 1]
                .map(|half| self.negated_half_sums[(2 * group + half) * self.stride + row]),
            negated_sum: self.negated_sums[at],
            scale: self.scales[at],
            scaled_sum: self.scaled_sums[at],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(group: &RoundedGroup) -> Vec<i8> {
        group.words.iter().flat_map(|word| word.to_le_bytes()).map(|code| code.cast_signed()).collect()
    }

    #[test]
    fn the_largest_value_of_a_group_is_exact_and_all_others_within_half_a_step() {
        let values: [f32; GROUP] = std::array::from_fn(|i| (i as f32 * 0.7).sin() * 3.0);
        let group = round_group(&values);
        let codes = codes(&group);
        assert!(codes.iter().any(|code| code.abs() == 127));
        for (value, code) in values.iter().zip(codes) {
            assert!(
                (value - group.scale * f32::from(code)).abs() <= group.scale * 0.500_01,
                "{value} {code}"
            );
        }
    }

    #[test]
    fn tiny_groups_are_zero_and_unbounded_ones_are_no_number() {
        let tiny = round_group(&[1e-40; GROUP]);
        assert_eq!((tiny.scale, codes(&tiny)), (0.0, vec![0; GROUP]));
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [1.0; GROUP];
            values[7] = value;
            assert!(round_group(&values).scale.is_nan());
        }
        assert_eq!(codes(&round_group(&[-f32::MAX; GROUP])), [-127; GROUP]);
    }
}
