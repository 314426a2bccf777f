//! The block-quantised formats of GGUF, decoded one block at a time.
//!
//! Layouts and the order of operations are ggml's, so every value equals the reference bit for bit.

use super::{DType, f16_scale};

/// Decodes whole blocks of `dtype`; the lengths were checked by the caller.
pub(super) fn dequantize(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        DType::Q8_0 => each_block(bytes, out, q8_0),
        DType::Q4_0 => each_block(bytes, out, q4_0),
        DType::Q4_1 => each_block(bytes, out, q4_1),
        DType::Q5_0 => each_block(bytes, out, q5_0),
        DType::Q5_1 => each_block(bytes, out, q5_1),
        DType::Q4_K => each_block(bytes, out, q4_k),
        DType::Q5_K => each_block(bytes, out, q5_k),
        DType::Q6_K => each_block(bytes, out, q6_k),
        DType::F32 | DType::F16 | DType::BF16 => unreachable!("plain floats have no blocks"),
    }
}

fn each_block<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    for (block, y) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        decode(block, y);
    }
}

fn q8_0(block: &[u8; 34], y: &mut [f32; 32]) {
    let [d0, d1, qs @ ..] = block;
    let d = f16_scale(*d0, *d1);
    for (y, q) in y.iter_mut().zip(qs) {
        *y = d * f32::from(q.cast_signed());
    }
}

/// Calls `value(code)` on the 32 four-bit codes: the low halves of 16 bytes, then the high halves.
fn nibbles(qs: &[u8; 16], y: &mut [f32; 32], value: impl Fn(f32) -> f32) {
    let (low, high) = y.split_at_mut(16);
    for ((low, high), q) in low.iter_mut().zip(high).zip(qs) {
        *low = value(f32::from(q & 15));
        *high = value(f32::from(q >> 4));
    }
}

fn q4_0(block: &[u8; 18], y: &mut [f32; 32]) {
    let [d0, d1, qs @ ..] = block;
    let d = f16_scale(*d0, *d1);
    nibbles(qs, y, |q| d * (q - 8.0));
}

fn q4_1(block: &[u8; 20], y: &mut [f32; 32]) {
    let [d0, d1, m0, m1, qs @ ..] = block;
    let (d, m) = (f16_scale(*d0, *d1), f16_scale(*m0, *m1));
    nibbles(qs, y, |q| d * q + m);
}

/// Calls `value(code)` on the 32 five-bit codes: [`nibbles`], with bit `i` of `qh` on top of code `i`.
fn nibbles_and_bits(qh: [u8; 4], qs: &[u8; 16], y: &mut [f32; 32], value: impl Fn(f32) -> f32) {
    let qh = u32::from_le_bytes(qh);
    for i in 0..16 {
        let (low, high) = (u32::from(qs[i] & 15), u32::from(qs[i] >> 4));
        y[i] = value((low | (qh >> i & 1) << 4) as f32);
        y[i + 16] = value((high | (qh >> (i + 16) & 1) << 4) as f32);
    }
}

fn q5_0(block: &[u8; 22], y: &mut [f32; 32]) {
    let [d0, d1, h0, h1, h2, h3, qs @ ..] = block;
    let d = f16_scale(*d0, *d1);
    nibbles_and_bits([*h0, *h1, *h2, *h3], qs, y, |q| d * (q - 16.0));
}

fn q5_1(block: &[u8; 24], y: &mut [f32; 32]) {
    let [d0, d1, m0, m1, h0, h1, h2, h3, qs @ ..] = block;
    let (d, m) = (f16_scale(*d0, *d1), f16_scale(*m0, *m1));
    nibbles_and_bits([*h0, *h1, *h2, *h3], qs, y, |q| d * q + m);
}

/// Scale and minimum of the eight groups of a K block: six bits each, packed in twelve bytes.
///
/// Groups 0–3 lie in the low six bits of bytes 0–3 (scale) and 4–7 (minimum). Groups 4–7 have their
/// low four bits in bytes 8–11 and their high two in the top of bytes 0–3 and 4–7.
fn k_scales(packed: &[u8; 12]) -> [(f32, f32); 8] {
    std::array::from_fn(|group| {
        let (scale, min) = match group {
            0..4 => (packed[group] & 63, packed[group + 4] & 63),
            _ => {
                let low = packed[group + 4];
                (low & 15 | packed[group - 4] >> 6 << 4, low >> 4 | packed[group] >> 6 << 4)
            }
        };
        (f32::from(scale), f32::from(min))
    })
}

