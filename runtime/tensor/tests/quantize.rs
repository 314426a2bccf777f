//! Encoding values into every storage type and reading them back.

use proptest::prelude::*;
use tensor::DType;

/// Values of one row in these tests: a whole number of blocks of every type.
const ROW: usize = 512;

fn round_trip(dtype: DType, values: &[f32], importance: Option<&[f32]>) -> Vec<f32> {
    let mut bytes = vec![0xAA; dtype.n_bytes(&[values.len()]).unwrap()];
    dtype.quantize(values, &mut bytes, importance).unwrap();
    let mut out = vec![f32::NAN; values.len()];
    dtype.dequantize(&bytes, &mut out).unwrap();
    out
}

/// Numbers that are nearly normally distributed, the same ones every time.
fn gaussian(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
}

/// Root of the squared error over that of the squared values.
fn relative_error(values: &[f32], found: &[f32]) -> f64 {
    let sum = |of: &dyn Fn(usize) -> f64| (0..values.len()).map(of).sum::<f64>();
    let error = sum(&|i| (f64::from(values[i]) - f64::from(found[i])).powi(2));
    (error / sum(&|i| f64::from(values[i]).powi(2))).sqrt()
}

fn quantized() -> impl Iterator<Item = DType> {
    DType::ALL.into_iter().filter(|dtype| dtype.is_quantized())
}

/// Relative errors on normally distributed weights, a little above what is found.
const BOUNDS: [(DType, f64); 10] = [
    (DType::Q4_0, 0.0795),
    (DType::Q4_1, 0.0695),
    (DType::Q4_K, 0.0687),
    (DType::Q5_0, 0.0393),
    (DType::Q5_1, 0.0334),
    (DType::Q5_K, 0.0339),
    (DType::Q6_K, 0.0163),
    (DType::Q8_0, 0.0047),
    (DType::BF16, 0.0017),
    (DType::F16, 0.00022),
];

#[test]
fn errors_of_normal_weights_stay_within_their_bounds() {
    let values = gaussian(64 * ROW, 1);
    let errors = BOUNDS.map(|(dtype, _)| relative_error(&values, &round_trip(dtype, &values, None)));
    assert!(errors.iter().zip(BOUNDS).all(|(error, (_, bound))| *error < bound), "{errors:.5?}");
    assert_eq!(round_trip(DType::F32, &values, None), values);
}

#[test]
fn more_bits_are_nearer() {
    let values = gaussian(16 * ROW, 2);
    let errors: Vec<f64> =
        BOUNDS.iter().map(|(dtype, _)| relative_error(&values, &round_trip(*dtype, &values, None))).collect();
    for (worse, better) in [(0, 3), (1, 4), (2, 5), (3, 6), (4, 6), (5, 6), (6, 7), (7, 8), (8, 9)] {
        assert!(errors[better] < errors[worse], "{} and {}", BOUNDS[worse].0, BOUNDS[better].0);
    }
}

/// What every encoder must beat: the largest value gets the largest code.
fn plain_rounding(values: &[f32], group: usize, most: f32) -> Vec<f32> {
    let round = |x: &[f32]| {
        let scale = x.iter().fold(0.0f32, |peak, x| peak.max(x.abs())) / most;
        x.iter().map(|x| (x / scale).round() * scale).collect::<Vec<_>>()
    };
    values.chunks(group).flat_map(round).collect()
}

#[test]
fn the_search_beats_plain_rounding() {
    let values = gaussian(16 * ROW, 3);
    for (dtype, group, most, gain) in [
        (DType::Q4_0, 32, 7.0, 0.85),
        (DType::Q5_0, 32, 15.0, 0.9),
        (DType::Q6_K, 16, 31.0, 0.93),
        (DType::Q8_0, 32, 127.0, 0.99),
    ] {
        let plain = relative_error(&values, &plain_rounding(&values, group, most));
        let found = relative_error(&values, &round_trip(dtype, &values, None));
        assert!(found < gain * plain, "{dtype}: {found:.5} is no better than {gain} * {plain:.5}");
    }
}

