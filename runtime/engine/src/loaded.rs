//! A model on one backend. No other file of the engine is generic over backends.

use std::cell::Cell;
use std::ops::{ControlFlow, Range};

use model::config::{Config, TextConfig, VisionConfig};
use model::{Decoder, Modalities, Step};
use tensor::{Backend, Candidate, Mask, Tapped, Taps, WeightBytes, Weights};
use vision::{Resampler, Tower, TowerConfig};

use crate::layout::{Layout, Piece};
use crate::trace::{Capture, Captured, Trace, Traceable, Values};
use crate::{Error, LanguageModel, LocalFuture, Memory, ModelInput, Result};

/// Tokens that caches have room for before they grow.
const CACHE_CAPACITY: usize = 512;

/// Pictures to rows of the decoder.
struct Eye<B: Backend> {
    tower: Tower<B>,
    resampler: Resampler<B>,
    patch_values: usize,
}

/// The rows of the piece that the last chunk ended in, so that the next chunk need not look again.
type LastSeen<B> = Option<(usize, <B as Backend>::Tensor)>;

/// A decoder, its eye if it has one, and the state of one sequence.
pub struct Loaded<B: Backend> {
    backend: B,
    config: Config,
    decoder: Decoder<B>,
    eye: Option<Eye<B>>,
    caches: Vec<B::Cache>,
    /// Of every cached token.
    position_ids: Vec<[u32; 3]>,
    /// Where the next generated token stands on all axes: beyond every position so far.
    next_position: u32,
    weights: WeightBytes,
}

/// The tower's sizes, some of which are the language model's.
#[must_use]
pub fn tower_config(text: &TextConfig, vision: &VisionConfig) -> TowerConfig {
    TowerConfig {
        depth: vision.depth,
        hidden_size: vision.hidden_size,
        intermediate_size: vision.intermediate_size,
        n_heads: vision.n_heads,
        patch_values: vision.in_channels * vision.patch_size * vision.patch_size,
        spatial_merge_size: vision.spatial_merge_size,
        temporal_merge_size: vision.temporal_merge_size,
        norm_eps: vision.norm_eps,
        rope_theta: vision.rope_theta,
        text_hidden_size: text.hidden_size,
        text_norm_eps: text.rms_norm_eps,
    }
}

/// Counts the bytes of the parameters that pass through.
struct Metered<'a, B: Backend> {
    weights: &'a dyn Weights<B>,
    backend: &'a B,
    total: Cell<WeightBytes>,
}

impl<B: Backend> Metered<'_, B> {
    fn count(&self, weight: B::Weight) -> B::Weight {
        let (total, new) = (self.total.get(), self.backend.weight_bytes(&weight));
        self.total.set(WeightBytes { shared: total.shared + new.shared, owned: total.owned + new.owned });
        weight
    }
}

impl<B: Backend> Weights<B> for Metered<'_, B> {
    fn get(&self, name: &str, shape: &[usize]) -> tensor::Result<B::Weight> {
        self.weights.get(name, shape).map(|weight| self.count(weight))
    }

    fn get_rows(&self, name: &str, shape: &[usize], rows: Range<usize>) -> tensor::Result<B::Weight> {
        self.weights.get_rows(name, shape, rows).map(|weight| self.count(weight))
    }

    fn has(&self, name: &str) -> bool {
        self.weights.has(name)
    }
}

impl<B: Backend> Eye<B> {
    fn load(w: &dyn Weights<B>, text: &TextConfig, vision: &VisionConfig) -> Result<Self> {
        let config = tower_config(text, vision);
        Ok(Self {
            tower: Tower::load(w, &config)?,
            resampler: Resampler::load(w, &config)?,
            patch_values: config.patch_values,
        })
    }

