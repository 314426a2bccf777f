//! Responses, whole or as a stream of events.

use std::sync::Arc;

use engine::{Answer, Event, Role, StopReason, ToolCall};
use serde_json::{Value, json};

use super::read::Shape;
use crate::app::{App, Asked, new_id, unix_time};
use crate::problem::Problem;
use crate::question::{Piece, Turn};
use crate::reply::{Extension, sse};

/// Writes the answer.
pub(super) struct Writer {
    app: Arc<App>,
    id: String,
    created: u64,
    shape: Shape,
    extension: Extension,
    /// Of the stream's events.
    sequence: u64,
    /// What is complete.
    output: Vec<Value>,
    /// What is being written: its kind, id and text.
    open: Option<(Kind, String, String)>,
    calls: Vec<ToolCall>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reasoning,
    Message,
}

impl Writer {
    pub(super) fn new(app: &Arc<App>, asked: &Asked, shape: Shape) -> Self {
        Self {
            app: Arc::clone(app),
            id: new_id("resp_"),
            created: unix_time(),
            shape,
            extension: Extension::of(asked),
            sequence: 0,
            output: Vec::new(),
            open: None,
            calls: Vec::new(),
        }
    }

    fn say(&mut self, kind: &str, mut members: Value) -> String {
        members["type"] = json!(kind);
        members["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        sse(Some(kind), &members)
    }

    /// More text of a kind, in the item that is open or in a new one.
    fn text(&mut self, kind: Kind, text: &str) -> String {
        let mut events = String::new();
        if self.open.as_ref().is_none_or(|open| open.0 != kind) {
            events += &self.close();
            let id = new_id(if kind == Kind::Message { "msg_" } else { "rs_" });
            let item = item(kind, &id, None);
            self.open = Some((kind, id.clone(), String::new()));
            let index = self.output.len();
            events += &self.say("response.output_item.added", json!({ "output_index": index, "item": item }));
            let members =
                json!({ "item_id": id, "output_index": index, "content_index": 0, "part": part(kind, "") });
            events += &self.say("response.content_part.added", members);
        }
        let Some((_, id, so_far)) = &mut self.open else { return events };
        so_far.push_str(text);
        let (id, index) = (id.clone(), self.output.len());
        let mut members = json!({ "item_id": id, "output_index": index, "content_index": 0, "delta": text });
        if kind == Kind::Message {
            members["logprobs"] = json!([]);
        }
        events + &self.say(&format!("response.{}.delta", name(kind)), members)
    }

    /// Completes the item that is open.
    fn close(&mut self) -> String {
        let Some((kind, id, text)) = self.open.take() else { return String::new() };
        let place = json!({ "item_id": id, "output_index": self.output.len(), "content_index": 0 });
        let mut done = place.clone();
        done["text"] = json!(text);
        if kind == Kind::Message {
            done["logprobs"] = json!([]);
        }
        let mut events = self.say(&format!("response.{}.done", name(kind)), done);
        let mut whole = place;
        whole["part"] = part(kind, &text);
        events += &self.say("response.content_part.done", whole);
        events + &self.complete(item(kind, &id, Some(&text)))
    }

    fn complete(&mut self, item: Value) -> String {
        let index = self.output.len();
        self.output.push(item.clone());
        self.say("response.output_item.done", json!({ "output_index": index, "item": item }))
    }

    fn call(&mut self, call: ToolCall) -> String {
        let mut events = self.close();
        let call = ToolCall { id: new_id("call_"), ..call };
        let (id, index) = (new_id("fc_"), self.output.len());
        let arguments = Value::Object(call.arguments.clone()).to_string();
        let mut item = json!({
            "type": "function_call", "id": id, "call_id": call.id, "name": call.name, "arguments": "",
            "status": "in_progress",
        });
        events += &self.say("response.output_item.added", json!({ "output_index": index, "item": item }));
        let members = json!({ "item_id": id, "output_index": index, "delta": arguments });
        events += &self.say("response.function_call_arguments.delta", members);
        let members =
            json!({ "item_id": id, "output_index": index, "name": call.name, "arguments": arguments });
        events += &self.say("response.function_call_arguments.done", members);
        item["arguments"] = json!(arguments);
        item["status"] = json!("completed");
        self.calls.push(call);
        events + &self.complete(item)
    }

    /// The response as far as it has come.
    fn response(&self, status: &str) -> Value {
        let mut response = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": null,
            "incomplete_details": null,
            "model": self.app.model.name,
            "output": self.output,
            "previous_response_id": self.shape.previous,
            "store": self.shape.store,
            "usage": null,
        });
        if let (Value::Object(response), Value::Object(echoed)) = (&mut response, self.shape.echoed.clone()) {
            response.extend(echoed);
        }
        response
    }

    /// The response at its end, which is remembered.
    fn finished(&mut self, answer: &Answer) -> Value {
        let is_cut = matches!(answer.stop_reason, StopReason::MaxTokens | StopReason::ContextFull);
        let mut response = self.response(if is_cut { "incomplete" } else { "completed" });
        if is_cut {
            response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        }
        response["usage"] = json!({
            "input_tokens": answer.prompt_tokens,
            "input_tokens_details": { "cached_tokens": answer.cached_tokens },
            "output_tokens": answer.generated_tokens,
            "output_tokens_details": { "reasoning_tokens": answer.reasoning_tokens },
            "total_tokens": answer.prompt_tokens + answer.generated_tokens,
        });
        response["ocelli"] = self.extension.value(answer);
        if self.shape.store {
            let mut turns = std::mem::take(&mut self.shape.turns);
            let text = Some(answer.text.clone()).filter(|text| !text.is_empty()).map(Piece::Text);
            let pieces = text.into_iter().chain(self.calls.drain(..).map(Piece::Call)).collect();
            turns.push(Turn { role: Role::Assistant, pieces });
            self.app.kept.keep(self.id.clone(), turns, response.clone());
        }
        response
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Reasoning => "reasoning_text",
        Kind::Message => "output_text",
    }
}