#[test]
fn important_values_are_nearer() {
    let values = gaussian(16 * ROW, 4);
    let importance: Vec<f32> = (0..values.len()).map(|i| if i % 8 == 0 { 100.0 } else { 1.0 }).collect();
    let every_eighth = |values: &[f32]| values.iter().copied().step_by(8).collect::<Vec<_>>();
    for dtype in quantized() {
        let [alike, weighted] = [None, Some(importance.as_slice())].map(|weights| {
            relative_error(&every_eighth(&values), &every_eighth(&round_trip(dtype, &values, weights)))
        });
        assert!(weighted < alike, "{dtype}: {weighted} with importance, {alike} without");
    }
}

#[test]
fn what_was_quantized_survives_quantizing_again() {
    let values = gaussian(16 * ROW, 5);
    for (dtype, bound) in BOUNDS {
        let once = round_trip(dtype, &values, None);
        let error = relative_error(&once, &round_trip(dtype, &once, None));
        assert!(error <= 0.1 * bound, "{dtype}: {error}");
    }
}

#[test]
fn zeros_stay_zeros() {
    for dtype in DType::ALL {
        for importance in [None, Some([0.0; ROW].as_slice())] {
            let out = round_trip(dtype, &[0.0; ROW], importance);
            assert!(out.iter().all(|x| x.to_bits() == 0), "{dtype}");
        }
    }
}

#[test]
fn constants_keep_their_value() {
    for dtype in quantized() {
        for constant in [1.0, -0.37, 300.5, -1e-3] {
            let error = relative_error(&[constant; ROW], &round_trip(dtype, &[constant; ROW], None));
            assert!(error < 3e-3, "{dtype} {constant}: {error}");
        }
    }
}

#[test]
fn one_large_value_among_small_ones_keeps_its_size() {
    let mut values = gaussian(ROW, 6).into_iter().map(|x| x * 1e-3).collect::<Vec<_>>();
    values[77] = -40.0;
    for dtype in quantized() {
        let found = round_trip(dtype, &values, None)[77];
        assert!((found + 40.0).abs() < 0.3, "{dtype}: {found}");
    }
}

#[test]
fn values_beyond_a_type_become_its_largest() {
    let values = [f32::MAX; ROW];
    assert_eq!(round_trip(DType::F16, &values, None), [65_504.0; ROW]);
    for dtype in DType::ALL {
        let out = round_trip(dtype, &values, None);
        assert!(out.iter().all(|x| x.is_finite() && *x > 60_000.0), "{dtype}: {}", out[0]);
    }
}

#[test]
fn what_cannot_be_stored_is_refused() {
    for dtype in DType::ALL {
        let mut bytes = vec![0; dtype.n_bytes(&[ROW]).unwrap()];
        let mut values = [1.0; ROW];
        assert!(dtype.quantize(&values[1..], &mut bytes, None).is_err(), "{dtype}: too few values");
        for weights in [&[1.0; ROW - 1][..], &[-1.0; ROW], &[f32::NAN; ROW]] {
            assert!(dtype.quantize(&values, &mut bytes, Some(weights)).is_err(), "{dtype}: importance");
        }
        for bad in [f32::NAN, f32::INFINITY] {
            values[300] = bad;
            assert!(dtype.quantize(&values, &mut bytes, None).is_err(), "{dtype}: {bad}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_value_turns_into_nonsense(
        values in prop::collection::vec(
            prop_oneof![Just(0.0f32), -1.0f32..1.0, -1e-30f32..1e-30, -1e6f32..1e6, prop::num::f32::NORMAL],
            256,
        ),
        importance in prop::option::of(prop::collection::vec(
            prop_oneof![Just(0.0f32), 0.0f32..10.0, Just(1e30f32)],
            256,
        )),
    ) {
        let largest = values.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        for dtype in DType::ALL {
            for x in round_trip(dtype, &values, importance.as_deref()) {
                prop_assert!(x.is_finite(), "{dtype}");
                prop_assert!(x.abs() <= 1.2 * largest + 1e-6, "{dtype}: {x} beyond {largest}");
            }
        }
    }
}
