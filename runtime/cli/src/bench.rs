//! `ocelli bench`: how fast a model runs here, what of this machine's limits that takes, and how another program
//! does on the same file.

mod limits;
mod measure;
mod median;
mod on_gpu;
mod peer;
mod pin;
mod process;
mod profile;
mod report;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use engine::{Device, Team};

use crate::Outcome;
use crate::answer::ExpertAccount;
use crate::args::{Kind, ModelArgs};
use crate::output::Output;
use limits::Limits;
use measure::Bench;
use median::{median, ms, per_second};
use on_gpu::OnGpu;
use peer::Peer;
use pin::Pinned;
use process::Start;
use report::{Report, Rows, Seeing, Shares};

/// Measure how fast a model runs here
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct BenchArgs {
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_1)]
    prompt: usize,
    /// Tokens to generate
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_1)]
    generate: usize,
    /// Tokens that are in the context before the generated ones
    #[arg(long, value_name = "N", default_value_t = 0)]
    depth: usize,
    /// Rows of a batch that is compared with one row
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_1)]
    rows: usize,
    /// How often to measure; the report gives medians
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_1)]
    repetitions: usize,
    /// Rows of the prompt to compute at a time
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_1)]
    prefill_chunk: usize,
    /// Give each thread a core of its own, and those of --against too (on Linux)
    #[arg(long)]
    pin: bool,
    /// Also run this llama-bench on the same file, in turns, and tell how much faster this program is
    #[arg(long, value_name = "PROGRAM", requires = "model")]
    against: Option<PathBuf>,
    /// Also tell what every operation takes: time, share of the bandwidth, arithmetic
    #[arg(long)]
    profile: bool,
    /// Write the report as JSON
    #[arg(long)]
    json: bool,
    /// Only load, read the prompt, and end: what --against times from outside
    #[arg(long, hide = true)]
    start: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

fn at_least_1(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n >= 1).ok_or_else(|| "a whole number from 1 up is needed".to_string())
}

pub(crate) fn run(args: BenchArgs, output: &mut Output) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let files = args.model.files()?;
    if args.profile && args.model.device == Kind::Gpu {
        bail!("--profile is for the processor: leave it out, or --device gpu");
    }
    let gpu = args.model.gpu(output)?;
    let mut model = match &gpu {
        Some(gpu) => engine::load_on(&files, gpu.clone())?,
        None => engine::load(&files, args.model.options(&files, Device::Cpu, output)?)?,
    };
    let load_ms = ms(start);
    let mut bench = Bench::new(&mut *model, &args)?;
    if args.start {
        bench.prefill_prompt()?;
        return Ok(Outcome::Done);
    }
    // Once unmeasured: weights are paged in, threads are started, the cache has its full size.
    bench.prefill_prompt()?;
    bench.decode()?;
    let n_threads = args.model.threads.map_or_else(|| Team::current().n_threads(), usize::from);
    let cores = args.pin.then(|| pin::cores(n_threads)).transpose().context("cannot pin threads")?;
    let peer = args.against.as_deref().map(|program| Peer::new(program, &args, n_threads, cores.as_deref()));
    let mut peer = peer.transpose()?;

    let pin = || cores.as_deref().map(Pinned::new).transpose().context("cannot pin threads");

    let (mut prefills, mut decodes) = (Vec::new(), Vec::new());
    let (mut pictures, mut rows, mut starts) = (Vec::new(), Vec::new(), Vec::new());
    let mut experts = None;
    output.start_progress(2 * args.repetitions);
    for _ in 0..args.repetitions {
        let pinned = pin()?;
        // The other program reads its prompt once unmeasured, and may have driven our file out of memory before.
        if peer.is_some() {
            bench.prefill_prompt()?;
        }
        let prefill_ms = bench.prefill_prompt()?;
        pictures.extend(bench.see(&files)?);
        drop(pinned);
        let start = Start::of_ours()?;
        if let Some(peer) = &mut peer {
            peer.prefill(prefill_ms)?;
            peer.start(&start)?;
        }
        prefills.push(prefill_ms);
        starts.push(start);
        output.advance();
    }
    // What is in the context before the generated tokens is computed once.
    for _ in 0..args.repetitions {
        let pinned = pin()?;
        if peer.is_some() {
            bench.decode()?;
        }
        let before = bench.expert_use();
        let decode_ms = bench.decode()?;
        experts = bench.expert_use().zip(before).map(|(now, before)| now.since(&before));
        rows.push(bench.rows()?);
        drop(pinned);
        if let Some(peer) = &mut peer {
            peer.decode(decode_ms)?;
        }
        decodes.push(decode_ms);
        output.advance();
    }
    output.end_progress();

    let on_gpu = gpu.map(|gpu| OnGpu::count(&gpu, args.generate, || bench.decode())).transpose()?;
    let memory = bench.bytes_resident()?;
    let checkpoint = files.checkpoint()?;
    let (prefill_ms, decode_ms) = (median(prefills), median(decodes));
    let bytes_read_per_token = checkpoint.decode_bytes() + bench.kv_bytes_read();
    let decode_tokens_per_s = per_second(args.generate, decode_ms);
    let prefill_tokens_per_s = per_second(args.prompt, prefill_ms);
    let prefill_operations_per_token = bench.prefill_operations(&checkpoint) / args.prompt as f64;
    let report = Report {
        model: files.name().to_string(),
        threads: n_threads,
        pinned: args.pin,
        repetitions: args.repetitions,
        prompt_tokens: args.prompt,
        generated_tokens: args.generate,
        depth: args.depth,
        load_ms,
        start_ms: median(starts.iter().map(|start| start.ms).collect()),
        peak_rss_bytes: starts.iter().filter_map(|start| start.peak_rss_bytes).max(),
        prefill_tokens_per_s,
        ttft_ms: prefill_ms,
        decode_tokens_per_s,
        rows: Rows::median(args.rows, rows),
        picture: Seeing::median(pictures),
        experts: experts.map(ExpertAccount::from),
        weights_mapped_bytes: memory.weights_mapped,
        weights_owned_bytes: memory.weights_owned,
        kv_cache_bytes: memory.kv_cache,
        bytes_read_per_token,
        prefill_operations_per_token,
        shares: on_gpu.is_none().then(|| {
            let bytes_per_s = bytes_read_per_token as f64 * decode_tokens_per_s;
            Shares::of(
                Limits::measure(n_threads),
                bytes_per_s,
                prefill_operations_per_token * prefill_tokens_per_s,
            )
        }),
        on_gpu,
        peer: peer.map(Peer::comparison),
        profile: args.profile.then(|| profile::measure(&files, &args)).transpose()?,
    };
    if args.json {
        output.json(&report)?
    } else {
        report.write(output)?
    }
    Ok(Outcome::Done)
}
