//! The resize that the reference was trained with: 8-bit antialiased bicubic, bit for bit.
//!
//! Two passes, along rows and then along columns, with coefficients in 22-bit fixed point and the
//! result rounded and clipped to 8 bits *between* the passes. A floating-point resize that skips
//! that clip differs by up to 23 levels on hard edges, which is much on screenshots and text.
//!
//! Source: Pillow 11.3, `src/libImaging/Resample.c`.

use std::array;

use pulp::{Arch, Simd, WithSimd};

/// Fraction bits of a coefficient: 32, less 8 for the sample, less 2 for overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;
/// Half of one 8-bit step, so that the final shift rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);
/// The bicubic kernel is zero beyond two source pixels (times the scale, when shrinking).
const SUPPORT: f64 = 2.0;

/// Resizes 8-bit RGB with the antialiased bicubic filter (a = -0.5) of PIL.
///
/// - `rgb`: `[h, w, 3]`.
///
/// Returns `[new_h, new_w, 3]`. A pass whose size does not change is skipped, as in PIL.
///
/// # Panics
/// If a side is zero or `rgb` does not hold `h * w * 3` bytes.
pub fn resize_bicubic(rgb: &[u8], w: u32, h: u32, new_w: u32, new_h: u32) -> Vec<u8> {
    assert!(w > 0 && h > 0 && new_w > 0 && new_h > 0, "sides are at least 1");
    let [w, h, new_w, new_h] = [w, h, new_w, new_h].map(|side| side as usize);
    assert_eq!(rgb.len(), w * h * 3, "rgb holds h * w * 3 bytes");

    let narrowed;
    let mut rows = rgb;
    if new_w != w {
        narrowed = run(Horizontal { rgb: rows, w, h, taps: Taps::bicubic(w, new_w) });
        rows = &narrowed;
    }
    if new_h != h {
        run(Vertical { rgb: rows, row_len: new_w * 3, taps: Taps::bicubic(h, new_h) })
    } else {
        rows.to_vec()
    }
}

/// Runs a pass with the widest integer vectors this processor has. Plain Rust inside; the compiler
/// vectorises it once per instruction set.
fn run(pass: impl WithSimd<Output = Vec<u8>>) -> Vec<u8> {
    Arch::new().dispatch(pass)
}

/// For every output position: which source positions it is made of, and their weights.
struct Taps {
    /// First source position of each output position.
    starts: Vec<usize>,
    /// `[n_out, width]`; unused weights at the end of a row are zero and not part of `lens`.
    weights: Vec<i32>,
    /// How many weights of each row are used.
    lens: Vec<usize>,
    width: usize,
}

impl Taps {
    /// Filter weights from `n_in` to `n_out` samples, computed in f64 in PIL's order of operations.
    fn bicubic(n_in: usize, n_out: usize) -> Self {
        let scale = n_in as f64 / n_out as f64;
        let filter_scale = scale.max(1.0);
        let support = SUPPORT * filter_scale;
        let width = support.ceil() as usize * 2 + 1;

        let mut taps = Taps { starts: vec![], weights: vec![0; n_out * width], lens: vec![], width };
        for (i, weights) in taps.weights.chunks_exact_mut(width).enumerate() {
            let center = (i as f64 + 0.5) * scale;
            // `as usize` truncates and stops at zero, as the C code does in two steps.
            let start = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(n_in);

            let inverse = 1.0 / filter_scale;
            let exact: Vec<f64> = (0..end - start)
                .map(|x| bicubic((x as f64 + start as f64 - center + 0.5) * inverse))
                .collect();
            let sum: f64 = exact.iter().sum();
            for (weight, exact) in weights.iter_mut().zip(&exact) {
                let scaled = (if sum != 0.0 { exact / sum } else { *exact }) * f64::from(1 << PRECISION_BITS);
                *weight = (scaled + 0.5f64.copysign(scaled)) as i32;
            }
            taps.starts.push(start);
            taps.lens.push(end - start);
        }
        taps
    }