    /// The rows `[placeholders, hidden_size]` that a piece puts into the prompt.
    fn look(&self, b: &B, piece: &Piece<'_>, taps: Option<&Taps<B>>) -> Result<B::Tensor> {
        let grids = [piece.grid_thw];
        let patches = b.tensor(piece.patches, self.patch_values)?;
        let features = self.tower.forward(b, &patches, &grids, taps)?;
        Ok(self.resampler.forward(b, &features, &grids, taps)?)
    }
}

impl<B: Backend> Loaded<B> {
    /// Loads every parameter that `config` asks for.
    ///
    /// # Errors
    /// The first tensor that is missing or has another shape, by name.
    pub fn load(backend: B, w: &dyn Weights<B>, config: Config) -> Result<Self> {
        let w = &Metered { weights: w, backend: &backend, total: Cell::default() };
        let decoder = Decoder::load(w, &config.text)?;
        let eye = config.vision.as_ref().map(|vision| Eye::load(w, &config.text, vision)).transpose()?;
        let weights = w.total.get();
        let caches = decoder.caches(&backend, CACHE_CAPACITY)?;
        Ok(Self {
            backend,
            config,
            decoder,
            eye,
            caches,
            position_ids: Vec::new(),
            next_position: 0,
            weights,
        })
    }

    /// Token embeddings of `rows`, picture rows in place.
    fn embed(
        &self,
        layout: &Layout<'_>,
        rows: &Range<usize>,
        last_seen: &mut LastSeen<B>,
        taps: Option<&Taps<B>>,
    ) -> Result<B::Tensor> {
        let b = &self.backend;
        let mut x = b.embed(&self.decoder.embed_tokens, &b.ids(&layout.token_ids[rows.clone()])?)?;
        let Some(eye) = &self.eye else { return Ok(x) };
        for (i, piece) in layout.pieces.iter().enumerate() {
            let shared = piece.rows.start.max(rows.start)..piece.rows.end.min(rows.end);
            if shared.is_empty() {
                continue;
            }
            let image_embeds = match last_seen.take() {
                Some((seen, image_embeds)) if seen == i => image_embeds,
                _ => eye.look(b, piece, taps)?,
            };
            let count_from =
                |start: usize| -> Vec<u32> { shared.clone().map(|row| (row - start) as u32).collect() };
            let visible = b.gather(&image_embeds, &b.ids(&count_from(piece.rows.start))?)?;
            x = b.scatter(&x, &b.ids(&count_from(rows.start))?, &visible)?;
            *last_seen = Some((i, image_embeds));
        }
        Ok(x)
    }

    /// Runs `rows` of the prompt, all of whose earlier rows are cached, through the layers.
    fn prefill_rows(
        &mut self,
        layout: &Layout<'_>,
        rows: &Range<usize>,
        last_seen: &mut LastSeen<B>,
        taps: Option<&Taps<B>>,
    ) -> Result<B::Tensor> {
        let x = self.embed(layout, rows, last_seen, taps)?;
        let has_vision_bank = self.config.text.moe.as_ref().is_some_and(|moe| moe.vision.is_some());
        let modalities = match has_vision_bank {
            true => Modalities::split(&self.backend, &layout.is_vision[rows.clone()])?,
            false => None,
        };
        self.append(x, &layout.position_ids[rows.clone()], modalities, taps)
    }

    /// Runs new rows through the layers and remembers where they stand. After an error nothing is cached
    /// that was not before.
    fn append(
        &mut self,
        x: B::Tensor,
        position_ids: &[[u32; 3]],
        modalities: Option<Modalities<B>>,
        taps: Option<&Taps<B>>,
    ) -> Result<B::Tensor> {
        let b = &self.backend;
        let cos_sin = b.tensor(&self.decoder.rope.cos_sin(position_ids), self.config.text.head_dim)?;
        let step = Step { backend: b, cos_sin, mask: Mask::Causal, modalities, taps };
        match self.decoder.forward(&step, x, &mut self.caches) {
            Ok(hidden) => {
                self.position_ids.extend_from_slice(position_ids);
                self.next_position = self.next_position.max(position_after(position_ids));
                Ok(hidden)
            }
            Err(error) => {
                self.truncate_caches(self.position_ids.len())?;
                Err(error.into())
            }
        }
    }

