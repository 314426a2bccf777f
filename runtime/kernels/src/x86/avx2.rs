//! Kernels for AVX2: two vectors hold the sixteen rows of a panel.

#![expect(unsafe_code, reason = "processor instructions and unchecked loads in the innermost loops")]
#![expect(clippy::needless_range_loop, reason = "loops over registers, which are unrolled")]

use std::arch::asm;
use std::arch::x86_64::*;

use tensor::DType;

use crate::activations::TileChunk;
use crate::lanes::{Lanes, PanelLanes};
use crate::panel::{GROUP, LANES, Panel, Source};
use crate::unpack::{self, Codes, Factors, Sink};

mod float;
mod round;

pub(crate) use float::{dots, widen};
pub(crate) use round::round;

/// Halves of a group.
const WORDS: usize = GROUP / 4;
/// Activation rows at a time: their sums, integer and float, fit in half of the registers.
const ROWS: usize = 4;
/// Lanes of one vector.
const HALF: usize = LANES / 2;

/// Unpacks the whole blocks in `rows`.
#[target_feature(enable = "avx2,f16c")]
pub(crate) fn unpack(dtype: DType, rows: impl Source, panel: &mut Panel) {
    unpack::unpack::<Halves<2>>(dtype, rows, panel);
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
    for half in 0..2 {
        let mut acc = Sums::<M, 1, PARTS, SHIFT, RUN>::new(x, x.stride(), first, sums, half);
        for group in 0..x.n_groups() {
            let codes: &[_; WORDS] = panel.codes[group * WORDS..].first_chunk().expect("a group");
            let scales = &panel.scales[group * PARTS..][..PARTS];
            let scales = [Halves::of(&scales[0], half), Halves::of(&scales[PARTS - 1], half)];
            let minimum = if SHIFT == 0 { Halves::of(&panel.minima[group], half) } else { scales[0] };
            acc.add(group, PanelCodes { codes, half }, scales, minimum);
        }
        acc.store(sums, half);
    }
}

/// One half of the codes of a group in a panel.
#[derive(Clone, Copy)]
struct PanelCodes<'a> {
    codes: &'a [[u32; LANES]; WORDS],
    half: usize,
}

impl Codes<Halves<1>> for PanelCodes<'_> {
    #[inline(always)]
    fn word(self, i: usize) -> Halves<1> {
        let lanes = &self.codes[i][self.half * HALF..][..HALF];
        // SAFETY: as many values as the vector has; the instructions are the kernel's.
        Halves([unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }])
    }
}

/// Unpacks the whole blocks in `rows` and multiplies them from registers; `false` if the tile has more rows
/// than that is good for.
#[target_feature(enable = "avx2,f16c")]
pub(crate) fn unpack_and_multiply<S: Source>(
    dtype: DType,
    rows: S,
    x: TileChunk<'_>,
    sums: &mut [[f32; LANES]],
) -> bool {
    match sums.len() {
        1 => unpack_by_type::<1, S>(dtype, rows, x, sums),
        2 => unpack_by_type::<2, S>(dtype, rows, x, sums),
        // Their factors and the sums of so many rows do not fit in the registers beside codes that are not kept.
        3 | 4 if S::STRAIGHT && matches!(dtype, DType::Q4_K | DType::Q5_K) => return false,
        3 => unpack_by_type::<3, S>(dtype, rows, x, sums),
        4 => unpack_by_type::<4, S>(dtype, rows, x, sums),
        _ => return false,
    }
    true
}

#[target_feature(enable = "avx2,f16c")]
fn unpack_by_type<const M: usize, S: Source>(
    dtype: DType,
    rows: S,
    x: TileChunk<'_>,
    sums: &mut [[f32; LANES]],
) {
    match dtype {
        DType::Q4_0 => unpack_with::<M, 1, 3, 8, S>(DType::Q4_0, rows, x, sums),
        DType::Q5_0 => unpack_with::<M, 1, 4, 4, S>(DType::Q5_0, rows, x, sums),
        DType::Q8_0 => unpack_with::<M, 1, 7, 1, S>(DType::Q8_0, rows, x, sums),
        DType::Q6_K => unpack_with::<M, 2, 5, 2, S>(DType::Q6_K, rows, x, sums),
        DType::Q4_1 => unpack_with::<M, 1, 0, 8, S>(DType::Q4_1, rows, x, sums),
        DType::Q4_K => unpack_with::<M, 1, 0, 8, S>(DType::Q4_K, rows, x, sums),
        DType::Q5_1 => unpack_with::<M, 1, 0, 4, S>(DType::Q5_1, rows, x, sums),
        _ => unpack_with::<M, 1, 0, 4, S>(dtype, rows, x, sums),
    }
}

