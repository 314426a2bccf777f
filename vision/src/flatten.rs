//! Samples of any colour type to opaque 8-bit RGB.

use image::ColorType;

use crate::Note;

/// Reduces decoder output (16-bit samples in native byte order) to RGB bytes, and notes what that
/// cost. `None` for colour types that no supported format has.
pub(crate) fn flatten(samples: Vec<u8>, color: ColorType, notes: &mut Vec<Note>) -> Option<Vec<u8>> {
    let bytes = match color {
        ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8 => samples,
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => {
            notes.push(Note::SixteenBitReduced);
            let (pairs, _) = samples.as_chunks::<2>();
            pairs.iter().map(|&pair| (u16::from_ne_bytes(pair) >> 8) as u8).collect()
        }
        _ => return None,
    };

    let mut see_through = false;
    let rgb = match color.channel_count() {
        1 => bytes.iter().flat_map(|&grey| [grey; 3]).collect(),
        2 => {
            let (pixels, _) = bytes.as_chunks::<2>();
            pixels
                .iter()
                .flat_map(|&[grey, alpha]| {
                    see_through |= alpha < 255;
                    [on_white(grey, alpha); 3]
                })
                .collect()
        }
        3 => bytes,
        _ => {
            let (pixels, _) = bytes.as_chunks::<4>();
            pixels
                .iter()
                .flat_map(|&[r, g, b, alpha]| {
                    see_through |= alpha < 255;
                    [on_white(r, alpha), on_white(g, alpha), on_white(b, alpha)]
                })
                .collect()
        }
    };
    if see_through {
        notes.push(Note::AlphaOnWhite);
    }
    Some(rgb)
}

/// One sample of `alpha` opacity over white.
///
/// This is PIL's `alpha_composite` for an opaque background: weights with 7 extra bits, then a
/// division by 255 done as two shifts. Where PIL skips fully transparent pixels the formula gives
/// white as well.
pub(crate) fn on_white(sample: u8, alpha: u8) -> u8 {
    const EXTRA_BITS: u32 = 7;
    let (sample, alpha) = (u32::from(sample), u32::from(alpha));
    let weighted = (sample * alpha + 255 * (255 - alpha)) << EXTRA_BITS;
    let rounded = weighted + (0x80 << EXTRA_BITS);
    ((((rounded >> 8) + rounded) >> 8) >> EXTRA_BITS) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opaque_keeps_the_sample_and_transparent_is_white() {
        for sample in 0..=255 {
            assert_eq!(on_white(sample, 255), sample);
            assert_eq!(on_white(sample, 0), 255);
        }
    }

    #[test]
    fn composite_is_the_rounded_mean() {
        for sample in 0..=255u8 {
            for alpha in 0..=255u8 {
                let (s, a) = (f64::from(sample), f64::from(alpha));
                let exact = (s * a + 255.0 * (255.0 - a)) / 255.0;
                assert!((f64::from(on_white(sample, alpha)) - exact).abs() <= 0.51, "{sample} {alpha}");
            }
        }
    }

    #[test]
    fn sixteen_bit_samples_keep_the_high_byte() {
        let mut notes = Vec::new();
        let samples = [0x1234u16, 0xffff, 0x00ff].iter().flat_map(|s| s.to_ne_bytes()).collect();
        let rgb = flatten(samples, ColorType::L16, &mut notes).unwrap();
        assert_eq!(rgb, [0x12, 0x12, 0x12, 0xff, 0xff, 0xff, 0, 0, 0]);
        assert_eq!(notes, [Note::SixteenBitReduced]);
    }

    #[test]
    fn opaque_alpha_needs_no_note() {
        let mut notes = Vec::new();
        assert_eq!(flatten(vec![9, 8, 7, 255], ColorType::Rgba8, &mut notes).unwrap(), [9, 8, 7]);
        assert!(notes.is_empty());
    }
}
