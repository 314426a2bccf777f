//! Kernels for AVX2: two vectors hold the sixteen rows of a panel.

#![expect(unsafe_code, reason = "processor instructions and unchecked loads in the innermost loops")]
#![expect(clippy::needless_range_loop, reason = "loops over registers, which are unrolled")]

use std::arch::x86_64::*;

use tensor::DType;

use crate::activations::TileChunk;
use crate::lanes::{Lanes, PanelLanes};
use crate::panel::{GROUP, LANES, Panel, Rows};
use crate::unpack::{self, Group, Sink};

mod float;
mod round;

pub(crate) use float::dots;
pub(crate) use round::round;

/// Words of a group.
const WORDS: usize = GROUP / 4;
/// Activation rows at a time: their sums, integer and float, fit in half of the registers.
const ROWS: usize = 4;
/// Lanes of one vector.
const HALF: usize = LANES / 2;

/// Unpacks the whole blocks in `rows`.
#[target_feature(enable = "avx2,f16c")]
pub(crate) fn unpack(dtype: DType, rows: Rows<'_>, panel: &mut Panel) {
    unpack::unpack::<Pair>(dtype, rows, panel);
}

/// Adds the products of a panel with all rows of a tile to `sums`, as [`crate::scalar::multiply`] does.
///
/// Codes of fewer bits leave room in 16-bit sums: the last parameter is how many words they can take.
#[target_feature(enable = "avx2,f16c")]
pub(crate) fn multiply(dtype: DType, panel: &Panel, x: TileChunk<'_>, sums: &mut [[f32; LANES]]) {
    match dtype {
        DType::Q4_0 => by_rows::<1, 3, 8>(panel, x, sums),
        DType::Q5_0 => by_rows::<1, 4, 4>(panel, x, sums),
        DType::Q8_0 => by_rows::<1, 7, 1>(panel, x, sums),
        DType::Q6_K => by_rows::<2, 5, 2>(panel, x, sums),
        DType::Q4_1 | DType::Q4_K => by_rows::<1, 0, 8>(panel, x, sums),
        _ => by_rows::<1, 0, 4>(panel, x, sums),
    }
}

#[target_feature(enable = "avx2,f16c")]
fn by_rows<const PARTS: usize, const SHIFT: i32, const RUN: usize>(
    panel: &Panel,
    x: TileChunk<'_>,
    sums: &mut [[f32; LANES]],
) {
    let (tiles, rest) = sums.as_chunks_mut::<ROWS>();
    for (i, sums) in tiles.iter_mut().enumerate() {
        rows::<ROWS, PARTS, SHIFT, RUN>(panel, x, ROWS * i, sums);
    }
    let n_done = ROWS * tiles.len();
    for (i, sums) in rest.iter_mut().enumerate() {
        rows::<1, PARTS, SHIFT, RUN>(panel, x, n_done + i, std::array::from_mut(sums));
    }
}

