//! Every tier passes the suite, with and without barriers, and where bindings are too small for a weight.

#![expect(clippy::print_stdout, reason = "a test that is passed over says so")]

use tensor::conformance;
use wgpu_backend::{Options, Tier, Wgpu};

fn request(options: Options) -> Option<Wgpu> {
    match pollster::block_on(Wgpu::request_with(options)) {
        Ok(b) => Some(b),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

#[track_caller]
fn check(options: Options) {
    let Some(b) = request(options) else { return };
    println!("{}", b.adapter());
    let report = match b.adapter().tier {
        Tier::Half => pollster::block_on(conformance::check_half_caches(&b)),
        _ => pollster::block_on(conformance::check(&b)),
    };
    println!("{report}");
    assert!(report.passed(), "{report}");
}

fn tier(highest_tier: Tier, barrier_free: bool) -> Options {
    Options { highest_tier: Some(highest_tier), barrier_free: Some(barrier_free), ..Options::default() }
}

#[test]
fn without_subgroups_or_barriers() {
    check(tier(Tier::Plain, true));
}

#[test]
fn without_subgroups() {
    check(tier(Tier::Plain, false));
}

#[test]
fn with_subgroups() {
    check(tier(Tier::Subgroups, false));
}

#[test]
fn with_half_caches() {
    check(tier(Tier::Half, false));
}

/// Matrices in many pieces, and banks with one expert a piece.
#[test]
fn where_bindings_are_too_small() {
    for (largest_binding, ops) in
        [(4096, &["weight", "embed", "linear", "linears"][..]), (300_000, &["expert_mlp"][..])]
    {
        let options = Options { largest_binding: Some(largest_binding), ..tier(Tier::Plain, true) };
        let Some(b) = request(options) else { return };
        let report = pollster::block_on(conformance::check_ops(&b, ops));
        println!("{report}");
        assert!(report.passed(), "{report}");
    }
}
