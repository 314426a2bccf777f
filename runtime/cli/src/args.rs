//! Arguments that several commands share.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::bail;
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use engine::quantize::Preset;
use engine::{
    Batch, Clock, Device, Engine, GenerateOptions, GenerationDefaults, Gpu, KvType, LoadOptions, ModelFiles,
    Speculation,
};
use serde_json::{Map, Value, json};

use crate::fit::{self, ExpertMemory};
use crate::output::Output;

/// Which model answers, and on how many threads.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelArgs {
    /// A folder with config.json and safetensors, or a GGUF file [default: the model inside this program]
    #[arg(long, short, value_name = "PATH")]
    pub(crate) model: Option<PathBuf>,
    /// Threads to compute on [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// What computes: the processor, or the GPU that Vulkan, Metal or DX12 reaches
    #[arg(long, value_name = "KIND", default_value = "cpu")]
    pub(crate) device: Kind,
    /// Memory for routed experts, as 8GiB or 60% of them; the others are read from disk when they are chosen
    /// [default: what is free]
    #[arg(long, value_name = "SIZE")]
    expert_memory: Option<ExpertMemory>,
    /// Most memory for weights laid out once more, which is faster; 0 reads all of them as they lie in the file
    /// [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = fit::size)]
    packed_memory: Option<u64>,
    /// What keys and values are remembered as: q8_0 takes half the memory of f16, and long answers may differ
    /// [default: f16]
    #[arg(long, value_name = "TYPE", ignore_case = true,
          value_parser = PossibleValuesParser::new(KvType::ALL.map(KvType::name)))]
    kv_type: Option<String>,
    /// Turn larger weights into this mixture of types while loading, in memory
    #[arg(long, value_name = "TYPE", conflicts_with = "expert_memory", ignore_case = true,
          value_parser = PossibleValuesParser::new(quantized_presets()))]
    quantize: Option<String>,
}

// What these mean is in the help of the option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Cpu,
    Gpu,
}

/// The mixtures that make weights smaller than floats.
fn quantized_presets() -> impl Iterator<Item = &'static str> {
    Preset::ALL.into_iter().map(|preset| preset.name).filter(|name| name.starts_with('q'))
}

impl ModelArgs {
    /// Opens the model's files.
    pub(crate) fn files(&self) -> anyhow::Result<ModelFiles> {
        open_model(self.model.as_deref())
    }

    /// Loads the model.
    pub(crate) fn engine(&self, output: &Output) -> anyhow::Result<Engine> {
        self.engine_of(&self.files()?, output)
    }

    /// Loads the model from files that are open.
    pub(crate) fn engine_of(&self, files: &ModelFiles, output: &Output) -> anyhow::Result<Engine> {
        Ok(match self.gpu(output)? {
            Some(gpu) => Engine::open_on(files, gpu, clock())?,
            None => Engine::open(files, self.options(files, Device::Cpu, output)?, clock())?,
        })
    }

    /// Loads the model for several conversations from files that are open.
    pub(crate) fn batch_of(&self, files: &ModelFiles, output: &Output) -> anyhow::Result<Batch> {
        Ok(match self.gpu(output)? {
            Some(gpu) => Batch::open_on(files, gpu, clock())?,
            None => Batch::open(files, self.options(files, Device::Cpu, output)?, clock())?,
        })
    }

    /// The GPU, if it is to compute. Which one it is, is told.
    ///
    /// # Errors
    /// If there is none, or an option is for the processor only.
    pub(crate) fn gpu(&self, output: &Output) -> anyhow::Result<Option<Gpu>> {
        if self.device == Kind::Cpu {
            return Ok(None);
        }
        for (option, is_given) in [
            ("--expert-memory", self.expert_memory.is_some()),
            ("--packed-memory", self.packed_memory.is_some()),
            ("--kv-type", self.kv_type.is_some()),
            ("--quantize", self.quantize.is_some()),
        ] {
            if is_given {
                bail!("{option} is for the processor: leave it out, or --device gpu");
            }
        }
        let gpu = pollster::block_on(Gpu::request())?;
        output.note(&format!("on {}", gpu.adapter()));
        Ok(Some(gpu))
    }

    /// How the model is loaded on a processor so that it fits this machine; or an error that says why it does not.
    pub(crate) fn options(
        &self,
        files: &ModelFiles,
        device: Device,
        output: &Output,
    ) -> anyhow::Result<LoadOptions> {
        let quantize = self.quantize.as_deref().and_then(Preset::named);
        let kv_type = self.kv_type.as_deref().and_then(KvType::named);
        let expert_memory = fit::expert_memory(files, self.expert_memory, quantize, kv_type, output)?;
        Ok(LoadOptions { device, expert_memory, packed_memory: self.packed_memory, kv_type, quantize })
    }
}

fn clock() -> Clock {
    let start = Instant::now();
    Box::new(move || start.elapsed().as_secs_f64() * 1000.0)
}

/// The files of the model at `path`, or of the one inside this program.
pub(crate) fn open_model(path: Option<&Path>) -> anyhow::Result<ModelFiles> {
    match path {
        Some(path) => Ok(ModelFiles::open(path)?),
        None => Ok(crate::embedded::files()),
    }
}

