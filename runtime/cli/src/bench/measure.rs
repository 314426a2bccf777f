//! The runs that are measured.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::bail;
use engine::{ExpertUse, LanguageModel, Memory, ModelFiles, ModelInput, Visual};
use model::Checkpoint;
use model::config::Config;
use vision::Picture;

use super::BenchArgs;
use super::median::ms;
use super::report::Seeing;

/// Width and height of the picture that is measured: a photograph's shape, about 380 tokens.
const PICTURE: [u32; 2] = [640, 480];

pub(super) struct Bench<'a> {
    model: &'a mut dyn LanguageModel,
    args: &'a BenchArgs,
    prompt: ModelInput,
    before: ModelInput,
}

impl<'a> Bench<'a> {
    /// # Errors
    /// If the model's context is too short for what shall be measured.
    pub(super) fn new(model: &'a mut dyn LanguageModel, args: &'a BenchArgs) -> anyhow::Result<Self> {
        let context = model.config().text.max_position_embeddings;
        let (before, more) = (args.prompt.max(args.depth), args.generate.max(args.rows));
        if before.saturating_add(more) > context {
            bail!("{before} tokens and {more} more are beyond the model's context of {context}");
        }
        let input = |n| ModelInput { token_ids: plain_tokens(model.config(), n), ..ModelInput::default() };
        let (prompt, before) = (input(args.prompt), input(args.depth));
        Ok(Self { model, args, prompt, before })
    }

    /// Milliseconds from the prompt to its first token.
    pub(super) fn prefill_prompt(&mut self) -> anyhow::Result<f64> {
        prefill(self.model, &self.prompt, self.args.prefill_chunk)
    }

    /// Has as many tokens in the context as shall be there before the generated ones.
    pub(super) fn go_to_depth(&mut self) -> anyhow::Result<()> {
        let depth = self.args.depth;
        // The tokens of both inputs are the same, as far as they go.
        if depth > self.model.context_len() {
            prefill(self.model, &self.before, self.args.prefill_chunk)?;
        }
        Ok(self.model.truncate(depth)?)
    }

    /// What routed experts cost so far, if they have a budget.
    pub(super) fn expert_use(&self) -> Option<ExpertUse> {
        self.model.expert_use()
    }

    /// Milliseconds for the tokens to generate.
    pub(super) fn decode(&mut self) -> anyhow::Result<f64> {
        self.go_to_depth()?;
        let tokens = plain_tokens(self.model.config(), self.args.generate);
        let start = Instant::now();
        for token in tokens {
            pollster::block_on(self.model.decode(token, 1))?;
        }
        Ok(ms(start))
    }

    /// Milliseconds for one row, and for a batch of several, with the candidates after each.
    pub(super) fn rows(&mut self) -> anyhow::Result<[f64; 2]> {
        let tokens = plain_tokens(self.model.config(), self.args.rows);
        let mut times = [0.0; 2];
        for (time, tokens) in times.iter_mut().zip([&tokens[..1], &tokens[..]]) {
            self.go_to_depth()?;
            let start = Instant::now();
            pollster::block_on(self.model.decode_rows(tokens, 1))?;
            *time = ms(start);
        }
        Ok(times)
    }

    /// Bytes held with the whole prompt in the context.
    pub(super) fn bytes_resident(&mut self) -> anyhow::Result<Memory> {
        self.prefill_prompt()?;
        Ok(self.model.bytes_resident())
    }

    /// Bytes of keys and values that a token reads, on average over the generated ones, if each is read once.
    pub(super) fn kv_bytes_read(&self) -> u64 {
        let memory = self.model.bytes_resident();
        let a_token = memory.kv_cache / (self.model.context_len() as u64).max(1);
        a_token * (self.args.depth + self.args.generate / 2) as u64
    }

    /// Operations of reading the prompt, two a product: weights, and attention to what came before.
    pub(super) fn prefill_operations(&self, checkpoint: &Checkpoint) -> f64 {
        let (n, text) = (self.args.prompt as f64, &self.model.config().text);
        let head = (text.vocab_size * text.hidden_size) as f64;
        // The head sees the last row alone.
        let weights = (checkpoint.decode_values() as f64 - head) * n + head;
        let attention = 2.0 * text.heads().q_width() as f64 * text.n_layers as f64 * n * (n + 1.0) / 2.0;
        2.0 * (weights + attention)
    }

    /// What a picture takes; `None` if the model sees none.
    pub(super) fn see(&mut self, files: &ModelFiles) -> anyhow::Result<Option<Seeing>> {
        if self.model.config().vision.is_none() {
            return Ok(None);
        }
        let [width, height] = PICTURE;
        let shades = (0..width * height * 3).map(|i| (i / 7 % 256) as u8).collect();
        let picture = Picture::new(width, height, shades)?;
        let preprocessor = files.preprocessor()?;
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
        let with_picture = prefill(self.model, &prompt, self.args.prefill_chunk)?;
        let without = prefill(self.model, &text, self.args.prefill_chunk)?;
        let tower_ms = (with_picture - without).max(0.0);
        Ok(Some(Seeing { size: PICTURE, tokens, front_ms, tower_ms, ttft_ms: front_ms + with_picture }))
    }
}

/// Milliseconds from an empty cache to the first token after `input`.
fn prefill(model: &mut dyn LanguageModel, input: &ModelInput, chunk: usize) -> anyhow::Result<f64> {
    model.truncate(0)?;
    let start = Instant::now();
    pollster::block_on(model.prefill(input, chunk, 1, &mut |_, _| ControlFlow::Continue(())))?;
    Ok(ms(start))
}

/// `n` ids that are spread over the vocabulary and stand for no picture.
fn plain_tokens(config: &Config, n: usize) -> Vec<u32> {
    let placeholders = [Some(config.tokens.image_placeholder), config.tokens.video_placeholder];
    // Steps of a prime visit all ids before one comes again.
    let ids = (0..).map(|i: u64| (i * 7919 % config.text.vocab_size as u64) as u32);
    ids.filter(|id| !placeholders.contains(&Some(*id))).take(n).collect()
}
