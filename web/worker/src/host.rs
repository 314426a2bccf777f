//! The worker's one thread: requests wait in line, cancels do not.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use engine::ModelFiles;
use js_sys::{Array, Reflect};
use protocol::{EngineChoice, EngineKind, EngineReport, Event, ModelReport, Problem, Request, Source};
use serde::Serialize;
use tensor::SharedBytes;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::{AbortController, AbortSignal, File, MessageEvent};

use crate::answer::{Local, caption_messages};
use crate::browser::{engine_problem, now, scope, turn};
use crate::gpu::Chosen;
use crate::remote::Remote;
use crate::seen::show;
use crate::store::{Fetched, Progress};
use crate::told::Told;
use crate::{local, store};

/// The list of files of the model beside the page.
const EMBEDDED: &str = "model/manifest.json";

/// What answers.
enum Model {
    Here(Box<Here>),
    Remote(Remote),
}

/// A model in this worker, and how to load it again.
struct Here {
    local: Local,
    origin: Origin,
    /// Whether it runs on something that can be lost.
    is_on_gpu: bool,
    /// How often that happened since it last answered without.
    n_lost: usize,
}

/// What a model was loaded from, and on what.
#[derive(Clone)]
struct Origin {
    source: Source,
    files: Vec<File>,
    engine: EngineChoice,
}

struct Host {
    queue: RefCell<VecDeque<(Request, Vec<File>)>>,
    is_working: Cell<bool>,
    /// Of everything that waits or runs.
    aborts: RefCell<HashMap<u32, AbortController>>,
}

/// Starts to take messages. Called once, by the worker's script.
#[wasm_bindgen]
pub fn start() {
    console_error_panic_hook::set_once();
    let host =
        Rc::new(Host { queue: RefCell::default(), is_working: Cell::new(false), aborts: RefCell::default() });
    let on_message =
        Closure::<dyn Fn(MessageEvent)>::new(move |event: MessageEvent| receive(&host, &event.data()));
    scope().set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    on_message.forget();
    tell(Event::Started);
}

/// A message holds a `request`, and `files` where the request is about some.
fn receive(host: &Rc<Host>, message: &JsValue) {
    let field = |name: &str| Reflect::get(message, &name.into()).unwrap_or(JsValue::UNDEFINED);
    let request: Request = match serde_wasm_bindgen::from_value(field("request")) {
        Ok(request) => request,
        Err(error) => {
            let id = Reflect::get(&field("request"), &"id".into()).ok().and_then(|id| id.as_f64());
            let problem = Problem::Input { message: format!("this is no request: {error}") };
            return tell(Event::Failed { id: id.unwrap_or(0.0) as u32, problem });
        }
    };
    if let Request::Cancel { id } = request {
        if let Some(abort) = host.aborts.borrow().get(&id) {
            abort.abort();
        }
        return;
    }
    let Ok(abort) = AbortController::new() else { return };
    host.aborts.borrow_mut().insert(request.id(), abort);
    let files = field("files");
    let files: Vec<File> = match files.is_undefined() {
        true => Vec::new(),
        false => Array::from(&files).iter().filter_map(|file| file.dyn_into().ok()).collect(),
    };
    host.queue.borrow_mut().push_back((request, files));
    if !host.is_working.replace(true) {
        spawn_local(work(Rc::clone(host)));
    }
}

thread_local! {
    /// Stays between bursts of requests.
    static MODEL: RefCell<Option<Model>> = const { RefCell::new(None) };
}

async fn work(host: Rc<Host>) {
    let mut model = MODEL.take();
    loop {
        let next = host.queue.borrow_mut().pop_front();
        let Some((request, files)) = next else { break };
        let id = request.id();
        let signal = host.aborts.borrow()[&id].signal();
        let result = match signal.aborted() {
            true => Err(Problem::Cancelled),
            false => perform(request, files, &mut model, &signal).await,
        };
        host.aborts.borrow_mut().remove(&id);
        tell(result.unwrap_or_else(|problem| Event::Failed { id, problem }));
        turn().await;
    }
    MODEL.set(model);
    host.is_working.set(false);
}

