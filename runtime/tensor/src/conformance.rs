//! The suite every backend passes.
//!
//! [`check`] runs each operation on a backend and on [`Reference`], over shapes and storage types that
//! go wrong easily, and compares. It also hands every operation what does not fit, which must be an
//! error that names the operation. It needs no file and no clock, so it runs in a browser too.
//!
//! ```
//! # pollster::block_on(async {
//! let report = tensor::conformance::check(&tensor::Reference).await;
//! assert!(report.passed(), "{report}");
//! # });
//! ```

mod attention;
mod experts;
mod inputs;
mod linear;
mod norm;
mod pointwise;
mod report;
mod rows;

use std::fmt::Debug;

use crate::{Backend, Reference, Result};

pub use report::{Outcome, Report};

/// Runs all cases on `backend`.
pub async fn check<B: Backend>(backend: &B) -> Report {
    run(Suite::new(backend)).await
}

/// As [`check`], for a backend that rounds activations to signed bytes, one scale for every 32 of them, before
/// it multiplies them with block-quantised weights.
pub async fn check_rounding<B: Backend>(backend: &B) -> Report {
    run(Suite { rounds: true, ..Suite::new(backend) }).await
}

/// As [`check`], for a backend that keeps keys and values in `f16`.
pub async fn check_half_caches<B: Backend>(backend: &B) -> Report {
    run(Suite { half_caches: true, ..Suite::new(backend) }).await
}

/// Runs the cases that judge one of `ops`.
pub async fn check_ops<B: Backend>(backend: &B, ops: &[&str]) -> Report {
    run(Suite { only: Some(ops), ..Suite::new(backend) }).await
}

async fn run<B: Backend>(mut suite: Suite<'_, B>) -> Report {
    rows::cases(&mut suite).await;
    linear::cases(&mut suite).await;
    norm::cases(&mut suite).await;
    pointwise::cases(&mut suite).await;
    attention::cases(&mut suite).await;
    experts::cases(&mut suite).await;
    Report { outcomes: suite.outcomes }
}

/// The largest normalised mean square error of an operation that computes in `f32`.
const F32: f64 = 1e-7;
/// The same where keys and values are rounded to `f16`, as in llama.cpp's suite.
const F16: f64 = 1e-6;
/// The bound of an operation that only moves values, or rounds once.
const EXACT: f64 = 0.0;

/// Operations and their inputs, to be run on any backend. `Debug` is the label.
trait Case: Debug {
    /// The operations this case judges, the most important first.
    const OPS: &'static [&'static str];
    /// The largest normalised mean square error.
    const BOUND: f64 = F32;

    /// The same where activations may be rounded, if any are multiplied with a block-quantised weight.
    ///
    /// Rounding a group of 32 to steps of its largest value / 127 adds noise of (largest / 127)² / 12 a value:
    /// 1.6e-5 of the power if values are spread evenly, where the largest is √3 times the root mean square.
    fn rounded_bound(&self) -> Option<f64> {
        None
    }

    /// Runs it on `b` and reads the results.
    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>>;
}

/// A result that was read.
#[derive(Debug, PartialEq)]
enum Values {
    /// Activations.
    Rows { shape: (usize, usize), values: Vec<f32> },
    /// Indices or counts, which are equal or wrong.
    Indices(Vec<u32>),
}

impl Values {
    async fn rows<B: Backend>(b: &B, x: &B::Tensor) -> Result<Self> {
        Ok(Self::Rows { shape: b.shape(x), values: b.read(x).await? })
    }

    async fn indices<B: Backend>(b: &B, ids: &B::Ids) -> Result<Self> {
        Ok(Self::Indices(b.read_ids(ids).await?))
    }
}

struct Suite<'a, B> {
    backend: &'a B,
    /// Cases that judge none of these are passed over.
    only: Option<&'a [&'a str]>,
    /// The backend rounds activations.
    rounds: bool,
    /// The backend keeps keys and values in `f16`.
    half_caches: bool,
    outcomes: Vec<Outcome>,
}

impl<'a, B: Backend> Suite<'a, B> {
    fn new(backend: &'a B) -> Self {
        Self { backend, only: None, rounds: false, half_caches: false, outcomes: Vec::new() }
    }

