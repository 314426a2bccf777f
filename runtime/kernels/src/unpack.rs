//! Blocks of sixteen rows become groups of codes, for every type and every kind of vector.
//!
//! Layouts are ggml's; `tensor::DType::dequantize` is the other description of them, and tests compare.
//! There are no closures here: one would be compiled without the instructions of the kernel around it.

use tensor::DType;

use crate::lanes::Lanes;
use crate::panel::{Source, Words};

/// The codes of 32 columns of sixteen rows: four neighbouring ones of one row in each lane, the first in the
/// lowest byte.
///
/// They are made when they are used, because they would take half of the registers.
pub(crate) trait Codes<L>: Copy {
    /// Codes `4 * i..4 * i + 4` of every row.
    fn word(self, i: usize) -> L;
}

/// What makes codes values.
pub(crate) struct Factors<L> {
    /// The scale of all codes, or of the first half of them.
    pub(crate) scale: L,
    /// The scale of the second half, if it has its own.
    pub(crate) second_scale: Option<L>,
    /// What is added to each value, if anything is.
    pub(crate) minimum: Option<L>,
}

/// Takes groups of 32 columns from left to right.
pub(crate) trait Sink<L> {
    /// Makes sure, once for all of them, that there is room for `n` groups.
    fn expect(&self, n: usize);

    /// Takes the group `index` of the chunk.
    fn take(&mut self, index: usize, codes: impl Codes<L>, factors: Factors<L>);
}

/// Unpacks the whole blocks in `rows`.
#[inline(always)]
pub(crate) fn unpack<L: Lanes>(dtype: DType, rows: impl Source, sink: &mut impl Sink<L>) {
    match dtype {
        DType::Q8_0 => q8_0(rows, sink),
        DType::Q4_0 => q4_0(rows, sink),
        DType::Q4_1 => q4_1(rows, sink),
        DType::Q5_0 => q5_0(rows, sink),
        DType::Q5_1 => q5_1(rows, sink),
        DType::Q4_K => q4_k(rows, sink),
        DType::Q5_K => q5_k(rows, sink),
        DType::Q6_K => q6_k(rows, sink),
        _ => unreachable!("plain floats are multiplied as they are"),
    }
}

#[inline(always)]
fn q8_0<L: Lanes>(rows: impl Source, sink: &mut impl Sink<L>) {
    for block in 0..rows.len() / 34 {
        let at = 34 * block;
        let factors = Factors { scale: rows.factor(at), second_scale: None, minimum: None };
        sink.take(block, Above128(rows.words::<L, 8>(at + 2)), factors);
    }
}

#[inline(always)]
fn q4_0<L: Lanes>(rows: impl Source, sink: &mut impl Sink<L>) {
    for block in 0..rows.len() / 18 {
        let at = 18 * block;
        let factors = Factors { scale: rows.factor(at), second_scale: None, minimum: None };
        sink.take(block, Nibbles(rows.words::<L, 4>(at + 2)), factors);
    }
}

#[inline(always)]
fn q4_1<L: Lanes>(rows: impl Source, sink: &mut impl Sink<L>) {
    for block in 0..rows.len() / 20 {
        let at = 20 * block;
        let (scale, minimum) = two_halves(rows.word::<L>(at));
        let factors = Factors { scale, second_scale: None, minimum: Some(minimum) };
        sink.take(block, Nibbles(rows.words::<L, 4>(at + 4)), factors);
    }
}

#[inline(always)]
fn q5_0<L: Lanes>(rows: impl Source, sink: &mut impl Sink<L>) {
    for block in 0..rows.len() / 22 {
        let at = 22 * block;
        let factors = Factors { scale: rows.factor(at), second_scale: None, minimum: None };
        sink.take(block, NibblesAndBits(rows.words::<L, 4>(at + 6), rows.word(at + 2)), factors);
    }
}

#[inline(always)]
fn q5_1<L: Lanes>(rows: impl Source, sink: &mut impl Sink<L>) {
    for block in 0..rows.len() / 24 {
        let at = 24 * block;
        let (scale, minimum) = two_halves(rows.word::<L>(at));
        let factors = Factors { scale, second_scale: None, minimum: Some(minimum) };
        sink.take(block, NibblesAndBits(rows.words::<L, 4>(at + 8), rows.word(at + 4)), factors);
    }
}

#[inline(always)]
fn q4_k<L: Lanes>(rows: impl Source, sink: &mut impl Sink<L>) {
    let rows = one_block(144, rows, sink);
    let factors = KFactors::new(rows);
    q4_k_run::<0, L>(rows, &factors, sink);
    q4_k_run::<1, L>(rows, &factors, sink);
    q4_k_run::<2, L>(rows, &factors, sink);
    q4_k_run::<3, L>(rows, &factors, sink);
}

