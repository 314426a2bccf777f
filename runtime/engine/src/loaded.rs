//! A model on one backend. No other module of the engine is generic over backends.

mod foresight;
mod sequences;

use std::cell::{Cell, RefCell};
use std::ops::{ControlFlow, Range};

use model::config::{Config, TextConfig, VisionConfig};
use model::{Decoder, Modalities, MtpHead, Step};
use tensor::{Backend, Candidate, ExpertUse, Mask, Tapped, Taps, WeightBytes, Weights};
use vision::{Resampler, Tower, TowerConfig};

use crate::layout::{Layout, Piece};
use crate::trace::{Capture, Captured, Trace, Traceable, Values};
use crate::{CachedRows, Error, LanguageModel, LocalFuture, Memory, ModelInput, Result};

use foresight::Foresight;
pub(crate) use sequences::IntoSequences;

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
    network: Network<B>,
    sequence: RefCell<Sequence<B>>,
}

/// What does not change from step to step.
struct Network<B: Backend> {
    backend: B,
    config: Config,
    decoder: Decoder<B>,
    eye: Option<Eye<B>>,
    /// Guesses tokens, if the checkpoint has such a head.
    mtp: Option<MtpHead<B>>,
    weights: WeightBytes,
}

/// The tokens of one conversation, as the layers remember them.
struct Sequence<B: Backend> {
    /// One a layer.
    caches: Vec<B::Cache>,
    /// Of every cached token.
    position_ids: Vec<[u32; 3]>,
    /// Where the next generated token stands on all axes: beyond every position so far.
    next_position: u32,
    /// What the head remembers that guesses tokens, if somebody wants guesses.
    foresight: Option<Foresight<B>>,
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

/// The head that guesses tokens of a text model, if its checkpoint has one.
pub(crate) fn load_mtp<B: Backend>(
    w: &dyn Weights<B>,
    config: &Config,
) -> tensor::Result<Option<MtpHead<B>>> {
    match config.vision {
        // It knows nothing of pictures.
        Some(_) => Ok(None),
        None => MtpHead::load(w, &config.text),
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
        let network = Network::load(backend, w, config)?;
        let sequence = RefCell::new(network.sequence()?);
        Ok(Self { network, sequence })
    }
}

impl<B: Backend> Network<B> {
    fn load(backend: B, w: &dyn Weights<B>, config: Config) -> Result<Self> {
        let w = &Metered { weights: w, backend: &backend, total: Cell::default() };
        let decoder = Decoder::load(w, &config.text)?;
        let eye = config.vision.as_ref().map(|vision| Eye::load(w, &config.text, vision)).transpose()?;
        let mtp = load_mtp(w, &config)?;
        let weights = w.total.get();
        Ok(Self { backend, config, decoder, eye, mtp, weights })
    }

    fn sequence(&self) -> Result<Sequence<B>> {
        let caches = self.decoder.caches(&self.backend, CACHE_CAPACITY)?;
        Ok(Sequence { caches, position_ids: Vec::new(), next_position: 0, foresight: None })
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
        &self,
        sequence: &mut Sequence<B>,
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
        self.append(&mut [(sequence, &layout.position_ids[rows.clone()])], x, modalities, taps)
    }