    fn wants<C: Case>(&self) -> bool {
        self.only.is_none_or(|only| C::OPS.iter().any(|op| only.contains(op)))
    }

    /// The backend and the reference give the same.
    async fn agree<C: Case>(&mut self, case: C) {
        if !self.wants::<C>() {
            return;
        }
        let bound = match case.rounded_bound() {
            Some(bound) if self.rounds => bound,
            _ if self.half_caches && C::OPS.iter().any(|op| op.starts_with("attention")) => F16,
            _ => C::BOUND,
        };
        let verdict = match (case.run(self.backend).await, case.run(&Reference).await) {
            (_, Err(e)) => Err(format!("the reference refuses it: {e}")),
            (Err(e), _) => Err(e.to_string()),
            (Ok(found), Ok(expected)) => compare(&found, &expected, bound),
        };
        self.outcomes.push(Outcome { ops: C::OPS, case: format!("{case:?}"), verdict });
    }

    /// The backend and the reference refuse it, and name the operation.
    async fn refuse<C: Case>(&mut self, case: C) {
        if !self.wants::<C>() {
            return;
        }
        let names = |e: String| match C::OPS.iter().any(|op| e.contains(op)) {
            true => Ok(0.0),
            false => Err(format!("unclear error: {e}")),
        };
        let verdict = match (case.run(self.backend).await, case.run(&Reference).await) {
            (Ok(_), _) => Err("accepts what does not fit".to_owned()),
            (_, Ok(_)) => Err("the reference accepts what does not fit".to_owned()),
            (Err(found), Err(expected)) => names(expected.to_string()).and_then(|_| names(found.to_string())),
        };
        self.outcomes.push(Outcome { ops: C::OPS, case: format!("{case:?}"), verdict });
    }
}

/// The largest error of all results, if none is above `bound`.
fn compare(found: &[Values], expected: &[Values], bound: f64) -> Result<f64, String> {
    if found.len() != expected.len() {
        return Err(format!("{} results, not {}", found.len(), expected.len()));
    }
    let mut largest = 0.0f64;
    for (found, expected) in found.iter().zip(expected) {
        let error = match (found, expected) {
            (Values::Rows { shape: a, values: found }, Values::Rows { shape: b, values: expected }) => {
                if a != b || found.len() != expected.len() {
                    return Err(format!(
                        "{} values in shape {a:?}, not {} in {b:?}",
                        found.len(),
                        expected.len()
                    ));
                }
                nmse(found, expected)
            }
            _ if found == expected => 0.0,
            _ => return Err(format!("{found:?}, not {expected:?}")),
        };
        if error.is_nan() || error > bound {
            return Err(format!("normalised mean square error {error:.1e}, above {bound:e}"));
        }
        largest = largest.max(error);
    }
    Ok(largest)
}

/// `Σ (found − expected)² / Σ expected²`.
fn nmse(found: &[f32], expected: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let error: f64 = found.iter().zip(expected).map(|(&f, &e)| square(f64::from(f) - f64::from(e))).sum();
    let power: f64 = expected.iter().map(|&e| square(f64::from(e))).sum();
    if error == 0.0 { 0.0 } else { error / power }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_of_the_trait_has_a_case() {
        let source = include_str!("backend.rs");
        let methods = source.lines().filter_map(|line| line.strip_prefix("    fn "));
        let name = |line: &str| line.split(['(', '<']).next().unwrap_or_default().to_owned();
        // `Clone for Routing` stands in the same file, and accounts are no operations.
        let others = ["clone", "expert_use", "repacked_bytes"];
        let in_trait: BTreeSet<String> =
            methods.map(name).filter(|name| !others.contains(&name.as_str())).collect();
        let judged = pollster::block_on(check(&Reference)).ops().map(str::to_owned).collect();
        assert_eq!(in_trait, judged);
    }

    #[test]
    fn an_error_that_is_not_a_number_fails() {
        let rows = |values: Vec<f32>| [Values::Rows { shape: (1, values.len()), values }];
        assert!(compare(&rows(vec![f32::NAN]), &rows(vec![1.0]), F32).is_err());
        assert!(compare(&rows(vec![1e-20]), &rows(vec![0.0]), F32).is_err());
        assert!(compare(&rows(vec![1.0, 2.0]), &rows(vec![1.0, 2.0]), EXACT).is_ok());
    }
}
