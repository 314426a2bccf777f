//! `ocelli inspect`: what a model consists of, without loading it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use engine::{LoadOptions, ModelFiles};
use model::Checkpoint;
use model::config::{Architecture, Config};
use serde::Serialize;
use tokenizer::Tokenizer;

use crate::args::open_model;
use crate::output::{Output, bytes, count, explain, plural};
use crate::{Outcome, memory};

/// Show what a model consists of and what it needs
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A folder with config.json and safetensors, or a GGUF file [default: the model inside this program]
    #[arg(value_name = "MODEL")]
    positional: Option<PathBuf>,
    /// The same as MODEL
    #[arg(long, short, value_name = "PATH", conflicts_with = "positional")]
    model: Option<PathBuf>,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Write the report as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: InspectArgs, output: &Output) -> anyhow::Result<Outcome> {
    let files = open_model(args.positional.or(args.model).as_deref())?;
    let report = Report::new(&files, args.tensors)?;
    if args.json {
        output.json(&report)?
    } else {
        report.write(output)?
    }
    Ok(Outcome::Done)
}

#[derive(Serialize)]
struct Report {
    model: String,
    files: Vec<File>,
    architecture: &'static str,
    config: Sizes,
    parameters: u64,
    /// The published model with exactly as many parameters.
    published: Option<&'static str>,
    stored: BTreeMap<String, Stored>,
    ignored: Vec<Ignored>,
    tokenizer: Found<Vocabulary>,
    /// Whether the files bring one.
    chat_template: Found<bool>,
    memory: Plan,
    #[serde(skip_serializing_if = "Option::is_none")]
    tensors: Option<Vec<Tensor>>,
}

/// Something that may be unusable without stopping the report.
#[derive(Serialize)]
#[serde(untagged)]
enum Found<T> {
    Usable(T),
    Unusable { error: String },
}

impl<T> From<Result<T, engine::Error>> for Found<T> {
    fn from(result: Result<T, engine::Error>) -> Self {
        match result {
            Ok(found) => Found::Usable(found),
            Err(error) => Found::Unusable { error: explain(&error.into()) },
        }
    }
}

#[derive(Serialize)]
struct File {
    name: String,
    bytes: u64,
}

/// The sizes that tell models apart, spelt as in `config.json`.
#[derive(Serialize)]
struct Sizes {
    num_hidden_layers: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    tie_word_embeddings: bool,
    moe: Option<Moe>,
    vision: Option<Eye>,
}

#[derive(Serialize)]
struct Moe {
    moe_layers: usize,
    text_experts: usize,
    vision_experts: usize,
    moe_k: usize,
    shared_experts: usize,
}

#[derive(Serialize)]
struct Eye {
    depth: usize,
    hidden_size: usize,
    num_heads: usize,
    patch_size: usize,
    spatial_merge_size: usize,
}

/// All tensors of one type.
#[derive(Default, Serialize)]
struct Stored {
    tensors: usize,
    values: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Ignored {
    name: String,
    reason: &'static str,
}

#[derive(Serialize)]
struct Vocabulary {
    vocab_size: usize,
    control_tokens: usize,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    bytes: Option<usize>,
}

/// What answering takes.
#[derive(Serialize)]
struct Plan {
    weights_bytes: u64,
    /// Of routed experts, among these.
    experts_bytes: u64,
    /// Least memory for experts, if they can be left on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    experts_least_bytes: Option<u64>,
    weights_read_per_token_bytes: u64,
    kv_bytes_per_token: u64,
    kv_bytes_full_context: u64,
    available_bytes: Option<u64>,
}

impl Report {
    fn new(files: &ModelFiles, with_tensors: bool) -> anyhow::Result<Self> {
        let checkpoint = files.checkpoint()?;
        let config = &checkpoint.config;
        Ok(Report {
            model: files.name().to_string(),
            files: files.sizes().map(|(name, n)| File { name: name.to_string(), bytes: n as u64 }).collect(),
            architecture: architecture(config),
            parameters: config.n_parameters(),
            published: config.published_name(),
            stored: stored(&checkpoint),
            ignored: ignored(&checkpoint),
            tokenizer: files.tokenizer().map(|tokenizer| Vocabulary::new(&tokenizer)).into(),
            chat_template: files.chat_template().map(|found| found.is_some()).into(),
            memory: Plan::new(&checkpoint),
            tensors: with_tensors.then(|| tensors(&checkpoint)),
            config: Sizes::new(config),
        })
    }