/// Each run of 32 bytes holds two groups, low halves first. Numbers of runs are constants, because a shift by
/// anything else takes a register.
#[inline(always)]
fn q4_k_run<const RUN: usize, L: Lanes>(rows: impl Source, factors: &KFactors<L>, sink: &mut impl Sink<L>) {
    let words = rows.words::<L, 8>(16 + 32 * RUN);
    sink.take(2 * RUN, Low(words), factors.group(2 * RUN));
    sink.take(2 * RUN + 1, High(words.again()), factors.group(2 * RUN + 1));
}

#[inline(always)]
fn q5_k<L: Lanes>(rows: impl Source, sink: &mut impl Sink<L>) {
    let rows = one_block(176, rows, sink);
    let factors = KFactors::new(rows);
    let bits = rows.words::<L, 8>(16);
    q5_k_run::<0, L>(rows, bits, &factors, sink);
    q5_k_run::<1, L>(rows, bits, &factors, sink);
    q5_k_run::<2, L>(rows, bits, &factors, sink);
    q5_k_run::<3, L>(rows, bits, &factors, sink);
}

/// As [`q4_k_run`], with bit `group` of byte `i` of the high bits on top of code `i`.
#[inline(always)]
fn q5_k_run<const RUN: usize, L: Lanes>(
    rows: impl Source,
    bits: impl Words<L>,
    factors: &KFactors<L>,
    sink: &mut impl Sink<L>,
) {
    let words = rows.words::<L, 8>(48 + 32 * RUN);
    let high = 4 - 2 * RUN as i32;
    sink.take(
        2 * RUN,
        WithHigh { low: Low(words), high: bits.again(), by: high, mask: 0x10 },
        factors.group(2 * RUN),
    );
    sink.take(
        2 * RUN + 1,
        WithHigh { low: High(words.again()), high: bits.again(), by: high - 1, mask: 0x10 },
        factors.group(2 * RUN + 1),
    );
}

#[inline(always)]
fn q6_k<L: Lanes>(rows: impl Source, sink: &mut impl Sink<L>) {
    let rows = one_block(210, rows, sink);
    let factor = rows.last_factor::<L>(208);
    let scales = rows.words::<L, 4>(192);
    // Two halves of 128 values: 64 bytes of low nibbles and 32 bytes of high pairs.
    for half in 0..2 {
        let even = rows.words::<L, 8>(64 * half);
        let odd = rows.words::<L, 8>(64 * half + 32);
        let pairs = rows.words::<L, 8>(128 + 32 * half);
        let scales = [scales.word(2 * half), scales.word(2 * half + 1)];
        q6_k_group::<0, L>(half, Low(even), pairs, scales, factor, sink);
        q6_k_group::<1, L>(half, Low(odd), pairs.again(), scales, factor, sink);
        q6_k_group::<2, L>(half, High(even.again()), pairs.again(), scales, factor, sink);
        q6_k_group::<3, L>(half, High(odd.again()), pairs.again(), scales, factor, sink);
    }
}

/// The group `I` of four in a half block; `scales` are the signed bytes of all of them.
#[inline(always)]
fn q6_k_group<const I: usize, L: Lanes>(
    half: usize,
    low: impl Codes<L>,
    pairs: impl Words<L>,
    scales: [L; 2],
    factor: L,
    sink: &mut impl Sink<L>,
) {
    let scale = signed_byte(scales[I / 2], I % 2 * 2).mul_f32(factor);
    let second = signed_byte(scales[I / 2], I % 2 * 2 + 1).mul_f32(factor);
    let factors = Factors { scale, second_scale: Some(second), minimum: None };
    sink.take(4 * half + I, WithHigh { low, high: pairs, by: 4 - 2 * I as i32, mask: 0x30 }, factors);
}

/// The one K block that a chunk is, checked once: a branch between two groups would let the compiler put off what
/// is computed before it, and that takes more registers than there are.
#[inline(always)]
fn one_block<L, S: Source>(n_bytes: usize, rows: S, sink: &impl Sink<L>) -> S {
    sink.expect(8);
    rows.part(0..n_bytes)
}

/// Factors of the eight groups of a K block, from its first 16 bytes: two `f16`, then eight pairs of six
/// bits. Pairs 0–3 lie in the low six bits of bytes 0–3 (scale) and 4–7 (minimum); pairs 4–7 have their low
/// four bits in bytes 8–11 and their high two in the top of bytes 0–3 and 4–7.
struct KFactors<L> {
    scale: L,
    minimum: L,
    scales: [L; 2],
    minima: [L; 2],
}

