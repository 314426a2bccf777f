//! Activations become bytes.

use std::arch::x86_64::*;

use crate::activations::{self, RoundedGroup, Tile};
use crate::panel::GROUP;

/// Rounds rows into a tile.
#[target_feature(enable = "avx2")]
pub(crate) fn round(tile: &mut Tile, values: &[f32]) {
    tile.round(values, |values| round_group(values));
}

/// [`activations::round_group`], operation by operation.
#[target_feature(enable = "avx2")]
fn round_group(values: &[f32; GROUP]) -> RoundedGroup {
    let magnitude = _mm256_set1_epi32(i32::MAX);
    let mut vectors = [_mm256_setzero_ps(); 4];
    let mut largest = _mm256_setzero_si256();
    for (vector, values) in vectors.iter_mut().zip(values.as_chunks::<8>().0) {
        // SAFETY: the array has the size of a vector.
        *vector = unsafe { _mm256_loadu_ps(values.as_ptr()) };
        let magnitudes = _mm256_and_si256(_mm256_castps_si256(*vector), magnitude);
        largest = _mm256_max_epi32(largest, magnitudes);
    }
    let four = _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256::<1>(largest));
    let two = _mm_max_epi32(four, _mm_shuffle_epi32::<0b_01_00_11_10>(four));
    let one = _mm_max_epi32(two, _mm_shuffle_epi32::<0b_10_11_00_01>(two));
    let (scale, inverse) = match activations::scale(f32::from_bits(_mm_cvtsi128_si32(one).cast_unsigned())) {
        (scale, Some(inverse)) => (scale, _mm256_set1_ps(inverse)),
        (scale, None) => return RoundedGroup { scale, ..RoundedGroup::default() },
    };

    let offset = _mm256_set1_ps(activations::ROUND);
    let mut codes = [_mm256_setzero_si256(); 4];
    for (codes, vector) in codes.iter_mut().zip(vectors) {
        let rounded = _mm256_add_ps(_mm256_mul_ps(vector, inverse), offset);
        *codes = _mm256_sub_epi32(_mm256_castps_si256(rounded), _mm256_castps_si256(offset));
    }
    let [a, b, c, d] = codes;
    // Packing works on halves, so the words come out as 0 2 4 6 1 3 5 7.
    let packed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    let codes = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), codes);
    let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    let (mut words, mut sums) = ([0; GROUP / 4], [0; 8]);
    // SAFETY: the arrays have the size of a vector.
    unsafe {
        _mm256_storeu_si256(words.as_mut_ptr().cast(), codes);
        let eights = _mm256_hadd_epi32(fours, fours);
        _mm256_storeu_si256(sums.as_mut_ptr().cast(), _mm256_hadd_epi32(eights, eights));
    }
    RoundedGroup { scale, words, half_sums: [sums[0], sums[4]] }
}
