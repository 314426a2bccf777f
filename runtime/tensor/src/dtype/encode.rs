//! Values to the block-quantised formats of GGUF, one block at a time.
//!
//! A block is fitted ([`fit`], [`super_block`]), which gives its scales as they will be read back, and then
//! written with the codes nearest to its values. Layouts are those of the decoders in `blocks`.

mod fit;
mod super_block;

use half::f16;

use super::DType;
use fit::{Codes, Group, Line, OffsetKind};
use super_block::{Lines, Scales};

/// Encodes whole blocks of `dtype`; lengths were checked and values are finite.
pub(super) fn quantize(dtype: DType, values: &[f32], out: &mut [u8], importance: Option<&[f32]>) {
    match dtype {
        DType::Q8_0 => each_block(values, out, importance, q8_0),
        DType::Q4_0 => each_block(values, out, importance, q4_0),
        DType::Q4_1 => each_block(values, out, importance, q4_1),
        DType::Q5_0 => each_block(values, out, importance, q5_0),
        DType::Q5_1 => each_block(values, out, importance, q5_1),
        DType::Q4_K => each_block(values, out, importance, q4_k),
        DType::Q5_K => each_block(values, out, importance, q5_k),
        DType::Q6_K => each_block(values, out, importance, q6_k),
        DType::F32 | DType::F16 | DType::BF16 => unreachable!("plain floats have no blocks"),
    }
}

fn each_block<const VALUES: usize, const BYTES: usize>(
    values: &[f32],
    out: &mut [u8],
    importance: Option<&[f32]>,
    encode: impl Fn(Group<'_, VALUES>, &mut [u8; BYTES]),
) {
    let alike = [1.0; VALUES];
    for (i, (x, block)) in values.as_chunks().0.iter().zip(out.as_chunks_mut().0).enumerate() {
        let weights = importance.map_or(&alike, |importance| &importance.as_chunks().0[i]);
        // A block nobody cares about still deserves its values.
        let weights = if weights.iter().all(|&weight| weight == 0.0) { &alike } else { weights };
        encode(Group { x, weights }, block);
    }
}

/// The nearest `f16` that is finite.
pub(super) fn nearest_f16(x: f32) -> f16 {
    f16::from_f32(x.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()))
}

/// `x` as a block keeps it: rounded to a finite `f16`, and never minus zero, which would turn up in values.
fn as_f16(x: f32) -> f32 {
    if x.is_nan() { 0.0 } else { nearest_f16(x).to_f32() + 0.0 }
}

/// The `f16` nearest to `x` that is not nearer to zero than it is: as a unit of codes it keeps the largest code
/// in range even where `f16` is coarse.
fn as_f16_away(x: f32) -> f32 {
    let near = nearest_f16(x);
    if near.to_f32().abs() >= x.abs() {
        return as_f16(x);
    }
    as_f16(f16::from_bits(near.to_bits() + 1).to_f32())
}

fn f16_bytes(x: f32) -> [u8; 2] {
    nearest_f16(x).to_le_bytes()
}

/// Two codes of four bits in each byte: the low halves hold the first 16, the high halves the rest.
fn nibbles(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|i| codes[i] & 15 | codes[i + 16] << 4)
}

/// The fifth bits of 32 codes, bit `i` for code `i`.
fn fifth_bits(codes: &[u8; 32]) -> [u8; 4] {
    let bits = codes.iter().enumerate().fold(0, |bits, (i, code)| bits | u32::from(code >> 4 & 1) << i);
    bits.to_le_bytes()
}

/// Writes `parts` one after another into a block.
fn join<const BYTES: usize>(block: &mut [u8; BYTES], parts: &[&[u8]]) {
    let mut rest = block.as_mut_slice();
    for part in parts {
        let (now, later) = rest.split_at_mut(part.len());
        now.copy_from_slice(part);
        rest = later;
    }
    debug_assert!(rest.is_empty(), "the parts fill the block");
}

fn q8_0(group: Group<'_, 32>, block: &mut [u8; 34]) {
    // -128 is left out, as in every other encoder: kernels negate codes.
    let codes = Codes { least: -127.0, most: 127.0 };
    let line = fit::scale(group, codes, as_f16);
    let qs = line.codes(group.x, codes).map(|code| (code as i8).cast_unsigned());
    join(block, &[&f16_bytes(line.scale), &qs]);
}

