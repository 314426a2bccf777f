//! What generated tokens cost a GPU, in things that can be counted.

use engine::Gpu;
use serde::Serialize;

use crate::output::{Output, bytes};

/// What a generated token costs, on average.
#[derive(Debug, Serialize)]
pub(super) struct OnGpu {
    adapter: String,
    dispatches_per_token: f64,
    submits_per_token: f64,
    reads_per_token: f64,
    weight_bytes_per_token: f64,
    bytes_read_back_per_token: f64,
}

impl OnGpu {
    /// Counts what `decode` has `gpu` do for `n` tokens.
    pub(super) fn count<T>(
        gpu: &Gpu,
        n: usize,
        decode: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<Self> {
        let before = gpu.counters();
        decode()?;
        let counted = gpu.counters().since(&before);
        let per_token = |count: u64| count as f64 / n as f64;
        Ok(Self {
            adapter: gpu.adapter().to_string(),
            dispatches_per_token: per_token(counted.dispatches),
            submits_per_token: per_token(counted.submits),
            reads_per_token: per_token(counted.reads),
            weight_bytes_per_token: per_token(counted.weight_bytes),
            bytes_read_back_per_token: per_token(counted.bytes_read_back),
        })
    }

    pub(super) fn write(&self, output: &Output) -> anyhow::Result<()> {
        output.row("gpu", &self.adapter)?;
        output.row(
            "",
            &format!(
                "a token decoded: {:.0} dispatches, {} of weights, {:.0} submit, {:.0} read of {}",
                self.dispatches_per_token,
                bytes(self.weight_bytes_per_token as u64),
                self.submits_per_token,
                self.reads_per_token,
                bytes(self.bytes_read_back_per_token as u64)
            ),
        )?;
        Ok(())
    }
}