fn q4_k(block: &[u8; 144], y: &mut [f32; 256]) {
    let [d0, d1, m0, m1, rest @ ..] = block;
    let (d, dmin) = (f16_scale(*d0, *d1), f16_scale(*m0, *m1));
    let (scales, qs) = rest.split_first_chunk().expect("140 bytes");
    let scales = k_scales(scales);
    // Each run of 32 bytes holds two groups of 32 values, low halves first.
    for (group, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = (d * scales[group].0, dmin * scales[group].1);
        let (qs, shift) = (&qs[group / 2 * 32..][..32], group % 2 * 4);
        for (y, q) in y.iter_mut().zip(qs) {
            *y = scale * f32::from(q >> shift & 15) - min;
        }
    }
}

fn q5_k(block: &[u8; 176], y: &mut [f32; 256]) {
    let [d0, d1, m0, m1, rest @ ..] = block;
    let (d, dmin) = (f16_scale(*d0, *d1), f16_scale(*m0, *m1));
    let (scales, rest) = rest.split_first_chunk().expect("172 bytes");
    let (qh, qs) = rest.split_first_chunk::<32>().expect("160 bytes");
    let scales = k_scales(scales);
    // As Q4_K, with bit `group` of `qh[i]` on top of code `i`.
    for (group, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = (d * scales[group].0, dmin * scales[group].1);
        let (qs, shift) = (&qs[group / 2 * 32..][..32], group % 2 * 4);
        for ((y, q), h) in y.iter_mut().zip(qs).zip(qh) {
            *y = scale * f32::from(q >> shift & 15 | (h >> group & 1) << 4) - min;
        }
    }
}

fn q6_k(block: &[u8; 210], y: &mut [f32; 256]) {
    let (ql, rest) = block.split_first_chunk::<128>().expect("210 bytes");
    let (qh, rest) = rest.split_first_chunk::<64>().expect("82 bytes");
    let (scales, d) = rest.split_first_chunk::<16>().expect("18 bytes");
    let d = f16_scale(d[0], d[1]);
    // Two halves of 128 values: 64 bytes of low nibbles, 32 bytes of high pairs, 8 scales each.
    for (half, y) in y.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        let (ql, qh) = (&ql[half * 64..][..64], &qh[half * 32..][..32]);
        for (run, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (ql, shift) = (&ql[run % 2 * 32..][..32], run / 2 * 4);
            for (i, ((y, low), high)) in y.iter_mut().zip(ql).zip(qh).enumerate() {
                let scale = d * f32::from(scales[half * 8 + run * 2 + i / 16].cast_signed());
                let q = low >> shift & 15 | (high >> (2 * run) & 3) << 4;
                *y = scale * (f32::from(q) - 32.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SharedBytes;
    use crate::weights::{NamedArray, Safetensors};

    /// Recorded with the `gguf` package by `tests/recorded/record_blocks.py`.
    static RECORDED: &[u8] = include_bytes!("../../tests/recorded/blocks.safetensors");

    #[test]
    fn every_block_format_equals_the_reference_bit_for_bit() {
        let recorded = Safetensors::parse(SharedBytes::new(RECORDED)).unwrap();
        for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_quantized()) {
            let array = |part: &str| recorded.index().array(&format!("{dtype}.{part}")).unwrap().unwrap().1;
            let NamedArray::I64(blocks) = array("blocks") else { panic!("blocks are integers") };
            let NamedArray::F32(values) = array("values") else { panic!("values are floats") };
            let blocks: Vec<u8> = blocks.into_iter().map(|byte| byte as u8).collect();
            let mut out = vec![0.0; values.len()];
            dtype.dequantize(&blocks, &mut out).unwrap();
            for (i, (found, expected)) in out.iter().zip(&values).enumerate() {
                assert_eq!(found.to_bits(), expected.to_bits(), "{dtype} value {i}: {found} {expected}");
            }
        }
    }

    #[test]
    fn bytes_that_do_not_fill_the_values_are_refused() {
        for dtype in DType::ALL {
            let block = dtype.block();
            assert!(dtype.dequantize(&vec![0; block.bytes], &mut vec![1.0; block.values]).is_ok());
            assert!(dtype.dequantize(&vec![0; block.bytes + 1], &mut vec![1.0; block.values]).is_err());
            assert!(dtype.dequantize(&vec![0; block.bytes], &mut vec![1.0; block.values + 1]).is_err());
        }
    }
}
