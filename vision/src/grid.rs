//! Which size a picture is resized to, so that it is whole patches within the pixel limits.

use crate::{Error, Result};

/// Sides that differ more than this many times are refused, as in the reference.
const MAX_ASPECT: u32 = 200;

/// The resized `(height, width)` of a picture: multiples of `factor` that nearly keep the aspect
/// ratio, with `min_pixels..=max_pixels` pixels where the aspect ratio allows it.
///
/// The floating-point steps and their order are the reference's, because both `floor` and `ceil`
/// turn a difference in the last bit into a different grid. Rounding is half to even, as in Python.
///
/// # Errors
/// If a side is zero, or the sides differ more than 200 times.
///
/// Source: `smart_resize` of the ERNIE 4.5 VL image processor, with the lower bound of one `factor`
/// per side from the original code.
pub fn smart_resize(
    height: u32,
    width: u32,
    factor: u32,
    min_pixels: u32,
    max_pixels: u32,
) -> Result<(u32, u32)> {
    let (long, short) = (height.max(width), height.min(width));
    if short == 0 {
        return Err(Error::Empty { width, height });
    }
    if long as f64 / short as f64 > MAX_ASPECT as f64 {
        return Err(Error::AspectRatio { width, height, max: MAX_ASPECT });
    }

    let (h, w, factor) = (height as f64, width as f64, factor as f64);
    let (min_pixels, max_pixels) = (min_pixels as f64, max_pixels as f64);
    let to_multiple = |side: f64| factor.max((side / factor).round_ties_even() * factor);

    let (rounded_h, rounded_w) = (to_multiple(h), to_multiple(w));
    let (resized_h, resized_w) = if rounded_h * rounded_w > max_pixels {
        let beta = (h * w / max_pixels).sqrt();
        let shrink = |side: f64| factor.max((side / beta / factor).floor() * factor);
        (shrink(h), shrink(w))
    } else if rounded_h * rounded_w < min_pixels {
        let beta = (min_pixels / (h * w)).sqrt();
        let grow = |side: f64| (side * beta / factor).ceil() * factor;
        (grow(h), grow(w))
    } else {
        (rounded_h, rounded_w)
    };
    Ok((resized_h as u32, resized_w as u32))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Preprocessor;

    #[track_caller]
    fn check(input: (u32, u32), resized: (u32, u32), n_tokens: u32) {
        let pre = Preprocessor::default();
        assert_eq!(pre.smart_resize(input.0, input.1).unwrap(), resized);
        assert_eq!((resized.0 / 28) * (resized.1 / 28), n_tokens);
    }

    #[test]
    fn image_sizes_equal_the_reference() {
        check((480, 640), (476, 644), 391);
        check((1080, 1920), (1092, 1932), 2691);
        check((224, 224), (224, 224), 64);
        check((100, 100), (112, 112), 16);
        check((28, 28), (56, 56), 4);
        check((20, 20), (56, 56), 4);
        check((42, 42), (56, 56), 4);
        check((70, 98), (56, 112), 8);
        check((4000, 6000), (1792, 2688), 6144);
        check((3000, 30), (2996, 28), 107);
        check((1, 1), (56, 56), 4);
    }

    #[test]
    fn video_sizes_equal_the_reference() {
        let pre = Preprocessor::default();
        for (input, resized, n_tokens) in [
            ((720, 1280), (728, 1288), 1196),
            ((360, 640), (364, 644), 299),
            ((1080, 1920), (700, 1288), 1150),
            ((240, 320), (420, 560), 300),
        ] {
            assert_eq!(pre.smart_resize_frame(input.0, input.1).unwrap(), resized);
            assert_eq!((resized.0 / 28) * (resized.1 / 28), n_tokens);
        }
    }

    #[test]
    fn thin_pictures_are_refused() {
        let pre = Preprocessor::default();
        assert!(pre.smart_resize(200, 1).is_ok());
        assert!(matches!(
            pre.smart_resize(201, 1),
            Err(Error::AspectRatio { width: 1, height: 201, max: 200 })
        ));
        assert!(matches!(pre.smart_resize(0, 5), Err(Error::Empty { .. })));
    }

    proptest! {
        #[test]
        fn sizes_are_whole_patches_within_bounds(long in 1u32..=60_000, ratio in 1.0f64..=200.0, is_wide: bool) {
            let short = (f64::from(long) / ratio).ceil() as u32;
            let (h, w) = if is_wide { (short, long) } else { (long, short) };

            let pre = Preprocessor::default();
            let (rh, rw) = pre.smart_resize(h, w).unwrap();
            prop_assert_eq!((rh % 28, rw % 28), (0, 0));
            prop_assert!(rh >= 28 && rw >= 28);
            prop_assert!(rh * rw >= pre.min_pixels, "{rh}x{rw} is too small");
            prop_assert!(rh * rw <= pre.max_pixels, "{rh}x{rw} is too large");
        }
    }
}