    /// Runs new rows of one or more sequences through the layers and remembers where they stand. After an
    /// error nothing is cached that was not before.
    fn append(
        &self,
        sequences: &mut [(&mut Sequence<B>, &[[u32; 3]])],
        x: B::Tensor,
        modalities: Option<Modalities<B>>,
        taps: Option<&Taps<B>>,
    ) -> Result<B::Tensor> {
        let b = &self.backend;
        let position_ids: Vec<[u32; 3]> = sequences.iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
        let cos_sin = b.tensor(&self.decoder.rope.cos_sin(&position_ids), self.config.text.head_dim)?;
        let mut cu_seqlens = vec![0];
        cu_seqlens.extend(sequences.iter().scan(0, |end, (_, ids)| {
            *end += ids.len() as u32;
            Some(*end)
        }));
        let mask = match sequences.len() {
            1 => Mask::Causal,
            _ => Mask::Segments { cu_seqlens: &cu_seqlens, causal: true },
        };
        let step = Step { backend: b, cos_sin, mask, modalities, taps };
        let mut caches: Vec<_> = sequences.iter_mut().map(|(sequence, _)| &mut sequence.caches[..]).collect();
        let forward = self.decoder.forward_sequences(&step, x.clone(), &mut caches);
        let forward = forward.map_err(Error::from).and_then(|hidden| {
            self.foresee_all(sequences, &x, &hidden, &cu_seqlens)?;
            Ok(hidden)
        });
        match forward {
            Ok(hidden) => {
                for (sequence, ids) in sequences {
                    sequence.position_ids.extend_from_slice(ids);
                    sequence.next_position = sequence.next_position.max(position_after(ids));
                }
                Ok(hidden)
            }
            Err(error) => {
                for (sequence, _) in sequences {
                    sequence.truncate_caches(b, sequence.position_ids.len())?;
                }
                Err(error)
            }
        }
    }

    /// Shows new rows to the head that guesses, for each sequence that wants guesses.
    fn foresee_all(
        &self,
        sequences: &mut [(&mut Sequence<B>, &[[u32; 3]])],
        embeds: &B::Tensor,
        hidden: &B::Tensor,
        cu_seqlens: &[u32],
    ) -> Result<()> {
        let b = &self.backend;
        let is_one = sequences.len() == 1;
        for ((sequence, ids), bounds) in sequences.iter_mut().zip(cu_seqlens.windows(2)) {
            if sequence.foresight.is_none() {
                continue;
            }
            if is_one {
                self.foresee(sequence, ids, embeds, hidden)?;
                continue;
            }
            let rows = b.ids(&(bounds[0]..bounds[1]).collect::<Vec<_>>())?;
            self.foresee(sequence, ids, &b.gather(embeds, &rows)?, &b.gather(hidden, &rows)?)?;
        }
        Ok(())
    }

    /// Appends generated tokens to each sequence. Returns the rows of the residual stream, in their order.
    fn append_tokens(&self, sequences: &mut [(&mut Sequence<B>, &[u32])]) -> Result<B::Tensor> {
        let vocab_size = self.config.text.vocab_size;
        let tokens: Vec<u32> = sequences.iter().flat_map(|(_, tokens)| tokens.iter().copied()).collect();
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(Error::Prompt(format!("token {token} is not in the vocabulary of {vocab_size}")));
        }
        let b = &self.backend;
        let x = b.embed(&self.decoder.embed_tokens, &b.ids(&tokens)?)?;
        let position_ids: Vec<Vec<_>> = sequences
            .iter()
            .map(|(sequence, tokens)| {
                (sequence.next_position..).take(tokens.len()).map(|position| [position; 3]).collect()
            })
            .collect();
        let mut rows: Vec<_> = sequences
            .iter_mut()
            .zip(&position_ids)
            .map(|((sequence, _), ids)| (&mut **sequence, &ids[..]))
            .collect();
        self.append(&mut rows, x, None, None)
    }

    /// The `k` best tokens of the one row of `logits`, best first, or all in the order of their ids.
    async fn best(&self, logits: &B::Tensor, k: usize) -> Result<Vec<Candidate>> {
        let b = &self.backend;
        if k < b.shape(logits).1 {
            return Ok(b.top_k(logits, k).await?);
        }
        let logits = b.read(logits).await?;
        Ok((0..).zip(logits).map(|(id, logit)| Candidate { id, logit }).collect())
    }

    /// The `k` best tokens after the last row of `hidden`.
    async fn candidates(&self, hidden: &B::Tensor, k: usize) -> Result<Vec<Candidate>> {
        let b = &self.backend;
        let last = b.ids(&[b.shape(hidden).0 as u32 - 1])?;
        let logits = self.decoder.logits(b, &b.gather(hidden, &last)?, None)?;
        self.best(&logits, k).await
    }