/// `M` activation rows from `first`; each group has `PARTS` weight scales. Codes are above their values by 2
/// to the power of `SHIFT`, or groups have minima if that is 0.
#[target_feature(enable = "avx2,f16c")]
fn rows<const M: usize, const PARTS: usize, const SHIFT: i32, const RUN: usize>(
    panel: &Panel,
    x: TileChunk<'_>,
    first: usize,
    sums: &mut [[f32; LANES]; M],
) {
    let (stride, n_groups) = (x.stride(), x.n_groups());
    assert!(first + M <= stride, "rows beyond the tile");
    assert!(n_groups * WORDS <= panel.codes.len(), "more groups than a panel has");
    let n = n_groups * stride;
    assert_eq!(x.codes.len(), n * WORDS, "codes of a tile");
    assert_eq!(x.negated_half_sums.len(), n * 2, "half sums of a tile");
    assert_eq!([x.negated_sums.len(), x.scales.len(), x.scaled_sums.len()], [n; 3], "scales of a tile");
    let negated_sums = if PARTS == 1 { x.negated_sums } else { x.negated_half_sums };
    // SAFETY: groups, parts, rows and lanes stay below the sizes that were just checked.
    unsafe {
        for lane in [0, HALF] {
            let mut acc = [_mm256_setzero_ps(); M];
            for row in 0..M {
                acc[row] = _mm256_loadu_ps(sums[row].as_ptr().add(lane));
            }
            for group in 0..n_groups {
                let at = group * stride + first;
                for part in 0..PARTS {
                    let mut dots = [_mm256_setzero_si256(); M];
                    if SHIFT != 0 && SHIFT != SIGNED {
                        let negated_sums = negated_sums.as_ptr().add((group * PARTS + part) * stride + first);
                        for row in 0..M {
                            let negated_sum = _mm256_set1_epi32(*negated_sums.add(row));
                            dots[row] = _mm256_slli_epi32::<SHIFT>(negated_sum);
                        }
                    }
                    let x_codes = x.codes.as_ptr().add(at * WORDS);
                    for run in (part * WORDS / PARTS..(part + 1) * WORDS / PARTS).step_by(RUN) {
                        let mut shorts = [_mm256_setzero_si256(); M];
                        for word in run..run + RUN {
                            let codes = panel.codes.as_ptr().add(group * WORDS + word).cast::<u32>();
                            let codes = _mm256_loadu_si256(codes.add(lane).cast());
                            for row in 0..M {
                                let x_codes = _mm256_set1_epi32(*x_codes.add(row * WORDS + word).cast());
                                let product = products::<SHIFT>(codes, x_codes);
                                shorts[row] = _mm256_add_epi16(shorts[row], product);
                            }
                        }
                        for row in 0..M {
                            let dot = _mm256_madd_epi16(shorts[row], _mm256_set1_epi16(1));
                            dots[row] = _mm256_add_epi32(dots[row], dot);
                        }
                    }
                    let w_scale = panel.scales.as_ptr().add(group * PARTS + part).cast::<f32>();
                    let w_scale = _mm256_loadu_ps(w_scale.add(lane));
                    let x_scales = x.scales.as_ptr().add(at);
                    for row in 0..M {
                        let scale = _mm256_mul_ps(w_scale, _mm256_set1_ps(*x_scales.add(row)));
                        let product = _mm256_mul_ps(_mm256_cvtepi32_ps(dots[row]), scale);
                        acc[row] = _mm256_add_ps(acc[row], product);
                    }
                }
                if SHIFT == 0 {
                    let minimum = panel.minima.as_ptr().add(group).cast::<f32>();
                    let minimum = _mm256_loadu_ps(minimum.add(lane));
                    let scaled_sums = x.scaled_sums.as_ptr().add(at);
                    for row in 0..M {
                        let scaled_sum = _mm256_set1_ps(*scaled_sums.add(row));
                        acc[row] = _mm256_add_ps(acc[row], _mm256_mul_ps(minimum, scaled_sum));
                    }
                }
            }
            for row in 0..M {
                _mm256_storeu_ps(sums[row].as_mut_ptr().add(lane), acc[row]);
            }
        }
    }
}

/// Unpacks the whole blocks in `rows` and multiplies them from registers; `false` if the tile has more rows
/// than that is good for.
#[target_feature(enable = "avx2,f16c")]
pub(crate) fn unpack_and_multiply(
    dtype: DType,
    rows: Rows<'_>,
    x: TileChunk<'_>,
    sums: &mut [[f32; LANES]],
) -> bool {
    match sums.len() {
        1 => unpack_by_type::<1>(dtype, rows, x, sums),
        2 => unpack_by_type::<2>(dtype, rows, x, sums),
        3 => unpack_by_type::<3>(dtype, rows, x, sums),
        4 => unpack_by_type::<4>(dtype, rows, x, sums),
        _ => return false,
    }
    true
}

#[target_feature(enable = "avx2,f16c")]
fn unpack_by_type<const M: usize>(dtype: DType, rows: Rows<'_>, x: TileChunk<'_>, sums: &mut [[f32; LANES]]) {
    match dtype {
        DType::Q4_0 => unpack_with::<M, 1, 3, 8>(DType::Q4_0, rows, x, sums),
        DType::Q5_0 => unpack_with::<M, 1, 4, 4>(DType::Q5_0, rows, x, sums),
        DType::Q8_0 => unpack_with::<M, 1, 7, 1>(DType::Q8_0, rows, x, sums),
        DType::Q6_K => unpack_with::<M, 2, 5, 2>(DType::Q6_K, rows, x, sums),
        DType::Q4_1 => unpack_with::<M, 1, 0, 8>(DType::Q4_1, rows, x, sums),
        DType::Q4_K => unpack_with::<M, 1, 0, 8>(DType::Q4_K, rows, x, sums),
        DType::Q5_1 => unpack_with::<M, 1, 0, 4>(DType::Q5_1, rows, x, sums),
        _ => unpack_with::<M, 1, 0, 4>(dtype, rows, x, sums),
    }
}

