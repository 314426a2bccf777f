//! A model with its vocabulary and chat template: conversations in, streamed answers out.

mod batch;
mod open;
mod resume;
mod steering;

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use model::config::Config;
use tensor::{Candidate, ExpertUse};
use tokenizer::Tokenizer;
use vision::Preprocessor;

use crate::cache_keys::{CacheKey, cache_keys};
use crate::chat_format::ChatFormat;
use crate::chat_template::ChatTemplate;
use crate::generate::{Answer, Event, GenerateOptions, Listener, Speculation, StopReason, TextStream};
use crate::lookahead::{Lookahead, Source};
use crate::prompt::{Message, Prompt};
use crate::sampler::Sampler;
use crate::{Error, LanguageModel, LocalFuture, Memory, ModelInput, Result, TokenLogprobs};

/// Milliseconds since any fixed moment.
pub type Clock = Box<dyn Fn() -> f64>;

pub use batch::Batch;
use steering::Steering;

/// What an [`Engine`] is made of.
pub struct EngineParts {
    /// The model; its cache may be empty or not.
    pub model: Box<dyn LanguageModel>,
    /// Its vocabulary.
    pub tokenizer: Tokenizer,
    /// Its chat template.
    pub template: ChatTemplate,
    /// How its pictures are cut into patches.
    pub preprocessor: Preprocessor,
    /// For the timings of answers.
    pub clock: Clock,
}

/// A loaded model that answers.
///
/// It keeps the tokens whose keys and values are cached, so that the next turn of a conversation, or another
/// question about the same picture, reads only what is new.
pub struct Engine {
    model: Box<dyn LanguageModel>,
    format: Arc<ChatFormat>,
    clock: Rc<Clock>,
    /// The first of those in the model's context; behind them there may be rows of guesses.
    cached: Vec<CacheKey>,
    /// Whether the cached tokens stand at positions that a prompt gave, which their keys do not tell.
    at_given_positions: bool,
}

impl Engine {
    /// Puts an engine together; [`Engine::open`] does so from files.
    ///
    /// # Errors
    /// If the model's cache cannot be emptied.
    pub fn new(parts: EngineParts) -> Result<Self> {
        let EngineParts { model, tokenizer, template, preprocessor, clock } = parts;
        let format = ChatFormat::new(tokenizer, template, preprocessor, model.config().clone());
        Self::of(model, Arc::new(format), Rc::new(clock))
    }

    fn of(mut model: Box<dyn LanguageModel>, format: Arc<ChatFormat>, clock: Rc<Clock>) -> Result<Self> {
        model.truncate(0)?;
        Ok(Self { model, format, clock, cached: Vec::new(), at_given_positions: false })
    }

    /// Sizes and special tokens of the model.
    pub fn config(&self) -> &Config {
        self.model.config()
    }

    /// From conversations to prompts, on any thread.
    pub fn format(&self) -> &Arc<ChatFormat> {
        &self.format
    }

