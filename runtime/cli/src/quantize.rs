//! `ocelli quantize`: a model as one smaller GGUF file.

mod part_file;
mod report;
mod sample;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use clap::builder::PossibleValuesParser;
use engine::ModelFiles;
use engine::quantize::{Loss, Preset, Quantization};
use rayon::prelude::*;

use crate::Outcome;
use crate::output::{Output, plural};
use part_file::PartFile;
use report::{Report, Tensor};

/// Chunks that a thread encodes before their bytes are written.
const CHUNKS_A_THREAD: usize = 4;
/// No type loses as much of anything but noise around a few huge values; bytes that were damaged do.
const LARGEST_LOSS: f64 = 0.3;

/// Write a model as one smaller GGUF file
///
/// The file appears under its name when it is whole and was read back. Until then it is called OUT.part; run
/// the same command again to continue one that was interrupted.
#[derive(Debug, Args)]
pub(crate) struct QuantizeArgs {
    /// A folder with config.json and safetensors, or a GGUF file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The file to write
    #[arg(value_name = "OUT.gguf")]
    out: PathBuf,
    /// Mixture of types: the larger the number, the nearer to the original
    #[arg(long = "type", short = 't', value_name = "TYPE", default_value = "q4_k_m",
          value_parser = PossibleValuesParser::new(Preset::ALL.map(|preset| preset.name)), ignore_case = true)]
    preset: String,
    /// A text, a picture or a folder of pictures to measure on which weights matter most, and keep nearer; runs
    /// the whole model. May be given more than once
    #[arg(long, value_name = "FILE")]
    importance: Vec<PathBuf>,
    /// Keep the head that predicts further tokens, if the model has one; llama.cpp refuses such files
    #[arg(long)]
    mtp: bool,
    /// Replace OUT.gguf if it is there, and begin anew
    #[arg(long, short)]
    force: bool,
    /// List every tensor with its error
    #[arg(long)]
    tensors: bool,
    /// Write the report as JSON
    #[arg(long)]
    json: bool,
    /// Write no notes and no progress
    #[arg(long, short)]
    quiet: bool,
    /// Threads to compute on [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

pub(crate) fn run(args: QuantizeArgs, output: &mut Output) -> anyhow::Result<Outcome> {
    output.set_quiet(args.quiet);
    check_out(&args)?;
    let preset = Preset::named(&args.preset).expect("clap knows the same names");
    let files = ModelFiles::open(&args.model)?;
    let plan = if args.mtp { Quantization::plan_with_mtp } else { Quantization::plan };
    let mut plan = plan(&files, &preset)?;
    if !args.importance.is_empty() {
        let (importance, sample) = sample::measure_on(&args.importance, &files, output)?;
        plan = plan.with_importance(importance, &sample)?;
    }
    for note in plan.notes() {
        output.warning(note);
    }
    let mut part = PartFile::open(&args.out, &plan, args.force)?;
    let done_before = part.n_done();
    if done_before > 0 {
        output.note(&format!("{} of an earlier run are kept", plural(done_before, "tensor")));
    }
    write_tensors(&plan, &mut part, output)?;
    part.finish()?;
    let tensors = read_back(&plan, part.path(), output)?;
    part.rename(&args.out)?;

    let report = Report::new(&args.out, &files, &plan, preset.name, done_before, tensors);
    if args.json {
        output.json(&report)?
    } else {
        report.write(output, args.tensors)?
    }
    Ok(Outcome::Done)
}

/// Refuses what would only fail, or destroy something, after the work.
fn check_out(args: &QuantizeArgs) -> anyhow::Result<()> {
    let out = &args.out;
    ensure!(!out.is_dir(), "{} is a folder; name the file to write", out.display());
    if out.exists() {
        ensure!(args.force, "{} exists; give --force to replace it", out.display());
        let is_inside = |file: &Path, of: &Path| match (file.canonicalize(), of.canonicalize()) {
            (Ok(file), Ok(of)) => file == of || file.parent() == Some(&of),
            _ => false,
        };
        ensure!(!is_inside(out, &args.model), "{} is part of the model itself", out.display());
    }
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    ensure!(folder.is_dir(), "there is no folder {} to write into", folder.display());
    Ok(())
}

/// Encodes and writes what the part file lacks, a few chunks for each thread at a time.
fn write_tensors(plan: &Quantization, part: &mut PartFile, output: &mut Output) -> anyhow::Result<()> {
    let n = plan.tensors().len();
    output.start_progress(2 * n);
    for i in 0..n {
        if i >= part.n_done() {
            output.working_on(plan.tensors()[i].name());
            for chunks in plan.chunks(i).chunks(CHUNKS_A_THREAD * rayon::current_num_threads()) {
                let encoded: Vec<Vec<u8>> =
                    chunks.par_iter().map(|chunk| plan.encode(i, chunk)).collect::<Result<_, _>>()?;
                encoded.iter().try_for_each(|bytes| part.append(bytes))?;
            }
            part.end_tensor()?;
        }
        output.advance();
    }
    Ok(())
}

/// Opens the finished file as a model, and measures what every tensor of it lost.
fn read_back(plan: &Quantization, path: &Path, output: &mut Output) -> anyhow::Result<Vec<Tensor>> {
    let written = ModelFiles::open(path)?;
    let checkpoint = written.checkpoint().context("the file that was written cannot be loaded")?;
    let mut tensors = Vec::new();
    for (i, tensor) in plan.tensors().iter().enumerate() {
        output.working_on(tensor.name());
        let stored = checkpoint.index().require(tensor.name())?;
        let mut offset = 0;
        let mut loss = Loss::default();
        for chunks in plan.chunks(i).chunks(CHUNKS_A_THREAD * rayon::current_num_threads()) {
            let placed: Vec<_> = chunks
                .iter()
                .map(|chunk| {
                    let start = offset;
                    offset += plan.chunk_bytes(i, chunk);
                    (chunk, start..offset)
                })
                .collect();
            let losses: Vec<Loss> = placed
                .into_par_iter()
                .map(|(chunk, range)| plan.loss(i, chunk, &stored.bytes.as_ref()[range]))
                .collect::<Result<_, _>>()?;
            losses.into_iter().for_each(|part| loss.add(part));
        }
        let error = loss.relative_rms();
        if error > LARGEST_LOSS {
            bail!(
                "`{}` came back with a relative error of {error:.2}; remove {} and try again",
                tensor.name(),
                path.display()
            );
        }
        tensors.push(Tensor::new(tensor, plan.layout().tensors()[i].n_bytes(), error));
        output.advance();
    }
    output.end_progress();
    Ok(tensors)
}
