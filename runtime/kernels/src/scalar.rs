//! What every product means, in plain loops.

use tensor::DType;

use crate::activations::{Tile, TileChunk, round_group};
use crate::panel::{Coding, GROUP, LANES, Panel, Source};
use crate::unpack;

/// Rounds rows into a tile.
pub(crate) fn round(tile: &mut Tile, values: &[f32]) {
    tile.round(values, round_group);
}

/// Unpacks the whole blocks in `rows`.
pub(crate) fn unpack(dtype: DType, rows: impl Source, panel: &mut Panel) {
    unpack::unpack::<[u32; LANES]>(dtype, rows, panel);
}

/// Adds the products of a panel with all rows of a tile to `sums`, one vector a row.
///
/// Integers are exact. Group after group is rounded to `f32` and added: one order for every path.
pub(crate) fn multiply(dtype: DType, panel: &Panel, x: TileChunk<'_>, sums: &mut [[f32; LANES]]) {
    assert_eq!(sums.len(), x.stride(), "sums of a tile");
    let coding = Coding::of(dtype);
    let n_parts = if coding.halves { 2 } else { 1 };
    let part_words = GROUP / 4 / n_parts;
    for group in 0..x.n_groups() {
        for (row, sums) in sums.iter_mut().enumerate() {
            let x = x.group(group, row);
            for part in 0..n_parts {
                let negated_sum = if coding.halves { x.negated_half_sums[part] } else { x.negated_sum };
                let words = part * part_words..(part + 1) * part_words;
                for (lane, sum) in sums.iter_mut().enumerate() {
                    let mut dot = coding.offset * negated_sum;
                    for word in words.clone() {
                        let codes = panel.codes[GROUP / 4 * group + word][lane].to_le_bytes();
                        for (code, x) in codes.into_iter().zip(x.codes[word].to_le_bytes()) {
                            dot += i32::from(code) * i32::from(x.cast_signed());
                        }
                    }
                    *sum += dot as f32 * (panel.scales[n_parts * group + part][lane] * x.scale);
                }
            }
            if coding.minima {
                for (sum, minimum) in sums.iter_mut().zip(panel.minima[group]) {
                    *sum += minimum * x.scaled_sum;
                }
            }
        }
    }
}