/// Does what is asked, and returns the last event.
async fn perform(
    request: Request,
    files: Vec<File>,
    model: &mut Option<Model>,
    signal: &AbortSignal,
) -> Result<Event, Problem> {
    match request {
        Request::Load { id, source, engine } => {
            // Two models at once may not fit.
            *model = None;
            let (loaded, report) = load(id, Origin { source, files, engine }, signal, &tell).await?;
            *model = Some(loaded);
            Ok(Event::Loaded { id, model: report })
        }
        Request::Caption { id, picture, options } => {
            answer(id, &caption_messages(picture), &options, model, signal).await
        }
        Request::Chat { id, messages, options } => answer(id, &messages, &options, model, signal).await,
        Request::Show { id, picture, sight } => Ok(Event::Shown { id, view: show(&picture, sight)? }),
        Request::ListStored { id } => stored(id).await,
        Request::Forget { id, key } => {
            store::forget(&key).await?;
            stored(id).await
        }
        Request::Cancel { id } => Err(Problem::Input { message: format!("request {id} is not there") }),
    }
}

async fn answer(
    id: u32,
    messages: &[protocol::Message],
    options: &protocol::Options,
    model: &mut Option<Model>,
    signal: &AbortSignal,
) -> Result<Event, Problem> {
    let answer = match model.take() {
        None => return Err(Problem::NoModel),
        Some(Model::Remote(remote)) => {
            let answer = remote.answer(id, messages, options, signal, &tell).await;
            *model = Some(Model::Remote(remote));
            answer?
        }
        Some(Model::Here(here)) => {
            let ask = Ask { id, messages, options, signal, told: Told::default() };
            let (here, answer) = ask.answered_by(*here).await;
            *model = here.map(|here| Model::Here(Box::new(here)));
            answer?
        }
    };
    Ok(Event::Answered { id, answer })
}

/// A conversation that waits for its answer.
struct Ask<'a> {
    id: u32,
    messages: &'a [protocol::Message],
    options: &'a protocol::Options,
    signal: &'a AbortSignal,
    told: Told,
}

impl Ask<'_> {
    /// Returns the answer, and the model that gave it. A graphics processor that was lost on the way, or before,
    /// does not matter: the model is loaded again, and the answer goes on where it was.
    async fn answered_by(&self, mut here: Here) -> (Option<Here>, Result<protocol::Answer, Problem>) {
        let mut notes = Vec::new();
        loop {
            let lost = match self.try_on(&mut here).await {
                Err(Problem::Device { message }) if here.is_on_gpu => message,
                answer => {
                    if notes.is_empty() && answer.is_ok() {
                        here.n_lost = 0;
                    }
                    let answer = answer.map(|mut answer| {
                        answer.notes.append(&mut notes);
                        answer
                    });
                    return (Some(here), answer);
                }
            };
            here = match self.loaded_again(here, &lost).await {
                Ok(here) => here,
                Err(problem) => return (None, Err(problem)),
            };
            let place = if here.is_on_gpu { "" } else { ", on the processor" };
            notes.push(format!("the model was loaded again on the way{place}: {lost}"));
            self.told.begin_again();
        }
    }

    /// The model of `here`, whose graphics processor was lost, loaded anew.
    async fn loaded_again(&self, here: Here, lost: &str) -> Result<Here, Problem> {
        let (mut origin, n_lost) = (here.origin.clone(), here.n_lost + 1);
        drop(here);
        // What fails each time is no use. Browsers may also give none after a failure.
        if n_lost > 1 {
            origin.engine = EngineChoice::Processor;
        }
        let mut loaded = load(self.id, origin.clone(), self.signal, &|_| {}).await;
        if let Err(Problem::Device { .. }) = loaded {
            origin.engine = EngineChoice::Processor;
            loaded = load(self.id, origin, self.signal, &|_| {}).await;
        }
        let (model, report) = loaded?;
        let mut engine = report.engine;
        if engine.kind == EngineKind::Processor {
            engine.why = format!("the graphics processor failed: {lost}");
        }
        tell(Event::Moved { id: self.id, engine });
        match model {
            Model::Here(here) => Ok(Here { n_lost, ..*here }),
            Model::Remote(_) => unreachable!("it was loaded here before"),
        }
    }

    async fn try_on(&self, here: &mut Here) -> Result<protocol::Answer, Problem> {
        let tell = |event| self.told.new_part(event).into_iter().for_each(tell);
        here.local.answer(self.id, self.messages, self.options, self.signal, &tell).await
    }
}