    fn truncate_caches(&mut self, len: usize) -> Result<()> {
        self.caches.iter_mut().try_for_each(|cache| self.backend.truncate(cache, len))?;
        Ok(())
    }

    /// The `k` best tokens after the last row of `hidden`.
    async fn candidates(&self, hidden: &B::Tensor, k: usize) -> Result<Vec<Candidate>> {
        let b = &self.backend;
        let last = b.ids(&[b.shape(hidden).0 as u32 - 1])?;
        let logits = self.decoder.logits(b, &b.gather(hidden, &last)?, None)?;
        Ok(b.top_k(&logits, k).await?)
    }

    async fn prefill_chunks(
        &mut self,
        input: &ModelInput,
        chunk: usize,
        k: usize,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<Candidate>> {
        let layout = Layout::new(input, &self.config)?;
        let new = new_rows(&layout, self.context_len())?;
        let mut last_seen = None;
        for rows in chunks(&new, chunk) {
            let hidden = self.prefill_rows(&layout, &rows, &mut last_seen, None)?;
            if progress(rows.end - new.start, new.len()).is_break() {
                return Err(Error::Cancelled);
            }
            if rows.end == new.end {
                return self.candidates(&hidden, k).await;
            }
        }
        unreachable!("the chunks of rows that are not empty end with the last of them")
    }

    async fn decode_token(&mut self, token: u32, k: usize) -> Result<Vec<Candidate>> {
        let vocab_size = self.config.text.vocab_size;
        if token as usize >= vocab_size {
            return Err(Error::Prompt(format!("token {token} is not in the vocabulary of {vocab_size}")));
        }
        let b = &self.backend;
        let x = b.embed(&self.decoder.embed_tokens, &b.ids(&[token])?)?;
        let hidden = self.append(x, &[[self.next_position; 3]], None, None)?;
        self.candidates(&hidden, k).await
    }

    async fn trace_chunks(
        &mut self,
        input: &ModelInput,
        chunk: usize,
        wanted: &[usize],
        capture: Capture,
    ) -> Result<Trace> {
        let layout = Layout::new(input, &self.config)?;
        let n = layout.token_ids.len();
        if let Some(row) = wanted.iter().find(|&&row| row >= n) {
            return Err(Error::Prompt(format!("row {row} is asked for, but the prompt has {n}")));
        }
        let mut is_wanted = vec![false; n];
        wanted.iter().chain(&n.checked_sub(1)).for_each(|&row| is_wanted[row] = true);

        self.truncate(0)?;
        let (mut logits, mut recorder, mut last_seen) = (Vec::new(), Recorder::new(capture), None);
        for rows in chunks(&new_rows(&layout, 0)?, chunk) {
            let taps = Taps::default();
            let hidden = self.prefill_rows(&layout, &rows, &mut last_seen, Some(&taps))?;
            let b = &self.backend;
            // `hidden.norm` is of all rows, so that then the head runs over all of them too.
            let is_read = |row: usize| is_wanted[row] || capture.hidden;
            let read: Vec<u32> =
                rows.clone().filter(|&row| is_read(row)).map(|row| (row - rows.start) as u32).collect();
            if !read.is_empty() {
                let chosen = b.gather(&hidden, &b.ids(&read)?)?;
                let values = b.read(&self.decoder.logits(b, &chosen, Some(&taps))?).await?;
                let kept = read.iter().zip(values.chunks_exact(self.config.text.vocab_size));
                logits.extend(
                    kept.filter(|(row, _)| is_wanted[rows.start + **row as usize]).flat_map(|(_, v)| v),
                );
            }
            recorder.read(b, taps).await?;
        }
        Ok(Trace {
            position_ids: layout.position_ids,
            rows: (0..n).filter(|&row| is_wanted[row]).collect(),
            logits,
            captured: recorder.captured,
        })
    }
}

/// The rows of a prompt that follow `context_len` cached ones; at least one.
fn new_rows(layout: &Layout<'_>, context_len: usize) -> Result<Range<usize>> {
    let n = layout.token_ids.len();
    match context_len < n {
        true => Ok(context_len..n),
        false => {
            Err(Error::Prompt(format!("nothing is new: {context_len} tokens are cached of a prompt of {n}")))
        }
    }
}

/// Cuts `rows` into ranges of at most `chunk`.
fn chunks(rows: &Range<usize>, chunk: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let (chunk, end) = (chunk.max(1), rows.end);
    rows.clone().step_by(chunk).map(move |start| start..end.min(start.saturating_add(chunk)))
}

/// The first position beyond all of `position_ids`.
fn position_after(position_ids: &[[u32; 3]]) -> u32 {
    position_ids.iter().flatten().max().map_or(0, |largest| largest + 1)
}

/// Collects taps of several chunks; the rows of one name follow each other.
struct Recorder {
    capture: Capture,
    captured: Vec<Captured>,
}

impl Recorder {
    fn new(capture: Capture) -> Self {
        Self { capture, captured: Vec::new() }
    }

