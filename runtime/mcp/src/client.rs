//! A server of tools, as its client sees it.

use std::cell::RefCell;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::Toolbox;
use remote::{Impatient, patiently};
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, ClientRequest,
    Implementation, JsonObject, ListToolsRequest, PaginatedRequestParams, ProgressNotificationParam,
    ServerResult, Tool,
};
use rmcp::service::{NotificationContext, Peer, PeerRequestOptions, RunningService, ServiceError};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use crate::pins::{Offer, hash};
use crate::tool::RemoteTool;
use crate::{Error, Result, Target};

/// How long a server may take to say what it offers: it may have to install itself first.
const START_TIME: Duration = Duration::from_secs(60);
/// How long a call may take.
const CALL_TIME: Duration = Duration::from_secs(300);
/// How long it may take to end.
const END_TIME: Duration = Duration::from_secs(5);
/// Tools of one server, and bytes of what one says of itself.
const MAX_TOOLS: usize = 128;
const MAX_OFFER: usize = 32 << 10;
/// Bytes of what a program says beside the protocol, of which the last are kept.
const MAX_COMPLAINT: usize = 2048;
/// Characters of a prefix, and of news.
const MAX_PREFIX: usize = 24;
const MAX_NEWS: usize = 200;
/// What a program gets of our environment, unless the user gives it more: nothing that could be a secret.
const ENVIRONMENT: [&str; 22] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "APPDATA",
    "LOCALAPPDATA",
    "PROGRAMFILES",
    "PATHEXT",
    "SYSTEMDRIVE",
    "SYSTEMROOT",
    "TEMP",
    "TMP",
    "USERNAME",
    "USERPROFILE",
];

/// How a server is started or reached.
#[derive(Clone, Default)]
pub struct Launch {
    /// Stands in front of the program and its arguments, and confines it to what it may use.
    pub confine: Vec<OsString>,
    /// Variables that the program gets beside those that hold no secret.
    pub environment: Vec<(String, OsString)>,
    /// What an address is sent as a bearer token.
    pub key: Option<String>,
}

/// A running server of tools.
pub struct Server {
    target: Target,
    prefix: String,
    peer: Peer<RoleClient>,
    /// Until it is closed.
    service: RefCell<Option<RunningService<RoleClient, Client>>>,
    news: News,
    offers: Vec<Offer>,
}

/// What a server said last about its progress.
type News = Arc<Mutex<Option<String>>>;

/// What we are to a server. It gets no files, no model and no user of ours.
#[derive(Debug, Clone, Default)]
struct Client {
    news: News,
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("ocelli", env!("CARGO_PKG_VERSION")),
        )
    }

    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let share = match progress.total {
            Some(total) => format!("{}/{total}", progress.progress),
            None => progress.progress.to_string(),
        };
        let text = format!("{share} {}", progress.message.unwrap_or_default());
        *self.news.lock().expect("nobody panics with it") =
            Some(text.trim().chars().take(MAX_NEWS).collect());
    }
}