/// Inlined with a known `dtype`, so that each type has a loop of its own. Eight rows at a time: the codes of a
/// group fit in half of the registers.
#[inline(always)]
fn unpack_with<const M: usize, const PARTS: usize, const SHIFT: i32, const RUN: usize>(
    dtype: DType,
    rows: Rows<'_>,
    x: TileChunk<'_>,
    sums: &mut [[f32; LANES]],
) {
    for half in 0..2 {
        let mut acc = Sums::<M, PARTS, SHIFT, RUN>::new(x, sums, half);
        unpack::unpack::<__m256i>(dtype, rows.half(half), &mut acc);
        acc.store(sums, half);
    }
}

/// The sums of `M` activation rows with half of the rows of a panel, in registers.
struct Sums<'a, const M: usize, const PARTS: usize, const SHIFT: i32, const RUN: usize> {
    sums: [__m256; M],
    /// Checked to have `M` rows in all its parts.
    x: TileChunk<'a>,
}

impl<'a, const M: usize, const PARTS: usize, const SHIFT: i32, const RUN: usize>
    Sums<'a, M, PARTS, SHIFT, RUN>
{
    #[inline(always)]
    fn new(x: TileChunk<'a>, sums: &[[f32; LANES]], half: usize) -> Self {
        let n = x.n_groups() * M;
        assert_eq!(sums.len(), M, "sums of a tile");
        assert_eq!(x.codes.len(), n * WORDS, "codes of a tile");
        assert_eq!(x.negated_half_sums.len(), n * 2, "half sums of a tile");
        assert_eq!([x.negated_sums.len(), x.scales.len(), x.scaled_sums.len()], [n; 3], "scales of a tile");
        // SAFETY: the instructions are the kernel's.
        let mut loaded = [unsafe { _mm256_setzero_ps() }; M];
        for row in 0..M {
            // SAFETY: each half of the array has the size of a vector.
            loaded[row] = unsafe { _mm256_loadu_ps(sums[row][half * HALF..][..HALF].as_ptr()) };
        }
        Self { sums: loaded, x }
    }

    #[inline(always)]
    fn store(self, sums: &mut [[f32; LANES]], half: usize) {
        for row in 0..M {
            // SAFETY: each half of the array has the size of a vector.
            unsafe { _mm256_storeu_ps(sums[row][half * HALF..][..HALF].as_mut_ptr(), self.sums[row]) }
        }
    }
}

impl<const M: usize, const PARTS: usize, const SHIFT: i32, const RUN: usize> Sink<__m256i>
    for Sums<'_, M, PARTS, SHIFT, RUN>
{
    #[inline(always)]
    fn take(&mut self, index: usize, group: Group<__m256i>) {
        assert!(index < self.x.n_groups(), "a group beyond the chunk");
        // SAFETY: the group is in the tile, whose parts have the sizes that `new` checked; the instructions
        // are the kernel's.
        unsafe {
            let w_scales =
                [group.scale, group.second_scale.unwrap_or(group.scale)].map(|s| _mm256_castsi256_ps(s));
            let x_scales = self.x.scales.as_ptr().add(index * M);
            let x_codes = self.x.codes.as_ptr().add(index * M * WORDS);
            for part in 0..PARTS {
                for row in 0..M {
                    let mut dot = _mm256_setzero_si256();
                    if SHIFT != 0 && SHIFT != SIGNED {
                        let negated_sums =
                            if PARTS == 1 { self.x.negated_sums } else { self.x.negated_half_sums };
                        let negated_sum = *negated_sums.as_ptr().add((index * PARTS + part) * M + row);
                        dot = _mm256_set1_epi32(negated_sum << SHIFT);
                    }
                    for run in (part * WORDS / PARTS..(part + 1) * WORDS / PARTS).step_by(RUN) {
                        let mut shorts = _mm256_setzero_si256();
                        for word in run..run + RUN {
                            let x_codes = _mm256_set1_epi32(*x_codes.add(row * WORDS + word).cast());
                            let product = products::<SHIFT>(group.codes[word], x_codes);
                            shorts = if word == run { product } else { _mm256_add_epi16(shorts, product) };
                        }
                        let ones = _mm256_set1_epi16(1);
                        dot = _mm256_add_epi32(dot, _mm256_madd_epi16(shorts, ones));
                    }
                    let scale = _mm256_mul_ps(w_scales[part], _mm256_set1_ps(*x_scales.add(row)));
                    let product = _mm256_mul_ps(_mm256_cvtepi32_ps(dot), scale);
                    self.sums[row] = _mm256_add_ps(self.sums[row], product);
                }
            }
            if let Some(minimum) = group.minimum {
                let scaled_sums = self.x.scaled_sums.as_ptr().add(index * M);
                for row in 0..M {
                    let scaled_sum = _mm256_set1_ps(*scaled_sums.add(row));
                    let product = _mm256_mul_ps(_mm256_castsi256_ps(minimum), scaled_sum);
                    self.sums[row] = _mm256_add_ps(self.sums[row], product);
                }
            }
        }
    }
}

