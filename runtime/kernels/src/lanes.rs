//! Vectors of 32-bit lanes, one for each weight row: the little that unpacking needs of a processor.

use half::f16;

use crate::panel::LANES;

/// [`N`](Self::N) 32-bit lanes, one for each of so many rows.
///
/// Everything is `inline(always)`, so that it is compiled with the instructions of the kernel it is used in.
/// An implementation that needs instructions is named in the kernels of its path only.
pub(crate) trait Lanes: Copy {
    /// Number of lanes: all rows of a panel or a part of them.
    const N: usize;

    /// The 16 bytes at `base + i * stride` of each row `i`; vector `j` has bytes `4j..4j + 4` of every row.
    ///
    /// # Safety
    /// Those bytes can be read.
    #[expect(unsafe_code, reason = "reads through a pointer")]
    unsafe fn load(base: *const u8, stride: usize) -> [Self; 4];

    /// The 4 bytes at `base + i * stride` of each row `i`.
    ///
    /// # Safety
    /// Those bytes can be read.
    #[expect(unsafe_code, reason = "reads through a pointer")]
    unsafe fn load_word(base: *const u8, stride: usize) -> Self;

    /// The words at `at`, one for each lane.
    ///
    /// # Safety
    /// Those bytes can be read.
    #[expect(unsafe_code, reason = "reads through a pointer")]
    unsafe fn read(at: *const u8) -> Self;

    /// The `f16` at `at`, one for each lane, as `f32`.
    ///
    /// # Safety
    /// Those bytes can be read.
    #[expect(unsafe_code, reason = "reads through a pointer")]
    unsafe fn read_halves(at: *const u8) -> Self;

    /// The same address, of which the compiler does not know that it is the same.
    #[inline(always)]
    fn forget(at: *const u8) -> *const u8 {
        at
    }

    /// Starts reading `n_lines` cache lines from `at`, where there is an instruction for that.
    ///
    /// It is a hint: the address may be any.
    fn prefetch(at: *const u8, n_lines: usize);

    fn splat(word: u32) -> Self;
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn shl(self, n: u32) -> Self;
    fn shr(self, n: u32) -> Self;
    /// Shifts right, keeping the sign.
    fn sar(self, n: u32) -> Self;
    /// The `f16` in the low half of each lane as `f32`.
    fn half_to_f32(self) -> Self;
    /// The signed integer in each lane as `f32`.
    fn int_to_f32(self) -> Self;
    /// Product of `f32` lanes.
    fn mul_f32(self, other: Self) -> Self;
}

/// Lanes for all rows of a panel.
pub(crate) trait PanelLanes: Lanes {
    fn store(self, out: &mut [u32; LANES]);
    fn store_f32(self, out: &mut [f32; LANES]);
}

impl Lanes for [u32; LANES] {
    const N: usize = LANES;

    #[inline(always)]
    #[expect(unsafe_code, reason = "reads through a pointer")]
    unsafe fn load(base: *const u8, stride: usize) -> [Self; 4] {
        // SAFETY: the words lie in the 16 bytes that the caller lets us read.
        std::array::from_fn(|j| unsafe { Self::load_word(base.add(4 * j), stride) })
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "reads through a pointer")]
    unsafe fn load_word(base: *const u8, stride: usize) -> Self {
        // SAFETY: the caller lets us read these bytes; an array of bytes has no alignment.
        std::array::from_fn(|i| u32::from_le_bytes(unsafe { *base.add(i * stride).cast() }))
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "reads through a pointer")]
    unsafe fn read(at: *const u8) -> Self {
        // SAFETY: the caller lets us read these bytes.
        unsafe { Self::load_word(at, 4) }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "reads through a pointer")]
    unsafe fn read_halves(at: *const u8) -> Self {
        // SAFETY: the caller lets us read these bytes; an array of bytes has no alignment.
        let half = |i: usize| u16::from_le_bytes(unsafe { *at.add(2 * i).cast() });
        std::array::from_fn(|i| f16::from_bits(half(i)).to_f32().to_bits())
    }

    #[inline(always)]
    fn prefetch(_: *const u8, _: usize) {}

    #[inline(always)]
    fn splat(word: u32) -> Self {
        [word; LANES]
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] & other[i])
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] | other[i])
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] ^ other[i])
    }

    #[inline(always)]
    fn shl(self, n: u32) -> Self {
        self.map(|word| word << n)
    }

    #[inline(always)]
    fn shr(self, n: u32) -> Self {
        self.map(|word| word >> n)
    }

    #[inline(always)]
    fn sar(self, n: u32) -> Self {
        self.map(|word| (word.cast_signed() >> n).cast_unsigned())
    }

    #[inline(always)]
    fn half_to_f32(self) -> Self {
        self.map(|word| f16::from_bits(word as u16).to_f32().to_bits())
    }

    #[inline(always)]
    fn int_to_f32(self) -> Self {
        self.map(|word| (word.cast_signed() as f32).to_bits())
    }

    #[inline(always)]
    fn mul_f32(self, other: Self) -> Self {
        std::array::from_fn(|i| (f32::from_bits(self[i]) * f32::from_bits(other[i])).to_bits())
    }
}

impl PanelLanes for [u32; LANES] {
    #[inline(always)]
    fn store(self, out: &mut [u32; LANES]) {
        *out = self;
    }

    #[inline(always)]
    fn store_f32(self, out: &mut [f32; LANES]) {
        *out = self.map(f32::from_bits);
    }
}
