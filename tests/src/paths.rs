//! The recorded cases and the conformance suite on every set of kernels that this machine has.

use std::env;
use std::process::Command;

use candle_backend::Candle;
use kernels::Path;
use tensor::conformance;

/// What computes with the kernels; all else here is about other things.
const TESTS: [&str; 6] =
    ["parity::", "rounded::", "invariants::", "expert_memory::", "mtp::", "paths::the_suite_passes"];

#[test]
fn the_suite_passes() {
    let report = pollster::block_on(conformance::check_rounding(&Candle::cpu_in_integers().unwrap()));
    assert!(report.passed(), "{report}");
}

/// A process chooses once, so the paths that this one has not chosen get processes of their own.
#[test]
fn every_other_path_passes_too() {
    let chosen = Path::chosen().unwrap();
    for path in Path::supported().into_iter().filter(|&path| path != chosen) {
        let program = env::current_exe().unwrap();
        let run = Command::new(program).env("OCELLI_KERNELS", path.name()).args(TESTS).output().unwrap();
        let told = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{}: {told}{}", path.name(), String::from_utf8_lossy(&run.stderr));
        assert!(TESTS.iter().all(|name| told.contains(&format!("test {name}"))), "{}: {told}", path.name());
    }
}
