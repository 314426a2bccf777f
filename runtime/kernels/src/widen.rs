//! Stored halves to `f32`. Every value has its own, so all processors give the same.

use half::f16;
use half::slice::HalfFloatSliceExt;
use tensor::DType;

/// The values of [`DType::F16`] or [`DType::BF16`] in `bytes`.
///
/// # Errors
/// As for [`DType::dequantize`], which does this for all other types, and where the processor has nothing better.
pub fn widen(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), &'static str> {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() == 2 * out.len() && crate::x86::widen(dtype, bytes, out) {
        return Ok(());
    }
    dtype.dequantize(bytes, out)
}

/// The values of `halves`.
///
/// # Panics
/// If `out` has another length.
pub fn widen_f16(halves: &[f16], out: &mut [f32]) {
    assert_eq!(halves.len(), out.len(), "as many floats as halves");
    #[cfg(target_arch = "x86_64")]
    if crate::x86::widen_f16(halves.reinterpret_cast(), out) {
        return;
    }
    halves.convert_to_f32_slice(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_has_its_value() {
        // Fewer where every instruction is interpreted.
        let step = if cfg!(miri) { 97 } else { 1 };
        let halves: Vec<f16> = (0..=u16::MAX).step_by(step).map(f16::from_bits).collect();
        let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        // Ends of all lengths behind whole vectors.
        for start in 0..17 {
            let mut out = vec![0.0; halves.len() - start];
            widen_f16(&halves[start..], &mut out);
            assert!(out.iter().zip(&halves[start..]).all(|(&x, half)| same(x, half.to_f32())));
            for dtype in [DType::F16, DType::BF16] {
                let (mut found, mut expected) = (out.clone(), out.clone());
                widen(dtype, &bytes[2 * start..], &mut found).unwrap();
                dtype.dequantize(&bytes[2 * start..], &mut expected).unwrap();
                assert!(found.iter().zip(expected).all(|(&x, y)| same(x, y)), "{dtype}");
            }
        }
        assert!(widen(DType::BF16, &bytes, &mut [0.0]).is_err());
    }
}
