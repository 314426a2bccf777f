//! `ocelli bench`: how fast a model runs here, and how much of the machine's memory speed that takes.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use engine::{Device, LanguageModel, ModelFiles, ModelInput, Visual};
use model::config::Config;
use serde::Serialize;
use vision::{Picture, Preprocessor};

use crate::args::ModelArgs;
use crate::output::{Output, bytes};
use crate::{Outcome, memory};

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
    /// How often to measure; the report gives medians
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_1)]
    repetitions: usize,
    /// Rows of the prompt to compute at a time
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_1)]
    prefill_chunk: usize,
    /// Write the report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

fn at_least_1(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n >= 1).ok_or_else(|| "a whole number from 1 up is needed".to_string())
}

/// Width and height of the picture that is measured: a photograph's shape, about 380 tokens.
const PICTURE: [u32; 2] = [640, 480];

pub(crate) fn run(args: BenchArgs, output: &mut Output) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let files = args.model.files()?;
    let mut model = engine::load(&files, Device::Cpu)?;
    let load_ms = ms(start);
    let mut bench = Bench { model: &mut *model, args: &args };
    let report = bench.report(&files, load_ms, output)?;
    if args.json {
        output.json(&report)?
    } else {
        report.write(output)?
    }
    Ok(Outcome::Done)
}

/// Medians over all repetitions.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    threads: usize,
    repetitions: usize,
    prompt_tokens: usize,
    generated_tokens: usize,
    load_ms: f64,
    prefill_tokens_per_s: f64,
    ttft_ms: f64,
    decode_tokens_per_s: f64,
    picture: Option<Seeing>,
    weights_mapped_bytes: u64,
    weights_owned_bytes: u64,
    kv_cache_bytes: u64,
    bytes_read_per_token: u64,
    bandwidth_bytes_per_s: f64,
    /// Of the weights read each second, over what plain reading of memory reaches.
    bandwidth_share: f64,
}

/// What one picture takes.
#[derive(Debug, Serialize)]
struct Seeing {
    size: [u32; 2],
    tokens: usize,
    /// Resizing and cutting into patches.
    front_ms: f64,
    /// Tower and resampler: a prompt with the picture, less as many tokens of text.
    tower_ms: f64,
    /// From pixels to the first token of an answer.
    ttft_ms: f64,
}

struct Bench<'a> {
    model: &'a mut dyn LanguageModel,
    args: &'a BenchArgs,
}