fn part(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::Reasoning => json!({ "type": "reasoning_text", "text": text }),
        Kind::Message => json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] }),
    }
}

/// An item with its text, or as it begins.
fn item(kind: Kind, id: &str, text: Option<&str>) -> Value {
    let content: Vec<Value> = text.map(|text| part(kind, text)).into_iter().collect();
    let status = if text.is_some() { "completed" } else { "in_progress" };
    match kind {
        Kind::Reasoning => {
            json!({ "type": "reasoning", "id": id, "summary": [], "content": content, "status": status })
        }
        Kind::Message => {
            json!({ "type": "message", "id": id, "role": "assistant", "content": content, "status": status })
        }
    }
}

impl crate::reply::Writer for Writer {
    const STREAM_TYPE: &'static str = "text/event-stream";

    fn begin(&mut self) -> String {
        let response = self.response("in_progress");
        let created = self.say("response.created", json!({ "response": response }));
        created + &self.say("response.in_progress", json!({ "response": response }))
    }

    fn event(&mut self, event: Event) -> String {
        match event {
            Event::Text(text) => self.text(Kind::Message, &text),
            Event::Reasoning(text) => self.text(Kind::Reasoning, &text),
            Event::ToolCall(call) => self.call(call),
            // A comment keeps the connection alive through a long prompt.
            Event::Prefill { done, total } => format!(": prompt {done}/{total}\n\n"),
            Event::Token(_) | Event::Logprobs(_) => String::new(),
        }
    }

    fn end(&mut self, answer: &Answer) -> String {
        let events = self.close();
        let response = self.finished(answer);
        let kind =
            if response["status"] == "completed" { "response.completed" } else { "response.incomplete" };
        events + &self.say(kind, json!({ "response": response }))
    }

    fn failed(&mut self, problem: &Problem) -> String {
        let mut response = self.response("failed");
        response["error"] = json!({ "code": "server_error", "message": problem.message });
        self.say("response.failed", json!({ "response": response }))
    }

    fn whole(&mut self, answer: &Answer) -> Value {
        self.close();
        self.finished(answer)
    }
}