    /// The `ks[i]` best tokens after row `i` of `hidden`; the head runs once.
    async fn candidates_of_rows(
        &self,
        hidden: &B::Tensor,
        ks: impl IntoIterator<Item = usize>,
    ) -> Result<Vec<Vec<Candidate>>> {
        let b = &self.backend;
        let logits = self.decoder.logits(b, hidden, None)?;
        let is_one_row = b.shape(&logits).0 == 1;
        let mut candidates = Vec::new();
        for (row, k) in (0..).zip(ks) {
            let logits = if is_one_row { logits.clone() } else { b.gather(&logits, &b.ids(&[row])?)? };
            candidates.push(self.best(&logits, k).await?);
        }
        Ok(candidates)
    }

    /// Reads what is new of `input`, and awaits `pause` between chunks.
    async fn prefill_chunks(
        &self,
        sequence: &RefCell<Sequence<B>>,
        input: &ModelInput,
        chunk: usize,
        k: usize,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
        pause: impl AsyncFn(),
    ) -> Result<Vec<Candidate>> {
        let layout = Layout::new(input, &self.config)?;
        let new = new_rows(&layout, sequence.borrow().position_ids.len())?;
        let mut last_seen = None;
        for rows in chunks(&new, chunk) {
            let hidden =
                self.prefill_rows(&mut sequence.borrow_mut(), &layout, &rows, &mut last_seen, None)?;
            if progress(rows.end - new.start, new.len()).is_break() {
                return Err(Error::Cancelled);
            }
            if rows.end == new.end {
                return self.candidates(&hidden, k).await;
            }
            pause().await;
        }
        unreachable!("the chunks of rows that are not empty end with the last of them")
    }

    /// The mean of the rows that the head sees. Sums are of one row after the other, so chunks change nothing.
    async fn embed_chunks(
        &self,
        sequence: &RefCell<Sequence<B>>,
        input: &ModelInput,
        chunk: usize,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
        pause: impl AsyncFn(),
    ) -> Result<Vec<f32>> {
        let b = &self.backend;
        sequence.borrow_mut().truncate(b, 0)?;
        let layout = Layout::new(input, &self.config)?;
        let n = layout.token_ids.len();
        let mut sum = vec![0.0_f64; self.config.text.hidden_size];
        let mut last_seen = None;
        for rows in chunks(&new_rows(&layout, 0)?, chunk) {
            let hidden =
                self.prefill_rows(&mut sequence.borrow_mut(), &layout, &rows, &mut last_seen, None)?;
            let seen = b.read(&self.decoder.final_norm(b, &hidden)?).await?;
            for row in seen.chunks_exact(sum.len()) {
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
            }
            if progress(rows.end, n).is_break() {
                return Err(Error::Cancelled);
            }
            pause().await;
        }
        Ok(sum.into_iter().map(|x| (x / n as f64) as f32).collect())
    }

