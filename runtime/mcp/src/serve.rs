//! Our eyes as a server of tools.

use std::ops::ControlFlow;
use std::sync::Arc;

use agent::read_arguments;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, JsonObject,
    ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities, ServerConfig,
    Tool, ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::stdio;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::{Error, Result};

/// Pictures of one question.
const MAX_PICTURES: usize = 16;
/// Characters of a question.
const MAX_QUESTION: usize = 16 << 10;
/// Bytes of a message, with its pictures.
const MAX_BODY: usize = 64 << 20;
/// Tokens of an answer, unless the client wishes otherwise, and at most.
const TOKENS: u32 = 256;
const MAX_TOKENS: u32 = 4096;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its words; without them a caption is wanted.
    pub text: Option<String>,
    /// In the order in which the model sees them.
    pub pictures: Vec<Picture>,
    /// Tokens of the answer at most.
    pub max_tokens: usize,
}

/// A picture of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Picture {
    /// The bytes of a picture file.
    Bytes(Vec<u8>),
    /// The path of one in a granted folder.
    File(String),
}

/// A question that waits for its answer.
#[derive(Debug)]
pub struct Job {
    /// What is asked.
    pub question: Question,
    progress: mpsc::UnboundedSender<usize>,
    answer: oneshot::Sender<std::result::Result<String, String>>,
}

