//! A model behind an OpenAI-compatible API.

mod stream;
mod wire;

use std::ops::ControlFlow;
use std::time::Duration;

use ::agent::{ChatModel, Choice, Error, LocalFuture, PictureId, Piece, Reply, Request, Result, numbered};
use reqwest::header::{LOCATION, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde_json::{Map, Value, json};
use tokio::time::{sleep, timeout};

use crate::client::{client, is_overheard, said};
use crate::patience::{self, Impatient};
use stream::{Gathered, Lines};

/// How long a server may say nothing: it may have a long prompt to read.
const SILENCE: Duration = Duration::from_secs(300);
/// Bytes of a list of models, and of what a server says about an error.
const MAX_ANSWER: usize = 1 << 20;
/// Characters of an error that are told.
const MAX_MESSAGE: usize = 500;
/// How often a server that is busy is asked, and how long at most until the next time.
const TRIES: usize = 4;
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// A model on a server.
#[derive(Debug)]
pub struct RemoteModel {
    client: Client,
    /// Ends before `/chat/completions`, without a slash.
    url: String,
    name: String,
    key: Option<String>,
    /// Further members of each request, such as `temperature`.
    pub options: Map<String, Value>,
}

impl RemoteModel {
    /// The model of that name on the server at `url`, or the only one there. An address without a path gets `/v1`.
    ///
    /// # Errors
    /// If the address is none, or without a name if the server cannot be asked for the names of its models, or has
    /// several.
    pub async fn connect(url: &str, name: Option<&str>, key: Option<String>) -> Result<Self> {
        let wrong = |detail: &str| Error::Remote(format!("`{url}` is no address of a server: {detail}"));
        let parsed = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(wrong("it must begin with http:// or https://"));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() || parsed.query().is_some() {
            return Err(wrong("names, keys and questions do not belong into it"));
        }
        let base = parsed.as_str().trim_end_matches('/');
        let url = if parsed.path() == "/" { format!("{base}/v1") } else { base.to_owned() };
        let client = client().map_err(Error::Remote)?;
        let mut model = Self { client, url, name: String::new(), key, options: Map::new() };
        model.name = match name {
            Some(name) => name.to_owned(),
            None => model.only_model().await?,
        };
        Ok(model)
    }

    /// What the server calls the model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a key is sent where others can read it.
    pub fn shows_its_key(&self) -> bool {
        self.key.is_some() && Url::parse(&self.url).is_ok_and(|url| is_overheard(&url))
    }

    async fn only_model(&self) -> Result<String> {
        let request = self.with_key(self.client.get(format!("{}/models", self.url))).timeout(SILENCE);
        let response = request.send().await.map_err(|error| self.failed(said(&error)))?;
        let response = self.accepted(response).await?;
        let body = start_of(response, MAX_ANSWER).await;
        let list: Value = serde_json::from_slice(&body)
            .map_err(|_| self.failed("its list of models is no JSON; name the model with --server-model"))?;
        let names: Vec<&str> =
            list["data"].as_array().into_iter().flatten().filter_map(|model| model["id"].as_str()).collect();
        match names[..] {
            [name] => Ok(name.to_owned()),
            [] => Err(self.failed("it names no model; name one with --server-model")),
            _ => Err(self.failed(format!(
                "it has several models; name one with --server-model: {}",
                shortened(&names.join(", "))
            ))),
        }
    }

    fn failed(&self, detail: impl std::fmt::Display) -> Error {
        Error::Remote(format!("the server at {}: {detail}", self.url))
    }

    fn with_key(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// The response if the server accepts the request, else what it says about it.
    async fn accepted(&self, response: Response) -> Result<Response> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status.is_redirection() {
            let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("elsewhere");
            return Err(self.failed(format!("{status}: it sends to {}; name that address", shortened(to))));
        }
        let body = start_of(response, MAX_ANSWER).await;
        let body = String::from_utf8_lossy(&body);
        let json = serde_json::from_str::<Value>(&body).unwrap_or_default();
        // OpenAI's shape, then those of FastAPI and of plainer servers.
        let told = [&json["error"]["message"], &json["error"], &json["detail"], &json["message"]];
        let message = told.iter().find_map(|told| told.as_str()).unwrap_or(body.trim());
        let hint = match (status, &self.key) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => "; it was asked without a key",
            _ => "",
        };
        Err(self.failed(format!("{status}: {}{hint}", shortened(message))))
    }

    /// Sends a request, again if the server is busy. `None` if `on_piece` breaks meanwhile.
    async fn send(
        &self,
        body: &Value,
        on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Response>> {
        for n in 1.. {
            let request = self.client.post(format!("{}/chat/completions", self.url)).json(body);
            let Some(response) = patiently(self.with_key(request).send(), on_piece).await else {
                return Ok(None);
            };
            let response =
                response.map_err(|_| self.failed(silent()))?.map_err(|error| self.failed(said(&error)))?;
            let is_busy = response.status() == StatusCode::TOO_MANY_REQUESTS
                || response.status() == StatusCode::SERVICE_UNAVAILABLE;
            let pause =
                response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            match pause.map(Duration::from_secs).filter(|pause| *pause <= MAX_PAUSE) {
                Some(pause) if is_busy && n < TRIES => {
                    if patiently(sleep(pause), on_piece).await.is_none() {
                        return Ok(None);
                    }
                }
                _ => return self.accepted(response).await.map(Some),
            }
        }
        unreachable!("the last try returns")
    }

    async fn ask(
        &self,
        body: &Value,
        pictures: &[&PictureId],
        on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> Result<Reply> {
        let mut gathered = Gathered::default();
        let Some(mut response) = self.send(body, on_piece).await? else { return Ok(gathered.cut_off()) };
        let mut lines = Lines::default();
        while !gathered.is_done() {
            let Some(chunk) = patiently(response.chunk(), on_piece).await else {
                return Ok(gathered.cut_off());
            };
            let chunk =
                chunk.map_err(|_| self.failed(silent()))?.map_err(|error| self.failed(said(&error)))?;
            let Some(chunk) = chunk else { break };
            lines.add(&chunk).map_err(|error| self.failed(error))?;
            while let Some(line) = lines.next().map_err(|error| self.failed(error))? {
                let flow = gathered.take(&line, on_piece).map_err(|error| self.failed(shortened(&error)))?;
                if flow.is_break() {
                    return Ok(gathered.cut_off());
                }
            }
        }
        gathered.reply(pictures).map_err(|error| self.failed(error))
    }
}

impl ChatModel for RemoteModel {
    fn reply<'a>(
        &'a mut self,
        request: Request<'a>,
        on_piece: &'a mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> LocalFuture<'a, Result<Reply>> {
        Box::pin(async move {
            let mut body = json!({
                "model": self.name,
                "messages": wire::messages(request.turns, request.pictures)?,
                "max_tokens": request.max_tokens,
                "stream": true,
                "stream_options": { "include_usage": true },
            });
            if let Value::Object(body) = &mut body {
                body.extend(self.options.clone());
            }
            if !request.tools.is_empty() {
                body["tools"] = wire::tools(request.tools);
                body["tool_choice"] = json!(match request.choice {
                    Choice::Free => "auto",
                    Choice::Call => "required",
                    Choice::Answer => "none",
                });
                // A model that has to be made to call would not stop calling.
                if request.choice == Choice::Call {
                    body["parallel_tool_calls"] = json!(false);
                }
            }
            self.ask(&body, &numbered(request.turns), on_piece).await
        })
    }
}

/// What the future gives, or that it took too long; `None` if `on_piece` breaks meanwhile.
async fn patiently<F: Future>(
    future: F,
    on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
) -> Option<Result<F::Output, ()>> {
    match patience::patiently(future, SILENCE, || on_piece(Piece::Waiting)).await {
        Ok(output) => Some(Ok(output)),
        Err(Impatient::TooLong) => Some(Err(())),
        Err(Impatient::GivenUp) => None,
    }
}

fn silent() -> String {
    format!("it said nothing for {} s", SILENCE.as_secs())
}

/// The body up to so many bytes; what cannot be read is left out.
async fn start_of(mut response: Response, max: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Ok(Some(chunk))) = timeout(SILENCE, response.chunk()).await
        && body.len() < max
    {
        body.extend_from_slice(&chunk[..chunk.len().min(max - body.len())]);
    }
    body
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
