//! A server that computes instead: OpenAI's words, streamed.

use protocol::{Answer, Event, Message, Options, Part, Problem, Role, Sight, StopReason};
use serde_json::{Value, json};
use web_sys::AbortSignal;

use crate::browser::now;
use crate::fetch::{Ask, Body};
use crate::seen::show;
use crate::sse::EventStream;

const ERROR_LIMIT: usize = 1 << 20;

/// A server and the model that it offers first.
pub(crate) struct Remote {
    url: String,
    authorization: Option<String>,
    pub(crate) model: String,
}

impl Remote {
    /// Asks a server what it offers.
    pub(crate) async fn open(url: &str, key: Option<&str>, signal: &AbortSignal) -> Result<Self, Problem> {
        let url = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let authorization = key.filter(|key| !key.is_empty()).map(|key| format!("Bearer {key}"));
        let mut remote = Self { url, authorization, model: String::new() };
        let models: Value = {
            let body = remote.ask("/v1/models", None, signal).await?;
            let bytes = body.all(ERROR_LIMIT, signal).await?;
            serde_json::from_slice(&bytes).map_err(|_| remote.unexpected("no list of models"))?
        };
        let model = models["data"][0]["id"].as_str();
        remote.model = model.ok_or_else(|| remote.unexpected("an empty list of models"))?.to_owned();
        Ok(remote)
    }

    async fn ask(&self, path: &str, body: Option<&str>, signal: &AbortSignal) -> Result<Body, Problem> {
        let url = format!("{}{path}", self.url);
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(self.authorization.as_deref().map(|value| ("authorization", value)));
        let method = if body.is_some() { "POST" } else { "GET" };
        let ask = Ask { method, url: &url, headers: &headers, body, from: 0 };
        let answer = Body::open(&ask, signal).await.map_err(|problem| match problem {
            Problem::Network { message } => Problem::Network {
                message: format!(
                    "{message}; is `ocelli serve --allow-origin {}` running there?",
                    crate::browser::scope().location().origin()
                ),
            },
            problem => problem,
        })?;
        if answer.status() == 200 {
            return Ok(answer);
        }
        let text = answer.all(ERROR_LIMIT, signal).await.unwrap_or_default();
        let said = serde_json::from_slice::<Value>(&text).ok();
        let said =
            said.as_ref().and_then(|said| said["error"]["message"].as_str()).unwrap_or("no reason given");
        Err(Problem::Network { message: format!("`{url}` answered {}: {said}", answer.status()) })
    }

    fn unexpected(&self, what: &str) -> Problem {
        Problem::Network { message: format!("`{}` answered with {what}", self.url) }
    }

