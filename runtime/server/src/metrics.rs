//! What is counted, in the text format of Prometheus.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use engine::Answer;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Route and status of a response.
type Labels = [(&'static str, String); 2];

/// All counts of a server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    responses: Family<Labels, Counter>,
    pub(crate) cancelled: Counter,
    pub(crate) running: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) first_token: Histogram,
    pub(crate) batch: Histogram,
    duration: Histogram,
    prompt_tokens: Counter,
    cached_tokens: Counter,
    generated_tokens: Counter,
    drafted_tokens: Counter,
    accepted_tokens: Counter,
    /// How long requests take lately, in milliseconds.
    mean_ms: AtomicU64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let seconds = || Histogram::new([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0]);
        let mut metrics = Self {
            registry: Registry::default(),
            responses: Family::default(),
            cancelled: Counter::default(),
            running: Gauge::default(),
            waiting: Gauge::default(),
            first_token: seconds(),
            batch: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]),
            duration: seconds(),
            prompt_tokens: Counter::default(),
            cached_tokens: Counter::default(),
            generated_tokens: Counter::default(),
            drafted_tokens: Counter::default(),
            accepted_tokens: Counter::default(),
            mean_ms: AtomicU64::new(1000),
        };
        let mut registry = Registry::with_prefix("ocelli");
        registry.register("responses", "Responses by route and status", metrics.responses.clone());
        registry.register("cancelled", "Requests whose client went away", metrics.cancelled.clone());
        registry.register("requests_running", "Requests being answered", metrics.running.clone());
        registry.register("requests_waiting", "Requests waiting for a slot", metrics.waiting.clone());
        registry.register(
            "time_to_first_token_seconds",
            "From arrival to the first token",
            metrics.first_token.clone(),
        );
        registry.register("request_seconds", "From arrival to the end", metrics.duration.clone());
        registry.register("decode_batch_size", "Tokens decoded in one pass", metrics.batch.clone());
        registry.register(
            "prompt_tokens",
            "Tokens of prompts, cached ones included",
            metrics.prompt_tokens.clone(),
        );
        registry.register(
            "cached_prompt_tokens",
            "Tokens of prompts that were cached",
            metrics.cached_tokens.clone(),
        );
        registry.register("generated_tokens", "Tokens of answers", metrics.generated_tokens.clone());
        registry.register("drafted_tokens", "Tokens guessed ahead", metrics.drafted_tokens.clone());
        registry.register(
            "accepted_tokens",
            "Tokens guessed ahead that are in answers",
            metrics.accepted_tokens.clone(),
        );
        metrics.registry = registry;
        metrics
    }

    /// Counts a response.
    pub(crate) fn response(&self, route: &str, status: u16) {
        let labels = [("route", route.to_owned()), ("status", status.to_string())];
        self.responses.get_or_create(&labels).inc();
    }

    /// Counts an answer.
    pub(crate) fn count(&self, answer: &Answer, duration: Duration) {
        self.prompt_tokens.inc_by(answer.prompt_tokens as u64);
        self.cached_tokens.inc_by(answer.cached_tokens as u64);
        self.generated_tokens.inc_by(answer.generated_tokens as u64);
        self.drafted_tokens.inc_by(answer.guesses.drafted as u64);
        self.accepted_tokens.inc_by(answer.guesses.accepted as u64);
        self.duration.observe(duration.as_secs_f64());
        // Only the engine's thread writes.
        let mean = self.mean_ms.load(Relaxed);
        self.mean_ms.store((7 * mean + duration.as_millis() as u64) / 8, Relaxed);
    }

    /// How long requests take lately.
    pub(crate) fn mean_seconds(&self) -> f64 {
        self.mean_ms.load(Relaxed) as f64 / 1000.0
    }

    /// All counts as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }
}
