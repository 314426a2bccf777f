//! `/v1/chat/completions`.

use engine::{Answer, Event, Role, ToolCall};
use serde_json::{Value, json};

use super::logprobs::Logprobs;
use super::{Head, finish_reason, usage};
use crate::app::{App, Asked, new_id};
use crate::dialect::Dialect;
use crate::fields::{Fields, expected};
use crate::pictures::{Picture, Source};
use crate::problem::{Problem, Result};
use crate::question::{Input, Piece, Question, Turn};
use crate::reply::{Extension, sse};
use crate::{sampling, tools};

/// How the answer is to be written.
pub(crate) struct Shape {
    include_usage: bool,
    logprobs: bool,
}

/// Reads a request.
pub(crate) fn read(app: &App, mut fields: Fields) -> Result<(Question, Shape)> {
    app.check_model(fields.text("model")?.as_deref())?;
    let messages = fields.list("messages")?.ok_or_else(|| fields.missing("messages"))?;
    if messages.is_empty() {
        return Err(Problem::field("messages", "it is empty; the last message asks something"));
    }
    let mut notes = Vec::new();
    let turns: Vec<Turn> = messages
        .into_iter()
        .enumerate()
        .map(|(i, message)| turn(Fields::of(message, format!("messages[{i}]"))?, &mut notes))
        .collect::<Result<_>>()?;

    let mut options = app.defaults.clone();
    sampling::read(&mut fields, &mut options, 2.0)?;
    sampling::set(
        &mut options.repetition_penalty,
        fields.number("repetition_penalty", f64::MIN_POSITIVE..=10.0)?,
    );
    options.seed = sampling::read_seed(&mut fields)?;
    options.stop = sampling::read_stops(&mut fields, "stop")?;
    let max_tokens = fields.integer("max_tokens", 1..=u64::MAX)?;
    let max_tokens = fields.integer("max_completion_tokens", 1..=u64::MAX)?.or(max_tokens);
    options.max_tokens = max_tokens.map_or(usize::MAX, |n| n as usize);
    // vLLM's, for measuring.
    options.ignore_eos = fields.boolean("ignore_eos")?.unwrap_or(false);
    (options.enable_thinking, options.thinking_budget) = thinking(&mut fields, &mut notes)?;
    tools::read_openai(&mut fields, &mut options, &mut notes)?;
    options.constraint = tools::read_form(&mut fields, &mut notes)?;
    let logprobs = fields.boolean("logprobs")?.unwrap_or(false);
    let n_top = fields.integer("top_logprobs", 0..=20)?;
    if n_top.is_some() && !logprobs {
        return Err(Problem::field("top_logprobs", "it needs `logprobs` to be true"));
    }
    options.logprobs = logprobs.then(|| n_top.unwrap_or(0) as usize);
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let include_usage = stream_options(&mut fields, &mut notes)?;
    let truncate = sampling::read_truncation(&mut fields)?;
    refuse_what_is_missing(&mut fields)?;
    fields.pass_over(&["user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"]);
    fields.finish(&mut notes);
    let question = Question { input: Input::Chat(turns), options, stream, truncate, notes };
    Ok((question, Shape { include_usage, logprobs }))
}

/// Whether the stream ends with the usage.
pub(super) fn stream_options(fields: &mut Fields, notes: &mut Vec<String>) -> Result<bool> {
    let Some(mut options) = fields.object("stream_options")? else { return Ok(false) };
    let include_usage = options.boolean("include_usage")?.unwrap_or(false);
    options.pass_over(&["include_obfuscation"]);
    options.finish(notes);
    Ok(include_usage)
}

/// Whether the model thinks, by vLLM's name for it or OpenAI's, and how many tokens at most.
fn thinking(fields: &mut Fields, notes: &mut Vec<String>) -> Result<(Option<bool>, Option<usize>)> {
    let effort = fields.text("reasoning_effort")?.map(|effort| effort != "none");
    let budget = fields.integer("thinking_budget", 0..=u64::MAX)?.map(|n| n as usize);
    let Some(mut kwargs) = fields.object("chat_template_kwargs")? else { return Ok((effort, budget)) };
    let enable = kwargs.boolean("enable_thinking")?;
    kwargs.finish(notes);
    Ok((enable.or(effort), budget))
}