    fn write(&self, output: &Output) -> anyhow::Result<()> {
        output.row("model", &self.model)?;
        for file in &self.files {
            output.row("", &format!("{} · {}", file.name, bytes(file.bytes)))?;
        }
        output.row("kind", self.architecture)?;
        let published = match self.published {
            Some(name) => format!("exactly those of {name}"),
            None => "no published ERNIE 4.5 has this number".to_string(),
        };
        output.row("parameters", &format!("{} · {published}", count(self.parameters)))?;
        self.config.write(output)?;
        match &self.tokenizer {
            Found::Usable(Vocabulary { vocab_size, control_tokens }) => output.row(
                "tokenizer",
                &format!("{} tokens, {control_tokens} of them control tokens", count(*vocab_size as u64)),
            )?,
            Found::Unusable { error } => output.row("tokenizer", &format!("cannot be used: {error}"))?,
        }
        let template = match &self.chat_template {
            Found::Usable(true) => "comes with the model",
            Found::Usable(false) => "none in the files; the built-in one is used",
            Found::Unusable { error } => &format!("cannot be used: {error}"),
        };
        output.row("template", template)?;
        for (i, (dtype, stored)) in self.stored.iter().enumerate() {
            let heading = if i == 0 { "tensors" } else { "" };
            let Stored { tensors, values, bytes: n } = stored;
            let text = format!("{dtype:<5} {tensors:>6} · {} values · {}", count(*values), bytes(*n));
            output.row(heading, &text)?;
        }
        for (i, ignored) in self.ignored.iter().enumerate().take(SHOWN_IGNORED) {
            let heading = if i == 0 { "ignored" } else { "" };
            output.row(heading, &format!("{}: {}", ignored.name, ignored.reason))?;
        }
        if self.ignored.len() > SHOWN_IGNORED {
            output.row("", &format!("and {} more; --json lists them", self.ignored.len() - SHOWN_IGNORED))?;
        }
        self.memory.write(output, self.config.max_position_embeddings)?;
        for tensor in self.tensors.iter().flatten() {
            let shape: Vec<String> = tensor.shape.iter().map(ToString::to_string).collect();
            output.line(&format!("{:<6} {:<14} {}", tensor.dtype, shape.join("x"), tensor.name))?;
        }
        Ok(())
    }
}

/// Ignored tensors that the text report names one by one.
const SHOWN_IGNORED: usize = 8;

fn architecture(config: &Config) -> &'static str {
    match config.architecture {
        Architecture::Dense => "dense text model",
        Architecture::Moe => "text model with experts",
        Architecture::VisionLanguage => "vision-language model",
    }
}

fn stored(checkpoint: &Checkpoint) -> BTreeMap<String, Stored> {
    let index = checkpoint.index();
    let mut by_type: BTreeMap<String, Stored> = BTreeMap::new();
    for name in index.names() {
        let stored = by_type.entry(index.type_name(name).unwrap_or_default()).or_default();
        stored.tensors += 1;
        stored.values += index.shape(name).unwrap_or_default().iter().map(|&dim| dim as u64).product::<u64>();
        stored.bytes += index.get(name).map_or(0, |raw| raw.bytes.len() as u64);
    }
    by_type
}

fn ignored(checkpoint: &Checkpoint) -> Vec<Ignored> {
    checkpoint.ignored().map(|(name, reason)| Ignored { name: name.to_string(), reason }).collect()
}

fn tensors(checkpoint: &Checkpoint) -> Vec<Tensor> {
    let index = checkpoint.index();
    let describe = |name: &str| Tensor {
        name: name.to_string(),
        dtype: index.type_name(name).unwrap_or_default(),
        shape: index.shape(name).unwrap_or_default().to_vec(),
        bytes: index.get(name).map(|raw| raw.bytes.len()),
    };
    index.names().map(describe).collect()
}

impl Sizes {
    fn new(config: &Config) -> Self {
        let text = &config.text;
        Sizes {
            num_hidden_layers: text.n_layers,
            hidden_size: text.hidden_size,
            intermediate_size: text.intermediate_size,
            num_attention_heads: text.n_heads,
            num_key_value_heads: text.n_kv_heads,
            head_dim: text.head_dim,
            vocab_size: text.vocab_size,
            max_position_embeddings: text.max_position_embeddings,
            tie_word_embeddings: text.tie_word_embeddings,
            moe: text.moe.as_ref().map(|moe| Moe {
                moe_layers: moe.layers.iter().filter(|routed| **routed).count(),
                text_experts: moe.text.n_experts,
                vision_experts: moe.vision.map_or(0, |bank| bank.n_experts),
                moe_k: moe.top_k,
                shared_experts: moe.n_shared_experts,
            }),
            vision: config.vision.as_ref().map(|vision| Eye {
                depth: vision.depth,
                hidden_size: vision.hidden_size,
                num_heads: vision.n_heads,
                patch_size: vision.patch_size,
                spatial_merge_size: vision.spatial_merge_size,
            }),
        }
    }