/// How the words of an answer are chosen.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Answer")]
pub(crate) struct SamplingArgs {
    /// Longest answer in tokens
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_tokens: usize,
    /// 0 takes the likeliest token each time, 1 draws as the model was trained
    #[arg(long, value_name = "X", value_parser = at_least_0)]
    temperature: Option<f64>,
    /// Draw from this many likeliest tokens; 0 is all
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Draw from the likeliest tokens that together reach this probability
    #[arg(long, value_name = "X", value_parser = probability)]
    top_p: Option<f64>,
    /// Leave out tokens less likely than this share of the likeliest one
    #[arg(long, value_name = "X", value_parser = probability)]
    min_p: Option<f64>,
    /// Divide the score of tokens that occurred before; 1 is off
    #[arg(long, value_name = "X", value_parser = at_least_1)]
    repetition_penalty: Option<f64>,
    /// Lower the score of a token each time it was said
    #[arg(long, value_name = "X", value_parser = at_least_0)]
    frequency_penalty: Option<f64>,
    /// Lower the score of a token once it was said
    #[arg(long, value_name = "X", value_parser = at_least_0)]
    presence_penalty: Option<f64>,
    /// The same seed gives the same answer
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// End the answer before this text; may be given more than once
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Let the model think before it answers, if its template knows how
    #[arg(long)]
    think: bool,
    /// Rows of the prompt to compute at a time; changes memory and time, not the answer
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    prefill_chunk: Option<u32>,
    #[command(flatten)]
    speculation: SpeculationArgs,
}

/// Whether tokens are guessed ahead.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct SpeculationArgs {
    /// Guess tokens ahead by what the conversation says already, or also by a head of the model that predicts
    /// further tokens, if it has one; changes the time, not the answer
    #[arg(long, value_name = "FROM", default_value = "lookup")]
    speculate: Speculate,
}

// What these mean is in the help of the option: with help of their own, all help would become long.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Speculate {
    Off,
    Lookup,
    Head,
}

impl SpeculationArgs {
    pub(crate) fn speculation(self) -> Speculation {
        match self.speculate {
            Speculate::Off => Speculation::Off,
            Speculate::Lookup => Speculation::Lookup,
            Speculate::Head => Speculation::Head,
        }
    }
}

impl SamplingArgs {
    /// The best token each time, unless a flag wishes otherwise: the same question, the same answer.
    pub(crate) fn options(&self) -> GenerateOptions {
        self.over(GenerateOptions::default())
    }

    /// As the model's authors sample from it, unless a flag wishes otherwise.
    pub(crate) fn options_of(&self, model: &GenerationDefaults) -> GenerateOptions {
        self.over(defaults_of(model))
    }

    /// What the flags wish, in the words of OpenAI's API and those that vLLM, SGLang and this program add to it.
    pub(crate) fn wishes(&self) -> Map<String, Value> {
        let mut wishes = Map::new();
        let wished = [
            ("temperature", self.temperature.map(Value::from)),
            ("top_k", self.top_k.map(Value::from)),
            ("top_p", self.top_p.map(Value::from)),
            ("min_p", self.min_p.map(Value::from)),
            ("repetition_penalty", self.repetition_penalty.map(Value::from)),
            ("frequency_penalty", self.frequency_penalty.map(Value::from)),
            ("presence_penalty", self.presence_penalty.map(Value::from)),
            ("seed", Some(self.seed.into())),
            ("stop", Some(self.stop.clone().into()).filter(|_| !self.stop.is_empty())),
            ("chat_template_kwargs", self.think.then(|| json!({ "enable_thinking": true }))),
        ];
        wishes.extend(wished.into_iter().filter_map(|(name, wish)| Some((name.to_owned(), wish?))));
        wishes
    }

    /// The longest answer in tokens.
    pub(crate) fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    fn over(&self, mut options: GenerateOptions) -> GenerateOptions {
        set(&mut options.temperature, self.temperature);
        set(&mut options.top_k, self.top_k);
        set(&mut options.top_p, self.top_p);
        set(&mut options.min_p, self.min_p);
        set(&mut options.repetition_penalty, self.repetition_penalty);
        set(&mut options.frequency_penalty, self.frequency_penalty);
        set(&mut options.presence_penalty, self.presence_penalty);
        set(&mut options.prefill_chunk, self.prefill_chunk.map(|n| n as usize));
        GenerateOptions {
            seed: self.seed,
            stop: self.stop.clone(),
            max_tokens: self.max_tokens,
            enable_thinking: self.think.then_some(true),
            speculation: self.speculation.speculation(),
            ..options
        }
    }
}

/// How the model's authors sample from it.
pub(crate) fn defaults_of(model: &GenerationDefaults) -> GenerateOptions {
    let mut options = GenerateOptions::default();
    if model.do_sample != Some(false) {
        set(&mut options.temperature, model.temperature);
        set(&mut options.top_k, model.top_k);
        set(&mut options.top_p, model.top_p);
        set(&mut options.min_p, model.min_p);
    }
    set(&mut options.repetition_penalty, model.repetition_penalty);
    set(&mut options.frequency_penalty, model.frequency_penalty);
    set(&mut options.presence_penalty, model.presence_penalty);
    options
}

fn set<T: Copy, U: Copy + Into<T>>(option: &mut T, wish: Option<U>) {
    if let Some(wish) = wish {
        *option = wish.into();
    }
}

fn number(text: &str, valid: impl Fn(f64) -> bool, wanted: &str) -> Result<f64, String> {
    text.parse().ok().filter(|&x: &f64| x.is_finite() && valid(x)).ok_or_else(|| wanted.to_string())
}

fn at_least_0(text: &str) -> Result<f64, String> {
    number(text, |x| x >= 0.0, "a number from 0 up is needed")
}

fn at_least_1(text: &str) -> Result<f64, String> {
    number(text, |x| x >= 1.0, "a number from 1 up is needed")
}

fn probability(text: &str) -> Result<f64, String> {
    number(text, |x| (0.0..=1.0).contains(&x), "a number from 0 to 1 is needed")
}
