//! How much a thread can multiply and add at most: what a product is judged by.
//!
//! [`multiply_add_f32`] and [`multiply_add_i8`] keep the widest units of this processor busy from registers alone
//! and tell how many operations that was; whoever calls them holds the clock, and calls them on as many threads
//! as shall be measured.

#[cfg(target_arch = "x86_64")]
mod x86;

use std::hint::black_box;

/// Independent sums, so that no addition waits for the one before it.
const SUMS: usize = 12;
/// Rounds over all sums in one call: about a millisecond, unless every instruction is interpreted.
const ROUNDS: usize = if cfg!(miri) { 8 } else { 1 << 16 };

/// Multiplies and adds `f32` values for about a millisecond. Returns the number of operations, two a product.
pub fn multiply_add_f32() -> u64 {
    #[cfg(target_arch = "x86_64")]
    if let Some(n) = x86::multiply_add_f32() {
        return n;
    }
    let (x, y) = (black_box(0.999_9f32), black_box(1e-4f32));
    let mut sums = [[1.0f32; 4]; SUMS];
    for _ in 0..ROUNDS {
        sums.iter_mut().flatten().for_each(|sum| *sum = *sum * x + y);
    }
    black_box(sums);
    (ROUNDS * SUMS * 4 * 2) as u64
}

/// Multiplies signed bytes and adds them up in 32 bits for about a millisecond. Returns the number of operations,
/// two a product.
pub fn multiply_add_i8() -> u64 {
    #[cfg(target_arch = "x86_64")]
    if let Some(n) = x86::multiply_add_i8() {
        return n;
    }
    let x = black_box([3i8; 16]);
    let mut sums = [[0i32; 16]; SUMS];
    for _ in 0..ROUNDS / 4 {
        let y = black_box([1i8; 16]);
        for sum in &mut sums {
            for ((sum, x), y) in sum.iter_mut().zip(x).zip(y) {
                *sum = sum.wrapping_add(i32::from(x) * i32::from(y));
            }
        }
    }
    black_box(sums);
    (ROUNDS / 4 * SUMS * 16 * 2) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_rounds_are_counted() {
        for n in [multiply_add_f32(), multiply_add_i8()] {
            assert!(n > 0 && n.is_multiple_of((ROUNDS / 4 * SUMS * 2) as u64), "{n}");
        }
    }
}
