//! Both forms of the backend pass the suite, whatever the number of threads.

use candle_backend::{Candle, Team, Weight};
use candle_core::Device;
use tensor::{Backend, DType, KvType, RawTensor, SharedBytes, conformance};

#[track_caller]
fn check(b: &Candle) {
    let report = pollster::block_on(conformance::check(b));
    assert!(report.passed(), "{report}");
    // What was measured, with room for another order of the same sums and shorter vectors.
    assert!(report.largest_error() < 1e-10, "{report}");
}

#[test]
fn our_kernels_pass() {
    check(&Candle::cpu());
}

#[test]
fn products_in_integers_are_near() {
    let report = pollster::block_on(conformance::check_rounding(&Candle::cpu_in_integers().unwrap()));
    assert!(report.passed(), "{report}");
    assert!(report.largest_error() > 1e-8, "nothing was rounded: {report}");
}

#[test]
fn packed_weights_change_no_bit() {
    const SHAPE: [usize; 2] = [48, 512];
    let plain = Candle::cpu_in_integers().unwrap();
    let packed = plain.clone().with_packed_weights(u64::MAX);
    let values = |n: usize| (0..n).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>();
    let mut n_bytes = 0;
    for dtype in [DType::Q4_0, DType::Q8_0, DType::Q4_K, DType::Q6_K] {
        let mut blocks = vec![0; dtype.n_bytes(&SHAPE).unwrap()];
        dtype.quantize(&values(SHAPE[0] * SHAPE[1]), &mut blocks, None).unwrap();
        n_bytes += blocks.len() as u64;
        let raw = RawTensor::new("w", dtype, SHAPE.to_vec(), SharedBytes::new(blocks)).unwrap();
        let run = |b: &Candle, w: &Weight, n: usize| {
            let x = b.tensor(&values(n * SHAPE[1]), SHAPE[1]).unwrap();
            let [first, second] = b.linears(&x, [(w, None), (w, None)]).unwrap();
            let rows = b.embed(w, &b.ids(&[47, 0, 16]).unwrap()).unwrap();
            [b.linear(&x, w, None).unwrap(), first, second, rows].map(|y| y.to_vec2::<f32>().unwrap())
        };
        let [before, after] = [&plain, &packed].map(|b| b.weight(raw.clone()).unwrap());
        for n in [1, 2, 4, 7, 30] {
            assert_eq!(run(&packed, &after, n), run(&plain, &before, n), "{dtype}, {n} rows");
        }
    }
    // Each once, and only where there are vectors.
    let vectors = kernels::Path::chosen().unwrap() != kernels::Path::SCALAR;
    assert_eq!(packed.repacked_bytes(), if vectors { n_bytes } else { 0 });
    assert_eq!(plain.repacked_bytes(), 0);
}

#[test]
fn what_is_gated_at_once_has_the_same_bits() {
    const SHAPE: [usize; 2] = [600, 512];
    let b = Candle::cpu_in_integers().unwrap();
    let values = |n: usize, step: f32| (0..n).map(|i| (i as f32 * step).sin()).collect::<Vec<_>>();
    let weight = |name: &str, step: f32| {
        let mut blocks = vec![0; DType::Q4_0.n_bytes(&SHAPE).unwrap()];
        DType::Q4_0.quantize(&values(SHAPE[0] * SHAPE[1], step), &mut blocks, None).unwrap();
        b.weight(RawTensor::new(name, DType::Q4_0, SHAPE.to_vec(), SharedBytes::new(blocks)).unwrap())
            .unwrap()
    };
    let (gate, up) = (weight("gate", 0.37), weight("up", 0.61));
    let bias = b.weight(RawTensor::from_f32("bias", &[SHAPE[0]], &values(SHAPE[0], 0.9))).unwrap();
    for n in [1, 2, 13, 40] {
        let x = b.tensor(&values(n * SHAPE[1], 0.11), SHAPE[1]).unwrap();
        for bias in [None, Some(&bias)] {
            let at_once = b.gated(&x, (&gate, bias), (&up, None)).unwrap();
            let [gate, up] = b.linears(&x, [(&gate, bias), (&up, None)]).unwrap();
            let in_turn = b.swiglu(&gate, &up).unwrap();
            assert_eq!(at_once.to_vec2::<f32>().unwrap(), in_turn.to_vec2::<f32>().unwrap(), "{n} rows");
        }
    }
    let narrow = b.tensor(&[1.0; 32], 32).unwrap();
    let error = b.gated(&narrow, (&gate, None), (&up, None)).unwrap_err().to_string();
    assert!(error.contains("rows of 32 through weights [600, 512]"), "{error}");
}

#[test]
fn caches_of_smaller_types_are_near() {
    for (kv_type, bound) in [(KvType::F32, 1e-10), (KvType::F16, 1e-6), (KvType::Q8_0, 1e-3)] {
        let backend = Candle::cpu().with_kv_type(kv_type);
        let report = pollster::block_on(conformance::check_rounding(&backend));
        assert!(report.passed(), "{kv_type:?}: {report}");
        assert!(report.largest_error() < bound, "{kv_type:?}: {report}");
    }
}

#[test]
fn the_composed_form_passes() {
    check(&Candle::composed(Device::Cpu));
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for backend in [Candle::cpu(), Candle::cpu_in_integers().unwrap()] {
        let verdicts = || {
            let report = pollster::block_on(conformance::check_rounding(&backend));
            report.outcomes.into_iter().map(|outcome| outcome.verdict).collect::<Vec<_>>()
        };
        let by_team = |n_threads| Team::new(n_threads).install(verdicts);
        let by_rayon = |n_threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            pool.install(verdicts)
        };
        // The exact distances from the reference are a fingerprint of the results.
        let one = by_team(1);
        for n_threads in [2, 3] {
            assert_eq!(by_team(n_threads), one);
            assert_eq!(by_rayon(n_threads), one);
        }
    }
}