impl<L: Lanes> KFactors<L> {
    #[inline(always)]
    fn new(rows: impl Source) -> Self {
        let words = rows.words::<L, 4>(0);
        let (scale, minimum) = two_halves(words.word(0));
        let (scales, minima, both) = (words.word(1), words.word(2), words.word(3));
        let (six, two) = (L::splat(0x3f3f_3f3f), L::splat(0x3030_3030));
        Self {
            scale,
            // It is subtracted.
            minimum: minimum.xor(L::splat(1 << 31)),
            scales: [scales.and(six), low(both).or(scales.shr(2).and(two))],
            minima: [minima.and(six), low(both.shr(4)).or(minima.shr(2).and(two))],
        }
    }

    #[inline(always)]
    fn group(&self, index: usize) -> Factors<L> {
        let scale = byte(self.scales[index / 4], index % 4).mul_f32(self.scale);
        let minimum = byte(self.minima[index / 4], index % 4).mul_f32(self.minimum);
        Factors { scale, second_scale: None, minimum: Some(minimum) }
    }
}

/// Signed bytes, which become codes by 128 more.
#[derive(Clone, Copy)]
struct Above128<W>(W);

impl<L: Lanes, W: Words<L>> Codes<L> for Above128<W> {
    #[inline(always)]
    fn word(self, i: usize) -> L {
        // Turning the sign bit over adds 128.
        self.0.word(i).xor(L::splat(0x8080_8080))
    }
}

/// The low four bits of each byte.
#[derive(Clone, Copy)]
struct Low<W>(W);

impl<L: Lanes, W: Words<L>> Codes<L> for Low<W> {
    #[inline(always)]
    fn word(self, i: usize) -> L {
        low(self.0.word(i))
    }
}

/// The high four bits of each byte.
#[derive(Clone, Copy)]
struct High<W>(W);

impl<L: Lanes, W: Words<L>> Codes<L> for High<W> {
    #[inline(always)]
    fn word(self, i: usize) -> L {
        low(self.0.word(i).shr(4))
    }
}

/// The low four bits of 16 bytes, then the high ones.
#[derive(Clone, Copy)]
struct Nibbles<W>(W);

impl<L: Lanes, W: Words<L>> Codes<L> for Nibbles<W> {
    #[inline(always)]
    fn word(self, i: usize) -> L {
        if i < 4 { low(self.0.word(i)) } else { low(self.0.word(i - 4).shr(4)) }
    }
}

/// [`Nibbles`], with bit `i` of a word on top of code `i`.
#[derive(Clone, Copy)]
struct NibblesAndBits<W, L>(W, L);

impl<L: Lanes, W: Words<L>> Codes<L> for NibblesAndBits<W, L> {
    #[inline(always)]
    fn word(self, i: usize) -> L {
        let bits = self.1.shr(4 * i as u32).and(L::splat(15));
        // One bit into each byte.
        let spread = bits.or(bits.shl(7)).or(bits.shl(14)).or(bits.shl(21));
        Nibbles(self.0).word(i).or(spread.and(L::splat(0x0101_0101)).shl(4))
    }
}

/// Codes with the bits `mask` of each byte of other words, moved up by `by`, on top.
#[derive(Clone, Copy)]
struct WithHigh<C, W> {
    low: C,
    high: W,
    by: i32,
    mask: u8,
}

impl<L: Lanes, C: Codes<L>, W: Words<L>> Codes<L> for WithHigh<C, W> {
    #[inline(always)]
    fn word(self, i: usize) -> L {
        let high = self.high.word(i);
        let moved = match self.by {
            0 => high,
            1.. => high.shl(self.by.unsigned_abs()),
            _ => high.shr(self.by.unsigned_abs()),
        };
        self.low.word(i).or(moved.and(L::splat(u32::from_ne_bytes([self.mask; 4]))))
    }
}

/// The two `f16` in each lane, low first.
#[inline(always)]
fn two_halves<L: Lanes>(words: L) -> (L, L) {
    (words.half_to_f32(), words.shr(16).half_to_f32())
}

/// Byte `i` of each lane.
#[inline(always)]
fn byte<L: Lanes>(words: L, i: usize) -> L {
    words.shr(8 * i as u32).and(L::splat(255)).int_to_f32()
}

/// Byte `i` of each lane as a signed number.
#[inline(always)]
fn signed_byte<L: Lanes>(words: L, i: usize) -> L {
    words.shl(24 - 8 * i as u32).sar(24).int_to_f32()
}

/// The low four bits of each byte.
#[inline(always)]
fn low<L: Lanes>(words: L) -> L {
    words.and(L::splat(0x0f0f_0f0f))
}
