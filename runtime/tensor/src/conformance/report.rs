//! What the suite found.

use std::collections::BTreeMap;
use std::fmt;

/// One case and how it went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The operations it judges, the most important first.
    pub ops: &'static [&'static str],
    /// The inputs in words.
    pub case: String,
    /// The normalised mean square error, or what went wrong.
    pub verdict: Result<f64, String>,
}

/// How all cases went. Displays as a table, then every failure.
#[derive(Debug, Clone)]
pub struct Report {
    /// All cases, in order.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// Whether no case failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The cases that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| outcome.verdict.is_err())
    }

    /// The operations that were judged; some more than once.
    pub fn ops(&self) -> impl Iterator<Item = &'static str> {
        self.outcomes.iter().flat_map(|outcome| outcome.ops.iter().copied())
    }

    /// The largest normalised mean square error of the cases that passed.
    #[must_use]
    pub fn largest_error(&self) -> f64 {
        self.outcomes.iter().filter_map(|outcome| outcome.verdict.as_ref().ok()).fold(0.0, |a, &b| a.max(b))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table: BTreeMap<&str, (usize, usize, f64)> = BTreeMap::new();
        for outcome in &self.outcomes {
            let (n_cases, n_failed, error) = table.entry(outcome.ops[0]).or_default();
            *n_cases += 1;
            match outcome.verdict {
                Ok(found) => *error = error.max(found),
                Err(_) => *n_failed += 1,
            }
        }
        writeln!(f, "{:<14} {:>5} {:>6}  largest NMSE", "operation", "cases", "failed")?;
        for (op, (n_cases, n_failed, error)) in table {
            writeln!(f, "{op:<14} {n_cases:>5} {n_failed:>6}  {error:.1e}")?;
        }
        for Outcome { ops, case, verdict } in self.failures() {
            let reason = verdict.as_ref().err().map_or("", String::as_str);
            writeln!(f, "{}: {reason}\n    {case}", ops[0])?;
        }
        Ok(())
    }
}