    /// The vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.format.tokenizer()
    }

    /// How pictures are cut into patches for this model.
    pub fn preprocessor(&self) -> &Preprocessor {
        self.format.preprocessor()
    }

    /// Whether messages may hold pictures.
    pub fn takes_pictures(&self) -> bool {
        self.format.takes_pictures()
    }

    /// Bytes held now.
    pub fn bytes_resident(&self) -> Memory {
        self.model.bytes_resident()
    }

    /// What routed experts cost so far, if they share a budget of memory.
    pub fn expert_use(&self) -> Option<ExpertUse> {
        self.model.expert_use()
    }

    /// Tokens that a prompt and its answer may have together.
    pub fn context_limit(&self) -> usize {
        self.format.context_limit()
    }

    /// How many tokens of `prompt` are cached, so that [`generate`](Self::generate) need not read them.
    pub fn cached_prefix(&self, prompt: &Prompt) -> Result<usize> {
        let keys = cache_keys(&prompt.input, self.config())?;
        Ok(self.reusable(&prompt.input, &keys))
    }

    /// How many of `keys` are the first of the cached ones. At least one is read again, for its logits.
    fn reusable(&self, input: &ModelInput, keys: &[CacheKey]) -> usize {
        // Given positions may differ where the tokens agree.
        if input.position_ids.is_some() || self.at_given_positions {
            return 0;
        }
        let common = self.cached.iter().zip(keys).take_while(|(a, b)| a == b).count();
        common.min(keys.len().saturating_sub(1))
    }

    /// The text of a conversation as the model would read it, placeholders not yet expanded.
    ///
    /// # Errors
    /// If the template refuses the conversation.
    pub fn render(&self, messages: &[Message], options: &GenerateOptions) -> Result<String> {
        self.format.render(messages, options)
    }

    /// Token ids and pictures of a conversation.
    ///
    /// # Errors
    /// If the template refuses the conversation, or it holds pictures that the model cannot take.
    pub fn prompt(&self, messages: &[Message], options: &GenerateOptions) -> Result<Prompt> {
        self.format.prompt(messages, options)
    }

    /// Answers a conversation, telling `on_event` what happens.
    ///
    /// If `on_event` breaks, the answer so far comes back with [`StopReason::Cancelled`], and the cache stays
    /// usable, as it does after an error.
    ///
    /// # Errors
    /// As [`prompt`](Self::prompt) and [`generate`](Self::generate).
    pub fn chat<'a>(
        &'a mut self,
        messages: &'a [Message],
        options: &'a GenerateOptions,
        on_event: &'a mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> LocalFuture<'a, Result<Answer>> {
        Box::pin(async move {
            let prompt = self.prompt(messages, options)?;
            self.generate(&prompt, options, on_event).await
        })
    }

    /// Goes on after `prompt`.
    ///
    /// # Errors
    /// If the prompt is empty or too long, an option makes no sense, or the model fails.
    pub fn generate<'a>(
        &'a mut self,
        prompt: &'a Prompt,
        options: &'a GenerateOptions,
        on_event: &'a mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> LocalFuture<'a, Result<Answer>> {
        Box::pin(async move {
            let answer = self.answer(prompt, options, on_event).await;
            if answer.is_err() {
                // What the model holds after an error is not known well enough to build on.
                self.cached.clear();
                self.model.truncate(0)?;
            }
            answer
        })
    }

    /// A vector of length 1 for what `prompt` says: the direction of the mean over its tokens of what the model's head
    /// sees. The models here were not taught to compare texts, so it is a rough measure. `go_on` is asked after each
    /// chunk of the prompt.
    ///
    /// # Errors
    /// If the prompt is empty or too long, or the model fails or tells no such thing; [`Error::Cancelled`] if `go_on`
    /// breaks.
    pub fn embed<'a>(
        &'a mut self,
        prompt: &'a Prompt,
        chunk: usize,
        go_on: &'a mut dyn FnMut() -> ControlFlow<()>,
    ) -> LocalFuture<'a, Result<Vec<f32>>> {
        Box::pin(async move {
            self.format.check(prompt)?;
            // What the model holds from now on is not built on.
            self.cached.clear();
            let mut progress = |_, _| go_on();
            let mean = self.model.embed(&prompt.input, chunk.max(1), &mut progress).await?;
            let mean = mean.ok_or_else(|| Error::Options("this model tells no embeddings".into()))?;
            let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            Ok(mean.into_iter().map(|x| x / length).collect())
        })
    }

    async fn answer(
        &mut self,
        prompt: &Prompt,
        options: &GenerateOptions,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Answer> {
        let started = (self.clock)();
        let experts_before = self.model.expert_use();
        let limit = self.context_limit();
        let token_ids = &prompt.input.token_ids;
        self.format.check(prompt)?;
        let mut sampler = Sampler::new(&options.sampler(), options.seed, token_ids)?;
        let mut stream = TextStream::new(self.format.tokenizer(), &options.stop, prompt.shape);
        let mut steering = Steering::new(prompt, options, self.format.tokenizer());
        let mut listener = Listener { on_event, cancelled: false };
        let mut lookahead = Lookahead::new(options.speculation, token_ids);
        self.model.set_drafting(options.speculation == Speculation::Head)?;

        let n_candidates = |sampler: &Sampler| match options.logprobs {
            Some(_) => usize::MAX,
            None if prompt.guide.is_some() => usize::MAX,
            None => sampler.n_candidates(),
        };

        let (cached_tokens, candidates) =
            self.prefill(&prompt.input, options, n_candidates(&sampler), &mut listener).await?;
        let prefilled = (self.clock)();
        let mut first_token = prefilled;
        let mut answer_ids = Vec::new();
        let (mut n_generated, mut n_reasoning) = (0, 0);
        let mut next = candidates;
        let stop_reason = loop {
            if listener.cancelled {
                break StopReason::Cancelled;
            }
            if n_generated == options.max_tokens {
                break StopReason::MaxTokens;
            }
            if let Some(&token) = answer_ids.last() {
                // The last token is decoded only now, when one more is wanted.
                if self.cached.len() >= limit {
                    break StopReason::ContextFull;
                }
                let room = (limit - self.cached.len()).min(options.max_tokens - n_generated) - 1;
                next = self.decode(token, n_candidates(&sampler), room, &mut lookahead).await?;
            }
            let is_reasoning = stream.is_reasoning();
            let token = steering.choose(&mut sampler, &next, is_reasoning, &self.clock)?;
            n_generated += 1;
            n_reasoning += usize::from(is_reasoning);
            if n_generated == 1 {
                first_token = (self.clock)();
            }
            listener.tell(Event::Token(token));
            if let Some(n_top) = options.logprobs {
                listener.tell(Event::Logprobs(TokenLogprobs::new(&next, token, n_top)));
            }
            if !options.ignore_eos && self.format.ends_answer(token) {
                break StopReason::Eos;
            }
            answer_ids.push(token);
            if stream.push(token, &mut |event| listener.tell(event)) {
                break StopReason::StopString;
            }
            if steering.is_complete() {
                break StopReason::Eos;
            }
        };
        stream.finish(stop_reason == StopReason::StopString, &mut |event| listener.tell(event));
        let ended = (self.clock)();
        let stop_text = stream.stop_text().map(str::to_owned);
        let mut notes = prompt.notes.clone();
        notes.append(&mut stream.notes);
        Ok(Answer {
            text: stream.text,
            tool_calls: stream.tool_calls,
            reasoning: Some(stream.reasoning).filter(|text| !text.is_empty()),
            token_ids: answer_ids,
            stop_reason,
            stop_text,
            prompt_tokens: token_ids.len(),
            cached_tokens,
            generated_tokens: n_generated,
            reasoning_tokens: n_reasoning,
            ttft_ms: first_token - started,
            prefill_ms: prefilled - started,
            decode_ms: ended - first_token,
            experts: self.expert_use().zip(experts_before).map(|(now, before)| now.since(&before)),
            guesses: lookahead.guesses(),
            mask_ms: steering.mask_ms,
            notes,
        })
    }

    /// The `k` best candidates after `token`, which was chosen: from a row computed ahead, or from a step that
    /// computes at most `room` rows of guesses with it.
    async fn decode(
        &mut self,
        token: u32,
        k: usize,
        room: usize,
        lookahead: &mut Lookahead,
    ) -> Result<Vec<Candidate>> {
        let ready = lookahead.choose(token);
        let next = match ready {
            Some(candidates) => candidates,
            None => {
                // Behind the chosen tokens there may be guesses that were not.
                if self.model.context_len() > self.cached.len() {
                    self.model.truncate(self.cached.len())?;
                }
                let room = room.min(self.model.exact_rows().saturating_sub(1));
                let now =
                    |clock: &Clock, lookahead: &Lookahead| if lookahead.is_on() { clock() } else { 0.0 };
                let started = now(&self.clock, lookahead);
                let (mut draft, mut source) = (lookahead.draft(room), Source::Lookup);
                if draft.is_empty() {
                    let n = lookahead.head_length(room);
                    if n > 0 {
                        (draft, source) = (self.model.draft(token, n).await?, Source::Head);
                    }
                }
                let tokens = [&[token], &draft[..]].concat();
                // Each token chosen on the way may need one candidate more: the sampler asks for those besides
                // the tokens it penalises.
                let rows = self.model.decode_rows(&tokens, k.saturating_add(draft.len())).await?;
                let ms = now(&self.clock, lookahead) - started;
                lookahead.step(&draft, source, ms, rows)
            }
        };
        self.cached.push((token, 0));
        Ok(next)
    }

    /// Reads what is not cached yet. Returns how much was, and the candidates, unless it was cancelled.
    async fn prefill(
        &mut self,
        input: &ModelInput,
        options: &GenerateOptions,
        k: usize,
        listener: &mut Listener<'_>,
    ) -> Result<(usize, Vec<Candidate>)> {
        let keys = cache_keys(input, self.model.config())?;
        let kept = if options.reuse_prefix { self.reusable(input, &keys) } else { 0 };
        let model = &mut self.model;
        model.truncate(kept)?;
        self.cached.truncate(kept);
        self.at_given_positions = input.position_ids.is_some();
        let mut progress = |done, total| {
            listener.tell(Event::Prefill { done, total });
            if listener.cancelled { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let result = model.prefill(input, options.prefill_chunk.max(1), k, &mut progress).await;
        let candidates = match result {
            Err(Error::Cancelled) if listener.cancelled => Vec::new(),
            result => result?,
        };
        self.cached.extend_from_slice(&keys[kept..self.model.context_len()]);
        Ok((kept, candidates))
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", self.config()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