    async fn trace_chunks(
        &self,
        sequence: &mut Sequence<B>,
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

        sequence.truncate(&self.backend, 0)?;
        let (mut logits, mut recorder, mut last_seen) = (Vec::new(), Recorder::new(capture), None);
        for rows in chunks(&new_rows(&layout, 0)?, chunk) {
            let taps = Taps::default();
            let hidden = self.prefill_rows(sequence, &layout, &rows, &mut last_seen, Some(&taps))?;
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

    fn bytes_resident(&self, context_len: usize) -> Memory {
        let row_bytes = self.backend.cache_row_bytes(self.config.text.heads());
        let kv_cache = (context_len * self.config.text.n_layers * row_bytes) as u64;
        let repacked = self.backend.repacked_bytes();
        Memory {
            weights_mapped: self.weights.shared.saturating_sub(repacked),
            weights_owned: self.weights.owned + repacked,
            kv_cache,
        }
    }
}

impl<B: Backend> Sequence<B> {
    fn read(&self, b: &B) -> Result<Option<CachedRows>> {
        let layers =
            self.caches.iter().map(|cache| b.read_cache(cache)).collect::<tensor::Result<Option<_>>>()?;
        Ok(layers.map(|layers| CachedRows { position_ids: self.position_ids.clone(), layers }))
    }

    /// Whether the backend can take them; if not, or after an error, nothing is cached.
    fn write(&mut self, b: &B, rows: CachedRows) -> Result<bool> {
        self.truncate(b, 0)?;
        // It has not seen them.
        self.foresight = None;
        let written = self.caches.iter_mut().zip(&rows.layers).try_fold(true, |all, (cache, [k, v])| {
            Ok::<bool, tensor::Error>(all && b.append_cache(cache, k, v)?)
        });
        let is_whole = self.caches.iter().all(|cache| b.cache_len(cache) == rows.position_ids.len());
        match written {
            Ok(true) if is_whole && self.caches.len() == rows.layers.len() => {
                self.next_position = position_after(&rows.position_ids);
                self.position_ids = rows.position_ids;
                Ok(true)
            }
            written => {
                self.truncate_caches(b, 0)?;
                written?;
                Ok(false)
            }
        }
    }

    fn truncate(&mut self, b: &B, len: usize) -> Result<()> {
        self.truncate_caches(b, len)?;
        self.position_ids.truncate(len);
        self.next_position = position_after(&self.position_ids);
        Ok(())
    }

    fn truncate_caches(&mut self, b: &B, len: usize) -> Result<()> {
        self.caches.iter_mut().try_for_each(|cache| b.truncate(cache, len))?;
        self.foresight.as_mut().map_or(Ok(()), |foresight| foresight.truncate(b, len))
    }

    /// Begins or ends to remember what guesses need. What is cached already stays unknown to the head.
    fn set_drafting(&mut self, network: &Network<B>, on: bool) -> Result<()> {
        self.foresight = match (on, self.foresight.take()) {
            (false, _) => None,
            (true, Some(foresight)) => Some(foresight),
            (true, None) => network.foresight()?,
        };
        Ok(())
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
        &self.network.config
    }

    fn context_len(&self) -> usize {
        self.sequence.borrow().position_ids.len()
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        self.sequence.get_mut().truncate(&self.network.backend, len)
    }

    fn prefill<'a>(
        &'a mut self,
        input: &'a ModelInput,
        chunk: usize,
        k: usize,
        progress: &'a mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> LocalFuture<'a, Result<Vec<Candidate>>> {
        Box::pin(self.network.prefill_chunks(&self.sequence, input, chunk, k, progress, async || {}))
    }

    fn embed<'a>(
        &'a mut self,
        input: &'a ModelInput,
        chunk: usize,
        progress: &'a mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> LocalFuture<'a, Result<Option<Vec<f32>>>> {
        Box::pin(async move {
            let mean = self.network.embed_chunks(&self.sequence, input, chunk, progress, async || {});
            mean.await.map(Some)
        })
    }

    fn exact_rows(&self) -> usize {
        self.network.backend.exact_rows()
    }

    fn set_drafting(&mut self, on: bool) -> Result<()> {
        self.sequence.get_mut().set_drafting(&self.network, on)
    }

    fn draft(&mut self, token: u32, n: usize) -> LocalFuture<'_, Result<Vec<u32>>> {
        Box::pin(self.network.draft(&self.sequence, token, n))
    }

    fn decode_rows<'a>(
        &'a mut self,
        tokens: &'a [u32],
        k: usize,
    ) -> LocalFuture<'a, Result<Vec<Vec<Candidate>>>> {
        Box::pin(async move {
            if tokens.is_empty() {
                return Ok(Vec::new());
            }
            let hidden = self.network.append_tokens(&mut [(self.sequence.get_mut(), tokens)])?;
            self.network.candidates_of_rows(&hidden, tokens.iter().map(|_| k)).await
        })
    }

    fn bytes_resident(&self) -> Memory {
        self.network.bytes_resident(self.context_len())
    }

    fn expert_use(&self) -> Option<ExpertUse> {
        self.network.backend.expert_use()
    }

    fn read_cache(&self) -> Result<Option<CachedRows>> {
        self.sequence.borrow().read(&self.network.backend)
    }

    fn write_cache(&mut self, rows: CachedRows) -> Result<bool> {
        self.sequence.get_mut().write(&self.network.backend, rows)
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
        Box::pin(self.network.trace_chunks(self.sequence.get_mut(), input, chunk, rows, capture))
    }
}
