//! What all requests share, and the way from a question to its answer.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use axum::response::Response;
use engine::{ChatFormat, GenerateOptions};
use protocol::Sight;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::access::Access;
use crate::fields::Fields;
use crate::key::hex;
use crate::metrics::Metrics;
use crate::openai::Kept;
use crate::pictures::Granted;
use crate::problem::{Kind, Problem, Result};
use crate::question::Question;
use crate::reply::lost;
use crate::scheduler::{Job, Update, Work};

/// How long the body of a request may take to come.
const BODY_TIME: Duration = Duration::from_secs(60);
/// Requests whose pictures are decoded at the same time; each may take a few hundred megabytes for a moment.
const DECODERS: usize = 2;
/// Bodies that may be held at the same time, in bodies of the largest size.
const BODIES: usize = 4;

/// What all requests share.
pub(crate) struct App {
    pub(crate) access: Access,
    pub(crate) model: Model,
    pub(crate) format: Arc<ChatFormat>,
    /// What holds unless a request says otherwise.
    pub(crate) defaults: GenerateOptions,
    pub(crate) metrics: Arc<Metrics>,
    /// Answers of `/v1/responses`.
    pub(crate) kept: Kept,
    granted: Vec<Granted>,
    jobs: Sender<Job>,
    /// In a slot or in the queue.
    places: Arc<Semaphore>,
    n_slots: usize,
    decoders: Arc<Semaphore>,
    max_body: usize,
    /// In KiB.
    bodies: Arc<Semaphore>,
    routes: Vec<&'static str>,
    /// Whether paths of no API have pages.
    pub(crate) has_pages: bool,
}

/// What is told about the model.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// When the server began to serve it.
    pub(crate) since: SystemTime,
}

/// A question that was let in.
pub(crate) struct Asked {
    pub(crate) updates: UnboundedReceiver<Update>,
    pub(crate) prompt_tokens: usize,
    /// What of the request was ignored or changed.
    pub(crate) notes: Vec<String>,
    /// How each picture was read.
    pub(crate) pictures: Vec<Sight>,
    pub(crate) seed: u64,
    pub(crate) arrived: Instant,
}

/// What an [`App`] is made of.
pub(crate) struct Parts {
    pub(crate) access: Access,
    pub(crate) model: Model,
    pub(crate) format: Arc<ChatFormat>,
    pub(crate) defaults: GenerateOptions,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) granted: Vec<Granted>,
    pub(crate) jobs: Sender<Job>,
    pub(crate) n_slots: usize,
    pub(crate) queue: usize,
    pub(crate) max_body: usize,
    /// Those that are counted by name.
    pub(crate) routes: Vec<&'static str>,
    pub(crate) has_pages: bool,
}

