//! Which kernels a WebAssembly module has: what it was compiled with, because a module with an instruction that its
//! machine does not know is refused whole.

#![expect(unsafe_code, reason = "loads and stores through pointers")]

use std::arch::wasm32::*;

use tensor::DType;

use crate::activations::{Tile, TileChunk};
use crate::panel::{LANES, Panel, Source};
use crate::quads::{self, Quad};
use crate::{float, scalar};

#[cfg(not(target_feature = "simd128"))]
compile_error!(
    "build with `-C target-feature=+simd128`, which every current browser has; .cargo/config.toml sets it"
);

/// A set of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Scalar,
    Simd128,
}

impl Kind {
    /// The kinds of this module, slowest first.
    pub(crate) fn supported() -> Vec<Self> {
        vec![Self::Scalar, Self::Simd128]
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Simd128 => "simd128",
        }
    }

    /// Begins products on this thread.
    pub(crate) fn begin(self) -> Session {
        self
    }
}

/// The kernels of one thread, until it has its products.
pub(crate) type Session = Kind;

/// Unpacks the whole blocks in `rows`.
pub(crate) fn unpack(kind: Kind, dtype: DType, rows: impl Source, panel: &mut Panel) {
    match kind {
        Kind::Scalar => scalar::unpack(dtype, rows, panel),
        Kind::Simd128 => quads::unpack::<Words>(dtype, rows, panel),
    }
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
    match session {
        Kind::Scalar => pairs.for_each(|(panel, sums)| scalar::multiply(dtype, panel, x, sums)),
        Kind::Simd128 => pairs.for_each(|(panel, sums)| quads::multiply::<Words>(dtype, panel, x, sums)),
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
        Kind::Scalar => false,
        Kind::Simd128 => quads::unpack_and_multiply::<Words>(dtype, rows, x, sums),
    }
}

/// Rounds rows into a tile.
pub(crate) fn round(_: Kind, tile: &mut Tile, values: &[f32]) {
    scalar::round(tile, values);
}

/// Products of rows of `x` with a row of plain floats.
pub(crate) fn dots(_: Kind, dtype: DType, w: &[u8], x: &[&[f32]], dots: &mut [f32]) {
    float::dots(dtype, w, x, dots);
}

/// Four lanes.
#[derive(Clone, Copy)]
struct Words(v128);

impl Quad for Words {
    /// Activations 0 and 2, and 1 and 3, as 16-bit numbers: codes are taken apart the same way, without moving any.
    type Activations = [v128; 2];

    const SIGNED: bool = false;

    #[inline(always)]
    unsafe fn read(at: *const u8) -> Self {
        // SAFETY: the caller lets us read these bytes.
        Self(unsafe { v128_load(at.cast()) })
    }

    #[inline(always)]
    unsafe fn read_halves(at: *const u8) -> Self {
        // SAFETY: the caller lets us read these bytes.
        Self(unsafe { u32x4_load_extend_u16x4(at.cast()) }).half_to_f32()
    }

    #[inline(always)]
    unsafe fn write(self, at: *mut u8) {
        // SAFETY: the caller lets us write these bytes.
        unsafe { v128_store(at.cast(), self.0) }
    }

    #[inline(always)]
    fn transpose([a, b, c, d]: [Self; 4]) -> [Self; 4] {
        let ab_low = i32x4_shuffle::<0, 4, 1, 5>(a.0, b.0);
        let ab_high = i32x4_shuffle::<2, 6, 3, 7>(a.0, b.0);
        let cd_low = i32x4_shuffle::<0, 4, 1, 5>(c.0, d.0);
        let cd_high = i32x4_shuffle::<2, 6, 3, 7>(c.0, d.0);
        [
            Self(i64x2_shuffle::<0, 2>(ab_low, cd_low)),
            Self(i64x2_shuffle::<1, 3>(ab_low, cd_low)),
            Self(i64x2_shuffle::<0, 2>(ab_high, cd_high)),
            Self(i64x2_shuffle::<1, 3>(ab_high, cd_high)),
        ]
    }

    #[inline(always)]
    fn of([a, b, c, d]: [u32; 4]) -> Self {
        Self(u32x4(a, b, c, d))
    }

    #[inline(always)]
    fn splat(word: u32) -> Self {
        Self(u32x4_splat(word))
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Self(v128_and(self.0, other.0))
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        Self(v128_or(self.0, other.0))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(v128_xor(self.0, other.0))
    }

    #[inline(always)]
    fn shl(self, n: u32) -> Self {
        Self(u32x4_shl(self.0, n))
    }

    #[inline(always)]
    fn shr(self, n: u32) -> Self {
        Self(u32x4_shr(self.0, n))
    }

    #[inline(always)]
    fn sar(self, n: u32) -> Self {
        Self(i32x4_shr(self.0, n))
    }

    /// There is no instruction for it.
    #[inline(always)]
    fn half_to_f32(self) -> Self {
        // Exponent and fraction at their place in an `f32`, and its exponent made right by a product, which is exact
        // and makes numbers of subnormal ones too.
        let magnitude = u32x4_shl(v128_and(self.0, u32x4_splat(0x7fff)), 13);
        let sign = u32x4_shl(v128_and(self.0, u32x4_splat(0x8000)), 16);
        let scaled = f32x4_mul(magnitude, u32x4_splat((127 + 112) << 23));
        // Infinities and what is no number keep the largest exponent.
        let unbounded = u32x4_ge(magnitude, u32x4_splat(0x7c00 << 13));
        let largest = v128_and(unbounded, u32x4_splat(0x7f80_0000));
        Self(v128_or(sign, v128_or(scaled, largest)))
    }

    #[inline(always)]
    fn int_to_f32(self) -> Self {
        Self(f32x4_convert_i32x4(self.0))
    }

    #[inline(always)]
    fn mul_f32(self, other: Self) -> Self {
        Self(f32x4_mul(self.0, other.0))
    }

    #[inline(always)]
    fn add_f32(self, other: Self) -> Self {
        Self(f32x4_add(self.0, other.0))
    }

    #[inline(always)]
    fn activations(word: u32) -> [v128; 2] {
        let words = u32x4_splat(word);
        [i16x8_shr(i16x8_shl(words, 8), 8), i16x8_shr(words, 8)]
    }

    #[inline(always)]
    fn dot(self, codes: Self, [even, odd]: [v128; 2]) -> Self {
        let even = i32x4_dot_i16x8(v128_and(codes.0, u16x8_splat(0x00ff)), even);
        let odd = i32x4_dot_i16x8(u16x8_shr(codes.0, 8), odd);
        Self(i32x4_add(self.0, i32x4_add(even, odd)))
    }
}