async fn stored(id: u32) -> Result<Event, Problem> {
    let (models, usage, quota) = store::list().await?;
    Ok(Event::Stored { id, models, usage: usage as f64, quota: quota as f64 })
}

/// Loads a model; `tell` hears how far it is.
async fn load(
    id: u32,
    origin: Origin,
    signal: &AbortSignal,
    tell: &dyn Fn(Event),
) -> Result<(Model, ModelReport), Problem> {
    let started = now();
    let mut progress = |progress: Progress<'_>| {
        tell(Event::Fetching {
            id,
            file: progress.file.to_owned(),
            done: progress.done as f64,
            total: progress.total as f64,
            from_store: progress.from_store,
        });
    };
    let Origin { source, files, engine } = origin.clone();
    let fetched = match source {
        Source::Server { url, key } => {
            let remote = Remote::open(&url, key.as_deref(), signal).await?;
            let engine =
                EngineReport { kind: EngineKind::Server, detail: url, why: "you chose a server".into() };
            let report = ModelReport {
                name: remote.model.clone(),
                engine,
                takes_pictures: None,
                bytes: 0.0,
                context_limit: 0,
                load_ms: now() - started,
                notes: Vec::new(),
            };
            return Ok((Model::Remote(remote), report));
        }
        Source::Embedded => store::fetch(&absolute(EMBEDDED)?, signal, &mut progress).await?,
        Source::Url { url } => store::fetch(&absolute(&url)?, signal, &mut progress).await?,
        Source::Files { name } => local::read(name, files, signal, &mut progress).await?,
    };
    tell(Event::Preparing { id });
    turn().await;
    let Fetched { name, files, notes } = fetched;
    let bytes = files.iter().map(|(_, bytes)| bytes.len() as f64).sum();
    let files = files.into_iter().map(|(name, bytes)| (name, SharedBytes::new(bytes))).collect();
    let (local, engine) = put_together(&ModelFiles::from_bytes(name.as_str(), files), engine).await?;
    let report = ModelReport {
        name,
        takes_pictures: Some(local.takes_pictures()),
        bytes,
        context_limit: local.context_limit(),
        load_ms: now() - started,
        notes,
        engine,
    };
    let is_on_gpu = report.engine.kind == EngineKind::WebGpu;
    Ok((Model::Here(Box::new(Here { local, origin, is_on_gpu, n_lost: 0 })), report))
}

/// Loads a model on what was chosen. Whatever a graphics processor has against it, the processor may have not.
async fn put_together(files: &ModelFiles, choice: EngineChoice) -> Result<(Local, EngineReport), Problem> {
    let Chosen { gpu, mut report } = Chosen::by(choice).await?;
    let is_bound = gpu.is_none() || choice != EngineChoice::Fastest;
    let opened = match Local::open(files, gpu) {
        Err(error) if !is_bound => {
            let chosen = Chosen::processor(format!("the graphics processor cannot: {error}"));
            report = chosen.report;
            Local::open(files, None)
        }
        opened => opened,
    };
    Ok((opened.map_err(|error| engine_problem(&error))?, report))
}

/// An address as seen from this worker's script.
fn absolute(url: &str) -> Result<String, Problem> {
    let base = scope().location().href();
    let full = web_sys::Url::new_with_base(url, &base).map(|url| url.href());
    let full = full.map_err(|_| Problem::Input { message: format!("`{url}` is no address") })?;
    match full.starts_with("http://") || full.starts_with("https://") {
        true => Ok(full),
        false => Err(Problem::Input { message: format!("`{url}` is no address of a file on a server") }),
    }
}

fn tell(event: Event) {
    let serializer = serde_wasm_bindgen::Serializer::new().serialize_missing_as_null(true);
    match event.serialize(&serializer) {
        // Only a page that is gone does not take a message.
        Ok(value) => drop(scope().post_message(&value)),
        Err(error) => wasm_bindgen::throw_str(&format!("an event has no JavaScript form: {error}")),
    }
}
