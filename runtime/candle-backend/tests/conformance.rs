//! Both forms of the backend pass the suite, whatever the number of threads.

use candle_backend::Candle;
use candle_core::Device;
use tensor::conformance;

#[track_caller]
fn check(b: &Candle) {
    let report = pollster::block_on(conformance::check(b));
    assert!(report.passed(), "{report}");
    // What was measured, with room for another order of the same sums.
    assert!(report.largest_error() < 1e-11, "{report}");
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
fn the_composed_form_passes() {
    check(&Candle::composed(Device::Cpu));
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for backend in [Candle::cpu(), Candle::cpu_in_integers().unwrap()] {
        let errors = |n_threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            let report = pool.install(|| pollster::block_on(conformance::check_rounding(&backend)));
            report.outcomes.into_iter().map(|outcome| outcome.verdict).collect::<Vec<_>>()
        };
        // The exact distances from the reference are a fingerprint of the results.
        let one = errors(1);
        assert_eq!(errors(2), one);
        assert_eq!(errors(3), one);
    }
}
