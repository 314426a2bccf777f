//! The scalar kernels alone, for processors without kernels of their own.

use tensor::DType;

use crate::activations::{Tile, TileChunk};
use crate::panel::{LANES, Panel, Source};
use crate::{float, scalar};

/// A set of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Scalar,
}

impl Kind {
    /// The kinds of this machine, slowest first.
    pub(crate) fn supported() -> Vec<Self> {
        vec![Self::Scalar]
    }

    pub(crate) fn name(self) -> &'static str {
        "scalar"
    }

    /// Begins products on this thread.
    pub(crate) fn begin(self) -> Session {
        self
    }
}

/// The kernels of one thread, until it has its products.
pub(crate) type Session = Kind;

/// Unpacks the whole blocks in `rows`.
pub(crate) fn unpack(_: Kind, dtype: DType, rows: impl Source, panel: &mut Panel) {
    scalar::unpack(dtype, rows, panel);
}

/// Adds the products of panels with all rows of a tile to the sums of each.
pub(crate) fn multiply<'a>(
    _: &Session,
    dtype: DType,
    panels: &[Panel],
    x: TileChunk<'_>,
    sums: impl Iterator<Item = &'a mut [[f32; LANES]]>,
) {
    panels.iter().zip(sums).for_each(|(panel, sums)| scalar::multiply(dtype, panel, x, sums));
}

/// [`unpack`] and [`multiply`] in one, if there is such a kernel for so many rows.
pub(crate) fn unpack_and_multiply(
    _: Kind,
    _: DType,
    _: impl Source,
    _: TileChunk<'_>,
    _: &mut [[f32; LANES]],
) -> bool {
    false
}

/// Rounds rows into a tile.
pub(crate) fn round(_: Kind, tile: &mut Tile, values: &[f32]) {
    scalar::round(tile, values);
}

/// Products of rows of `x` with a row of plain floats.
pub(crate) fn dots(_: Kind, dtype: DType, w: &[u8], x: &[&[f32]], dots: &mut [f32]) {
    float::dots(dtype, w, x, dots);
}