impl Server {
    /// Starts or reaches a server and asks what it offers.
    ///
    /// # Errors
    /// If it cannot be reached, takes too long, or offers too much.
    pub async fn connect(target: &Target, launch: &Launch) -> Result<Self> {
        let complaint = Arc::new(Mutex::new(Vec::new()));
        let failed = |detail: String| {
            let complaint = complaint.lock().expect("nobody panics with it");
            let said = String::from_utf8_lossy(&complaint).trim().to_owned();
            let said = if said.is_empty() { said } else { format!("; it says:\n{said}") };
            Error::Connect { name: target.to_string(), detail: detail + &said }
        };
        let client = Client::default();
        let news = Arc::clone(&client.news);
        let start = async {
            match target {
                Target::Command { words, .. } => {
                    let builder = TokioChildProcess::builder(command(words, launch)).stderr(Stdio::piped());
                    let (process, stderr) =
                        builder.spawn().map_err(|error| failed(format!("it does not start: {error}")))?;
                    if let Some(stderr) = stderr {
                        tokio::spawn(keep_last(stderr, Arc::clone(&complaint)));
                    }
                    client.serve(process).await.map_err(|error| failed(error.to_string()))
                }
                Target::Http { url, .. } => {
                    let http = remote::client().map_err(failed)?;
                    let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
                    config.auth_header = launch.key.clone();
                    let transport = StreamableHttpClientTransport::with_client(http, config);
                    client.serve(transport).await.map_err(|error| failed(error.to_string()))
                }
            }
        };
        let late = |_| failed(format!("it did not answer within {} s", START_TIME.as_secs()));
        let service = timeout(START_TIME, start).await.map_err(late)??;
        let name = service.peer_info().and_then(|info| Some(info.server_info.as_ref()?.name.clone()));
        let prefix = prefix(name.as_deref().unwrap_or_default());
        let (target, peer) = (target.clone(), service.peer().clone());
        let mut server =
            Self { target, prefix, peer, service: RefCell::new(Some(service)), news, offers: Vec::new() };
        server.offers = server.list().await?;
        Ok(server)
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What its tools are called by: its own name, as far as it can be one.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What it offered when it was reached.
    pub fn offers(&self) -> &[Offer] {
        &self.offers
    }

    /// Puts its tools into a toolbox, as `PREFIX_TOOL`. Each call needs a yes, unless the tool claims to change
    /// nothing.
    ///
    /// # Errors
    /// If tools of these names are there.
    pub fn add_to(self: &Rc<Self>, tools: &mut Toolbox) -> Result<(), agent::Error> {
        self.offers.iter().try_for_each(|offer| tools.add(RemoteTool::new(Rc::clone(self), offer)))
    }

    /// Lets it end by itself, and waits for that a little.
    pub async fn close(&self) {
        let service = self.service.borrow_mut().take();
        if let Some(service) = service {
            // One that hangs is ended when it is dropped.
            let _ = timeout(END_TIME, service.cancel()).await;
        }
    }

    /// Whether it still offers what it did.
    pub(crate) async fn is_unchanged(&self) -> Result<bool> {
        Ok(hash(&self.list().await?) == hash(&self.offers))
    }

    async fn list(&self) -> Result<Vec<Offer>> {
        let late = |_| self.failed("it did not say in time what it offers");
        let offers = timeout(START_TIME, self.pages()).await.map_err(late)??;
        for offer in &offers {
            let len = offer.name.len() + offer.description.len() + offer.parameters.to_string().len();
            if len > MAX_OFFER {
                let name: String = offer.name.chars().take(64).collect();
                return Err(
                    self.failed(format!("`{name}` takes {len} bytes to describe, the limit is {MAX_OFFER}"))
                );
            }
        }
        Ok(offers)
    }

    /// Every page of the list. A server may ask to keep a list for a while, but one that changes is to be seen.
    async fn pages(&self) -> Result<Vec<Offer>> {
        let (mut offers, mut cursor) = (Vec::new(), None);
        loop {
            let params = PaginatedRequestParams::default().with_cursor(cursor);
            let request = ListToolsRequest { params: Some(params), ..ListToolsRequest::default() };
            let sent = self.peer.send_request(ClientRequest::ListToolsRequest(request)).await;
            let page = match sent.map_err(|error| self.failed(error))? {
                ServerResult::ListToolsResult(page) => page,
                _ => return Err(self.failed("it does not say what it offers")),
            };
            offers.extend(page.tools.into_iter().map(offer));
            if offers.len() > MAX_TOOLS {
                return Err(self.failed(format!("it offers more than {MAX_TOOLS} tools")));
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(offers);
            }
        }
    }

    /// Calls a tool; `wait` hears of its progress, and cancels it.
    pub(crate) async fn call(
        &self,
        tool: &str,
        arguments: JsonObject,
        wait: &mut dyn FnMut(Option<&str>) -> ControlFlow<()>,
    ) -> Result<CallToolResult> {
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let news = &self.news;
        *news.lock().expect("nobody panics with it") = None;
        let options = PeerRequestOptions::no_options();
        let sent = self.peer.send_cancellable_request(request, options).await;
        let mut handle = sent.map_err(|error| self.failed(error))?;
        let mut tick = || {
            let news = news.lock().expect("nobody panics with it").take();
            wait(news.as_deref())
        };
        let response = match patiently(&mut handle.rx, CALL_TIME, &mut tick).await {
            Ok(response) => response.unwrap_or(Err(ServiceError::TransportClosed)),
            Err(why) => {
                let why = match why {
                    Impatient::GivenUp => "it is not waited for any more",
                    Impatient::TooLong => "it took too long",
                };
                // A server that has gone needs not be told.
                let _ = handle.cancel(Some(why.to_owned())).await;
                return Err(self.failed(format!("the call was given up: {why}")));
            }
        };
        match response.map_err(|error| self.failed(error))? {
            ServerResult::CallToolResult(result) => Ok(result),
            _ => Err(self.failed("it asks for something in return, which it does not get")),
        }
    }

    fn failed(&self, detail: impl std::fmt::Display) -> Error {
        Error::Server { name: self.prefix.clone(), detail: detail.to_string() }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("target", &self.target)
            .field("offers", &self.offers)
            .finish_non_exhaustive()
    }
}

fn offer(tool: Tool) -> Offer {
    Offer {
        name: tool.name.into_owned(),
        description: tool.description.unwrap_or_default().into_owned(),
        parameters: Value::Object((*tool.input_schema).clone()),
        is_read_only: tool.annotations.and_then(|it| it.read_only_hint).unwrap_or(false),
    }
}

fn command(words: &[String], launch: &Launch) -> Command {
    let mut line = launch.confine.iter().cloned().chain(words.iter().map(OsString::from));
    let mut command = Command::new(line.next().expect("a command has a word"));
    // One that does not end by itself ends with us.
    command.args(line).env_clear().kill_on_drop(true);
    for name in ENVIRONMENT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    // Ctrl-C at a terminal is for us, who then tell the program.
    #[cfg(unix)]
    command.process_group(0);
    command.envs(launch.environment.iter().map(|(name, value)| (name, value)));
    command
}

/// Reads to the end, and keeps the last of it.
async fn keep_last(mut from: impl AsyncRead + Unpin, kept: Arc<Mutex<Vec<u8>>>) {
    let mut bytes = [0; 1024];
    while let Ok(n @ 1..) = from.read(&mut bytes).await {
        let mut kept = kept.lock().expect("nobody panics with it");
        kept.extend_from_slice(&bytes[..n]);
        let n_over = kept.len().saturating_sub(MAX_COMPLAINT);
        kept.drain(..n_over);
    }
}

/// A name that is fit to begin that of a tool.
fn prefix(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let name = name.trim_matches('_').to_ascii_lowercase();
    if name.is_empty() { "mcp".into() } else { name.chars().take(MAX_PREFIX).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_names() {
        assert_eq!(prefix("My Server 2!"), "my_server_2");
        assert_eq!(prefix("  "), "mcp");
        assert_eq!(prefix(&"x".repeat(99)).len(), MAX_PREFIX);
    }
}