/// Inlined with a known `dtype`, so that each type has a loop of its own.
///
/// Transposing takes registers, so rows from a file go eight at a time. Packed ones share what is read of a few
/// activations between all sixteen.
#[inline(always)]
fn unpack_with<const M: usize, const PARTS: usize, const SHIFT: i32, const RUN: usize, S: Source>(
    dtype: DType,
    rows: S,
    x: TileChunk<'_>,
    sums: &mut [[f32; LANES]],
) {
    if S::STRAIGHT && M <= 2 {
        let mut acc = Sums::<M, 2, PARTS, SHIFT, RUN>::new(x, M, 0, sums, 0);
        unpack::unpack::<Halves<2>>(dtype, rows, &mut acc);
        acc.store(sums, 0);
    } else {
        for half in 0..2 {
            let mut acc = Sums::<M, 1, PARTS, SHIFT, RUN>::new(x, M, 0, sums, half);
            unpack::unpack::<Halves<1>>(dtype, rows.half(half), &mut acc);
            acc.store(sums, half);
        }
    }
}

/// The sums of `M` activation rows with `H` halves of the rows of a panel, in registers.
struct Sums<'a, const M: usize, const H: usize, const PARTS: usize, const SHIFT: i32, const RUN: usize> {
    sums: [[__m256; H]; M],
    /// Checked to have at least `first + M` rows, `stride` in all its parts.
    x: TileChunk<'a>,
    stride: usize,
    first: usize,
}

impl<'a, const M: usize, const H: usize, const PARTS: usize, const SHIFT: i32, const RUN: usize>
    Sums<'a, M, H, PARTS, SHIFT, RUN>
{
    /// The rows from `first` of the `stride` rows in `x`, with the sums so far of the lanes from half `half` on.
    #[inline(always)]
    fn new(x: TileChunk<'a>, stride: usize, first: usize, sums: &[[f32; LANES]], half: usize) -> Self {
        let n = x.n_groups() * stride;
        assert!(sums.len() == M && first + M <= stride, "rows of a tile");
        assert_eq!(x.codes.len(), n, "codes of a tile");
        assert_eq!(x.negated_half_sums.len(), n * 2, "half sums of a tile");
        assert_eq!([x.negated_sums.len(), x.scales.len(), x.scaled_sums.len()], [n; 3], "scales of a tile");
        let mut loaded = [[Halves::<1>::of(&[0.0; LANES], 0).floats()[0]; H]; M];
        for row in 0..M {
            for i in 0..H {
                loaded[row][i] = Halves::<1>::of(&sums[row], half + i).floats()[0];
            }
        }
        Self { sums: loaded, x, stride, first }
    }

    #[inline(always)]
    fn store(self, sums: &mut [[f32; LANES]], half: usize) {
        for row in 0..M {
            for i in 0..H {
                let lanes = &mut sums[row][(half + i) * HALF..][..HALF];
                // SAFETY: as many values as the vector has; the instructions are the kernel's.
                unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), self.sums[row][i]) }
            }
        }
    }

    /// Adds the products of group `group`.
    #[inline(always)]
    fn add(
        &mut self,
        group: usize,
        codes: impl Codes<Halves<H>>,
        scales: [Halves<H>; 2],
        minimum: Halves<H>,
    ) {
        assert!(group < self.x.n_groups(), "a group beyond the chunk");
        // SAFETY: the group is in the tile, whose parts have the sizes that `new` checked; the instructions
        // are the kernel's.
        unsafe {
            let at = group * self.stride + self.first;
            let x_codes = self.x.codes.as_ptr().add(at).cast::<u32>();
            let x_scales = self.x.scales.as_ptr().add(at);
            for part in 0..PARTS {
                let mut dots = [[_mm256_setzero_si256(); H]; M];
                if SHIFT != 0 && SHIFT != SIGNED {
                    let negated_sums =
                        if PARTS == 1 { self.x.negated_sums } else { self.x.negated_half_sums };
                    let at = (group * PARTS + part) * self.stride + self.first;
                    for row in 0..M {
                        dots[row] = [_mm256_set1_epi32(*negated_sums.as_ptr().add(at + row) << SHIFT); H];
                    }
                }
                for run in (part * WORDS / PARTS..(part + 1) * WORDS / PARTS).step_by(RUN) {
                    let mut shorts = [[_mm256_setzero_si256(); H]; M];
                    for word in run..run + RUN {
                        let Halves(codes) = codes.word(word);
                        for row in 0..M {
                            let x_codes = _mm256_set1_epi32(*x_codes.add(row * WORDS + word).cast());
                            for half in 0..H {
                                let product = products::<SHIFT>(codes[half], x_codes);
                                let sum = _mm256_add_epi16(shorts[row][half], product);
                                shorts[row][half] = if word == run { product } else { sum };
                            }
                        }
                    }
                    for row in 0..M {
                        for half in 0..H {
                            let dot = _mm256_madd_epi16(shorts[row][half], _mm256_set1_epi16(1));
                            dots[row][half] = _mm256_add_epi32(dots[row][half], dot);
                        }
                    }
                }
                for row in 0..M {
                    let x_scale = _mm256_set1_ps(*x_scales.add(row));
                    for half in 0..H {
                        let scale = _mm256_mul_ps(scales[part].floats()[half], x_scale);
                        let product = _mm256_mul_ps(_mm256_cvtepi32_ps(dots[row][half]), scale);
                        self.sums[row][half] = _mm256_add_ps(self.sums[row][half], product);
                    }
                }
            }
            if SHIFT == 0 {
                let scaled_sums = self.x.scaled_sums.as_ptr().add(at);
                for row in 0..M {
                    let scaled_sum = _mm256_set1_ps(*scaled_sums.add(row));
                    for half in 0..H {
                        let product = _mm256_mul_ps(minimum.floats()[half], scaled_sum);
                        self.sums[row][half] = _mm256_add_ps(self.sums[row][half], product);
                    }
                }
            }
        }
    }
}