    /// Answers a conversation.
    pub(crate) async fn answer(
        &self,
        id: u32,
        messages: &[Message],
        options: &Options,
        signal: &AbortSignal,
        tell: &dyn Fn(Event),
    ) -> Result<Answer, Problem> {
        let started = now();
        let request = json!({
            "model": self.model,
            "messages": messages.iter().map(openai_message).collect::<Vec<_>>(),
            "temperature": options.temperature,
            "top_p": options.top_p,
            "seed": options.seed,
            "max_tokens": options.max_tokens,
            "stop": options.stop,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        let mut taken =
            Taken { id, tell, started, answer: Answer::default(), has_finished: false, sights: Vec::new() };
        match self.stream(&request.to_string(), signal, &mut taken).await {
            Err(Problem::Cancelled) => taken.answer.stop_reason = StopReason::Cancelled,
            other => other?,
        }
        let Taken { mut answer, sights, .. } = taken;
        tell_seen(id, messages, sights, tell);
        answer.decode_ms = now() - started - answer.ttft_ms;
        Ok(answer)
    }

    async fn stream(
        &self,
        request: &str,
        signal: &AbortSignal,
        taken: &mut Taken<'_>,
    ) -> Result<(), Problem> {
        let body = self.ask("/v1/chat/completions", Some(request), signal).await?;
        let mut events = EventStream::default();
        while let Some(piece) = body.next(signal).await? {
            let complete = events.push(&piece.to_vec()).map_err(|message| Problem::Network { message })?;
            for event in complete.iter().filter(|event| *event != "[DONE]") {
                let event: Value =
                    serde_json::from_str(event).map_err(|_| self.unexpected("an event that is no JSON"))?;
                if let Some(said) = event["error"]["message"].as_str() {
                    return Err(Problem::Network { message: format!("`{}` failed: {said}", self.url) });
                }
                taken.take(&event);
            }
        }
        match taken.has_finished {
            true => Ok(()),
            false => Err(Problem::Network {
                message: format!("`{}` ended its answer before it was complete", self.url),
            }),
        }
    }
}

/// What has come of an answer.
struct Taken<'a> {
    id: u32,
    tell: &'a dyn Fn(Event),
    started: f64,
    answer: Answer,
    /// Whether the server has said that nothing more comes.
    has_finished: bool,
    /// How each picture of the conversation was seen.
    sights: Vec<Sight>,
}

impl Taken<'_> {
    fn take(&mut self, event: &Value) {
        let Self { id, tell, started, .. } = *self;
        let answer = &mut self.answer;
        let choice = &event["choices"][0];
        let delta = &choice["delta"];
        let mut said = |text: &str| {
            if answer.ttft_ms == 0.0 && !text.is_empty() {
                answer.ttft_ms = now() - started;
                answer.prefill_ms = answer.ttft_ms;
            }
            !text.is_empty()
        };
        // Servers call it either.
        let reasoning = delta["reasoning_content"].as_str().or(delta["reasoning"].as_str());
        if let Some(text) = reasoning.filter(|text| said(text)) {
            answer.reasoning.get_or_insert_default().push_str(text);
            tell(Event::Reasoning { id, text: text.into() });
        }
        if let Some(text) = delta["content"].as_str().filter(|text| said(text)) {
            answer.text.push_str(text);
            tell(Event::Text { id, text: text.into() });
        }
        self.has_finished |= choice["finish_reason"].is_string();
        if choice["finish_reason"] == "length" {
            answer.stop_reason = StopReason::MaxTokens;
            answer.notes.push("cut off by the limit of tokens".into());
        }
        let notes = event["ocelli"]["notes"].as_array().into_iter().flatten();
        answer.notes.extend(notes.filter_map(|note| note.as_str()).map(str::to_owned));
        // Other servers do not tell.
        if let Ok(sights) = serde_json::from_value(event["ocelli"]["pictures"].clone()) {
            self.sights = sights;
        }
        let count = |name: &str| event["usage"][name].as_u64().map(|n| n as usize);
        answer.prompt_tokens = count("prompt_tokens").unwrap_or(answer.prompt_tokens);
        answer.generated_tokens = count("completion_tokens").unwrap_or(answer.generated_tokens);
    }
}

/// Shows the pictures of the last message as they were seen; earlier ones were shown with their own messages.
fn tell_seen(id: u32, messages: &[Message], sights: Vec<Sight>, tell: &dyn Fn(Event)) {
    let Some((newest, earlier)) = messages.split_last() else { return };
    let n_earlier = earlier.iter().flat_map(Message::pictures).count();
    if sights.len() != n_earlier + newest.pictures().count() {
        return;
    }
    for (bytes, sight) in newest.pictures().zip(sights.into_iter().skip(n_earlier)) {
        // What cannot be shown was still seen.
        if let Ok(view) = show(bytes, sight) {
            tell(Event::Seen { id, view });
        }
    }
}

fn openai_message(message: &Message) -> Value {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let parts = message.parts.iter().map(|part| match part {
        Part::Text { text } => json!({"type": "text", "text": text}),
        Part::Image { bytes } => json!({"type": "image_url", "image_url": {"url": data_url(bytes)}}),
    });
    json!({"role": role, "content": parts.collect::<Value>()})
}

/// The server looks at the bytes, not at the type that is named.
fn data_url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes))
}