/// The shift of types whose codes of eight bits are multiplied as signed numbers, which leaves no offset.
const SIGNED: i32 = 7;

/// Products of four codes and four activations each, in two sums of 16 bits.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn products<const SHIFT: i32>(codes: __m256i, x_codes: __m256i) -> __m256i {
    // SAFETY: the instructions are the kernel's.
    unsafe {
        if SHIFT == SIGNED {
            let values = _mm256_xor_si256(codes, _mm256_set1_epi8(i8::MIN));
            _mm256_maddubs_epi16(_mm256_abs_epi8(values), _mm256_sign_epi8(x_codes, values))
        } else {
            _mm256_maddubs_epi16(codes, x_codes)
        }
    }
}

/// Lanes 0–7 and 8–15. Only the functions above name it, which is why its instructions may be used.
#[derive(Clone, Copy)]
struct Pair(__m256i, __m256i);

impl Pair {
    #[inline(always)]
    fn map(self, f: impl Fn(__m256i) -> __m256i) -> Self {
        Self(f(self.0), f(self.1))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(__m256i, __m256i) -> __m256i) -> Self {
        Self(f(self.0, other.0), f(self.1, other.1))
    }
}

impl Lanes for Pair {
    const N: usize = LANES;

    #[inline(always)]
    unsafe fn load(base: *const u8, stride: usize) -> [Self; 4] {
        // SAFETY: the caller lets us read 16 bytes of each row.
        unsafe {
            let [a, b, c, d] = __m256i::load(base, stride);
            let [e, f, g, h] = __m256i::load(base.add(HALF * stride), stride);
            [Self(a, e), Self(b, f), Self(c, g), Self(d, h)]
        }
    }

    #[inline(always)]
    unsafe fn load_word(base: *const u8, stride: usize) -> Self {
        // SAFETY: the caller lets us read these bytes.
        unsafe { Self(__m256i::load_word(base, stride), __m256i::load_word(base.add(HALF * stride), stride)) }
    }

    #[inline(always)]
    fn prefetch(at: *const u8, n_lines: usize) {
        __m256i::prefetch(at, n_lines);
    }

    #[inline(always)]
    fn splat(word: u32) -> Self {
        Self(__m256i::splat(word), __m256i::splat(word))
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        self.zip(other, Lanes::and)
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        self.zip(other, Lanes::or)
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        self.zip(other, Lanes::xor)
    }

    #[inline(always)]
    fn shl(self, n: u32) -> Self {
        self.map(|half| half.shl(n))
    }

    #[inline(always)]
    fn shr(self, n: u32) -> Self {
        self.map(|half| half.shr(n))
    }

    #[inline(always)]
    fn sar(self, n: u32) -> Self {
        self.map(|half| half.sar(n))
    }

    #[inline(always)]
    fn half_to_f32(self) -> Self {
        self.map(Lanes::half_to_f32)
    }

    #[inline(always)]
    fn int_to_f32(self) -> Self {
        self.map(Lanes::int_to_f32)
    }

    #[inline(always)]
    fn mul_f32(self, other: Self) -> Self {
        self.zip(other, Lanes::mul_f32)
    }
}