impl<const M: usize, const H: usize, const PARTS: usize, const SHIFT: i32, const RUN: usize> Sink<Halves<H>>
    for Sums<'_, M, H, PARTS, SHIFT, RUN>
{
    #[inline(always)]
    fn expect(&self, n: usize) {
        assert!(n <= self.x.n_groups(), "more groups than the chunk has");
    }

    #[inline(always)]
    fn take(&mut self, index: usize, codes: impl Codes<Halves<H>>, factors: Factors<Halves<H>>) {
        let scale = factors.scale;
        let scales = [scale, factors.second_scale.unwrap_or(scale)];
        self.add(index, codes, scales, factors.minimum.unwrap_or(scale));
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

/// Eight lanes in each of `H` vectors. Only the functions above name it, which is why its instructions may be
/// used.
#[derive(Clone, Copy)]
struct Halves<const H: usize>([__m256i; H]);

/// What a function makes of every vector. Here, too, a closure would be compiled without the instructions.
macro_rules! words {
    ($a:expr, $f:path) => {{
        let Halves(mut words) = $a;
        for half in 0..H {
            // SAFETY: the instructions are the kernel's.
            words[half] = unsafe { $f(words[half]) };
        }
        Halves(words)
    }};
    ($a:expr, $b:expr, $f:path) => {{
        let (Halves(mut words), Halves(others)) = ($a, $b);
        for half in 0..H {
            // SAFETY: the instructions are the kernel's.
            words[half] = unsafe { $f(words[half], others[half]) };
        }
        Halves(words)
    }};
}

/// # Safety
/// The machine has AVX2 and F16C, here and below.
#[inline(always)]
unsafe fn half_to_f32(words: __m256i) -> __m256i {
    // SAFETY: the instructions are the kernel's.
    unsafe {
        let low = _mm256_and_si256(words, _mm256_set1_epi32(0xffff));
        let (first, second) = (_mm256_castsi256_si128(low), _mm256_extracti128_si256::<1>(low));
        _mm256_castps_si256(_mm256_cvtph_ps(_mm_packus_epi32(first, second)))
    }
}

#[inline(always)]
unsafe fn int_to_f32(words: __m256i) -> __m256i {
    // SAFETY: the instructions are the kernel's.
    unsafe { _mm256_castps_si256(_mm256_cvtepi32_ps(words)) }
}

#[inline(always)]
unsafe fn mul_f32(a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: the instructions are the kernel's.
    unsafe { _mm256_castps_si256(_mm256_mul_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b))) }
}

impl Halves<1> {
    /// Half `half` of the lanes.
    #[inline(always)]
    fn of(lanes: &[f32; LANES], half: usize) -> Self {
        let lanes = &lanes[half * HALF..][..HALF];
        // SAFETY: as many values as the vector has; the instructions are the kernel's.
        Self([unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }])
    }
}

impl<const H: usize> Halves<H> {
    /// The lanes as floats.
    #[inline(always)]
    fn floats(self) -> [__m256; H] {
        // SAFETY: the instructions are the kernel's.
        let mut floats = [unsafe { _mm256_setzero_ps() }; H];
        for half in 0..H {
            // SAFETY: as above.
            floats[half] = unsafe { _mm256_castsi256_ps(self.0[half]) };
        }
        floats
    }
}

