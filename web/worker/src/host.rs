//! The worker's one thread: requests wait in line, cancels do not.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use js_sys::{Array, Reflect};
use protocol::{Event, ModelReport, Problem, Request, Source};
use serde::Serialize;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::{AbortController, AbortSignal, File, MessageEvent};

use crate::answer::{Local, caption_messages, engine_report};
use crate::browser::{now, scope, turn};
use crate::remote::Remote;
use crate::store::Progress;
use crate::{local, store};

/// The list of files of the model beside the page.
const EMBEDDED: &str = "model/manifest.json";

/// What answers.
enum Model {
    Local(Box<Local>),
    Remote(Remote),
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
    tell(&Event::Started { engine: engine_report() });
}

/// A message holds a `request`, and `files` where the request is about some.
fn receive(host: &Rc<Host>, message: &JsValue) {
    let field = |name: &str| Reflect::get(message, &name.into()).unwrap_or(JsValue::UNDEFINED);
    let request: Request = match serde_wasm_bindgen::from_value(field("request")) {
        Ok(request) => request,
        Err(error) => {
            let id = Reflect::get(&field("request"), &"id".into()).ok().and_then(|id| id.as_f64());
            let problem = Problem::Input { message: format!("this is no request: {error}") };
            return tell(&Event::Failed { id: id.unwrap_or(0.0) as u32, problem });
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
        tell(&result.unwrap_or_else(|problem| Event::Failed { id, problem }));
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
        Request::Load { id, source } => {
            // Two models at once may not fit.
            *model = None;
            let (loaded, report) = load(id, source, files, signal).await?;
            *model = Some(loaded);
            Ok(Event::Loaded { id, model: report })
        }
        Request::Caption { id, picture, options } => {
            answer(id, &caption_messages(picture), &options, model, signal).await
        }
        Request::Chat { id, messages, options } => answer(id, &messages, &options, model, signal).await,
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
    let answer = match model {
        None => return Err(Problem::NoModel),
        Some(Model::Local(local)) => local.answer(id, messages, options, signal, &tell).await?,
        Some(Model::Remote(remote)) => remote.answer(id, messages, options, signal, &tell).await?,
    };
    Ok(Event::Answered { id, answer })
}

async fn stored(id: u32) -> Result<Event, Problem> {
    let (models, usage, quota) = store::list().await?;
    Ok(Event::Stored { id, models, usage: usage as f64, quota: quota as f64 })
}

async fn load(
    id: u32,
    source: Source,
    files: Vec<File>,
    signal: &AbortSignal,
) -> Result<(Model, ModelReport), Problem> {
    let started = now();
    let mut progress = |progress: Progress<'_>| {
        tell(&Event::Fetching {
            id,
            file: progress.file.to_owned(),
            done: progress.done as f64,
            total: progress.total as f64,
            from_store: progress.from_store,
        });
    };
    let fetched = match source {
        Source::Server { url, key } => {
            let remote = Remote::open(&url, key.as_deref(), signal).await?;
            let engine = protocol::EngineReport {
                kind: protocol::EngineKind::Server,
                detail: url,
                why: "you chose a server".into(),
            };
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
    tell(&Event::Preparing { id });
    turn().await;
    let (name, notes) = (fetched.name.clone(), fetched.notes.clone());
    let bytes = fetched.files.iter().map(|(_, bytes)| bytes.len() as f64).sum();
    let local = Local::open(fetched)?;
    let report = ModelReport {
        name,
        engine: engine_report(),
        takes_pictures: Some(local.takes_pictures()),
        bytes,
        context_limit: local.context_limit(),
        load_ms: now() - started,
        notes,
    };
    Ok((Model::Local(Box::new(local)), report))
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

fn tell(event: &Event) {
    let serializer = serde_wasm_bindgen::Serializer::new().serialize_missing_as_null(true);
    match event.serialize(&serializer) {
        // Only a page that is gone does not take a message.
        Ok(value) => drop(scope().post_message(&value)),
        Err(error) => wasm_bindgen::throw_str(&format!("an event has no JavaScript form: {error}")),
    }
}