/// Refuses what would change the answer if it could be had.
fn refuse_what_is_missing(fields: &mut Fields) -> Result<()> {
    fields.refuse("n", |n| n.as_f64() == Some(1.0), "one answer a request is made; send more requests")?;
    let renamed = "this older name is not known here; use `tools` and `tool_choice`";
    fields.refuse("functions", |value| value.as_array().is_some_and(Vec::is_empty), renamed)?;
    fields.refuse("function_call", |choice| choice == "none" || choice == "auto", renamed)?;
    fields.refuse(
        "logit_bias",
        |bias| bias.as_object().is_some_and(|o| o.is_empty()),
        "it is not supported",
    )?;
    fields.refuse("modalities", |kinds| *kinds == json!(["text"]), "answers are text only")?;
    fields.refuse("audio", |_| false, "answers are text only")?;
    fields.refuse("web_search_options", |_| false, "there is no web search here")
}

fn turn(mut message: Fields, notes: &mut Vec<String>) -> Result<Turn> {
    let role = match message.need_text("role")?.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        other => {
            let message_text = format!("`{other}` is not known; it is system, user, assistant or tool");
            return Err(Problem::field(message.path("role"), message_text));
        }
    };
    let calls = tools::read_calls(&mut message, notes)?;
    let path = message.path("content");
    let mut pieces: Vec<Piece> = match message.value("content") {
        Some(Value::String(text)) => vec![Piece::Text(text)],
        Some(Value::Array(parts)) => parts
            .into_iter()
            .enumerate()
            .map(|(i, part)| piece(Fields::of(part, format!("{path}[{i}]"))?, notes))
            .collect::<Result<_>>()?,
        Some(other) => return Err(expected(&path, "a string or a list of parts", &other)),
        None if !calls.is_empty() => Vec::new(),
        None => return Err(message.missing("content")),
    };
    pieces.extend(calls.into_iter().map(Piece::Call));
    message.pass_over(&[
        "name",
        "reasoning_content",
        "tool_call_id",
        "refusal",
        "annotations",
        "audio",
        "function_call",
    ]);
    message.finish(notes);
    Ok(Turn { role, pieces })
}

fn piece(mut part: Fields, notes: &mut Vec<String>) -> Result<Piece> {
    let piece = match part.need_text("type")?.as_str() {
        "text" => Piece::Text(part.need_text("text")?),
        "refusal" => Piece::Text(part.need_text("refusal")?),
        "image_url" => {
            let field = part.path("image_url");
            let url = match part.value("image_url") {
                Some(Value::String(url)) => url,
                Some(value @ Value::Object(_)) => {
                    let mut image = Fields::of(value, field.clone())?;
                    let url = image.need_text("url")?;
                    image.refuse(
                        "detail",
                        |detail| detail == "auto" || detail == "high",
                        "pictures are always read in full detail; send a smaller one to save tokens",
                    )?;
                    image.finish(notes);
                    url
                }
                Some(other) => return Err(expected(&field, "an object with `url`", &other)),
                None => return Err(part.missing("image_url")),
            };
            Piece::Picture(Picture { field, source: Source::Url(url) })
        }
        "file" => {
            let mut file = part.object("file")?.ok_or_else(|| part.missing("file"))?;
            let field = file.path("file_data");
            let source = Source::Url(file.need_text("file_data")?);
            file.pass_over(&["filename"]);
            file.finish(notes);
            Piece::Picture(Picture { field, source })
        }
        other => {
            let message = format!("parts of type `{other}` are not supported; `text` and `image_url` are");
            return Err(Problem::unsupported(part.path("type"), message));
        }
    };
    part.finish(notes);
    Ok(piece)
}

