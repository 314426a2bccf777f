//! Which kernels an x86-64 processor has, and the calls to them.
//!
//! [`Kind::supported`] is the only source of kinds other than the scalar one, so a kind that is here at all
//! has its instructions: that is what every call below relies on.

#![expect(unsafe_code, reason = "calls functions compiled for instructions that not every processor has")]

use tensor::DType;

use crate::activations::{Tile, TileChunk};
use crate::panel::{LANES, Panel, Source};
use crate::{float, scalar};

mod amx;
mod avx2;
mod avx512;

/// A set of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Scalar,
    Avx2,
    Avx512,
    Amx,
}

impl Kind {
    /// The kinds of this machine, slowest first.
    pub(crate) fn supported() -> Vec<Self> {
        let avx2 = has_halves();
        let avx512 = avx2 && has_avx512();
        let mut kinds = vec![Self::Scalar];
        kinds.extend(avx2.then_some(Self::Avx2));
        kinds.extend(avx512.then_some(Self::Avx512));
        kinds.extend((avx512 && amx::is_available()).then_some(Self::Amx));
        kinds
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        }
    }

    /// Begins products on this thread.
    pub(crate) fn begin(self) -> Session {
        Session { kind: self, registers: amx::Registers::default() }
    }
}

/// The kernels of one thread, until it has its products.
#[derive(Debug)]
pub(crate) struct Session {
    kind: Kind,
    registers: amx::Registers,
}

/// Unpacks the whole blocks in `rows`.
pub(crate) fn unpack(kind: Kind, dtype: DType, rows: impl Source, panel: &mut Panel) {
    match kind {
        Kind::Scalar => scalar::unpack(dtype, rows, panel),
        // SAFETY: the kind has its instructions.
        Kind::Avx2 => unsafe { avx2::unpack(dtype, rows, panel) },
        // SAFETY: as above.
        Kind::Avx512 => unsafe { avx512::unpack(dtype, rows, panel) },
        // SAFETY: as above.
        Kind::Amx => unsafe { amx::unpack(dtype, rows, panel) },
    }
}

/// Widens halves of `dtype`, twice as many bytes as there are values, if there are instructions for it.
pub(crate) fn widen(dtype: DType, bytes: &[u8], out: &mut [f32]) -> bool {
    let is_here = matches!(dtype, DType::F16 | DType::BF16) && has_halves();
    match is_here && has_avx512() {
        // SAFETY: the instructions were looked for.
        true => unsafe { avx512::widen(dtype, bytes, out) },
        // SAFETY: as above.
        false if is_here => unsafe { avx2::widen(dtype, bytes, out) },
        false => {}
    }
    is_here
}

/// As [`widen`], for the bits of `f16` values.
pub(crate) fn widen_f16(halves: &[u16], out: &mut [f32]) -> bool {
    // SAFETY: all bit patterns are bytes.
    widen(DType::F16, unsafe { halves.align_to().1 }, out)
}

fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
}

fn has_halves() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")
}

/// Adds the products of panels with all rows of a tile to the sums of each.
pub(crate) fn multiply<'a>(
    session: &Session,
    dtype: DType,
    panels: &[Panel],
    x: TileChunk<'_>,
    sums: impl Iterator<Item = &'a mut [[f32; LANES]]>,
) {
    let pairs = panels.iter().zip(sums);
    match session.kind {
        Kind::Scalar => pairs.for_each(|(panel, sums)| scalar::multiply(dtype, panel, x, sums)),
        // SAFETY: the kind has its instructions.
        Kind::Avx2 => pairs.for_each(|(panel, sums)| unsafe { avx2::multiply(dtype, panel, x, sums) }),
        // SAFETY: as above.
        Kind::Avx512 => pairs.for_each(|(panel, sums)| unsafe { avx512::multiply(dtype, panel, x, sums) }),
        // SAFETY: as above.
        Kind::Amx => unsafe {
            amx::multiply(&session.registers, dtype, panels, x, pairs.map(|(_, sums)| sums))
        },
    }
}

/// [`unpack`] and [`multiply`] in one, if there is such a kernel for so many rows.
pub(crate) fn unpack_and_multiply(
    kind: Kind,
    dtype: DType,
    rows: impl Source,
    x: TileChunk<'_>,
    sums: &mut [[f32; LANES]],
) -> bool {
    match kind {
        // SAFETY: the kind has its instructions.
        Kind::Avx512 | Kind::Amx => unsafe { avx512::unpack_and_multiply(dtype, rows, x, sums) },
        // SAFETY: as above.
        Kind::Avx2 => unsafe { avx2::unpack_and_multiply(dtype, rows, x, sums) },
        Kind::Scalar => false,
    }
}

/// Rounds rows into a tile.
pub(crate) fn round(kind: Kind, tile: &mut Tile, values: &[f32]) {
    match kind {
        Kind::Scalar => scalar::round(tile, values),
        // SAFETY: the kind has its instructions, and AVX-512 includes AVX2.
        Kind::Avx2 | Kind::Avx512 | Kind::Amx => unsafe { avx2::round(tile, values) },
    }
}

/// Products of at most [`float::ROWS`] rows of `x` with a row of plain floats.
pub(crate) fn dots(kind: Kind, dtype: DType, w: &[u8], x: &[&[f32]], dots: &mut [f32]) {
    match kind {
        Kind::Scalar => float::dots(dtype, w, x, dots),
        // SAFETY: the kind has its instructions.
        Kind::Avx2 => unsafe { avx2::dots(dtype, w, x, dots) },
        // SAFETY: as above.
        Kind::Avx512 | Kind::Amx => unsafe { avx512::dots(dtype, w, x, dots) },
    }
}
