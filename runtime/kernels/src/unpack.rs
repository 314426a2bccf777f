//! Blocks of sixteen rows become a [`Panel`], for every type and every kind of vector.
//!
//! Layouts are ggml's; `tensor::DType::dequantize` is the other description of them, and tests compare.

use tensor::DType;

use crate::lanes::Lanes;
use crate::panel::{Panel, Rows};

/// Unpacks the whole blocks in `rows`, at most [`CHUNK`](crate::panel::CHUNK) columns.
#[inline(always)]
pub(crate) fn unpack<L: Lanes>(dtype: DType, rows: Rows<'_>, panel: &mut Panel) {
    match dtype {
        DType::Q8_0 => q8_0::<L>(rows, panel),
        DType::Q4_0 => q4_0::<L>(rows, panel),
        DType::Q4_1 => q4_1::<L>(rows, panel),
        DType::Q5_0 => q5_0::<L>(rows, panel),
        DType::Q5_1 => q5_1::<L>(rows, panel),
        DType::Q4_K => q4_k::<L>(rows, panel),
        DType::Q5_K => q5_k::<L>(rows, panel),
        DType::Q6_K => q6_k::<L>(rows, panel),
        _ => unreachable!("plain floats are multiplied as they are"),
    }
}

#[inline(always)]
fn q8_0<L: Lanes>(rows: Rows<'_>, panel: &mut Panel) {
    for block in 0..rows.len() / 34 {
        let at = 34 * block;
        rows.word::<L>(at).half_to_f32().store_f32(&mut panel.scales[block]);
        for half in 0..2 {
            let words = rows.words::<L>(at + 2 + 16 * half);
            for j in 0..4 {
                // Turning the sign bit over adds 128.
                words[j].xor(L::splat(0x8080_8080)).store(&mut panel.codes[8 * block + 4 * half + j]);
            }
        }
    }
}

/// 32 four-bit codes: the low halves of 16 bytes, then the high halves.
#[inline(always)]
fn nibbles<L: Lanes>(rows: Rows<'_>, at: usize, block: usize, panel: &mut Panel) {
    let words = rows.words::<L>(at);
    for j in 0..4 {
        low(words[j]).store(&mut panel.codes[8 * block + j]);
        low(words[j].shr(4)).store(&mut panel.codes[8 * block + 4 + j]);
    }
}

/// The low four bits of each byte.
#[inline(always)]
fn low<L: Lanes>(words: L) -> L {
    words.and(L::splat(0x0f0f_0f0f))
}

#[inline(always)]
fn q4_0<L: Lanes>(rows: Rows<'_>, panel: &mut Panel) {
    for block in 0..rows.len() / 18 {
        let at = 18 * block;
        rows.word::<L>(at).half_to_f32().store_f32(&mut panel.scales[block]);
        nibbles::<L>(rows, at + 2, block, panel);
    }
}

#[inline(always)]
fn q4_1<L: Lanes>(rows: Rows<'_>, panel: &mut Panel) {
    for block in 0..rows.len() / 20 {
        let at = 20 * block;
        scale_and_minimum::<L>(rows, at, block, panel);
        nibbles::<L>(rows, at + 4, block, panel);
    }
}

#[inline(always)]
fn scale_and_minimum<L: Lanes>(rows: Rows<'_>, at: usize, block: usize, panel: &mut Panel) {
    let both = rows.word::<L>(at);
    both.half_to_f32().store_f32(&mut panel.scales[block]);
    both.shr(16).half_to_f32().store_f32(&mut panel.minima[block]);
}

/// 32 five-bit codes: [`nibbles`], with bit `i` of `high_bits` on top of code `i`.
#[inline(always)]
fn nibbles_and_bits<L: Lanes>(rows: Rows<'_>, high_bits: L, at: usize, block: usize, panel: &mut Panel) {
    let words = rows.words::<L>(at);
    for j in 0..4 {
        let first = fifth_bits(high_bits.shr(4 * j as u32));
        let second = fifth_bits(high_bits.shr(16 + 4 * j as u32));
        low(words[j]).or(first).store(&mut panel.codes[8 * block + j]);
        low(words[j].shr(4)).or(second).store(&mut panel.codes[8 * block + 4 + j]);
    }
}

/// Spreads the low four bits of each lane over its bytes, as bit 4 of each.
#[inline(always)]
fn fifth_bits<L: Lanes>(words: L) -> L {
    let bits = words.and(L::splat(15));
    let spread = bits.or(bits.shl(7)).or(bits.shl(14)).or(bits.shl(21));
    spread.and(L::splat(0x0101_0101)).shl(4)
}

