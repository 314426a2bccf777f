//! What `bench` found.

use serde::Serialize;

use super::limits::Limits;
use super::median::median;
use super::on_gpu::OnGpu;
use super::peer::{Compared, Comparison};
use super::profile::Phases;
use crate::answer::ExpertAccount;
use crate::output::{Output, bytes};

/// Medians over all repetitions.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) model: String,
    pub(super) threads: usize,
    pub(super) pinned: bool,
    pub(super) repetitions: usize,
    pub(super) prompt_tokens: usize,
    pub(super) generated_tokens: usize,
    /// Tokens in the context before the generated ones.
    pub(super) depth: usize,
    pub(super) load_ms: f64,
    /// A process of its own: its start, the first token after the prompt, and its end.
    pub(super) start_ms: f64,
    /// The most memory that process held.
    pub(super) peak_rss_bytes: Option<u64>,
    pub(super) prefill_tokens_per_s: f64,
    pub(super) ttft_ms: f64,
    pub(super) decode_tokens_per_s: f64,
    pub(super) rows: Rows,
    pub(super) picture: Option<Seeing>,
    /// Of the last repetition's decoding, if experts have a budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) experts: Option<ExpertAccount>,
    pub(super) weights_mapped_bytes: u64,
    pub(super) weights_owned_bytes: u64,
    pub(super) kv_cache_bytes: u64,
    /// Weights, keys and values that decoding a token reads.
    pub(super) bytes_read_per_token: u64,
    /// Of the prompt, two a product.
    pub(super) prefill_operations_per_token: f64,
    /// On the processor.
    #[serde(flatten)]
    pub(super) shares: Option<Shares>,
    #[serde(rename = "gpu", skip_serializing_if = "Option::is_none")]
    pub(super) on_gpu: Option<OnGpu>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peer: Option<Comparison>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) profile: Option<Phases>,
}

/// What a processor can do at most, and how much of it was done.
#[derive(Debug, Serialize)]
pub(super) struct Shares {
    bandwidth_bytes_per_s: f64,
    f32_operations_per_s: f64,
    i8_operations_per_s: f64,
    /// Of what decoding reads each second, over what plain reading of memory reaches.
    bandwidth_share: f64,
    /// Of the operations of prefill each second, over what multiplying bytes reaches.
    i8_share: f64,
}

impl Shares {
    /// Of `limits`, by what decoding reads and what prefill computes a second.
    pub(super) fn of(limits: Limits, bytes_per_s: f64, operations_per_s: f64) -> Self {
        Self {
            bandwidth_bytes_per_s: limits.bandwidth,
            f32_operations_per_s: limits.f32_operations,
            i8_operations_per_s: limits.i8_operations,
            bandwidth_share: bytes_per_s / limits.bandwidth,
            i8_share: operations_per_s / limits.i8_operations,
        }
    }
}

/// Several rows in one pass, and one alone.
#[derive(Debug, Serialize)]
pub(super) struct Rows {
    pub(super) n: usize,
    pub(super) one_ms: f64,
    pub(super) all_ms: f64,
    /// Time of all over time of one.
    pub(super) ratio: f64,
}

/// What one picture takes.
#[derive(Debug, Serialize)]
pub(super) struct Seeing {
    pub(super) size: [u32; 2],
    pub(super) tokens: usize,
    /// Resizing and cutting into patches.
    pub(super) front_ms: f64,
    /// Tower and resampler: a prompt with the picture, less as many tokens of text.
    pub(super) tower_ms: f64,
    /// From pixels to the first token of an answer.
    pub(super) ttft_ms: f64,
}

