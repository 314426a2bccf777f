//! Which kernels a 64-bit ARM processor has, and the calls to them.
//!
//! [`Kind::supported`] is the only source of kinds other than the scalar one, so a kind that is here at all
//! has its instructions: that is what every call below relies on.

#![expect(unsafe_code, reason = "calls functions compiled for instructions that not every processor has")]

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use tensor::DType;

use crate::activations::{Tile, TileChunk};
use crate::panel::{LANES, Panel, Source};
use crate::quads::{self, Quad};
use crate::{float, scalar};

/// A set of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Scalar,
    Neon,
}

impl Kind {
    /// The kinds of this machine, slowest first.
    pub(crate) fn supported() -> Vec<Self> {
        let mut kinds = vec![Self::Scalar];
        kinds.extend(is_aarch64_feature_detected!("dotprod").then_some(Self::Neon));
        kinds
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Neon => "neon",
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
        // SAFETY: the kind has its instructions.
        Kind::Neon => unsafe { neon_unpack(dtype, rows, panel) },
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
        // SAFETY: the kind has its instructions.
        Kind::Neon => pairs.for_each(|(panel, sums)| unsafe { neon_multiply(dtype, panel, x, sums) }),
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
        // SAFETY: the kind has its instructions.
        Kind::Neon => unsafe { neon_unpack_and_multiply(dtype, rows, x, sums) },
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

#[target_feature(enable = "neon,dotprod")]
fn neon_unpack(dtype: DType, rows: impl Source, panel: &mut Panel) {
    quads::unpack::<Words>(dtype, rows, panel);
}

#[target_feature(enable = "neon,dotprod")]
fn neon_multiply(dtype: DType, panel: &Panel, x: TileChunk<'_>, sums: &mut [[f32; LANES]]) {
    quads::multiply::<Words>(dtype, panel, x, sums);
}

#[target_feature(enable = "neon,dotprod")]
fn neon_unpack_and_multiply(
    dtype: DType,
    rows: impl Source,
    x: TileChunk<'_>,
    sums: &mut [[f32; LANES]],
) -> bool {
    quads::unpack_and_multiply::<Words>(dtype, rows, x, sums)
}

/// Four lanes. Only the functions above name it, which is why its instructions may be used.
#[derive(Clone, Copy)]
struct Words(uint32x4_t);

impl Words {
    #[inline(always)]
    fn floats(self) -> float32x4_t {
        // SAFETY: the instructions are the kernel's, here and below.
        unsafe { vreinterpretq_f32_u32(self.0) }
    }

    #[inline(always)]
    fn of_floats(floats: float32x4_t) -> Self {
        // SAFETY: as above.
        Self(unsafe { vreinterpretq_u32_f32(floats) })
    }
}

impl Quad for Words {
    type Activations = uint32x4_t;

    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn read(at: *const u8) -> Self {
        // SAFETY: the caller lets us read these bytes.
        Self(unsafe { vreinterpretq_u32_u8(vld1q_u8(at)) })
    }

    #[inline(always)]
    unsafe fn read_halves(at: *const u8) -> Self {
        // SAFETY: the caller lets us read these bytes.
        Self(unsafe { vmovl_u16(vreinterpret_u16_u8(vld1_u8(at))) }).half_to_f32()
    }

    #[inline(always)]
    unsafe fn write(self, at: *mut u8) {
        // SAFETY: the caller lets us write these bytes.
        unsafe { vst1q_u8(at, vreinterpretq_u8_u32(self.0)) }
    }

    #[inline(always)]
    fn transpose([a, b, c, d]: [Self; 4]) -> [Self; 4] {
        // SAFETY: as in `floats`.
        unsafe {
            let (ab_low, ab_high) = (vzip1q_u32(a.0, b.0), vzip2q_u32(a.0, b.0));
            let (cd_low, cd_high) = (vzip1q_u32(c.0, d.0), vzip2q_u32(c.0, d.0));
            [
                Self(pairs::<0>(ab_low, cd_low)),
                Self(pairs::<1>(ab_low, cd_low)),
                Self(pairs::<0>(ab_high, cd_high)),
                Self(pairs::<1>(ab_high, cd_high)),
            ]
        }
    }

    #[inline(always)]
    fn of(words: [u32; 4]) -> Self {
        // SAFETY: the array has the size of the vector.
        Self(unsafe { vld1q_u32(words.as_ptr()) })
    }

    #[inline(always)]
    fn splat(word: u32) -> Self {
        // SAFETY: as in `floats`.
        Self(unsafe { vdupq_n_u32(word) })
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        // SAFETY: as in `floats`.
        Self(unsafe { vandq_u32(self.0, other.0) })
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        // SAFETY: as in `floats`.
        Self(unsafe { vorrq_u32(self.0, other.0) })
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: as in `floats`.
        Self(unsafe { veorq_u32(self.0, other.0) })
    }

    #[inline(always)]
    fn shl(self, n: u32) -> Self {
        // SAFETY: as in `floats`.
        Self(unsafe { vshlq_u32(self.0, vdupq_n_s32(n.cast_signed())) })
    }

    #[inline(always)]
    fn shr(self, n: u32) -> Self {
        // SAFETY: as in `floats`. A negative shift goes right.
        Self(unsafe { vshlq_u32(self.0, vdupq_n_s32(-n.cast_signed())) })
    }

    #[inline(always)]
    fn sar(self, n: u32) -> Self {
        // SAFETY: as in `shr`.
        unsafe {
            let shifted = vshlq_s32(vreinterpretq_s32_u32(self.0), vdupq_n_s32(-n.cast_signed()));
            Self(vreinterpretq_u32_s32(shifted))
        }
    }

    #[inline(always)]
    fn half_to_f32(mut self) -> Self {
        // SAFETY: an instruction of every ARM processor of 64 bits, whose intrinsic is not stable yet.
        unsafe {
            asm!(
                "xtn {0:v}.4h, {0:v}.4s",
                "fcvtl {0:v}.4s, {0:v}.4h",
                inout(vreg) self.0,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        self
    }

    #[inline(always)]
    fn int_to_f32(self) -> Self {
        // SAFETY: as in `floats`.
        Self::of_floats(unsafe { vcvtq_f32_s32(vreinterpretq_s32_u32(self.0)) })
    }

    #[inline(always)]
    fn mul_f32(self, other: Self) -> Self {
        // SAFETY: as in `floats`.
        Self::of_floats(unsafe { vmulq_f32(self.floats(), other.floats()) })
    }

    #[inline(always)]
    fn add_f32(self, other: Self) -> Self {
        // SAFETY: as in `floats`.
        Self::of_floats(unsafe { vaddq_f32(self.floats(), other.floats()) })
    }

    #[inline(always)]
    fn activations(word: u32) -> uint32x4_t {
        Self::splat(word).0
    }

    #[inline(always)]
    fn dot(mut self, codes: Self, x: uint32x4_t) -> Self {
        // SAFETY: the instruction is the kernel's; its intrinsic is not stable yet.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sums:v}.4s, {codes:v}.16b, {x:v}.16b",
                sums = inout(vreg) self.0,
                codes = in(vreg) codes.0,
                x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        self
    }
}

/// The pair of words `HALF` of each vector.
#[inline(always)]
fn pairs<const HALF: usize>(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
    // SAFETY: as in `Words::floats`.
    unsafe {
        let (a, b) = (vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(b));
        vreinterpretq_u32_u64(if HALF == 0 { vzip1q_u64(a, b) } else { vzip2q_u64(a, b) })
    }
}
