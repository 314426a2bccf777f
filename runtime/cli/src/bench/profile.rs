//! What every operation of prefill and decoding takes.

use std::time::Instant;

use engine::{ModelFiles, OpProfile};
use serde::Serialize;

use super::BenchArgs;
use super::measure::Bench;
use super::median::ms;
use crate::output::Output;

/// Operations that take less than this share of their phase are told together.
const LEAST_SHARE: f64 = 0.005;

/// Operations of one prompt, and of the tokens after it.
#[derive(Debug, Serialize)]
pub(super) struct Phases {
    prefill: Vec<Op>,
    decode: Vec<Op>,
}

/// All operations of one kind, of one pass or of one token.
#[derive(Debug, Serialize, PartialEq)]
struct Op {
    name: String,
    calls: f64,
    ms: f64,
    /// Of the time of all operations.
    share: f64,
    /// Parameters read.
    bytes: f64,
    /// Two a product, where they are known.
    operations: f64,
}

/// Loads the model once more, with every operation measured, and runs each phase.
pub(super) fn measure(files: &ModelFiles, args: &BenchArgs) -> anyhow::Result<Phases> {
    let start = Instant::now();
    let (mut model, profile) = engine::load_profiled(files, move || ms(start))?;
    let mut bench = Bench::new(&mut *model, args)?;
    // Once unmeasured, as for all other figures.
    bench.prefill_prompt()?;
    bench.decode()?;
    let _ = profile.take();
    bench.prefill_prompt()?;
    let prefill = per_step(profile.take(), 1);
    bench.go_to_depth()?;
    let _ = profile.take();
    bench.decode()?;
    Ok(Phases { prefill, decode: per_step(profile.take(), args.generate) })
}

/// Shares of `ops`, which are of `n` steps; the longest first, and small ones in one.
fn per_step(ops: Vec<OpProfile>, n: usize) -> Vec<Op> {
    let all_ms: f64 = ops.iter().map(|op| op.ms).sum();
    let mut rest =
        Op { name: "others".to_owned(), calls: 0.0, ms: 0.0, share: 0.0, bytes: 0.0, operations: 0.0 };
    let mut told = Vec::new();
    for op in ops {
        let share = op.ms / all_ms;
        let of_one = |total: f64| total / n as f64;
        let op = Op {
            name: op.name,
            calls: of_one(op.n_calls as f64),
            ms: of_one(op.ms),
            share,
            bytes: of_one(op.bytes as f64),
            operations: of_one(op.operations as f64),
        };
        if share >= LEAST_SHARE {
            told.push(op);
        } else {
            rest.calls += op.calls;
            rest.ms += op.ms;
            rest.share += op.share;
            rest.bytes += op.bytes;
            rest.operations += op.operations;
        }
    }
    if rest.calls > 0.0 {
        told.push(rest);
    }
    told
}

impl Phases {
    pub(super) fn write(&self, output: &Output) -> anyhow::Result<()> {
        for (heading, ops) in [("prefill", &self.prefill), ("decode", &self.decode)] {
            output.row(heading, "   share        ms     calls      GB/s     GOP/s")?;
            for op in ops {
                let seconds = op.ms / 1000.0;
                output.row(
                    "",
                    &format!(
                        "{:7.1}% {:9.3} {:9.1} {:9.2} {:9.1}  {}",
                        op.share * 100.0,
                        op.ms,
                        op.calls,
                        op.bytes / seconds / 1e9,
                        op.operations / seconds / 1e9,
                        op.name
                    ),
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_operations_are_told_together() {
        let op = |name: &str, ms: f64| OpProfile {
            name: name.to_owned(),
            n_calls: 4,
            ms,
            bytes: 8,
            operations: 16,
        };
        let ops = per_step(vec![op("linear", 98.0), op("add", 1.6), op("rope", 0.3), op("gather", 0.1)], 2);
        assert_eq!(ops.iter().map(|op| &*op.name).collect::<Vec<_>>(), ["linear", "add", "others"]);
        let Op { calls, ms, share, bytes, operations, .. } = &ops[2];
        assert_eq!((*calls, *bytes, *operations), (4.0, 8.0, 16.0));
        assert!((ms - 0.2).abs() < 1e-12 && (share - 0.004).abs() < 1e-12, "{ops:?}");
    }
}