    fn write(&self, output: &Output) -> anyhow::Result<()> {
        output.row(
            "layers",
            &format!(
                "{}, {} wide, {} inside; {} heads of {} over {} of keys and values",
                self.num_hidden_layers,
                self.hidden_size,
                self.intermediate_size,
                self.num_attention_heads,
                self.head_dim,
                self.num_key_value_heads
            ),
        )?;
        if let Some(moe) = &self.moe {
            let vision = match moe.vision_experts {
                0 => String::new(),
                n => format!(" and {n} for pictures"),
            };
            output.row(
                "experts",
                &format!(
                    "{} for text{vision}, {} a token, {} shared; in {}",
                    moe.text_experts,
                    moe.moe_k,
                    moe.shared_experts,
                    plural(moe.moe_layers, "layer")
                ),
            )?;
        }
        if let Some(eye) = &self.vision {
            let (patch, merge) = (eye.patch_size, eye.spatial_merge_size);
            output.row(
                "vision",
                &format!(
                    "{} layers, {} wide, {} heads; patches of {patch}x{patch} pixels, {merge}x{merge} of them a token",
                    eye.depth, eye.hidden_size, eye.num_heads
                ),
            )?;
        }
        let head = if self.tie_word_embeddings { "the embedding is the head" } else { "the head is its own" };
        output.row("vocabulary", &format!("{} rows; {head}", count(self.vocab_size as u64)))?;
        output.row("context", &format!("{} tokens", count(self.max_position_embeddings as u64)))?;
        Ok(())
    }
}

impl Vocabulary {
    fn new(tokenizer: &Tokenizer) -> Self {
        Vocabulary { vocab_size: tokenizer.vocab_size(), control_tokens: tokenizer.control_tokens().len() }
    }
}

impl Plan {
    fn new(checkpoint: &Checkpoint) -> Self {
        let index = checkpoint.index();
        let ignored: Vec<&str> = checkpoint.ignored().map(|(name, _)| name).collect();
        let used = index.names().filter(|name| ignored.binary_search(name).is_err());
        let text = &checkpoint.config.text;
        let kv_bytes_per_token = (text.n_layers * LoadOptions::KV_TYPE.row_bytes(text.heads())) as u64;
        let stored = checkpoint.stored_bytes();
        Plan {
            experts_bytes: stored.experts,
            experts_least_bytes: stored.experts_in_file.then_some(stored.least_experts),
            weights_bytes: used.filter_map(|name| index.get(name)).map(|raw| raw.bytes.len() as u64).sum(),
            weights_read_per_token_bytes: checkpoint.decode_bytes(),
            kv_bytes_per_token,
            kv_bytes_full_context: kv_bytes_per_token.saturating_mul(text.max_position_embeddings as u64),
            available_bytes: memory::available(),
        }
    }

    fn write(&self, output: &Output, context: usize) -> anyhow::Result<()> {
        let weights = format!(
            "weights {}, mapped and read in place; {} of them for each token",
            bytes(self.weights_bytes),
            bytes(self.weights_read_per_token_bytes)
        );
        output.row("memory", &weights)?;
        if let Some(least) = self.experts_least_bytes {
            let experts = format!(
                "experts are {} of them; --expert-memory leaves any but {} on disk until they are chosen",
                bytes(self.experts_bytes),
                bytes(least)
            );
            output.row("", &experts)?;
        }
        let cache = format!(
            "cache {} a token, {} at all {} tokens",
            bytes(self.kv_bytes_per_token),
            bytes(self.kv_bytes_full_context),
            count(context as u64)
        );
        output.row("", &cache)?;
        if let Some(available) = self.available_bytes {
            let full = self.weights_bytes.saturating_add(self.kv_bytes_full_context);
            let verdict = if full <= available {
                "all of it fits"
            } else if self.weights_bytes <= available {
                "the weights fit, the full context does not"
            } else if self
                .experts_least_bytes
                .is_some_and(|least| self.weights_bytes - self.experts_bytes + least <= available)
            {
                "the weights do not fit; experts will be read from disk when they are chosen"
            } else {
                "the weights do not fit and will be read from disk again and again"
            };
            output.row("", &format!("{} are free here: {verdict}", bytes(available)))?;
        }
        Ok(())
    }
}