impl PanelLanes for Pair {
    #[inline(always)]
    fn store(self, out: &mut [u32; LANES]) {
        // SAFETY: the array has the size of two vectors; the instructions are the kernel's.
        unsafe {
            let halves = out.as_mut_ptr().cast::<__m256i>();
            _mm256_storeu_si256(halves, self.0);
            _mm256_storeu_si256(halves.add(1), self.1);
        }
    }

    #[inline(always)]
    fn store_f32(self, out: &mut [f32; LANES]) {
        // SAFETY: the array has the size of two vectors; the instructions are the kernel's.
        unsafe {
            let halves = out.as_mut_ptr().cast::<__m256i>();
            _mm256_storeu_si256(halves, self.0);
            _mm256_storeu_si256(halves.add(1), self.1);
        }
    }
}

/// Eight lanes, and as with [`Pair`] only the functions above name it.
impl Lanes for __m256i {
    const N: usize = HALF;

    #[inline(always)]
    unsafe fn load(base: *const u8, stride: usize) -> [Self; 4] {
        // SAFETY: the caller lets us read 16 bytes of each row; the instructions are the kernel's.
        unsafe {
            let a = two_rows(base, stride);
            let b = two_rows(base.add(stride), stride);
            let c = two_rows(base.add(2 * stride), stride);
            let d = two_rows(base.add(3 * stride), stride);
            // A 4 × 4 transpose of words in each half.
            let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            [
                _mm256_unpacklo_epi64(ab_low, cd_low),
                _mm256_unpackhi_epi64(ab_low, cd_low),
                _mm256_unpacklo_epi64(ab_high, cd_high),
                _mm256_unpackhi_epi64(ab_high, cd_high),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_word(base: *const u8, stride: usize) -> Self {
        let mut words = [0; HALF];
        for (i, word) in words.iter_mut().enumerate() {
            // SAFETY: the caller lets us read these bytes.
            *word = unsafe { base.add(i * stride).cast::<i32>().read_unaligned() };
        }
        let [a, b, c, d, e, f, g, h] = words;
        // SAFETY: the instructions are the kernel's.
        unsafe { _mm256_set_epi32(h, g, f, e, d, c, b, a) }
    }

    #[inline(always)]
    fn prefetch(at: *const u8, n_lines: usize) {
        for line in 0..n_lines {
            // SAFETY: a hint that may be given any address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(64 * line).cast()) }
        }
    }

    #[inline(always)]
    fn splat(word: u32) -> Self {
        // SAFETY: the instructions are the kernel's, here and below.
        unsafe { _mm256_set1_epi32(word.cast_signed()) }
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm256_and_si256(self, other) }
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm256_or_si256(self, other) }
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm256_xor_si256(self, other) }
    }

    #[inline(always)]
    fn shl(self, n: u32) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm256_sllv_epi32(self, Self::splat(n)) }
    }

    #[inline(always)]
    fn shr(self, n: u32) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm256_srlv_epi32(self, Self::splat(n)) }
    }

    #[inline(always)]
    fn sar(self, n: u32) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm256_srav_epi32(self, Self::splat(n)) }
    }

    #[inline(always)]
    fn half_to_f32(self) -> Self {
        // SAFETY: see `splat`.
        unsafe {
            let low = _mm256_and_si256(self, Self::splat(0xffff));
            let (first, second) = (_mm256_castsi256_si128(low), _mm256_extracti128_si256::<1>(low));
            _mm256_castps_si256(_mm256_cvtph_ps(_mm_packus_epi32(first, second)))
        }
    }

    #[inline(always)]
    fn int_to_f32(self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm256_castps_si256(_mm256_cvtepi32_ps(self)) }
    }

    #[inline(always)]
    fn mul_f32(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm256_castps_si256(_mm256_mul_ps(_mm256_castsi256_ps(self), _mm256_castsi256_ps(other))) }
    }
}

/// The 16 bytes at `base` and of the fourth row below.
///
/// # Safety
/// Those bytes can be read, and the machine has AVX2.
#[inline(always)]
unsafe fn two_rows(base: *const u8, stride: usize) -> __m256i {
    // SAFETY: the caller lets us read these bytes; the instructions are the kernel's.
    unsafe { _mm256_loadu2_m128i(base.add(4 * stride).cast(), base.cast()) }
}
