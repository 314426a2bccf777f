//! `ocelli eval`: arrays in, arrays out, for comparison with any other implementation.

use std::io;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use engine::eval::{EvalOptions, EvalServer, evaluate_file};
use engine::{Capture, Device};

use crate::Outcome;
use crate::args::{Kind, ModelArgs};
use crate::output::Output;

/// Compute on arrays: one case, or requests as lines of JSON on standard input
#[derive(Debug, Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "Without --input, each line of standard input is a request and gets one line of JSON \
as answer:\nload, eval, tokenize, detokenize, preprocess, chat."
)]
pub(crate) struct EvalArgs {
    /// Arrays to compute on: input_ids, and what belongs to pictures, as safetensors
    #[arg(long, value_name = "FILE", requires = "output")]
    input: Option<PathBuf>,
    /// Where logits and all else go, as safetensors
    #[arg(long, value_name = "FILE", requires = "input")]
    output: Option<PathBuf>,
    /// Also write this many tokens, each the likeliest; the end token does not end them
    #[arg(long, value_name = "N", default_value_t = 0, requires = "input")]
    generate: usize,
    /// Also write the values between layers and the routers' choices
    #[arg(long, requires = "input")]
    hidden: bool,
    /// Numbers to compute in; stored weights are decoded exactly
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
}

pub(crate) fn run(args: EvalArgs, output: &Output) -> anyhow::Result<Outcome> {
    let Dtype::F32 = args.dtype;
    let (Some(input), Some(destination)) = (&args.input, &args.output) else {
        if args.model.model.is_some() {
            bail!("--model needs --input and --output; without them `load` requests name models");
        }
        let mut answers = io::stdout().lock();
        let device = match args.model.device {
            Kind::Cpu => Device::CpuExact,
            Kind::Gpu => Device::Gpu,
        };
        EvalServer::on(device).serve(&mut io::stdin().lock(), &mut answers).context("evaluation")?;
        return Ok(Outcome::Done);
    };
    let files = args.model.files()?;
    let mut model = match args.model.gpu(output)? {
        Some(gpu) => engine::load_traceable_on(&files, gpu)?,
        None => engine::load_traceable(&files, args.model.options(&files, Device::CpuExact, output)?)?,
    };
    let options = EvalOptions {
        logits: true,
        capture: Capture { hidden: args.hidden, router: args.hidden, vision: true },
        max_new_tokens: args.generate,
        greedy_logits: false,
    };
    let evaluation = evaluate_file(&mut *model, input, destination, options)?;
    for warning in &evaluation.warnings {
        output.warning(warning);
    }
    output.note(&format!(
        "{} tokens in {:.1} ms, {} generated in {:.1} ms",
        evaluation.prompt_tokens,
        evaluation.prefill.as_secs_f64() * 1000.0,
        args.generate,
        evaluation.decode.as_secs_f64() * 1000.0
    ));
    Ok(Outcome::Done)
}
