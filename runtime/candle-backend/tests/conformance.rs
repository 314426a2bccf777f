//! Both forms of the backend pass the suite, whatever the number of threads.

use candle_backend::{Candle, Team};
use candle_core::Device;
use tensor::{KvType, conformance};

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
