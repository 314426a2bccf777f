//! The page's end of the line to the worker.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use futures_channel::oneshot;
use js_sys::{Array, Object, Reflect};
use protocol::{EngineReport, Event, Problem, Request};
use serde::Serialize;
use wasm_bindgen::prelude::*;
use web_sys::{ErrorEvent, File, MessageEvent, Worker, WorkerOptions, WorkerType};

const SCRIPT: &str = "engine/worker-main.js";

type Handler = Box<dyn FnMut(Event)>;
type OnLife = Box<dyn Fn(Life)>;

thread_local! {
    static CLIENT: Client = Client::default();
}

#[derive(Default)]
struct Client {
    worker: RefCell<Option<Worker>>,
    is_started: Cell<bool>,
    /// Requests made before the worker could take any.
    waiting: RefCell<Vec<JsValue>>,
    handlers: RefCell<HashMap<u32, Handler>>,
    last_id: Cell<u32>,
    /// Hears what befalls the worker.
    on_life: RefCell<Option<OnLife>>,
}

/// What befalls the worker.
pub(crate) enum Life {
    /// It takes requests.
    Started,
    /// It ended with this error; another one is started.
    Died(String),
    /// Its model runs on something else now.
    Moved(EngineReport),
}

/// Starts the worker. `on_life` is told of it, and of those that take its place.
pub(crate) fn start(on_life: impl Fn(Life) + 'static) {
    CLIENT.with(|client| client.on_life.replace(Some(Box::new(on_life))));
    spawn();
}

fn spawn() {
    let options = WorkerOptions::new();
    options.set_type(WorkerType::Module);
    let worker = match Worker::new_with_options(SCRIPT, &options) {
        Ok(worker) => worker,
        Err(error) => return live(Life::Died(crate::page::message(&error))),
    };
    let on_message = Closure::<dyn Fn(MessageEvent)>::new(|event: MessageEvent| receive(event.data()));
    worker.set_onmessage(Some(on_message.into_js_value().unchecked_ref()));
    let on_error = Closure::<dyn Fn(ErrorEvent)>::new(|event: ErrorEvent| died(event.message()));
    worker.set_onerror(Some(on_error.into_js_value().unchecked_ref()));
    CLIENT.with(|client| client.worker.replace(Some(worker)));
}

/// A worker that failed once cannot be trusted; a new one takes its place, unless it never came to life.
fn died(message: String) {
    let handlers = CLIENT.with(|client| {
        if let Some(worker) = client.worker.take() {
            worker.terminate();
        }
        std::mem::take(&mut *client.handlers.borrow_mut())
    });
    for (id, mut handler) in handlers {
        let message = format!("the engine stopped: {message}");
        handler(Event::Failed { id, problem: Problem::Device { message } });
    }
    if CLIENT.with(|client| client.is_started.replace(false)) {
        spawn();
    }
    live(Life::Died(message));
}

fn live(life: Life) {
    CLIENT.with(|client| {
        if let Some(on_life) = &*client.on_life.borrow() {
            on_life(life);
        }
    });
}

fn receive(data: JsValue) {
    let event: Event = match serde_wasm_bindgen::from_value(data) {
        Ok(event) => event,
        Err(error) => return died(format!("it said something unknown: {error}")),
    };
    if event == Event::Started {
        let waiting = CLIENT.with(|client| {
            client.is_started.set(true);
            client.waiting.take()
        });
        waiting.iter().for_each(post);
        return live(Life::Started);
    }
    if let Event::Moved { engine, .. } = event {
        return live(Life::Moved(engine));
    }
    let Some(id) = event.id() else { return };
    // A handler may make requests, so it is taken out while it runs.
    let handler = CLIENT.with(|client| client.handlers.borrow_mut().remove(&id));
    let Some(mut handler) = handler else { return };
    let is_last = event.is_last();
    handler(event);
    if !is_last {
        CLIENT.with(|client| client.handlers.borrow_mut().insert(id, handler));
    }
}

fn post(message: &JsValue) {
    CLIENT.with(|client| {
        if let Some(worker) = &*client.worker.borrow() {
            let _ = worker.post_message(message);
        }
    });
}

fn send(request: &Request, files: &[File]) {
    let Ok(request) = request.serialize(&serde_wasm_bindgen::Serializer::new()) else { return };
    let message = Object::new();
    let _ = Reflect::set(&message, &"request".into(), &request);
    let _ = Reflect::set(&message, &"files".into(), &files.iter().collect::<Array>());
    match CLIENT.with(|client| client.is_started.get()) {
        true => post(&message),
        false => CLIENT.with(|client| client.waiting.borrow_mut().push(message.into())),
    }
}

/// An answer that is on its way.
pub(crate) struct Pending {
    pub(crate) id: u32,
    last: oneshot::Receiver<Event>,
}

impl Pending {
    /// The last event about it.
    pub(crate) async fn last(self) -> Event {
        let problem = Problem::Device { message: "the engine stopped".into() };
        self.last.await.unwrap_or(Event::Failed { id: self.id, problem })
    }
}

/// Makes a request; `on_event` hears of all that happens but the end.
pub(crate) fn ask(
    request: impl FnOnce(u32) -> Request,
    files: &[File],
    mut on_event: impl FnMut(Event) + 'static,
) -> Pending {
    let id = CLIENT.with(|client| {
        client.last_id.set(client.last_id.get() + 1);
        client.last_id.get()
    });
    let (sender, last) = oneshot::channel();
    let mut sender = Some(sender);
    let handler: Handler = Box::new(move |event| match event.is_last() {
        true => {
            if let Some(sender) = sender.take() {
                // Nobody may wait any more.
                let _ = sender.send(event);
            }
        }
        false => on_event(event),
    });
    CLIENT.with(|client| client.handlers.borrow_mut().insert(id, handler));
    send(&request(id), files);
    Pending { id, last }
}

/// Ends a request early.
pub(crate) fn cancel(id: u32) {
    send(&Request::Cancel { id }, &[]);
}