    /// Source start and weights of each output position.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let weights = self.weights.chunks_exact(self.width).zip(&self.lens).map(|(row, &len)| &row[..len]);
        self.starts.iter().copied().zip(weights)
    }
}

/// Keys' cubic convolution kernel with a = -0.5.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[inline(always)]
fn to_u8(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Rows that the horizontal pass treats together, so that a vector holds one source pixel of many
/// rows and every tap is one broadcast weight.
const BAND: usize = 8;
const BAND_LANES: usize = BAND * 3;

struct Horizontal<'a> {
    rgb: &'a [u8],
    w: usize,
    h: usize,
    taps: Taps,
}

impl WithSimd for Horizontal<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<u8> {
        let (row_len, new_row_len) = (self.w * 3, self.taps.starts.len() * 3);
        let mut out = vec![0; self.h * new_row_len];
        let mut band = vec![[0u8; BAND_LANES]; self.w];
        for (source, target) in self.rgb.chunks(BAND * row_len).zip(out.chunks_mut(BAND * new_row_len)) {
            for (r, row) in source.chunks_exact(row_len).enumerate() {
                for (column, pixel) in band.iter_mut().zip(row.as_chunks::<3>().0) {
                    column[r * 3..r * 3 + 3].copy_from_slice(pixel);
                }
            }
            for (x, (start, weights)) in self.taps.iter().enumerate() {
                let sums = weighted_sum(&band[start..start + weights.len()], weights);
                for (r, row) in target.chunks_exact_mut(new_row_len).enumerate() {
                    for c in 0..3 {
                        row[x * 3 + c] = to_u8(sums[r * 3 + c]);
                    }
                }
            }
        }
        out
    }
}

/// `HALF + sum of pixels[t] * weights[t]`, per lane.
#[inline(always)]
fn weighted_sum<const N: usize>(pixels: &[[u8; N]], weights: &[i32]) -> [i32; N] {
    let mut sums = [HALF; N];
    for (pixel, &weight) in pixels.iter().zip(weights) {
        sums = array::from_fn(|lane| sums[lane] + i32::from(pixel[lane]) * weight);
    }
    sums
}

struct Vertical<'a> {
    rgb: &'a [u8],
    row_len: usize,
    taps: Taps,
}

impl WithSimd for Vertical<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<u8> {
        const LANES: usize = 64;
        let mut out = vec![0; self.taps.starts.len() * self.row_len];
        for ((start, weights), target) in self.taps.iter().zip(out.chunks_exact_mut(self.row_len)) {
            let source = &self.rgb[start * self.row_len..];
            let (blocks, rest) = target.as_chunks_mut::<LANES>();
            let rest_at = blocks.len() * LANES;
            for (i, block) in blocks.iter_mut().enumerate() {
                self.column_sums(&source[i * LANES..], weights, block);
            }
            for (i, sample) in rest.iter_mut().enumerate() {
                self.column_sums(&source[rest_at + i..], weights, array::from_mut(sample));
            }
        }
        out
    }
}

