//! Kernels for vectors of four lanes, which WebAssembly's SIMD128 and NEON share: four of them hold the sixteen rows
//! of a panel.

#![expect(unsafe_code, reason = "unchecked loads in the innermost loops")]
#![expect(clippy::needless_range_loop, reason = "loops over registers, which are unrolled")]

use tensor::DType;

use crate::activations::TileChunk;
use crate::lanes::{Lanes, PanelLanes};
use crate::panel::{GROUP, LANES, Panel, Source};
use crate::unpack::{self, Codes, Factors, Sink};

/// Lanes of one vector.
const QUAD: usize = 4;
/// Vectors that are computed together: half of a panel, so that sums and codes fit in the registers.
const HALF: usize = LANES / 2 / QUAD;
/// Words of the codes of a group.
const WORDS: usize = GROUP / 4;
/// Activation rows at a time.
const ROWS: usize = 4;

/// Four 32-bit lanes.
///
/// Everything is `inline(always)`, so that it is compiled with the instructions of the kernel it is used in.
pub(crate) trait Quad: Copy {
    /// Four neighbouring activations of one row, as [`dot`](Self::dot) takes them.
    type Activations: Copy;

    /// Whether codes are multiplied as signed bytes: those of eight bits are then their values.
    const SIGNED: bool;

    /// The 16 bytes at `at`.
    ///
    /// # Safety
    /// They can be read.
    unsafe fn read(at: *const u8) -> Self;

    /// The four `f16` at `at`, as `f32`.
    ///
    /// # Safety
    /// They can be read.
    unsafe fn read_halves(at: *const u8) -> Self;

    /// Writes the lanes to `at`.
    ///
    /// # Safety
    /// The 16 bytes can be written.
    unsafe fn write(self, at: *mut u8);

    /// Word `j` of every row becomes vector `j`.
    fn transpose(rows: [Self; QUAD]) -> [Self; QUAD];

    fn of(words: [u32; QUAD]) -> Self;
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
    /// Sum of `f32` lanes.
    fn add_f32(self, other: Self) -> Self;

    /// The four signed bytes of `word`, for all lanes.
    fn activations(word: u32) -> Self::Activations;

    /// The integer in each lane and the products of its four codes with the activations.
    fn dot(self, codes: Self, x: Self::Activations) -> Self;
}

/// Unpacks the whole blocks in `rows`.
#[inline(always)]
pub(crate) fn unpack<Q: Quad>(dtype: DType, rows: impl Source, panel: &mut Panel) {
    unpack::unpack::<Quads<Q, { LANES / QUAD }>>(dtype, rows, panel);
}

/// Adds the products of a panel with all rows of a tile to `sums`, as [`crate::scalar::multiply`] does.
#[inline(always)]
pub(crate) fn multiply<Q: Quad>(dtype: DType, panel: &Panel, x: TileChunk<'_>, sums: &mut [[f32; LANES]]) {
    match dtype {
        DType::Q4_0 => by_rows::<Q, 1, 8>(panel, x, sums),
        DType::Q5_0 => by_rows::<Q, 1, 16>(panel, x, sums),
        DType::Q8_0 => by_rows::<Q, 1, 128>(panel, x, sums),
        DType::Q6_K => by_rows::<Q, 2, 32>(panel, x, sums),
        _ => by_rows::<Q, 1, 0>(panel, x, sums),
    }
}

#[inline(always)]
fn by_rows<Q: Quad, const PARTS: usize, const OFFSET: i32>(
    panel: &Panel,
    x: TileChunk<'_>,
    sums: &mut [[f32; LANES]],
) {
    let (tiles, rest) = sums.as_chunks_mut::<ROWS>();
    for (i, sums) in tiles.iter_mut().enumerate() {
        rows::<Q, ROWS, PARTS, OFFSET>(panel, x, ROWS * i, sums);
    }
    let n_done = ROWS * tiles.len();
    for (i, sums) in rest.iter_mut().enumerate() {
        rows::<Q, 1, PARTS, OFFSET>(panel, x, n_done + i, std::array::from_mut(sums));
    }
}