impl App {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            places: Arc::new(Semaphore::new(parts.n_slots + parts.queue)),
            decoders: Arc::new(Semaphore::new(DECODERS)),
            bodies: Arc::new(Semaphore::new(kib(parts.max_body) * BODIES)),
            access: parts.access,
            model: parts.model,
            format: parts.format,
            defaults: parts.defaults,
            metrics: parts.metrics,
            kept: Kept::default(),
            granted: parts.granted,
            jobs: parts.jobs,
            n_slots: parts.n_slots,
            max_body: parts.max_body,
            routes: parts.routes,
            has_pages: parts.has_pages,
        }
    }

    /// Whether `path` is one that is counted by its name.
    pub(crate) fn has_route(&self, path: &str) -> bool {
        self.routes.contains(&path)
    }

    /// Counts a response.
    pub(crate) fn counted(&self, route: &str, response: Response) -> Response {
        self.metrics.response(route, response.status().as_u16());
        response
    }

    /// The body of a request as JSON.
    pub(crate) async fn fields(&self, request: Request) -> Result<Fields> {
        let (body, _held) = self.body(request).await?;
        Fields::of_body(&body)
    }

    async fn body(&self, request: Request) -> Result<(Bytes, OwnedSemaphorePermit)> {
        let max = self.max_body;
        let too_large = || {
            let message = format!("the body is larger than {max} bytes; send fewer or smaller pictures");
            Problem::new(Kind::TooLarge, message)
        };
        let length =
            request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let length: usize = length.unwrap_or(max);
        if length > max {
            return Err(too_large());
        }
        let read = async {
            let n = kib(length) as u32;
            let held = Arc::clone(&self.bodies).acquire_many_owned(n).await.expect("never closed");
            to_bytes(request.into_body(), max).await.map(|body| (body, held))
        };
        match timeout(BODY_TIME, read).await {
            Ok(Ok(read)) => Ok(read),
            // A body that breaks off has nobody left to be told.
            Ok(Err(_)) => Err(too_large()),
            Err(_) => Err(Problem::new(
                Kind::Slow,
                format!("the body did not come within {} s", BODY_TIME.as_secs()),
            )),
        }
    }

    /// Checks that a request means the model that is served, if it names one.
    pub(crate) fn check_model(&self, name: Option<&str>) -> Result<()> {
        let own = &self.model.name;
        match name {
            // Ollama's clients name versions so.
            Some(name) if name.strip_suffix(":latest").unwrap_or(name) != own => Err(Problem {
                kind: Kind::NotFound,
                ..Problem::field("model", format!("`{name}` is not served here; `{own}` is"))
            }),
            _ => Ok(()),
        }
    }

    /// Makes the prompt and puts it into the queue.
    pub(crate) async fn ask(self: &Arc<Self>, mut question: Question) -> Result<Asked> {
        let arrived = Instant::now();
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| self.busy())?;
        let (question, mut prompt) = self
            .off_thread(move |app| {
                let prompt = question.prompt(&app.format, &app.granted)?;
                Ok((question, prompt))
            })
            .await?;
        let (updates, receiver) = unbounded_channel();
        let asked = Asked {
            updates: receiver,
            prompt_tokens: prompt.input.token_ids.len(),
            notes: question.notes,
            pictures: std::mem::take(&mut prompt.pictures),
            seed: question.options.seed,
            arrived,
        };
        let work = Work::Answer(Box::new(question.options));
        self.send(Job { prompt, work, updates, place, arrived })?;
        Ok(asked)
    }

    /// A vector for a text, and how many tokens it has.
    pub(crate) async fn embed(self: &Arc<Self>, text: String) -> Result<(Vec<f32>, usize)> {
        let arrived = Instant::now();
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| self.busy())?;
        let prompt = self
            .off_thread(move |app| {
                let prompt = app.format.plain_prompt(&text);
                app.format.check(&prompt)?;
                Ok(prompt)
            })
            .await?;
        let n_tokens = prompt.input.token_ids.len();
        let (updates, mut receiver) = unbounded_channel();
        self.send(Job { prompt, work: Work::Embed, updates, place, arrived })?;
        match receiver.recv().await {
            Some(Update::Embedded(embedding)) => Ok((embedding, n_tokens)),
            Some(Update::Failed(problem)) => Err(problem),
            _ => Err(lost()),
        }
    }

    fn send(&self, job: Job) -> Result<()> {
        self.jobs.send(job).map_err(|_| Problem::new(Kind::Stopping, "the server is shutting down"))
    }

    /// How many tokens a question has.
    pub(crate) async fn count(self: &Arc<Self>, mut question: Question) -> Result<usize> {
        self.off_thread(move |app| Ok(question.prompt(&app.format, &app.granted)?.input.token_ids.len()))
            .await
    }

    /// Does slow work on a thread that serves nobody, a little of it at a time.
    async fn off_thread<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = Arc::clone(&self.decoders).acquire_owned().await.expect("never closed");
        let app = Arc::clone(self);
        let done = spawn_blocking(move || {
            let _turn = turn;
            work(&app)
        });
        done.await
            .map_err(|_| Problem::new(Kind::Internal, "the request could not be read; this is a bug"))?
    }

    fn busy(&self) -> Problem {
        let queued = self.places_in_use().div_ceil(self.n_slots.max(1)) as f64;
        let seconds = (self.metrics.mean_seconds() * queued).ceil().clamp(1.0, 60.0) as u64;
        Problem::new(Kind::Busy(seconds), format!("the queue is full; try again in {seconds} s"))
    }

    fn places_in_use(&self) -> usize {
        self.metrics.running.get().max(0) as usize + self.metrics.waiting.get().max(0) as usize
    }
}

fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1024).max(1)
}

/// Seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A name that no other answer has.
pub(crate) fn new_id(prefix: &str) -> String {
    let mut bytes = [0; 12];
    random(&mut bytes);
    format!("{prefix}{}", hex(&bytes))
}

/// A seed for a request that brings none, small enough to be exact in any JSON.
pub(crate) fn new_seed() -> u64 {
    let mut bytes = [0; 4];
    random(&mut bytes);
    u32::from_le_bytes(bytes).into()
}

fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the server could start, which took random numbers as well");
}
