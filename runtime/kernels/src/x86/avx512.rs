//! Kernels for AVX-512 with VNNI: one vector holds the sixteen rows of a panel.

#![expect(unsafe_code, reason = "processor instructions and unchecked loads in the innermost loops")]
#![expect(clippy::needless_range_loop, reason = "loops over registers, which are unrolled")]

use std::arch::x86_64::*;

use tensor::DType;

use crate::activations::{Tile, TileChunk};
use crate::lanes::{Lanes, PanelLanes};
use crate::panel::{GROUP, LANES, Panel, Source};
use crate::unpack::{self, Codes, Factors, Sink};

mod float;

pub(crate) use float::{dots, widen};

/// Words of a group.
const WORDS: usize = GROUP / 4;

/// Unpacks the whole blocks in `rows`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
pub(crate) fn unpack(dtype: DType, rows: impl Source, panel: &mut Panel) {
    unpack::unpack::<__m512i>(dtype, rows, panel);
}

/// Adds the products of a panel with all rows of a tile to `sums`, as [`crate::scalar::multiply`] does.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
pub(crate) fn multiply(dtype: DType, panel: &Panel, x: TileChunk<'_>, sums: &mut [[f32; LANES]]) {
    match dtype {
        DType::Q4_0 => by_rows::<1, 3>(panel, x, sums),
        DType::Q5_0 => by_rows::<1, 4>(panel, x, sums),
        DType::Q8_0 => by_rows::<1, 7>(panel, x, sums),
        DType::Q6_K => by_rows::<2, 5>(panel, x, sums),
        _ => by_rows::<1, 0>(panel, x, sums),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
fn by_rows<const PARTS: usize, const SHIFT: u32>(panel: &Panel, x: TileChunk<'_>, sums: &mut [[f32; LANES]]) {
    const { assert!(Tile::STRIDES.len() == 7, "one kernel for each stride") };
    match sums.len() {
        1 => rows::<1, PARTS, SHIFT>(panel, x, sums),
        2 => rows::<2, PARTS, SHIFT>(panel, x, sums),
        3 => rows::<3, PARTS, SHIFT>(panel, x, sums),
        4 => rows::<4, PARTS, SHIFT>(panel, x, sums),
        6 => rows::<6, PARTS, SHIFT>(panel, x, sums),
        8 => rows::<8, PARTS, SHIFT>(panel, x, sums),
        12 => rows::<12, PARTS, SHIFT>(panel, x, sums),
        n => unreachable!("a tile of {n} rows"),
    }
}

/// `M` activation rows; each group has `PARTS` weight scales. Codes are above their values by 2 to the power
/// of `SHIFT`, or groups have minima if that is 0.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
fn rows<const M: usize, const PARTS: usize, const SHIFT: u32>(
    panel: &Panel,
    x: TileChunk<'_>,
    sums: &mut [[f32; LANES]],
) {
    let mut acc = Sums::<M, PARTS, SHIFT>::new(x, sums);
    for group in 0..x.n_groups() {
        let scales = &panel.scales[group * PARTS..][..PARTS];
        let codes: &[_; WORDS] = panel.codes[group * WORDS..].first_chunk().expect("a group");
        let minimum = if SHIFT == 0 { vector(&panel.minima[group]) } else { _mm512_setzero_ps() };
        acc.add(group, codes, [vector(&scales[0]), vector(&scales[PARTS - 1])], minimum);
    }
    acc.store(sums);
}

/// Unpacks the whole blocks in `rows` and multiplies them from registers; `false` if the tile has more rows
/// than that is good for.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
pub(crate) fn unpack_and_multiply(
    dtype: DType,
    rows: impl Source,
    x: TileChunk<'_>,
    sums: &mut [[f32; LANES]],
) -> bool {
    match sums.len() {
        1 => unpack_by_type::<1>(dtype, rows, x, sums),
        2 => unpack_by_type::<2>(dtype, rows, x, sums),
        3 => unpack_by_type::<3>(dtype, rows, x, sums),
        4 => unpack_by_type::<4>(dtype, rows, x, sums),
        6 => unpack_by_type::<6>(dtype, rows, x, sums),
        8 => unpack_by_type::<8>(dtype, rows, x, sums),
        _ => return false,
    }
    true
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
fn unpack_by_type<const M: usize>(
    dtype: DType,
    rows: impl Source,
    x: TileChunk<'_>,
    sums: &mut [[f32; LANES]],
) {
    match dtype {
        DType::Q4_0 => unpack_with::<M, 1, 3>(DType::Q4_0, rows, x, sums),
        DType::Q5_0 => unpack_with::<M, 1, 4>(DType::Q5_0, rows, x, sums),
        DType::Q8_0 => unpack_with::<M, 1, 7>(DType::Q8_0, rows, x, sums),
        DType::Q6_K => unpack_with::<M, 2, 5>(DType::Q6_K, rows, x, sums),
        DType::Q4_1 => unpack_with::<M, 1, 0>(DType::Q4_1, rows, x, sums),
        DType::Q5_1 => unpack_with::<M, 1, 0>(DType::Q5_1, rows, x, sums),
        DType::Q4_K => unpack_with::<M, 1, 0>(DType::Q4_K, rows, x, sums),
        _ => unpack_with::<M, 1, 0>(dtype, rows, x, sums),
    }
}

/// Inlined with a known `dtype`, so that each type has a loop of its own.
#[inline(always)]
fn unpack_with<const M: usize, const PARTS: usize, const SHIFT: u32>(
    dtype: DType,
    rows: impl Source,
    x: TileChunk<'_>,
    sums: &mut [[f32; LANES]],
) {
    let mut acc = Sums::<M, PARTS, SHIFT>::new(x, sums);
    unpack::unpack::<__m512i>(dtype, rows, &mut acc);
    acc.store(sums);
}

/// The sums of `M` activation rows with the sixteen rows of a panel, in registers.
pub(super) struct Sums<'a, const M: usize, const PARTS: usize, const SHIFT: u32> {
    sums: [__m512; M],
    /// Checked to have `M` rows in all its parts.
    x: TileChunk<'a>,
}

impl<'a, const M: usize, const PARTS: usize, const SHIFT: u32> Sums<'a, M, PARTS, SHIFT> {
    #[inline(always)]
    pub(super) fn new(x: TileChunk<'a>, sums: &[[f32; LANES]]) -> Self {
        let n = x.n_groups() * M;
        assert_eq!(sums.len(), M, "sums of a tile");
        assert_eq!(x.codes.len(), n, "codes of a tile");
        assert_eq!(x.negated_half_sums.len(), n * 2, "half sums of a tile");
        assert_eq!([x.negated_sums.len(), x.scales.len(), x.scaled_sums.len()], [n; 3], "scales of a tile");
        // SAFETY: the instructions are the kernel's.
        let mut loaded = [unsafe { _mm512_setzero_ps() }; M];
        for row in 0..M {
            loaded[row] = vector(&sums[row]);
        }
        Self { sums: loaded, x }
    }

    #[inline(always)]
    pub(super) fn store(self, sums: &mut [[f32; LANES]]) {
        for row in 0..M {
            // SAFETY: the array has the size of a vector; the instructions are the kernel's.
            unsafe { _mm512_storeu_ps(sums[row].as_mut_ptr(), self.sums[row]) }
        }
    }

    /// Adds the products of group `group`.
    #[inline(always)]
    fn add(&mut self, group: usize, codes: impl Codes<__m512i>, scales: [__m512; 2], minimum: __m512) {
        assert!(group < self.x.n_groups(), "a group beyond the chunk");
        for part in 0..PARTS {
            // SAFETY: the group is in the tile, whose parts have the sizes that `new` checked; the instructions
            // are the kernel's.
            let dots = unsafe {
                let mut dots = [_mm512_setzero_si512(); M];
                if SHIFT != 0 {
                    let negated_sums =
                        if PARTS == 1 { self.x.negated_sums } else { self.x.negated_half_sums };
                    let negated_sums = negated_sums.as_ptr().add((group * PARTS + part) * M);
                    for row in 0..M {
                        let negated_sum = _mm512_set1_epi32(*negated_sums.add(row));
                        dots[row] = _mm512_slli_epi32::<SHIFT>(negated_sum);
                    }
                }
                let x_codes = self.x.codes.as_ptr().add(group * M).cast::<u32>();
                for word in part * WORDS / PARTS..(part + 1) * WORDS / PARTS {
                    let codes = codes.word(word);
                    for row in 0..M {
                        let x_codes = _mm512_set1_epi32(*x_codes.add(row * WORDS + word).cast());
                        dots[row] = _mm512_dpbusd_epi32(dots[row], codes, x_codes);
                    }
                }
                dots
            };
            self.add_part(group * PARTS + part, scales[part], |row| dots[row]);
        }
        if SHIFT == 0 {
            self.add_minimum(group, minimum);
        }
    }

    /// Adds the sums of the products of values in part `part` of the chunk, where each group has `PARTS`.
    #[inline(always)]
    pub(super) fn add_part(&mut self, part: usize, scale: __m512, dots: impl Fn(usize) -> __m512i) {
        assert!(part < PARTS * self.x.n_groups(), "a group beyond the chunk");
        // SAFETY: as in `add`.
        unsafe {
            let x_scales = self.x.scales.as_ptr().add(part / PARTS * M);
            for row in 0..M {
                let scale = _mm512_mul_ps(scale, _mm512_set1_ps(*x_scales.add(row)));
                let product = _mm512_mul_ps(_mm512_cvtepi32_ps(dots(row)), scale);
                self.sums[row] = _mm512_add_ps(self.sums[row], product);
            }
        }
    }

    /// Adds the minima of group `group`, if it has any.
    #[inline(always)]
    pub(super) fn add_minimum(&mut self, group: usize, minimum: __m512) {
        assert!(group < self.x.n_groups(), "a group beyond the chunk");
        // SAFETY: as in `add`.
        unsafe {
            let scaled_sums = self.x.scaled_sums.as_ptr().add(group * M);
            for row in 0..M {
                let scaled_sum = _mm512_set1_ps(*scaled_sums.add(row));
                self.sums[row] = _mm512_add_ps(self.sums[row], _mm512_mul_ps(minimum, scaled_sum));
            }
        }
    }
}

impl<const M: usize, const PARTS: usize, const SHIFT: u32> Sink<__m512i> for Sums<'_, M, PARTS, SHIFT> {
    #[inline(always)]
    fn expect(&self, n: usize) {
        assert!(n <= self.x.n_groups(), "more groups than the chunk has");
    }

    #[inline(always)]
    fn take(&mut self, index: usize, codes: impl Codes<__m512i>, factors: Factors<__m512i>) {
        // SAFETY: the instructions are the kernel's.
        unsafe {
            let scale = _mm512_castsi512_ps(factors.scale);
            let second = _mm512_castsi512_ps(factors.second_scale.unwrap_or(factors.scale));
            let minimum = _mm512_castsi512_ps(factors.minimum.unwrap_or(factors.scale));
            self.add(index, codes, [scale, second], minimum);
        }
    }
}

/// The codes of a group in a panel.
impl Codes<__m512i> for &[[u32; LANES]; WORDS] {
    #[inline(always)]
    fn word(self, i: usize) -> __m512i {
        // SAFETY: the array has the size of a vector; the instructions are the kernel's.
        unsafe { _mm512_loadu_si512(self[i].as_ptr().cast()) }
    }
}

#[inline(always)]
pub(super) fn vector(values: &[f32; LANES]) -> __m512 {
    // SAFETY: the array has the size of a vector; the instructions are the kernel's.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

/// Only the functions above name this implementation.
impl Lanes for __m512i {
    const N: usize = LANES;

    #[inline(always)]
    unsafe fn load(base: *const u8, stride: usize) -> [Self; 4] {
        // SAFETY: the caller lets us read 16 bytes of each row; the instructions are the kernel's.
        unsafe {
            let rows = [
                fourth_rows(base, stride),
                fourth_rows(base.add(stride), stride),
                fourth_rows(base.add(2 * stride), stride),
                fourth_rows(base.add(3 * stride), stride),
            ];
            // A 4 × 4 transpose of words in each quarter.
            let low = [_mm512_unpacklo_epi32(rows[0], rows[1]), _mm512_unpacklo_epi32(rows[2], rows[3])];
            let high = [_mm512_unpackhi_epi32(rows[0], rows[1]), _mm512_unpackhi_epi32(rows[2], rows[3])];
            [
                _mm512_unpacklo_epi64(low[0], low[1]),
                _mm512_unpackhi_epi64(low[0], low[1]),
                _mm512_unpacklo_epi64(high[0], high[1]),
                _mm512_unpackhi_epi64(high[0], high[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_word(base: *const u8, stride: usize) -> Self {
        let mut words = [0; LANES];
        for (i, word) in words.iter_mut().enumerate() {
            // SAFETY: the caller lets us read these bytes.
            *word = unsafe { base.add(i * stride).cast::<i32>().read_unaligned() };
        }
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = words;
        // SAFETY: the instructions are the kernel's.
        unsafe { _mm512_set_epi32(p, o, n, m, l, k, j, i, h, g, f, e, d, c, b, a) }
    }

    #[inline(always)]
    unsafe fn read(at: *const u8) -> Self {
        // SAFETY: the caller lets us read these bytes; the instructions are the kernel's.
        unsafe { _mm512_loadu_si512(at.cast()) }
    }

    #[inline(always)]
    unsafe fn read_halves(at: *const u8) -> Self {
        // SAFETY: as in `read`.
        unsafe { _mm512_castps_si512(_mm512_cvtph_ps(_mm256_loadu_si256(at.cast()))) }
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
        unsafe { _mm512_set1_epi32(word.cast_signed()) }
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm512_and_si512(self, other) }
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm512_or_si512(self, other) }
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm512_xor_si512(self, other) }
    }

    #[inline(always)]
    fn shl(self, n: u32) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm512_sllv_epi32(self, Self::splat(n)) }
    }

    #[inline(always)]
    fn shr(self, n: u32) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm512_srlv_epi32(self, Self::splat(n)) }
    }

    #[inline(always)]
    fn sar(self, n: u32) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm512_srav_epi32(self, Self::splat(n)) }
    }

    #[inline(always)]
    fn half_to_f32(self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm512_castps_si512(_mm512_cvtph_ps(_mm512_cvtepi32_epi16(self))) }
    }

    #[inline(always)]
    fn int_to_f32(self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm512_castps_si512(_mm512_cvtepi32_ps(self)) }
    }

    #[inline(always)]
    fn mul_f32(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe {
            let product = _mm512_mul_ps(_mm512_castsi512_ps(self), _mm512_castsi512_ps(other));
            _mm512_castps_si512(product)
        }
    }
}

impl PanelLanes for __m512i {
    #[inline(always)]
    fn store(self, out: &mut [u32; LANES]) {
        // SAFETY: the array has the size of a vector.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), self) }
    }

    #[inline(always)]
    fn store_f32(self, out: &mut [f32; LANES]) {
        // SAFETY: the array has the size of a vector.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), self) }
    }
}

/// The 16 bytes at `base` of every fourth row, a quarter of a vector each.
///
/// # Safety
/// Those bytes can be read.
#[inline(always)]
unsafe fn fourth_rows(base: *const u8, stride: usize) -> __m512i {
    // SAFETY: the caller lets us read these bytes; the instructions are the kernel's.
    unsafe {
        let rows = _mm512_zextsi128_si512(_mm_loadu_si128(base.cast()));
        let rows = _mm512_mask_broadcast_i32x4(rows, 0x00f0, _mm_loadu_si128(base.add(4 * stride).cast()));
        let rows = _mm512_mask_broadcast_i32x4(rows, 0x0f00, _mm_loadu_si128(base.add(8 * stride).cast()));
        _mm512_mask_broadcast_i32x4(rows, 0xf000, _mm_loadu_si128(base.add(12 * stride).cast()))
    }
}
