//! The widest multiply-add instructions of an x86-64 processor.

#![expect(unsafe_code, reason = "calls functions compiled for instructions that not every processor has")]

use std::arch::x86_64::*;
use std::hint::black_box;

use super::{ROUNDS, SUMS};

/// `None` if this processor has none that are wider than the plain ones.
pub(super) fn multiply_add_f32() -> Option<u64> {
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the instructions.
        Some(unsafe { f32_avx512() })
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has the instructions.
        Some(unsafe { f32_avx2() })
    } else {
        None
    }
}

/// `None` if this processor has none that are wider than the plain ones.
pub(super) fn multiply_add_i8() -> Option<u64> {
    if is_x86_feature_detected!("avx512vnni") {
        // SAFETY: the processor has the instructions; VNNI implies the foundation.
        Some(unsafe { i8_avx512_vnni() })
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the instructions.
        Some(unsafe { i8_avx2() })
    } else {
        None
    }
}

#[target_feature(enable = "avx512f")]
fn f32_avx512() -> u64 {
    let (x, y) = (_mm512_set1_ps(black_box(0.999_9)), _mm512_set1_ps(black_box(1e-4)));
    let mut sums = [_mm512_set1_ps(1.0); SUMS];
    for _ in 0..ROUNDS {
        sums.iter_mut().for_each(|sum| *sum = _mm512_fmadd_ps(*sum, x, y));
    }
    black_box(sums);
    (ROUNDS * SUMS * 16 * 2) as u64
}

#[target_feature(enable = "avx2,fma")]
fn f32_avx2() -> u64 {
    let (x, y) = (_mm256_set1_ps(black_box(0.999_9)), _mm256_set1_ps(black_box(1e-4)));
    let mut sums = [_mm256_set1_ps(1.0); SUMS];
    for _ in 0..ROUNDS {
        sums.iter_mut().for_each(|sum| *sum = _mm256_fmadd_ps(*sum, x, y));
    }
    black_box(sums);
    (ROUNDS * SUMS * 8 * 2) as u64
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn i8_avx512_vnni() -> u64 {
    let (x, y) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(1)));
    let mut sums = [_mm512_setzero_si512(); SUMS];
    for _ in 0..ROUNDS {
        sums.iter_mut().for_each(|sum| *sum = _mm512_dpbusd_epi32(*sum, x, y));
    }
    black_box(sums);
    (ROUNDS * SUMS * 64 * 2) as u64
}

/// Without VNNI a product takes three instructions: bytes to pairs, pairs to fours, and the sum.
#[target_feature(enable = "avx2")]
fn i8_avx2() -> u64 {
    let (ones, mut y) = (_mm256_set1_epi16(black_box(1)), _mm256_set1_epi8(black_box(1)));
    let mut sums = [_mm256_setzero_si256(); SUMS];
    for _ in 0..ROUNDS {
        // Another value each time: a product of constants would be computed once.
        y = _mm256_xor_si256(y, ones);
        for (i, sum) in sums.iter_mut().enumerate() {
            let x = _mm256_set1_epi8(i as i8 + 1);
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), ones));
        }
    }
    black_box(sums);
    (ROUNDS * SUMS * 32 * 2) as u64
}
