//! Blocks of sixteen rows become groups of codes, for every type and every kind of vector.
//!
//! Layouts are ggml's; `tensor::DType::dequantize` is the other description of them, and tests compare.
//! There are no closures here: one would be compiled without the instructions of the kernel around it.

use tensor::DType;

use crate::lanes::Lanes;
use crate::panel::{GROUP, Rows};

/// 32 columns of sixteen rows.
pub(crate) struct Group<L> {
    /// Four neighbouring codes of one row in each lane, the first in the lowest byte.
    pub(crate) codes: [L; GROUP / 4],
    /// The scale of all codes, or of the first half of them.
    pub(crate) scale: L,
    /// The scale of the second half, if it has its own.
    pub(crate) second_scale: Option<L>,
    /// What is added to each value, if anything is.
    pub(crate) minimum: Option<L>,
}

/// Takes groups from left to right.
pub(crate) trait Sink<L> {
    /// Takes the group `index` of the chunk.
    fn take(&mut self, index: usize, group: Group<L>);
}

/// Unpacks the whole blocks in `rows`.
#[inline(always)]
pub(crate) fn unpack<L: Lanes>(dtype: DType, rows: Rows<'_>, sink: &mut impl Sink<L>) {
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
fn q8_0<L: Lanes>(rows: Rows<'_>, sink: &mut impl Sink<L>) {
    for block in 0..rows.len() / 34 {
        let at = 34 * block;
        let mut codes = join(rows.words::<L>(at + 2), rows.words(at + 18));
        for codes in &mut codes {
            // Turning the sign bit over adds 128.
            *codes = codes.xor(L::splat(0x8080_8080));
        }
        let scale = rows.word::<L>(at).half_to_f32();
        sink.take(block, Group { codes, scale, second_scale: None, minimum: None });
    }
}

#[inline(always)]
fn q4_0<L: Lanes>(rows: Rows<'_>, sink: &mut impl Sink<L>) {
    for block in 0..rows.len() / 18 {
        let at = 18 * block;
        let scale = rows.word::<L>(at).half_to_f32();
        let codes = nibbles(rows.words(at + 2));
        sink.take(block, Group { codes, scale, second_scale: None, minimum: None });
    }
}

#[inline(always)]
fn q4_1<L: Lanes>(rows: Rows<'_>, sink: &mut impl Sink<L>) {
    for block in 0..rows.len() / 20 {
        let at = 20 * block;
        let (scale, minimum) = two_halves(rows.word::<L>(at));
        let codes = nibbles(rows.words(at + 4));
        sink.take(block, Group { codes, scale, second_scale: None, minimum: Some(minimum) });
    }
}

#[inline(always)]
fn q5_0<L: Lanes>(rows: Rows<'_>, sink: &mut impl Sink<L>) {
    for block in 0..rows.len() / 22 {
        let at = 22 * block;
        let scale = rows.word::<L>(at).half_to_f32();
        let codes = nibbles_and_bits(rows.words(at + 6), rows.word(at + 2));
        sink.take(block, Group { codes, scale, second_scale: None, minimum: None });
    }
}

#[inline(always)]
fn q5_1<L: Lanes>(rows: Rows<'_>, sink: &mut impl Sink<L>) {
    for block in 0..rows.len() / 24 {
        let at = 24 * block;
        let (scale, minimum) = two_halves(rows.word::<L>(at));
        let codes = nibbles_and_bits(rows.words(at + 8), rows.word(at + 4));
        sink.take(block, Group { codes, scale, second_scale: None, minimum: Some(minimum) });
    }
}

#[inline(always)]
fn q4_k<L: Lanes>(rows: Rows<'_>, sink: &mut impl Sink<L>) {
    let factors = KFactors::new(rows);
    // Each run of 32 bytes holds two groups, low halves first.
    for run in 0..4 {
        let words = join(rows.words::<L>(16 + 32 * run), rows.words(32 + 32 * run));
        let (mut first, mut second) = (words, words);
        for j in 0..8 {
            first[j] = low(words[j]);
            second[j] = low(words[j].shr(4));
        }
        sink.take(2 * run, factors.group(2 * run, first));
        sink.take(2 * run + 1, factors.group(2 * run + 1, second));
    }
}

#[inline(always)]
fn q5_k<L: Lanes>(rows: Rows<'_>, sink: &mut impl Sink<L>) {
    let factors = KFactors::new(rows);
    // As Q4_K, with bit `group` of byte `i` of the high bits on top of code `i`.
    let high_bits = join(rows.words::<L>(16), rows.words(32));
    for run in 0..4 {
        let words = join(rows.words::<L>(48 + 32 * run), rows.words(64 + 32 * run));
        let (mut first, mut second) = (words, words);
        for j in 0..8 {
            let bits = high_bits[j].shr(2 * run as u32);
            let one = L::splat(0x0101_0101);
            first[j] = low(words[j]).or(bits.and(one).shl(4));
            second[j] = low(words[j].shr(4)).or(bits.shr(1).and(one).shl(4));
        }
        sink.take(2 * run, factors.group(2 * run, first));
        sink.take(2 * run + 1, factors.group(2 * run + 1, second));
    }
}

#[inline(always)]
fn q6_k<L: Lanes>(rows: Rows<'_>, sink: &mut impl Sink<L>) {
    // The factor is the last two bytes of the block, the upper half of its last word.
    let factor = rows.word::<L>(206).shr(16).half_to_f32();
    let scales = rows.words::<L>(192);
    // Two halves of 128 values: 64 bytes of low nibbles and 32 bytes of high pairs.
    for half in 0..2 {
        let at = 64 * half;
        let even = join(rows.words::<L>(at), rows.words(at + 16));
        let odd = join(rows.words::<L>(at + 32), rows.words(at + 48));
        let highs = join(rows.words::<L>(128 + 32 * half), rows.words(144 + 32 * half));
        for run in 0..4 {
            let mut codes = if run % 2 == 0 { even } else { odd };
            for j in 0..8 {
                let pair = highs[j].shr(2 * run as u32).and(L::splat(0x0303_0303)).shl(4);
                codes[j] = low(codes[j].shr(4 * (run / 2) as u32)).or(pair);
            }
            let group = 4 * half + run;
            let scales = scales[group / 2];
            let scale = signed_byte(scales, group % 2 * 2).mul_f32(factor);
            let second = signed_byte(scales, group % 2 * 2 + 1).mul_f32(factor);
            sink.take(group, Group { codes, scale, second_scale: Some(second), minimum: None });
        }
    }
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
    fn new(rows: Rows<'_>) -> Self {
        let [factors, scales, minima, both] = rows.words::<L>(0);
        let (scale, minimum) = two_halves(factors);
        let (six, two) = (L::splat(0x3f3f_3f3f), L::splat(0x0303_0303));
        Self {
            scale,
            // It is subtracted.
            minimum: minimum.xor(L::splat(1 << 31)),
            scales: [scales.and(six), low(both).or(scales.shr(6).and(two).shl(4))],
            minima: [minima.and(six), low(both.shr(4)).or(minima.shr(6).and(two).shl(4))],
        }
    }

    #[inline(always)]
    fn group(&self, index: usize, codes: [L; GROUP / 4]) -> Group<L> {
        let (word, shift, byte) = (index / 4, 8 * (index % 4) as u32, L::splat(255));
        let scale = self.scales[word].shr(shift).and(byte).int_to_f32().mul_f32(self.scale);
        let minimum = self.minima[word].shr(shift).and(byte).int_to_f32().mul_f32(self.minimum);
        Group { codes, scale, second_scale: None, minimum: Some(minimum) }
    }
}

/// The two `f16` in each lane, low first.
#[inline(always)]
fn two_halves<L: Lanes>(words: L) -> (L, L) {
    (words.half_to_f32(), words.shr(16).half_to_f32())
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

/// 32 four-bit codes: the low halves of 16 bytes, then the high halves.
#[inline(always)]
fn nibbles<L: Lanes>([a, b, c, d]: [L; 4]) -> [L; 8] {
    [low(a), low(b), low(c), low(d), low(a.shr(4)), low(b.shr(4)), low(c.shr(4)), low(d.shr(4))]
}

/// 32 five-bit codes: [`nibbles`], with bit `i` of `bits` on top of code `i`.
#[inline(always)]
fn nibbles_and_bits<L: Lanes>(words: [L; 4], bits: L) -> [L; 8] {
    let mut codes = nibbles(words);
    for (j, codes) in codes.iter_mut().enumerate() {
        let bits = bits.shr(4 * j as u32).and(L::splat(15));
        // One bit into each byte.
        let spread = bits.or(bits.shl(7)).or(bits.shl(14)).or(bits.shl(21));
        *codes = codes.or(spread.and(L::splat(0x0101_0101)).shl(4));
    }
    codes
}

#[inline(always)]
fn join<L: Lanes>([a, b, c, d]: [L; 4], [e, f, g, h]: [L; 4]) -> [L; 8] {
    [a, b, c, d, e, f, g, h]
}