/// `M` activation rows from `first`; each group has `PARTS` weight scales. Codes are `OFFSET` above their values, or
/// groups have minima if that is 0.
#[inline(always)]
fn rows<Q: Quad, const M: usize, const PARTS: usize, const OFFSET: i32>(
    panel: &Panel,
    x: TileChunk<'_>,
    first: usize,
    sums: &mut [[f32; LANES]; M],
) {
    for half in 0..2 {
        let mut acc = Sums::<Q, M, PARTS, OFFSET>::new(x, x.stride(), first, sums, half);
        for group in 0..x.n_groups() {
            let codes: &[_; WORDS] = panel.codes[group * WORDS..].first_chunk().expect("a group");
            let scales = &panel.scales[group * PARTS..][..PARTS];
            let scales = [Quads::of(&scales[0], half), Quads::of(&scales[PARTS - 1], half)];
            let minimum = if OFFSET == 0 { Quads::of(&panel.minima[group], half) } else { scales[0] };
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

impl<Q: Quad> Codes<Quads<Q, HALF>> for PanelCodes<'_> {
    #[inline(always)]
    fn word(self, i: usize) -> Quads<Q, HALF> {
        let lanes = &self.codes[i][self.half * HALF * QUAD..][..HALF * QUAD];
        // SAFETY: as many values as the vectors have.
        unsafe { Quads::read(lanes.as_ptr().cast()) }
    }
}

/// Unpacks the whole blocks in `rows` and multiplies them from registers; `false` if the tile has more rows
/// than that is good for.
#[inline(always)]
pub(crate) fn unpack_and_multiply<Q: Quad>(
    dtype: DType,
    rows: impl Source,
    x: TileChunk<'_>,
    sums: &mut [[f32; LANES]],
) -> bool {
    let [sums] = sums else { return false };
    let sums = std::array::from_mut(sums);
    match dtype {
        DType::Q4_0 => unpack_with::<Q, 1, 8>(DType::Q4_0, rows, x, sums),
        DType::Q5_0 => unpack_with::<Q, 1, 16>(DType::Q5_0, rows, x, sums),
        DType::Q8_0 => unpack_with::<Q, 1, 128>(DType::Q8_0, rows, x, sums),
        DType::Q6_K => unpack_with::<Q, 2, 32>(DType::Q6_K, rows, x, sums),
        DType::Q4_1 => unpack_with::<Q, 1, 0>(DType::Q4_1, rows, x, sums),
        DType::Q4_K => unpack_with::<Q, 1, 0>(DType::Q4_K, rows, x, sums),
        DType::Q5_1 => unpack_with::<Q, 1, 0>(DType::Q5_1, rows, x, sums),
        _ => unpack_with::<Q, 1, 0>(DType::Q5_K, rows, x, sums),
    }
    true
}

/// Inlined with a known `dtype`, so that each type has a loop of its own.
#[inline(always)]
fn unpack_with<Q: Quad, const PARTS: usize, const OFFSET: i32>(
    dtype: DType,
    rows: impl Source,
    x: TileChunk<'_>,
    sums: &mut [[f32; LANES]; 1],
) {
    for half in 0..2 {
        let mut acc = Sums::<Q, 1, PARTS, OFFSET>::new(x, 1, 0, sums, half);
        unpack::unpack::<Quads<Q, HALF>>(dtype, rows.half(half), &mut acc);
        acc.store(sums, half);
    }
}

/// The sums of `M` activation rows with half of the rows of a panel.
struct Sums<'a, Q, const M: usize, const PARTS: usize, const OFFSET: i32> {
    sums: [Quads<Q, HALF>; M],
    /// Checked to have at least `first + M` rows, `stride` in all its parts.
    x: TileChunk<'a>,
    stride: usize,
    first: usize,
}

impl<'a, Q: Quad, const M: usize, const PARTS: usize, const OFFSET: i32> Sums<'a, Q, M, PARTS, OFFSET> {
    /// The rows from `first` of the `stride` rows in `x`, with the sums so far of the lanes of half `half`.
    #[inline(always)]
    fn new(x: TileChunk<'a>, stride: usize, first: usize, sums: &[[f32; LANES]; M], half: usize) -> Self {
        let n = x.n_groups() * stride;
        assert!(first + M <= stride, "rows of a tile");
        assert_eq!(x.codes.len(), n, "codes of a tile");
        assert_eq!(x.negated_half_sums.len(), n * 2, "half sums of a tile");
        assert_eq!([x.negated_sums.len(), x.scales.len(), x.scaled_sums.len()], [n; 3], "scales of a tile");
        let mut loaded = [Quads::splat(0); M];
        for row in 0..M {
            loaded[row] = Quads::of(&sums[row], half);
        }
        Self { sums: loaded, x, stride, first }
    }

    #[inline(always)]
    fn store(self, sums: &mut [[f32; LANES]; M], half: usize) {
        for row in 0..M {
            let lanes = &mut sums[row][half * HALF * QUAD..][..HALF * QUAD];
            self.sums[row].write(lanes.as_mut_ptr().cast(), lanes.len());
        }
    }

    /// Adds the products of group `group`.
    #[inline(always)]
    fn add(
        &mut self,
        group: usize,
        codes: impl Codes<Quads<Q, HALF>>,
        scales: [Quads<Q, HALF>; 2],
        minimum: Quads<Q, HALF>,
    ) {
        assert!(group < self.x.n_groups(), "a group beyond the chunk");
        let values_are_codes = OFFSET == 128 && Q::SIGNED;
        let at = group * self.stride + self.first;
        for part in 0..PARTS {
            let mut dots = [[Q::splat(0); HALF]; M];
            if OFFSET != 0 && !values_are_codes {
                let negated = if PARTS == 1 { self.x.negated_sums } else { self.x.negated_half_sums };
                let at = (group * PARTS + part) * self.stride + self.first;
                for row in 0..M {
                    // SAFETY: the group is in the tile, whose parts have the sizes that `new` checked, here and below.
                    let negated = unsafe { *negated.get_unchecked(at + row) };
                    dots[row] = [Q::splat((OFFSET * negated).cast_unsigned()); HALF];
                }
            }
            for word in part * WORDS / PARTS..(part + 1) * WORDS / PARTS {
                let mut codes = codes.word(word);
                if values_are_codes {
                    codes = codes.xor(Quads::splat(0x8080_8080));
                }
                for row in 0..M {
                    // SAFETY: as above.
                    let x = unsafe { self.x.codes.get_unchecked(at + row).0[word] };
                    let x = Q::activations(x);
                    for i in 0..HALF {
                        dots[row][i] = dots[row][i].dot(codes.0[i], x);
                    }
                }
            }
            for row in 0..M {
                // SAFETY: as above.
                let x_scale = unsafe { *self.x.scales.get_unchecked(at + row) };
                let scale = scales[part].mul_f32(Quads::splat(x_scale.to_bits()));
                self.sums[row] = self.sums[row].add_f32(Quads(dots[row]).int_to_f32().mul_f32(scale));
            }
        }
        if OFFSET == 0 {
            for row in 0..M {
                // SAFETY: as above.
                let scaled_sum = unsafe { *self.x.scaled_sums.get_unchecked(at + row) };
                let product = minimum.mul_f32(Quads::splat(scaled_sum.to_bits()));
                self.sums[row] = self.sums[row].add_f32(product);
            }
        }
    }
}

impl<Q: Quad, const M: usize, const PARTS: usize, const OFFSET: i32> Sink<Quads<Q, HALF>>
    for Sums<'_, Q, M, PARTS, OFFSET>
{
    #[inline(always)]
    fn expect(&self, n: usize) {
        assert!(n <= self.x.n_groups(), "more groups than the chunk has");
    }

    #[inline(always)]
    fn take(&mut self, index: usize, codes: impl Codes<Quads<Q, HALF>>, factors: Factors<Quads<Q, HALF>>) {
        let scale = factors.scale;
        let scales = [scale, factors.second_scale.unwrap_or(scale)];
        self.add(index, codes, scales, factors.minimum.unwrap_or(scale));
    }
}

/// `N` vectors: all rows of a panel or half of them.
#[derive(Clone, Copy)]
struct Quads<Q, const N: usize>([Q; N]);

/// What a function makes of every vector. A closure would be compiled without the instructions of the kernel.
macro_rules! each {
    ($a:expr, $f:ident, [$b:expr]) => {{
        let (Quads(mut words), Quads(others)) = ($a, $b);
        for i in 0..N {
            words[i] = words[i].$f(others[i]);
        }
        Quads(words)
    }};
    ($a:expr, $f:ident $(, $argument:expr)*) => {{
        let Quads(mut words) = $a;
        for i in 0..N {
            words[i] = words[i].$f($($argument),*);
        }
        Quads(words)
    }};
}

impl<Q: Quad> Quads<Q, HALF> {
    /// Half `half` of the lanes.
    #[inline(always)]
    fn of(lanes: &[f32; LANES], half: usize) -> Self {
        let lanes = &lanes[half * HALF * QUAD..][..HALF * QUAD];
        // SAFETY: as many values as the vectors have.
        unsafe { Self::read(lanes.as_ptr().cast()) }
    }
}

impl<Q: Quad, const N: usize> Quads<Q, N> {
    #[inline(always)]
    fn add_f32(self, other: Self) -> Self {
        each!(self, add_f32, [other])
    }

    /// Writes the lanes to as many values at `at`.
    #[inline(always)]
    fn write(self, at: *mut u8, n_values: usize) {
        assert_eq!(n_values, N * QUAD, "values of the vectors");
        for i in 0..N {
            // SAFETY: the values are as many as the lanes.
            unsafe { self.0[i].write(at.add(4 * QUAD * i)) }
        }
    }
}

impl<Q: Quad, const N: usize> Lanes for Quads<Q, N> {
    const N: usize = N * QUAD;

    #[inline(always)]
    unsafe fn load(base: *const u8, stride: usize) -> [Self; 4] {
        let mut words = [Self::splat(0); 4];
        for i in 0..N {
            let mut rows = [Q::splat(0); QUAD];
            for row in 0..QUAD {
                // SAFETY: the caller lets us read 16 bytes of each row.
                rows[row] = unsafe { Q::read(base.add((QUAD * i + row) * stride)) };
            }
            let transposed = Q::transpose(rows);
            for word in 0..4 {
                words[word].0[i] = transposed[word];
            }
        }
        words
    }

    #[inline(always)]
    unsafe fn load_word(base: *const u8, stride: usize) -> Self {
        let mut vectors = Self::splat(0);
        for i in 0..N {
            let mut words = [0; QUAD];
            for row in 0..QUAD {
                // SAFETY: the caller lets us read these bytes; an array of bytes has no alignment.
                words[row] = u32::from_le_bytes(unsafe { *base.add((QUAD * i + row) * stride).cast() });
            }
            vectors.0[i] = Q::of(words);
        }
        vectors
    }

    #[inline(always)]
    unsafe fn read(at: *const u8) -> Self {
        let mut vectors = Self::splat(0);
        for i in 0..N {
            // SAFETY: the caller lets us read these bytes.
            vectors.0[i] = unsafe { Q::read(at.add(4 * QUAD * i)) };
        }
        vectors
    }

    #[inline(always)]
    unsafe fn read_halves(at: *const u8) -> Self {
        let mut vectors = Self::splat(0);
        for i in 0..N {
            // SAFETY: the caller lets us read these bytes.
            vectors.0[i] = unsafe { Q::read_halves(at.add(2 * QUAD * i)) };
        }
        vectors
    }

    #[inline(always)]
    fn prefetch(_: *const u8, _: usize) {}

    #[inline(always)]
    fn splat(word: u32) -> Self {
        Self([Q::splat(word); N])
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        each!(self, and, [other])
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        each!(self, or, [other])
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        each!(self, xor, [other])
    }

    #[inline(always)]
    fn shl(self, n: u32) -> Self {
        each!(self, shl, n)
    }

    #[inline(always)]
    fn shr(self, n: u32) -> Self {
        each!(self, shr, n)
    }

    #[inline(always)]
    fn sar(self, n: u32) -> Self {
        each!(self, sar, n)
    }

    #[inline(always)]
    fn half_to_f32(self) -> Self {
        each!(self, half_to_f32)
    }

    #[inline(always)]
    fn int_to_f32(self) -> Self {
        each!(self, int_to_f32)
    }

    #[inline(always)]
    fn mul_f32(self, other: Self) -> Self {
        each!(self, mul_f32, [other])
    }
}

impl<Q: Quad> PanelLanes for Quads<Q, { LANES / QUAD }> {
    #[inline(always)]
    fn store(self, out: &mut [u32; LANES]) {
        self.write(out.as_mut_ptr().cast(), out.len());
    }

    #[inline(always)]
    fn store_f32(self, out: &mut [f32; LANES]) {
        self.write(out.as_mut_ptr().cast(), out.len());
    }
}