fn q4_0(group: Group<'_, 32>, block: &mut [u8; 18]) {
    let codes = Codes { least: -8.0, most: 7.0 };
    let line = fit::scale(group, codes, as_f16);
    let qs = line.codes(group.x, codes).map(|code| (code + 8.0) as u8);
    join(block, &[&f16_bytes(line.scale), &nibbles(&qs)]);
}

fn q5_0(group: Group<'_, 32>, block: &mut [u8; 22]) {
    let codes = Codes { least: -16.0, most: 15.0 };
    let line = fit::scale(group, codes, as_f16);
    let qs = line.codes(group.x, codes).map(|code| (code + 16.0) as u8);
    join(block, &[&f16_bytes(line.scale), &fifth_bits(&qs), &nibbles(&qs)]);
}

fn q4_1(group: Group<'_, 32>, block: &mut [u8; 20]) {
    let (line, qs) = with_minimum(group, 15.0);
    join(block, &[&f16_bytes(line.scale), &f16_bytes(line.offset), &nibbles(&qs)]);
}

fn q5_1(group: Group<'_, 32>, block: &mut [u8; 24]) {
    let (line, qs) = with_minimum(group, 31.0);
    join(block, &[&f16_bytes(line.scale), &f16_bytes(line.offset), &fifth_bits(&qs), &nibbles(&qs)]);
}

fn with_minimum(group: Group<'_, 32>, most: f32) -> (Line, [u8; 32]) {
    let codes = Codes { least: 0.0, most };
    let line = fit::line(group, codes, OffsetKind::Any, as_f16);
    (line, line.codes(group.x, codes).map(|code| code as u8))
}

/// The twelve bytes of eight scales and minima of six bits; `blocks::k_scales` reads them.
fn pack_k_scales(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    std::array::from_fn(|i| match i {
        0..4 => scales[i] | scales[i + 4] >> 4 << 6,
        4..8 => mins[i - 4] | mins[i] >> 4 << 6,
        _ => scales[i - 4] & 15 | mins[i - 4] << 4,
    })
}

/// The low four bits of 256 codes: each run of 32 bytes holds two groups, the first in its low halves.
fn k_nibbles(codes: &[u8; 256]) -> [u8; 128] {
    std::array::from_fn(|i| {
        let first = i / 32 * 64 + i % 32;
        codes[first] & 15 | codes[first + 32] << 4
    })
}

fn q4_k(group: Group<'_, 256>, block: &mut [u8; 144]) {
    let lines = Lines::fit(group, 15.0);
    let scales = pack_k_scales(&lines.scales, &lines.mins);
    join(block, &[&f16_bytes(lines.d), &f16_bytes(lines.dmin), &scales, &k_nibbles(&lines.codes(group.x))]);
}

fn q5_k(group: Group<'_, 256>, block: &mut [u8; 176]) {
    let lines = Lines::fit(group, 31.0);
    let scales = pack_k_scales(&lines.scales, &lines.mins);
    let codes = lines.codes(group.x);
    // Bit `g` of byte `i` is the fifth bit of code `i` of group `g`.
    let fifth: [u8; 32] =
        std::array::from_fn(|i| (0..8).fold(0, |bits, g| bits | (codes[g * 32 + i] >> 4 & 1) << g));
    join(block, &[&f16_bytes(lines.d), &f16_bytes(lines.dmin), &scales, &fifth, &k_nibbles(&codes)]);
}

fn q6_k(group: Group<'_, 256>, block: &mut [u8; 210]) {
    let fitted = Scales::fit(group);
    let codes = fitted.codes(group.x);
    // Each half holds four runs of 32 codes: runs 0 and 2, and 1 and 3, share bytes of low nibbles; the
    // upper two bits of all four share a byte.
    let low: [u8; 128] = std::array::from_fn(|i| {
        let first = i / 64 * 128 + i % 64;
        codes[first] & 15 | codes[first + 64] << 4
    });
    let high: [u8; 64] = std::array::from_fn(|i| {
        let first = i / 32 * 128 + i % 32;
        (0..4).fold(0, |bits, run| bits | codes[first + run * 32] >> 4 << (2 * run))
    });
    join(block, &[&low, &high, &fitted.scales.map(i8::cast_unsigned), &f16_bytes(fitted.d)]);
}
