//! `/v1/completions`: a text goes on, without a template.

use engine::{Answer, Event};
use serde_json::{Value, json};

use super::chat::stream_options;
use super::{Head, finish_reason, usage};
use crate::app::{App, Asked};
use crate::dialect::Dialect;
use crate::fields::{Fields, expected};
use crate::problem::{Problem, Result};
use crate::question::{Input, Question};
use crate::reply::{Extension, sse};
use crate::sampling;

/// As OpenAI's.
const DEFAULT_MAX_TOKENS: u64 = 16;

/// Reads a request; also whether the stream ends with the usage.
pub(crate) fn read(app: &App, mut fields: Fields) -> Result<(Question, bool)> {
    app.check_model(fields.text("model")?.as_deref())?;
    let prompt = match fields.value("prompt") {
        Some(Value::String(text)) => text,
        Some(Value::Array(prompts)) if prompts.len() == 1 && prompts[0].is_string() => {
            prompts[0].as_str().unwrap_or_default().to_owned()
        }
        Some(other) => return Err(expected("prompt", "one string", &other)),
        None => return Err(fields.missing("prompt")),
    };
    let mut notes = Vec::new();
    let mut options = app.defaults.clone();
    sampling::read(&mut fields, &mut options, 2.0)?;
    options.seed = sampling::read_seed(&mut fields)?;
    options.stop = sampling::read_stops(&mut fields, "stop")?;
    options.max_tokens = fields.integer("max_tokens", 1..=u64::MAX)?.unwrap_or(DEFAULT_MAX_TOKENS) as usize;
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let include_usage = stream_options(&mut fields, &mut notes)?;
    for name in ["n", "best_of"] {
        fields.refuse(
            name,
            |n| n.as_f64() == Some(1.0),
            "one answer a request is made; send more requests",
        )?;
    }
    fields.refuse("logprobs", |_| false, "only chat completions tell them; use /v1/chat/completions")?;
    fields.refuse("echo", |echo| echo == false, "the prompt is not sent back")?;
    fields.refuse("suffix", |suffix| suffix == "", "this model only goes on at the end")?;
    fields.refuse(
        "logit_bias",
        |bias| bias.as_object().is_some_and(|o| o.is_empty()),
        "it is not supported",
    )?;
    fields.pass_over(&["user"]);
    fields.finish(&mut notes);
    Ok((Question { input: Input::Text(prompt), options, stream, truncate: false, notes }, include_usage))
}

/// Writes the answer.
pub(crate) struct Writer {
    head: Head,
    include_usage: bool,
    extension: Extension,
}

impl Writer {
    pub(crate) fn new(app: &App, asked: &Asked, include_usage: bool) -> Self {
        let extension = Extension::of(asked);
        Self { head: Head::new(app, "cmpl-", "text_completion"), include_usage, extension }
    }

    fn object(&self, text: &str, finish_reason: Option<&str>) -> Value {
        let choice = json!({ "index": 0, "text": text, "logprobs": null, "finish_reason": finish_reason });
        self.head.with(self.head.object, json!({ "choices": [choice] }))
    }
}

impl crate::reply::Writer for Writer {
    const STREAM_TYPE: &'static str = "text/event-stream";

    fn event(&mut self, event: Event) -> String {
        match event {
            Event::Text(text) | Event::Reasoning(text) => sse(None, &self.object(&text, None)),
            Event::Prefill { done, total } => format!(": prompt {done}/{total}\n\n"),
            Event::Token(_) | Event::Logprobs(_) | Event::ToolCall(_) => String::new(),
        }
    }

    fn end(&mut self, answer: &Answer) -> String {
        let mut last = self.object("", Some(finish_reason(answer)));
        last["ocelli"] = self.extension.value(answer);
        let mut text = sse(None, &last);
        if self.include_usage {
            let members = json!({ "choices": [], "usage": usage(answer) });
            text += &sse(None, &self.head.with(self.head.object, members));
        }
        text + "data: [DONE]\n\n"
    }

    fn failed(&mut self, problem: &Problem) -> String {
        sse(None, &Dialect::OpenAi.error_body(problem)) + "data: [DONE]\n\n"
    }

    fn whole(&mut self, answer: &Answer) -> Value {
        // A template would tell reasoning from answer; here there is only text.
        let text = answer.reasoning.clone().unwrap_or_default() + &answer.text;
        let mut whole = self.object(&text, Some(finish_reason(answer)));
        whole["usage"] = usage(answer);
        whole["ocelli"] = self.extension.value(answer);
        whole
    }
}
