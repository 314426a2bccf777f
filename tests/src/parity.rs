//! Every recorded case against the reference implementation.

use std::time::Duration;

use engine::eval::{EvalOptions, evaluate};
use engine::{Capture, Device, Traceable};
use tensor::weights::NamedArray;

use crate::recorded::{Case, TOLERANCE, cases, read, relative_error};

const ALL: EvalOptions = EvalOptions {
    logits: true,
    capture: Capture { hidden: true, router: true, vision: true },
    max_new_tokens: 16,
    greedy_logits: true,
};

/// What differs from the record.
pub(crate) fn differences(case: &Case, model: &mut dyn Traceable) -> Vec<String> {
    let inputs = read(&case.input);
    let evaluation = evaluate(model, &inputs, ALL, &|| Duration::ZERO);
    let found =
        pollster::block_on(evaluation).unwrap_or_else(|error| panic!("{}: {error}", case.name)).arrays;
    let mut differences = Vec::new();
    for name in case.expected.names() {
        let (shape, expected) = case.expected.array(name).unwrap().unwrap();
        let fault = match (found.iter().find(|(found, ..)| found == name), &expected) {
            (None, _) => Some("is missing".to_owned()),
            (Some((_, found, _)), _) if *found != shape => Some(format!("is {found:?}, not {shape:?}")),
            (Some((.., NamedArray::I64(found))), NamedArray::I64(expected)) => {
                (found != expected).then(|| format!("is {found:?}, not {expected:?}"))
            }
            (Some((.., NamedArray::F32(found))), NamedArray::F32(expected)) => {
                let error = relative_error(found, expected);
                (error > TOLERANCE).then(|| format!("is off by {error:.1e} of its largest value"))
            }
            _ => Some("is of another type".to_owned()),
        };
        differences.extend(fault.map(|fault| format!("{}: `{name}` {fault}", case.name)));
    }
    differences
}

#[track_caller]
fn check(device: Device) {
    let cases = cases();
    assert!(cases.len() >= 30, "only {} cases are recorded", cases.len());
    let differences: Vec<String> =
        cases.iter().flat_map(|case| differences(case, &mut *case.load(device))).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn the_processor_computes_what_the_reference_implementation_does() {
    check(Device::CpuExact);
}

#[test]
fn plain_loops_compute_what_the_reference_implementation_does() {
    check(Device::Reference);
}