    fn keeps(&self, name: &str) -> bool {
        match name.split('.').next() {
            Some("hidden") => self.capture.hidden,
            Some("router") => self.capture.router,
            _ => self.capture.vision,
        }
    }

    async fn read<B: Backend>(&mut self, b: &B, taps: Taps<B>) -> Result<()> {
        for (name, tapped) in taps.into_captured() {
            if !self.keeps(&name) {
                continue;
            }
            let (cols, values) = match tapped {
                Tapped::Rows(x) => (b.shape(&x).1, Values::F32(b.read(&x).await?)),
                Tapped::Routing(routing) => {
                    (routing.top_k, Values::U32(b.read_ids(&routing.expert_ids).await?))
                }
            };
            match self.captured.iter_mut().find(|earlier| earlier.name == name) {
                Some(earlier) => match (&mut earlier.values, values) {
                    (Values::F32(all), Values::F32(new)) => all.extend(new),
                    (Values::U32(all), Values::U32(new)) => all.extend(new),
                    _ => unreachable!("a name stands for values of one kind"),
                },
                None => self.captured.push(Captured { name, cols, values }),
            }
        }
        Ok(())
    }
}

impl<B: Backend> LanguageModel for Loaded<B> {
    fn config(&self) -> &Config {
        &self.config
    }

    fn context_len(&self) -> usize {
        self.position_ids.len()
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        self.truncate_caches(len)?;
        self.position_ids.truncate(len);
        self.next_position = position_after(&self.position_ids);
        Ok(())
    }

    fn prefill<'a>(
        &'a mut self,
        input: &'a ModelInput,
        chunk: usize,
        k: usize,
        progress: &'a mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> LocalFuture<'a, Result<Vec<Candidate>>> {
        Box::pin(self.prefill_chunks(input, chunk, k, progress))
    }

    fn decode(&mut self, token: u32, k: usize) -> LocalFuture<'_, Result<Vec<Candidate>>> {
        Box::pin(self.decode_token(token, k))
    }

    fn bytes_resident(&self) -> Memory {
        let values_a_token = 2 * self.config.text.heads().kv_width() * self.caches.len();
        let kv_cache = (self.context_len() * values_a_token * size_of::<f32>()) as u64;
        Memory { weights_mapped: self.weights.shared, weights_owned: self.weights.owned, kv_cache }
    }
}

impl<B: Backend> Traceable for Loaded<B> {
    fn trace<'a>(
        &'a mut self,
        input: &'a ModelInput,
        chunk: usize,
        rows: &'a [usize],
        capture: Capture,
    ) -> LocalFuture<'a, Result<Trace>> {
        Box::pin(self.trace_chunks(input, chunk, rows, capture))
    }
}
