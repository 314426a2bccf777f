//! `ocelli compare`: how far the predictions of one model are from those of another.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Args;
use engine::{Capture, Device, Divergence, ModelFiles, ModelInput, Traceable};
use serde::Serialize;

use crate::Outcome;
use crate::args::open_model;
use crate::output::{Output, plural};

/// Tokens that are read with nothing before them: enough to matter, and few enough that all logits fit in memory.
const WINDOW: usize = 256;

/// Measure how far a model's predictions are from another's, as a quantised one's from the original's
///
/// Both read the text; at each token their probabilities of the next one are compared.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// A folder with config.json and safetensors, or a GGUF file
    #[arg(value_name = "MODEL")]
    other: PathBuf,
    /// What it is compared with [default: the model inside this program]
    #[arg(long, value_name = "MODEL")]
    reference: Option<PathBuf>,
    /// The text that both read
    #[arg(long, value_name = "TEXT")]
    text: PathBuf,
    /// Tokens of the text to read at most
    #[arg(long, value_name = "N", default_value_t = 4096)]
    tokens: usize,
    /// Compute MODEL as it is used, in rounded activations, instead of exactly
    #[arg(long)]
    as_used: bool,
    /// Write the report as JSON
    #[arg(long)]
    json: bool,
    /// Threads to compute on [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

#[derive(Debug, Serialize)]
struct Report {
    model: String,
    reference: String,
    tokens: usize,
    /// Kullback-Leibler divergence from the reference, in nats a token.
    kl_mean: f64,
    kl_median: f64,
    kl_99: f64,
    /// Share of tokens after which both expect the same one most.
    top1_agreement: f64,
    perplexity: f64,
    reference_perplexity: f64,
}

pub(crate) fn run(args: CompareArgs, output: &mut Output) -> anyhow::Result<Outcome> {
    let reference_files = open_model(args.reference.as_deref())?;
    let files = ModelFiles::open(&args.other)?;
    let text =
        fs::read_to_string(&args.text).with_context(|| format!("cannot read {}", args.text.display()))?;
    let mut token_ids = reference_files.tokenizer()?.encode(&text);
    token_ids.truncate(args.tokens);
    ensure!(token_ids.len() > 1, "{} is too short to compare on", args.text.display());

    let mut reference = engine::load_traceable(&reference_files, Device::CpuExact)?;
    let device = if args.as_used { Device::Cpu } else { Device::CpuExact };
    let mut model = engine::load_traceable(&files, device)?;
    let vocab_size = reference.config().text.vocab_size;
    let found = model.config().text.vocab_size;
    ensure!(found == vocab_size, "vocabularies of {found} and {vocab_size} tokens cannot be compared");

    let mut divergence = Divergence::default();
    let windows = token_ids.chunks(WINDOW);
    output.start_progress(windows.len());
    for window in windows {
        let (expected, found) = (logits(&mut *reference, window)?, logits(&mut *model, window)?);
        let rows = expected.chunks_exact(vocab_size).zip(found.chunks_exact(vocab_size));
        for (i, (expected, found)) in rows.enumerate() {
            divergence.add(expected, found, window.get(i + 1).copied());
        }
        output.advance();
    }
    output.end_progress();
    let [reference_perplexity, perplexity] = divergence.perplexities();
    let report = Report {
        model: files.name().to_owned(),
        reference: reference_files.name().to_owned(),
        tokens: divergence.n(),
        kl_mean: divergence.mean_kl(),
        kl_median: divergence.quantile_kl(0.5),
        kl_99: divergence.quantile_kl(0.99),
        top1_agreement: divergence.top1_agreement(),
        perplexity,
        reference_perplexity,
    };
    if args.json {
        output.json(&report)?;
    } else {
        report.write(output)?;
    }
    Ok(Outcome::Done)
}

/// Logits after every token of `window`.
fn logits(model: &mut dyn Traceable, window: &[u32]) -> anyhow::Result<Vec<f32>> {
    let input = ModelInput { token_ids: window.to_vec(), ..ModelInput::default() };
    let rows: Vec<usize> = (0..window.len()).collect();
    Ok(pollster::block_on(model.trace(&input, WINDOW, &rows, Capture::default()))?.logits)
}

impl Report {
    fn write(&self, output: &Output) -> anyhow::Result<()> {
        output.row("model", &self.model)?;
        output.row("reference", &self.reference)?;
        output.row("text", &plural(self.tokens, "token"))?;
        output.row(
            "divergence",
            &format!(
                "{:.5} nats a token · median {:.5}, 99 % below {:.5}",
                self.kl_mean, self.kl_median, self.kl_99
            ),
        )?;
        output.row("agreement", &format!("{:.2} % of the likeliest tokens", 100.0 * self.top1_agreement))?;
        output.row(
            "perplexity",
            &format!("{:.4}, of the reference {:.4}", self.perplexity, self.reference_perplexity),
        )?;
        Ok(())
    }
}
