//! The server: a listener, a thread pool for connections, and the engine on the thread that runs it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use engine::{Batch, GenerateOptions};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::runtime;
use tokio::sync::{Semaphore, watch};

use crate::access::{self, Access};
use crate::app::{App, Model, Parts};
use crate::asker::{Asker, Routes};
use crate::metrics::Metrics;
use crate::pictures::Granted;
use crate::problem::{Kind, Problem};
use crate::{anthropic, dialect, ollama, openai, scheduler};

/// Connections at the same time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 512;
/// Threads that serve connections; the others belong to the engine.
const SERVING_THREADS: usize = 2;
/// Threads for what takes a while: prompts with pictures, files, conversations. More would hold memory and gain nothing.
const SLOW_THREADS: usize = 8;
/// How long a client may take over the head of a request.
const HEADER_TIME: Duration = Duration::from_secs(30);

/// How a model is served.
#[derive(Debug, Clone)]
pub struct Options {
    /// What requests call the model.
    pub model: String,
    /// How answers are made unless a request says otherwise.
    pub defaults: GenerateOptions,
    /// Requests that are answered at the same time. Each holds a cache of keys and values.
    pub n_slots: usize,
    /// Requests that may wait beside those; more are told to come again later.
    pub queue: usize,
    /// Largest body of a request in bytes.
    pub max_body: usize,
    /// Folders whose pictures requests may name as `file://`.
    pub granted: Vec<PathBuf>,
    /// Who may ask.
    pub access: Access,
    /// What a browser gets at every path that no API has: a page that talks to this server, say. It needs no
    /// key. Without it, `/` tells the routes.
    pub pages: Option<Router>,
    /// Further routes, which may ask the model.
    pub routes: Option<Routes>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            model: "ocelli".into(),
            defaults: GenerateOptions::default(),
            n_slots: 8,
            queue: 64,
            max_body: 64 << 20,
            granted: Vec::new(),
            access: Access { loopback_only: true, ..Access::default() },
            pages: None,
            routes: None,
        }
    }
}

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    options: Options,
    stop: watch::Sender<bool>,
}

/// Ends a server from another thread.
#[derive(Debug, Clone)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// Has the server take no more requests, complete the answers it has begun, and end.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// What keeps a server from running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Another address than this machine's own needs a key.
    #[error("{0} can be reached from other machines, so it needs a key")]
    NoKey(SocketAddr),
    /// A granted folder cannot be opened.
    #[error("cannot grant {folder}: {source}")]
    Grant {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The threads that serve cannot be started.
    #[error("cannot start to serve: {0}")]
    Start(#[from] io::Error),
    /// The engine cannot go on.
    #[error(transparent)]
    Engine(#[from] engine::Error),
}

impl Server {
    /// Listens on `address`. Requests wait until [`run`](Self::run).
    ///
    /// # Errors
    /// If the address is taken, or is not this machine's own and `options` name no key.
    pub fn bind(address: SocketAddr, mut options: Options) -> Result<Self, Error> {
        options.access.loopback_only = address.ip().is_loopback();
        if !options.access.loopback_only && options.access.key.is_none() {
            return Err(Error::NoKey(address));
        }
        let listener = TcpListener::bind(address).map_err(|source| Error::Listen { address, source })?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, options, stop: watch::Sender::new(false) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not know.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What ends it.
    pub fn stop(&self) -> Stop {
        Stop(self.stop.clone())
    }

    /// Answers requests with the engines of `batch`, on this thread, until it is stopped.
    ///
    /// # Errors
    /// If a granted folder cannot be opened, threads cannot be started, or the engines cannot be made.
    pub fn run(self, batch: &Batch) -> Result<(), Error> {
        let Options { model, defaults, n_slots, queue, max_body, granted, access, pages, routes: further } =
            self.options;
        let granted = granted
            .into_iter()
            .map(|folder| Granted::open(&folder).map_err(|source| Error::Grant { folder, source }));
        let granted = granted.collect::<Result<_, _>>()?;
        let memory = batch.engine()?.bytes_resident();
        let model = Model {
            name: model,
            bytes: memory.weights_mapped + memory.weights_owned,
            since: SystemTime::now(),
        };
        let metrics = Arc::new(Metrics::new());
        let (jobs, waiting) = channel();
        let app = App::new(Parts {
            access,
            model,
            format: Arc::clone(batch.format()),
            defaults,
            metrics: Arc::clone(&metrics),
            granted,
            jobs,
            n_slots,
            queue,
            max_body,
            routes: routes(),
            has_pages: pages.is_some(),
        });
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(SERVING_THREADS)
            .max_blocking_threads(SLOW_THREADS)
            .thread_name("serve")
            .enable_all()
            .build()?;
        let router = {
            let _inside = runtime.enter();
            router(Arc::new(app), pages, further)
        };
        let (listener, stop) = (self.listener, self.stop.subscribe());
        let serving = runtime.spawn(async move { serve(listener, router, stop).await });
        // Ends when the router is gone, and with it all that could send a job.
        let answered = scheduler::run(batch, n_slots, &waiting, &metrics);
        // Connections would wait for an engine that failed.
        drop(waiting);
        self.stop.send_replace(true);
        runtime.block_on(serving).map_err(io::Error::other)??;
        Ok(answered?)
    }
}

/// Accepts connections until `stop`, then lets those that are open end.
async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut stopped = pin!(async move { stop.wait_for(|&stop| stop).await.is_ok() });
    loop {
        let accept = async {
            let place = Arc::clone(&connections).acquire_owned().await.expect("never closed");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            _ = &mut stopped => break,
            accepted = accept => accepted,
        };
        // A client that is gone already, or too many open files: either passes.
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // Tokens are small and come one by one.
        let _ = stream.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A broken connection concerns its client only.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(router);
    drop(listener);
    graceful.shutdown().await;
    Ok(())
}

/// The routes that are counted by name.
fn routes() -> Vec<&'static str> {
    let own = [access::HEALTH, access::METRICS, "/"];
    [&openai::ROUTES[..], &anthropic::ROUTES, &ollama::ROUTES, &own].concat()
}

fn router(app: Arc<App>, pages: Option<Router>, further: Option<Routes>) -> Router {
    let apis = Router::new()
        .merge(openai::routes())
        .merge(anthropic::routes())
        .merge(ollama::routes())
        .route(access::HEALTH, get(health))
        .route(access::METRICS, get(metrics))
        .method_not_allowed_fallback(wrong_method);
    let apis = match pages {
        Some(pages) => apis.fallback_service(pages),
        None => apis.route("/", get(index)).fallback(no_route),
    };
    let all = apis.with_state(Arc::clone(&app));
    let all = match further {
        Some(further) => all.merge(further.make(Asker::new(&app))),
        None => all,
    };
    all.layer(from_fn_with_state(app, access::check))
}

async fn health() -> Response {
    dialect::json_response(StatusCode::OK, &serde_json::json!({ "status": "ok" }))
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))], app.metrics.text()).into_response()
}

async fn index(State(app): State<Arc<App>>) -> String {
    let routes = routes().join("\n  ");
    format!("Ocelli {} serves `{}`.\n\n  {routes}\n", env!("CARGO_PKG_VERSION"), app.model.name)
}

async fn no_route(request: Request) -> Response {
    let path = request.uri().path();
    let message = format!("there is no `{path}` here; the routes are {}", routes().join(", "));
    dialect::of(path).error(&Problem::new(Kind::NotFound, message))
}

async fn wrong_method(request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let message = format!("`{path}` does not take {method}");
    dialect::of(path).error(&Problem::new(Kind::Method, message))
}
