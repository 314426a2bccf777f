//! Models on this machine: from files to an engine, from conversations to answers.

use std::cell::Cell;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::pin;
use std::task::Poll;

use engine::{Batch, CAPTION_PROMPT, Counters, Device, Engine, GenerateOptions, Gpu, ModelFiles};
use protocol::{Event, GpuCost, Message, Options, Part, Problem, Role, StopReason};
use web_sys::AbortSignal;

use crate::browser::{engine_problem, now, turn};
use crate::seen::see;

/// A loaded model and the conversation that it has cached.
pub(crate) struct Local {
    /// On the processor: what stands still at every token, so that a cancel can come in. Answers of a graphics
    /// processor are waited for at every token anyway.
    batch: Option<Batch>,
    gpu: Option<Gpu>,
    engine: Engine,
}

impl Local {
    /// Puts a model together from its files.
    pub(crate) fn open(files: &ModelFiles, gpu: Option<Gpu>) -> Result<Self, engine::Error> {
        match gpu {
            Some(gpu) => {
                let engine = Engine::open_on(files, gpu.clone(), Box::new(now))?;
                Ok(Self { batch: None, gpu: Some(gpu), engine })
            }
            None => {
                let batch = Batch::open(files, Device::default(), Box::new(now))?;
                let engine = batch.engine()?;
                Ok(Self { batch: Some(batch), gpu: None, engine })
            }
        }
    }

    pub(crate) fn takes_pictures(&self) -> bool {
        self.engine.takes_pictures()
    }

    pub(crate) fn context_limit(&self) -> usize {
        self.engine.context_limit()
    }

    /// Answers a conversation.
    pub(crate) async fn answer(
        &mut self,
        id: u32,
        messages: &[Message],
        options: &Options,
        signal: &AbortSignal,
        tell: &dyn Fn(Event),
    ) -> Result<protocol::Answer, Problem> {
        let started = now();
        let mut turns = Vec::new();
        let newest = messages.len().saturating_sub(1);
        for (i, message) in messages.iter().enumerate() {
            let mut parts = Vec::new();
            for part in &message.parts {
                parts.push(match part {
                    Part::Text { text } => engine::Part::Text(text.clone()),
                    Part::Image { bytes } => {
                        let (part, view) = see(bytes, self.engine.preprocessor())?;
                        // Earlier pictures were shown with their own messages.
                        if i == newest {
                            tell(Event::Seen { id, view });
                        }
                        part
                    }
                });
            }
            turns.push(engine::Message { role: role(message.role), parts });
        }
        let options = generate_options(options);
        let (batch, gpu, engine) = (&self.batch, &self.gpu, &mut self.engine);
        let counted = || gpu.as_ref().map(Gpu::counters);
        let at_first_token = Cell::new(None);
        let mut listen = |event| {
            match event {
                engine::Event::Token(_) if at_first_token.get().is_none() => at_first_token.set(counted()),
                engine::Event::Prefill { done, total } => tell(Event::Prefill { id, done, total }),
                engine::Event::Reasoning(text) => tell(Event::Reasoning { id, text }),
                engine::Event::Text(text) => tell(Event::Text { id, text }),
                // No tools are offered here.
                engine::Event::Token(_) | engine::Event::Logprobs(_) | engine::Event::ToolCall(_) => {}
            }
            if signal.aborted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let prepared = now() - started;
        let mut answer = pin!(engine.chat(&turns, &options, &mut listen));
        let answer = match batch {
            None => answer.await,
            Some(batch) => loop {
                let polled = poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
                if let Poll::Ready(answer) = polled {
                    break answer;
                }
                turn().await;
                batch.step().await;
            },
        };
        let answer = answer.map_err(|error| engine_problem(&error))?;
        let cost = gpu
            .as_ref()
            .zip(at_first_token.get())
            .and_then(|(gpu, first)| cost(&gpu.counters().since(&first), gpu.held_bytes(), &answer));
        Ok(protocol::Answer { gpu: cost, ..report(answer, prepared) })
    }
}

/// The question that `ocelli caption` asks.
pub(crate) fn caption_messages(picture: Vec<u8>) -> Vec<Message> {
    let parts = vec![Part::Image { bytes: picture }, Part::Text { text: CAPTION_PROMPT.into() }];
    vec![Message { role: Role::User, parts }]
}

fn role(role: Role) -> engine::Role {
    match role {
        Role::System => engine::Role::System,
        Role::User => engine::Role::User,
        Role::Assistant => engine::Role::Assistant,
    }
}

fn generate_options(options: &Options) -> GenerateOptions {
    let defaults = GenerateOptions::default();
    GenerateOptions {
        temperature: options.temperature,
        top_k: options.top_k,
        top_p: options.top_p,
        seed: options.seed.into(),
        max_tokens: options.max_tokens,
        stop: options.stop.clone(),
        enable_thinking: options.thinking,
        // A cancel is heard between chunks; half a second each on a slow processor is soon enough.
        prefill_chunk: 128,
        ..defaults
    }
}

/// `prepared`: milliseconds that decoding and resizing of pictures took.
fn report(answer: engine::Answer, prepared: f64) -> protocol::Answer {
    let mut notes = answer.notes;
    let stop_reason = match answer.stop_reason {
        engine::StopReason::Eos => StopReason::Eos,
        engine::StopReason::StopString => StopReason::StopString,
        engine::StopReason::MaxTokens => {
            notes.push(format!("cut off after {} tokens, as many as were allowed", answer.generated_tokens));
            StopReason::MaxTokens
        }
        engine::StopReason::ContextFull => {
            notes.push("cut off: the model's context is full".into());
            StopReason::ContextFull
        }
        engine::StopReason::Cancelled => StopReason::Cancelled,
    };
    protocol::Answer {
        text: answer.text,
        reasoning: answer.reasoning,
        stop_reason,
        prompt_tokens: answer.prompt_tokens,
        cached_tokens: answer.cached_tokens,
        generated_tokens: answer.generated_tokens,
        ttft_ms: answer.ttft_ms + prepared,
        prefill_ms: answer.prefill_ms,
        decode_ms: answer.decode_ms,
        notes,
        gpu: None,
    }
}

/// What a token after the first took of `counted`, if there was one.
fn cost(counted: &Counters, held_bytes: u64, answer: &engine::Answer) -> Option<GpuCost> {
    let n_tokens = answer.generated_tokens.checked_sub(1).filter(|&n| n > 0)? as f64;
    let per_token = |count: u64| count as f64 / n_tokens;
    Some(GpuCost {
        dispatches: per_token(counted.dispatches),
        submits: per_token(counted.submits),
        reads: per_token(counted.reads),
        weight_bytes: per_token(counted.weight_bytes),
        bytes_read_back: per_token(counted.bytes_read_back),
        held_bytes: held_bytes as f64,
    })
}