impl Bench<'_> {
    fn report(&mut self, files: &ModelFiles, load_ms: f64, output: &mut Output) -> anyhow::Result<Report> {
        let n = self.args.prompt;
        let context = self.model.config().text.max_position_embeddings;
        if n.saturating_add(self.args.generate) > context {
            bail!("{n} tokens and {} more are beyond the model's context of {context}", self.args.generate);
        }
        let prompt = ModelInput { token_ids: plain_tokens(self.model.config(), n), ..ModelInput::default() };
        let (mut prefills, mut decodes, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
        // Once unmeasured: weights are paged in, threads are started, the cache has its full size.
        self.prefill(&prompt)?;
        self.decode()?;
        let memory = self.model.bytes_resident();
        output.start_progress(self.args.repetitions);
        for _ in 0..self.args.repetitions {
            prefills.push(self.prefill(&prompt)?);
            decodes.push(self.decode()?);
            if self.model.config().vision.is_some() {
                pictures.push(self.see(&files.preprocessor()?)?);
            }
            output.advance();
        }
        output.end_progress();

        let decode_ms = median(decodes);
        let decode_tokens_per_s = per_second(self.args.generate, decode_ms);
        let prefill_ms = median(prefills);
        let bytes_read_per_token = files.checkpoint()?.decode_bytes();
        let threads = rayon::current_num_threads();
        let bandwidth = memory::read_bandwidth(threads);
        Ok(Report {
            model: files.name().to_string(),
            threads,
            repetitions: self.args.repetitions,
            prompt_tokens: n,
            generated_tokens: self.args.generate,
            load_ms,
            prefill_tokens_per_s: per_second(n, prefill_ms),
            ttft_ms: prefill_ms,
            decode_tokens_per_s,
            picture: Seeing::median(pictures),
            weights_mapped_bytes: memory.weights_mapped,
            weights_owned_bytes: memory.weights_owned,
            kv_cache_bytes: memory.kv_cache,
            bytes_read_per_token,
            bandwidth_bytes_per_s: bandwidth,
            bandwidth_share: bytes_read_per_token as f64 * decode_tokens_per_s / bandwidth,
        })
    }

    /// Milliseconds from a prompt to its first token.
    fn prefill(&mut self, input: &ModelInput) -> anyhow::Result<f64> {
        self.model.truncate(0)?;
        let start = Instant::now();
        let go_on = &mut |_, _| ControlFlow::Continue(());
        pollster::block_on(self.model.prefill(input, self.args.prefill_chunk, 1, go_on))?;
        Ok(ms(start))
    }

    /// Milliseconds for the tokens after it.
    fn decode(&mut self) -> anyhow::Result<f64> {
        let tokens = plain_tokens(self.model.config(), self.args.generate);
        let start = Instant::now();
        for token in tokens {
            pollster::block_on(self.model.decode(token, 1))?;
        }
        Ok(ms(start))
    }

    fn see(&mut self, preprocessor: &Preprocessor) -> anyhow::Result<Seeing> {
        let [width, height] = PICTURE;
        let shades = (0..width * height * 3).map(|i| (i / 7 % 256) as u8).collect();
        let picture = Picture::new(width, height, shades)?;
        let start = Instant::now();
        let patches = preprocessor.image(&picture)?;
        let front_ms = ms(start);

        let config = self.model.config();
        let tokens = patches.n_tokens();
        let mut token_ids = vec![config.tokens.image_start];
        token_ids.extend(std::iter::repeat_n(config.tokens.image_placeholder, tokens));
        token_ids.push(config.tokens.image_end);
        let text = ModelInput { token_ids: plain_tokens(config, token_ids.len()), ..ModelInput::default() };
        let visual = Visual {
            grid_thw: patches.grid_thw,
            patches: patches.pixel_values.into(),
            is_video: false,
            digest: 0,
        };
        let prompt = ModelInput { token_ids, visuals: vec![visual], position_ids: None };
        let with_picture = self.prefill(&prompt)?;
        let without = self.prefill(&text)?;
        let tower_ms = (with_picture - without).max(0.0);
        Ok(Seeing { size: PICTURE, tokens, front_ms, tower_ms, ttft_ms: front_ms + with_picture })
    }
}

impl Report {
    fn write(&self, output: &Output) -> anyhow::Result<()> {
        output.row("model", &self.model)?;
        output.row("threads", &self.threads.to_string())?;
        output.row("load", &format!("{:.0} ms", self.load_ms))?;
        output.row(
            "prefill",
            &format!(
                "{:.1} tokens/s · first token after {:.1} ms ({} tokens)",
                self.prefill_tokens_per_s, self.ttft_ms, self.prompt_tokens
            ),
        )?;
        output.row(
            "decode",
            &format!(
                "{:.1} tokens/s · {:.2} ms a token ({} tokens)",
                self.decode_tokens_per_s,
                1000.0 / self.decode_tokens_per_s,
                self.generated_tokens
            ),
        )?;
        if let Some(Seeing { size: [width, height], tokens, front_ms, tower_ms, ttft_ms }) = &self.picture {
            output.row(
                "picture",
                &format!(
                    "{ttft_ms:.1} ms to the first token · front {front_ms:.1} ms, tower {tower_ms:.1} ms \
                     ({width}x{height}, {tokens} tokens)"
                ),
            )?;
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
        output.row(
            "bandwidth",
            &format!(
                "{:.0} % of {}/s: each token reads {} of weights",
                self.bandwidth_share * 100.0,
                bytes(self.bandwidth_bytes_per_s as u64),
                bytes(self.bytes_read_per_token)
            ),
        )?;
        output.row("", &format!("medians of {}", self.repetitions))?;
        Ok(())
    }
}

impl Seeing {
    fn median(all: Vec<Seeing>) -> Option<Seeing> {
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

/// `n` ids that are spread over the vocabulary and stand for no picture.
fn plain_tokens(config: &Config, n: usize) -> Vec<u32> {
    let placeholders = [Some(config.tokens.image_placeholder), config.tokens.video_placeholder];
    // Steps of a prime visit all ids before one comes again.
    let ids = (0..).map(|i: u64| (i * 7919 % config.text.vocab_size as u64) as u32);
    ids.filter(|id| !placeholders.contains(&Some(*id))).take(n).collect()
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

fn per_second(n: usize, ms: f64) -> f64 {
    n as f64 * 1000.0 / ms
}

/// The middle one; of an even number the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    (values[(n - 1) / 2] + values[n / 2]) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0]), 3.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
    }
}