/// Writes the answer.
pub(crate) struct Writer {
    head: Head,
    shape: Shape,
    extension: Extension,
    logprobs: Logprobs,
    /// Of the text so far, for an answer in one piece.
    entries: Vec<Value>,
    /// The tools called so far.
    calls: Vec<Value>,
}

impl Writer {
    pub(crate) fn new(app: &App, asked: &Asked, shape: Shape) -> Self {
        Self {
            head: Head::new(app, "chatcmpl-", "chat.completion"),
            shape,
            extension: Extension::of(asked),
            logprobs: Logprobs::new(app.format.clone()),
            entries: Vec::new(),
            calls: Vec::new(),
        }
    }

    /// A chunk with one choice.
    fn chunk(&self, delta: Value, finish_reason: Option<&str>, logprobs: Vec<Value>) -> Value {
        let mut choice =
            json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason });
        if self.shape.logprobs && !logprobs.is_empty() {
            choice["logprobs"] = json!({ "content": logprobs, "refusal": null });
        }
        let mut members = json!({ "choices": [choice] });
        if self.shape.include_usage {
            members["usage"] = Value::Null;
        }
        self.head.with("chat.completion.chunk", members)
    }
}

impl crate::reply::Writer for Writer {
    const STREAM_TYPE: &'static str = "text/event-stream";

    fn begin(&mut self) -> String {
        sse(None, &self.chunk(json!({ "role": "assistant", "content": "" }), None, Vec::new()))
    }

    fn event(&mut self, event: Event) -> String {
        match event {
            Event::Logprobs(token) => {
                self.logprobs.push(&token);
                String::new()
            }
            Event::Text(text) => {
                let entries = self.logprobs.take();
                self.entries.extend_from_slice(&entries);
                sse(None, &self.chunk(json!({ "content": text }), None, entries))
            }
            Event::Reasoning(text) => {
                // Only the tokens of the answer are told.
                self.logprobs.take();
                sse(None, &self.chunk(json!({ "reasoning_content": text }), None, Vec::new()))
            }
            Event::ToolCall(call) => {
                let call = tools::openai_call(&ToolCall { id: new_id("call_"), ..call });
                let mut delta = call.clone();
                delta["index"] = json!(self.calls.len());
                self.calls.push(call);
                sse(None, &self.chunk(json!({ "tool_calls": [delta] }), None, Vec::new()))
            }
            // A comment keeps the connection alive through a long prompt.
            Event::Prefill { done, total } => format!(": prompt {done}/{total}\n\n"),
            Event::Token(_) => String::new(),
        }
    }

    fn end(&mut self, answer: &Answer) -> String {
        let mut last = self.chunk(json!({}), Some(finish_reason(answer)), Vec::new());
        last["ocelli"] = self.extension.value(answer);
        let mut text = sse(None, &last);
        if self.shape.include_usage {
            let members = json!({ "choices": [], "usage": usage(answer) });
            text += &sse(None, &self.head.with("chat.completion.chunk", members));
        }
        text + "data: [DONE]\n\n"
    }

    fn failed(&mut self, problem: &Problem) -> String {
        sse(None, &Dialect::OpenAi.error_body(problem)) + "data: [DONE]\n\n"
    }

    fn whole(&mut self, answer: &Answer) -> Value {
        let mut message = json!({ "role": "assistant", "content": answer.text, "refusal": null });
        if !self.calls.is_empty() {
            message["tool_calls"] = json!(self.calls);
            if answer.text.is_empty() {
                message["content"] = Value::Null;
            }
        }
        if let Some(reasoning) = &answer.reasoning {
            message["reasoning_content"] = json!(reasoning);
        }
        let logprobs = match self.shape.logprobs {
            true => json!({ "content": self.entries, "refusal": null }),
            false => Value::Null,
        };
        let choice = json!({
            "index": 0,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": finish_reason(answer),
        });
        let members =
            json!({ "choices": [choice], "usage": usage(answer), "ocelli": self.extension.value(answer) });
        self.head.with(self.head.object, members)
    }
}