#[inline(always)]
fn q5_0<L: Lanes>(rows: Rows<'_>, panel: &mut Panel) {
    for block in 0..rows.len() / 22 {
        let at = 22 * block;
        rows.word::<L>(at).half_to_f32().store_f32(&mut panel.scales[block]);
        nibbles_and_bits::<L>(rows, rows.word(at + 2), at + 6, block, panel);
    }
}

#[inline(always)]
fn q5_1<L: Lanes>(rows: Rows<'_>, panel: &mut Panel) {
    for block in 0..rows.len() / 24 {
        let at = 24 * block;
        scale_and_minimum::<L>(rows, at, block, panel);
        nibbles_and_bits::<L>(rows, rows.word(at + 4), at + 8, block, panel);
    }
}

/// Scales and minima of a K block, from its first 16 bytes: two `f16` factors, then eight pairs of six
/// bits. Pairs 0–3 lie in the low six bits of bytes 0–3 (scale) and 4–7 (minimum); pairs 4–7 have their low
/// four bits in bytes 8–11 and their high two in the top of bytes 0–3 and 4–7.
#[inline(always)]
fn k_scales<L: Lanes>(rows: Rows<'_>, panel: &mut Panel) {
    let [factors, scales, minima, both] = rows.words::<L>(0);
    let scale = factors.half_to_f32();
    // The minimum is subtracted.
    let minimum = factors.shr(16).half_to_f32().xor(L::splat(1 << 31));
    let (six, two) = (L::splat(0x3f3f_3f3f), L::splat(0x0303_0303));
    let scales = [scales.and(six), low(both).or(scales.shr(6).and(two).shl(4))];
    let minima = [minima.and(six), low(both.shr(4)).or(minima.shr(6).and(two).shl(4))];
    for group in 0..8 {
        let (word, shift, byte) = (group / 4, 8 * (group % 4) as u32, L::splat(255));
        let (s, m) = (scales[word].shr(shift).and(byte), minima[word].shr(shift).and(byte));
        s.int_to_f32().mul_f32(scale).store_f32(&mut panel.scales[group]);
        m.int_to_f32().mul_f32(minimum).store_f32(&mut panel.minima[group]);
    }
}

#[inline(always)]
fn q4_k<L: Lanes>(rows: Rows<'_>, panel: &mut Panel) {
    k_scales::<L>(rows, panel);
    // Each run of 32 bytes holds two groups, low halves first.
    for run in 0..4 {
        for half in 0..2 {
            let words = rows.words::<L>(16 + 32 * run + 16 * half);
            for j in 0..4 {
                let at = 16 * run + 4 * half + j;
                low(words[j]).store(&mut panel.codes[at]);
                low(words[j].shr(4)).store(&mut panel.codes[at + 8]);
            }
        }
    }
}

#[inline(always)]
fn q5_k<L: Lanes>(rows: Rows<'_>, panel: &mut Panel) {
    k_scales::<L>(rows, panel);
    // As Q4_K, with bit `group` of byte `i` of the high bits on top of code `i`.
    for half in 0..2 {
        let high_bits = rows.words::<L>(16 + 16 * half);
        for run in 0..4 {
            let words = rows.words::<L>(48 + 32 * run + 16 * half);
            for j in 0..4 {
                let (at, bit, one) = (16 * run + 4 * half + j, 2 * run as u32, L::splat(0x0101_0101));
                let first = high_bits[j].shr(bit).and(one).shl(4);
                let second = high_bits[j].shr(bit + 1).and(one).shl(4);
                low(words[j]).or(first).store(&mut panel.codes[at]);
                low(words[j].shr(4)).or(second).store(&mut panel.codes[at + 8]);
            }
        }
    }
}

#[inline(always)]
fn q6_k<L: Lanes>(rows: Rows<'_>, panel: &mut Panel) {
    // The factor is the last two bytes of the block, the upper half of its last word.
    let scale = rows.word::<L>(206).shr(16).half_to_f32();
    let scales = rows.words::<L>(192);
    for half_group in 0..16 {
        let byte = scales[half_group / 4].shl(24 - 8 * (half_group % 4) as u32).sar(24);
        byte.int_to_f32().mul_f32(scale).store_f32(&mut panel.scales[half_group]);
    }
    // Two halves of 128 values: 64 bytes of low nibbles and 32 bytes of high pairs.
    for half in 0..2 {
        for part in 0..2 {
            let lows = [0, 32].map(|run| rows.words::<L>(64 * half + run + 16 * part));
            let highs = rows.words::<L>(128 + 32 * half + 16 * part);
            for group in 0..4 {
                for j in 0..4 {
                    let nibble = low(lows[group % 2][j].shr(4 * (group / 2) as u32));
                    let pair = highs[j].shr(2 * group as u32).and(L::splat(0x0303_0303)).shl(4);
                    nibble.or(pair).store(&mut panel.codes[32 * half + 8 * group + 4 * part + j]);
                }
            }
        }
    }
}
