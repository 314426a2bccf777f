//! Models on this machine: from files to an engine, from conversations to answers.

use std::ops::ControlFlow;
use std::pin::pin;
use std::task::Poll;

use engine::{Batch, CAPTION_PROMPT, Device, Engine, GenerateOptions, ModelFiles};
use protocol::{EngineKind, EngineReport, Event, Message, Options, Part, Problem, Role, StopReason};
use tensor::SharedBytes;
use web_sys::AbortSignal;

use crate::browser::{has_gpu, input_problem, now, turn};
use crate::seen::see;
use crate::store::Fetched;

/// A loaded model and the conversation that it has cached.
pub(crate) struct Local {
    batch: Batch,
    engine: Engine,
}

/// What this worker runs models on, and why.
pub(crate) fn engine_report() -> EngineReport {
    let why = match has_gpu() {
        true => "this build computes on the processor",
        false => "this browser offers no WebGPU",
    };
    let detail = match cfg!(target_feature = "simd128") {
        true => "WebAssembly with 128-bit SIMD, one thread",
        false => "WebAssembly, one thread",
    };
    EngineReport { kind: EngineKind::Processor, detail: detail.into(), why: why.into() }
}

impl Local {
    /// Puts a model together from its files.
    pub(crate) fn open(fetched: Fetched) -> Result<Self, Problem> {
        let files = fetched.files.into_iter().map(|(name, bytes)| (name, SharedBytes::new(bytes)));
        let files = ModelFiles::from_bytes(fetched.name, files.collect());
        let batch = Batch::open(&files, Device::default(), Box::new(now));
        let batch = batch.map_err(|error| input_problem(&error))?;
        let engine = batch.engine().map_err(|error| input_problem(&error))?;
        Ok(Self { batch, engine })
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
        tell: &dyn Fn(&Event),
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
                            tell(&Event::Seen { id, view });
                        }
                        part
                    }
                });
            }
            turns.push(engine::Message { role: role(message.role), parts });
        }
        let options = generate_options(options);
        let mut listen = |event| {
            match event {
                engine::Event::Prefill { done, total } => tell(&Event::Prefill { id, done, total }),
                engine::Event::Reasoning(text) => tell(&Event::Reasoning { id, text }),
                engine::Event::Text(text) => tell(&Event::Text { id, text }),
                engine::Event::Token(_) | engine::Event::Logprobs(_) => {}
            }
            if signal.aborted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let (batch, engine) = (&self.batch, &mut self.engine);
        let prepared = now() - started;
        let mut answer = pin!(engine.chat(&turns, &options, &mut listen));
        let answer = loop {
            let polled = std::future::poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
            if let Poll::Ready(answer) = polled {
                break answer.map_err(|error| input_problem(&error))?;
            }
            // The engine stands still at every token. Now a cancel can come in.
            turn().await;
            batch.step().await;
        };
        Ok(report(answer, prepared))
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
    }
}