impl<const H: usize> Lanes for Halves<H> {
    const N: usize = H * HALF;

    #[inline(always)]
    unsafe fn load(base: *const u8, stride: usize) -> [Self; 4] {
        let mut words = [Self::splat(0); 4];
        for half in 0..H {
            // SAFETY: the caller lets us read 16 bytes of each row; the instructions are the kernel's.
            unsafe {
                let base = base.add(half * HALF * stride);
                let a = two_rows(base, stride);
                let b = two_rows(base.add(stride), stride);
                let c = two_rows(base.add(2 * stride), stride);
                let d = two_rows(base.add(3 * stride), stride);
                // A 4 × 4 transpose of words in each half.
                let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
                let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
                words[0].0[half] = _mm256_unpacklo_epi64(ab_low, cd_low);
                words[1].0[half] = _mm256_unpackhi_epi64(ab_low, cd_low);
                words[2].0[half] = _mm256_unpacklo_epi64(ab_high, cd_high);
                words[3].0[half] = _mm256_unpackhi_epi64(ab_high, cd_high);
            }
        }
        words
    }

    #[inline(always)]
    unsafe fn load_word(base: *const u8, stride: usize) -> Self {
        let mut vectors = Self::splat(0);
        for half in 0..H {
            let mut words = [0; HALF];
            for (i, word) in words.iter_mut().enumerate() {
                let at = base.wrapping_add((half * HALF + i) * stride);
                // SAFETY: the caller lets us read these bytes.
                *word = unsafe { at.cast::<i32>().read_unaligned() };
            }
            let [a, b, c, d, e, f, g, h] = words;
            // SAFETY: the instructions are the kernel's.
            vectors.0[half] = unsafe { _mm256_set_epi32(h, g, f, e, d, c, b, a) };
        }
        vectors
    }

    #[inline(always)]
    unsafe fn read(at: *const u8) -> Self {
        let mut words = Self::splat(0);
        for half in 0..H {
            // SAFETY: the caller lets us read these bytes; the instructions are the kernel's.
            words.0[half] = unsafe { _mm256_loadu_si256(at.add(4 * HALF * half).cast()) };
        }
        words
    }

    #[inline(always)]
    unsafe fn read_halves(at: *const u8) -> Self {
        let mut words = Self::splat(0);
        for half in 0..H {
            // SAFETY: as in `read`.
            words.0[half] = unsafe {
                _mm256_castps_si256(_mm256_cvtph_ps(_mm_loadu_si128(at.add(2 * HALF * half).cast())))
            };
        }
        words
    }

    #[inline(always)]
    fn forget(mut at: *const u8) -> *const u8 {
        // SAFETY: no instruction at all.
        unsafe { asm!("/* {0} */", inout(reg) at, options(readonly, nostack, preserves_flags)) }
        at
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
        Self([unsafe { _mm256_set1_epi32(word.cast_signed()) }; H])
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        words!(self, other, _mm256_and_si256)
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        words!(self, other, _mm256_or_si256)
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        words!(self, other, _mm256_xor_si256)
    }

    #[inline(always)]
    fn shl(self, n: u32) -> Self {
        words!(self, Self::splat(n), _mm256_sllv_epi32)
    }

    #[inline(always)]
    fn shr(self, n: u32) -> Self {
        words!(self, Self::splat(n), _mm256_srlv_epi32)
    }

    #[inline(always)]
    fn sar(self, n: u32) -> Self {
        words!(self, Self::splat(n), _mm256_srav_epi32)
    }

    #[inline(always)]
    fn half_to_f32(self) -> Self {
        words!(self, half_to_f32)
    }

    #[inline(always)]
    fn int_to_f32(self) -> Self {
        words!(self, int_to_f32)
    }

    #[inline(always)]
    fn mul_f32(self, other: Self) -> Self {
        words!(self, other, mul_f32)
    }
}

impl PanelLanes for Halves<2> {
    #[inline(always)]
    fn store(self, out: &mut [u32; LANES]) {
        for half in 0..2 {
            // SAFETY: the array has the size of two vectors; the instructions are the kernel's.
            unsafe { _mm256_storeu_si256(out[half * HALF..][..HALF].as_mut_ptr().cast(), self.0[half]) }
        }
    }

    #[inline(always)]
    fn store_f32(self, out: &mut [f32; LANES]) {
        for half in 0..2 {
            // SAFETY: as in `store`.
            unsafe { _mm256_storeu_si256(out[half * HALF..][..HALF].as_mut_ptr().cast(), self.0[half]) }
        }
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