impl Report {
    pub(super) fn write(&self, output: &Output) -> anyhow::Result<()> {
        output.row("model", &self.model)?;
        let pinned = if self.pinned { ", each on a core of its own" } else { "" };
        match &self.on_gpu {
            Some(gpu) => gpu.write(output)?,
            None => output.row("threads", &format!("{}{pinned}", self.threads))?,
        }
        output.row("load", &format!("{:.0} ms", self.load_ms))?;
        output.row(
            "prefill",
            &format!(
                "{:.1} tokens/s · first token after {:.1} ms ({} tokens)",
                self.prefill_tokens_per_s, self.ttft_ms, self.prompt_tokens
            ),
        )?;
        let depth = if self.depth > 0 { format!(" behind {}", self.depth) } else { String::new() };
        output.row(
            "decode",
            &format!(
                "{:.1} tokens/s · {:.2} ms a token ({} tokens{depth})",
                self.decode_tokens_per_s,
                1000.0 / self.decode_tokens_per_s,
                self.generated_tokens
            ),
        )?;
        let Rows { n, one_ms, all_ms, ratio } = &self.rows;
        output
            .row("batch", &format!("{n} rows in {all_ms:.2} ms, {ratio:.2} of one row's {one_ms:.2} ms"))?;
        if let Some(Seeing { size: [width, height], tokens, front_ms, tower_ms, ttft_ms }) = &self.picture {
            output.row(
                "picture",
                &format!(
                    "{ttft_ms:.1} ms to the first token · front {front_ms:.1} ms, tower {tower_ms:.1} ms \
                     ({width}x{height}, {tokens} tokens)"
                ),
            )?;
        }
        let peak = self.peak_rss_bytes.map(|n| format!(" · at most {} of memory", bytes(n)));
        output.row(
            "process",
            &format!("{:.0} ms from start to first token{}", self.start_ms, peak.unwrap_or_default()),
        )?;
        if let Some(experts) = &self.experts {
            output.row("experts", &experts.words())?;
        }
        output.row(
            "memory",
            &format!(
                "weights {} mapped, {} owned · cache {}",
                bytes(self.weights_mapped_bytes),
                bytes(self.weights_owned_bytes),
                bytes(self.kv_cache_bytes)
            ),
        )?;
        if let Some(shares) = &self.shares {
            output.row(
                "bandwidth",
                &format!(
                    "{:.0} % of {}/s: each token decoded reads {}",
                    shares.bandwidth_share * 100.0,
                    bytes(shares.bandwidth_bytes_per_s as u64),
                    bytes(self.bytes_read_per_token)
                ),
            )?;
            output.row(
                "arithmetic",
                &format!(
                    "{:.0} % of {:.0} GOP/s on bytes ({:.0} on f32): each token of the prompt takes {:.3} GOP",
                    shares.i8_share * 100.0,
                    shares.i8_operations_per_s / 1e9,
                    shares.f32_operations_per_s / 1e9,
                    self.prefill_operations_per_token / 1e9
                ),
            )?;
        }
        output.row("", &format!("medians of {}", self.repetitions))?;
        if let Some(peer) = &self.peer {
            peer.write(output)?;
        }
        match &self.profile {
            Some(profile) => profile.write(output),
            None => Ok(()),
        }
    }
}

impl Comparison {
    fn write(&self, output: &Output) -> anyhow::Result<()> {
        output.row("against", &format!("{} {}", self.program, self.build))?;
        let row = |heading: &str, Compared { ours, theirs, ratio }: Compared, unit: &str| {
            output.row(heading, &format!("{ratio:.2}x · {ours:.1} here, {theirs:.1} there {unit}"))
        };
        row("  prefill", self.prefill_tokens_per_s, "tokens/s")?;
        row("  decode", self.decode_tokens_per_s, "tokens/s")?;
        row("  process", self.start_ms, "ms")?;
        if let Some(peak) = self.peak_rss_bytes {
            output.row("  memory", &format!("at most {} there", bytes(peak)))?;
        }
        output.row("", &format!("medians of {} pairs of runs", self.pairs))?;
        Ok(())
    }
}

impl Rows {
    /// Medians of pairs: one row, all rows.
    pub(super) fn median(n: usize, pairs: Vec<[f64; 2]>) -> Self {
        let of = |figure: fn(&[f64; 2]) -> f64| median(pairs.iter().map(figure).collect());
        Self {
            n,
            one_ms: of(|pair| pair[0]),
            all_ms: of(|pair| pair[1]),
            ratio: of(|pair| pair[1] / pair[0]),
        }
    }
}

impl Seeing {
    pub(super) fn median(all: Vec<Seeing>) -> Option<Seeing> {
        let of = |field: fn(&Seeing) -> f64| median(all.iter().map(field).collect());
        let first = all.first()?;
        Some(Seeing {
            size: first.size,
            tokens: first.tokens,
            front_ms: of(|seeing| seeing.front_ms),
            tower_ms: of(|seeing| seeing.tower_ms),
            ttft_ms: of(|seeing| seeing.ttft_ms),
        })
    }
}