impl Vertical<'_> {
    /// `N` neighbouring samples of one output row; `source` begins at the first of them.
    #[inline(always)]
    fn column_sums<const N: usize>(&self, source: &[u8], weights: &[i32], target: &mut [u8; N]) {
        let mut sums = [HALF; N];
        for (row, &weight) in source.chunks(self.row_len).zip(weights) {
            let row: &[u8; N] = row.first_chunk().expect("blocks lie within a row");
            sums = array::from_fn(|lane| sums[lane] + i32::from(row[lane]) * weight);
        }
        *target = sums.map(to_u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixed stream of bytes, so that results can be compared with another implementation.
    fn noise(n: usize) -> Vec<u8> {
        let mut state = 1u32;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..n).map(next).collect()
    }

    /// FNV-1a, the shortest hash that a test can write down.
    fn hash(bytes: &[u8]) -> u64 {
        bytes
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    }

    /// Size, new size, whether samples are made 0 or 255, hash of what Pillow 11.3.0 makes of it.
    /// Hard edges are the case in which a resize without clipping between the passes fails.
    #[rustfmt::skip]
    const PILLOW: [([u32; 4], bool, u64); 20] = [
        ([1, 1, 56, 56], false, 0x465f_1946_4998_0165),
        ([1, 1, 56, 56], true, 0xec25_9e77_251c_92e5),
        ([40, 30, 56, 28], false, 0x0dcb_409d_9d0b_be34),
        ([40, 30, 56, 28], true, 0x9c73_ef3e_5f21_adc9),
        ([30, 40, 30, 28], false, 0x4a12_17af_19a7_2feb),
        ([30, 40, 30, 28], true, 0x01ee_ca9d_2ae1_62fe),
        ([40, 30, 28, 30], false, 0x4e06_293f_e9c5_d882),
        ([40, 30, 28, 30], true, 0xa900_ebd9_d805_c548),
        ([100, 75, 112, 84], false, 0xc4d9_7c39_5ba5_71a6),
        ([100, 75, 112, 84], true, 0x6415_7b85_fc78_e46b),
        ([75, 100, 56, 84], false, 0x430a_8b42_a69a_691c),
        ([75, 100, 56, 84], true, 0x7b30_a00e_05a8_66af),
        ([257, 3, 252, 28], false, 0xa806_292e_1c5f_6e6a),
        ([257, 3, 252, 28], true, 0x9502_0e2c_93cf_c377),
        ([3, 257, 28, 252], false, 0xb3c0_05eb_897d_49a0),
        ([3, 257, 28, 252], true, 0x692b_8ecd_ac47_adeb),
        ([200, 150, 28, 28], false, 0xd4e5_e620_8747_b7d8),
        ([200, 150, 28, 28], true, 0x453b_ab51_5ea5_bd39),
        ([9, 8, 84, 84], false, 0x6d7e_7aff_035c_62ff),
        ([9, 8, 84, 84], true, 0x4e60_c0d8_dbfe_de47),
    ];

    #[test]
    fn results_equal_pillow_bit_for_bit() {
        for ([w, h, new_w, new_h], is_hard, expected) in PILLOW {
            let mut rgb = noise((w * h * 3) as usize);
            if is_hard {
                rgb.iter_mut().for_each(|sample| *sample = if *sample > 127 { 255 } else { 0 });
            }
            let found = hash(&resize_bicubic(&rgb, w, h, new_w, new_h));
            assert_eq!(found, expected, "{w}x{h} to {new_w}x{new_h}, hard edges: {is_hard}");
        }
    }

    #[test]
    fn the_same_size_is_a_copy() {
        let rgb = noise(7 * 5 * 3);
        assert_eq!(resize_bicubic(&rgb, 7, 5, 7, 5), rgb);
    }

    #[test]
    fn flat_colour_stays_flat() {
        for (w, h, new_w, new_h) in [(1, 1, 56, 56), (40, 30, 28, 28), (3, 200, 28, 196), (99, 101, 7, 13)] {
            let out = resize_bicubic(&[200, 100, 50].repeat(w * h), w as u32, h as u32, new_w, new_h);
            assert_eq!(out, [200, 100, 50].repeat((new_w * new_h) as usize));
        }
    }

    #[test]
    fn weights_sum_to_one() {
        for (n_in, n_out) in [(1, 56), (100, 99), (4000, 28), (3, 4000)] {
            for (_, weights) in Taps::bicubic(n_in, n_out).iter() {
                let sum: i32 = weights.iter().sum();
                // Each weight is rounded on its own.
                assert!((sum - (1 << PRECISION_BITS)).unsigned_abs() as usize <= weights.len());
            }
        }
    }
}