impl Job {
    /// Tells the client how many tokens there are; breaks if it does not wait any more.
    pub fn progress(&self, n_tokens: usize) -> ControlFlow<()> {
        match self.progress.send(n_tokens) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    /// Waits until the client does not wait any more.
    pub async fn cancelled(&self) {
        self.progress.closed().await;
    }

    /// Tells the client the answer, or what is wrong with the question.
    pub fn answer(self, answer: std::result::Result<String, String>) {
        // A client that has gone needs none.
        let _ = self.answer.send(answer);
    }
}

/// Serves one client over standard input and output, until it goes away. Its questions become jobs.
///
/// # Errors
/// If the client does not keep to the protocol.
pub async fn serve_stdio(jobs: mpsc::Sender<Job>) -> Result<()> {
    let failed = |detail: String| Error::Client(detail);
    let (input, output) = stdio();
    let transport = AsyncRwTransport::new(input, output).with_max_line_length(MAX_BODY);
    let service = Eyes { jobs }.serve(transport).await.map_err(|error| failed(error.to_string()))?;
    service.waiting().await.map_err(|error| failed(error.to_string()))?;
    Ok(())
}

/// Serves any number of clients over streamable HTTP, without sessions. Who may ask is for the caller to check.
pub fn serve_http(jobs: mpsc::Sender<Job>) -> StreamableHttpService<Eyes, NeverSessionManager> {
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .disable_allowed_origins()
        .with_legacy_session_mode(false)
        .with_max_request_body_bytes(MAX_BODY);
    let eyes = move || Ok(Eyes { jobs: jobs.clone() });
    StreamableHttpService::new(eyes, Arc::default(), config)
}

/// What a client speaks with.
#[derive(Debug)]
pub struct Eyes {
    jobs: mpsc::Sender<Job>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaptionArguments {
    image: Option<String>,
    file: Option<String>,
    max_tokens: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskArguments {
    question: String,
    #[serde(default)]
    images: Vec<String>,
    #[serde(default)]
    files: Vec<String>,
    max_tokens: Option<u32>,
}

fn tools() -> Vec<Tool> {
    let tokens = json!({
        "type": "integer", "minimum": 1, "maximum": MAX_TOKENS,
        "description": format!("the longest answer in tokens; {TOKENS} if left out"),
    });
    let image =
        json!({ "type": "string", "description": "a picture file in base64: PNG, JPEG, WebP, GIF or BMP" });
    let file =
        json!({ "type": "string", "description": "a picture in a granted folder, as FOLDER/picture.png" });
    let many = |item: &Value| json!({ "type": "array", "items": item, "maxItems": MAX_PICTURES });
    let tool = |name: &'static str, about: &'static str, properties: Value, required: Value| {
        let schema = json!({
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        });
        let Value::Object(schema) = schema else { unreachable!("it is written above") };
        let claims = ToolAnnotations::new().read_only(true).open_world(false);
        Tool::new(name, about, schema).with_annotations(claims)
    };
    vec![
        tool(
            "caption",
            "Says what a picture shows, in a sentence. Give the picture as `image` or as `file`.",
            json!({ "image": image, "file": file, "max_tokens": tokens }),
            json!([]),
        ),
        tool(
            "ask",
            "Answers a question about pictures, or without any. Pictures come in the order of `files`, then `images`.",
            json!({
                "question": { "type": "string" }, "images": many(&image), "files": many(&file), "max_tokens": tokens,
            }),
            json!(["question"]),
        ),
    ]
}

/// Reads what a tool was called with.
fn question(tool: &str, arguments: &JsonObject) -> std::result::Result<Question, String> {
    let (text, images, files, tokens) = match tool {
        "caption" => {
            let it: CaptionArguments = read_arguments(arguments)?;
            if it.image.is_some() == it.file.is_some() {
                return Err("give one picture, as `image` or as `file`".into());
            }
            (None, Vec::from_iter(it.image), Vec::from_iter(it.file), it.max_tokens)
        }
        _ => {
            let it: AskArguments = read_arguments(arguments)?;
            (Some(it.question), it.images, it.files, it.max_tokens)
        }
    };
    let n = images.len() + files.len();
    if n > MAX_PICTURES {
        return Err(format!("there are {n} pictures, the limit is {MAX_PICTURES}"));
    }
    if let Some(text) = &text
        && (text.trim().is_empty() || text.len() > MAX_QUESTION)
    {
        return Err(format!("`question` must have from 1 to {MAX_QUESTION} bytes"));
    }
    let max_tokens = tokens.unwrap_or(TOKENS);
    if !(1..=MAX_TOKENS).contains(&max_tokens) {
        return Err(format!("`max_tokens` is {max_tokens}, but must be from 1 to {MAX_TOKENS}"));
    }
    let mut pictures: Vec<Picture> = files.into_iter().map(Picture::File).collect();
    for image in images {
        // Some clients send what a page would show.
        let data = image.split_once(";base64,").map_or(image.as_str(), |(_, data)| data);
        pictures.push(Picture::Bytes(STANDARD.decode(data.trim()).map_err(|_| "a picture is not base64")?));
    }
    Ok(Question { text, pictures, max_tokens: max_tokens as usize })
}

impl Eyes {
    async fn answer(
        &self,
        question: Question,
        context: &RequestContext<RoleServer>,
    ) -> std::result::Result<String, String> {
        let (progress, mut n_tokens) = mpsc::unbounded_channel();
        let (answer, mut answered) = oneshot::channel();
        // Whoever answers sees that nobody waits when these are gone.
        let job = Job { question, progress, answer };
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => "too many questions wait already; ask again later",
            TrySendError::Closed(_) => "the model has stopped",
        })?;
        let (token, mut told_last) = (context.meta.get_progress_token(), 0);
        loop {
            tokio::select! {
                answer = &mut answered => return answer.unwrap_or_else(|_| Err("the model has stopped".into())),
                Some(n) = n_tokens.recv() => if let Some(token) = token.as_ref().filter(|_| n > told_last) {
                    told_last = n;
                    let told = ProgressNotificationParam::new(token.clone(), n as f64);
                    // A client that does not listen may still wait.
                    let _ = context.peer.notify_progress(told).await;
                },
                () = context.ct.cancelled() => return Err("the client cancelled".into()),
            }
        }
    }
}

impl ServerHandler for Eyes {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("ocelli", env!("CARGO_PKG_VERSION")))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> std::result::Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> std::result::Result<CallToolResponse, ErrorData> {
        if !tools().iter().any(|tool| tool.name == request.name) {
            let message = format!("there is no tool `{}`; `caption` and `ask` are", request.name);
            return Err(ErrorData::invalid_params(message, None));
        }
        let answer = match question(&request.name, &request.arguments.unwrap_or_default()) {
            Ok(question) => self.answer(question, &context).await,
            Err(error) => Err(error),
        };
        Ok(CallToolResponse::Complete(match answer {
            Ok(text) => CallToolResult::success(vec![ContentBlock::text(text)]),
            Err(error) => CallToolResult::error(vec![ContentBlock::text(error)]),
        }))
    }
}
