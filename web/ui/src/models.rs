//! Which model is loaded, and loading another.

use leptos::prelude::*;
use leptos::task::spawn_local;
use protocol::{EngineChoice, Event, ModelReport, Problem, Request, Source};
use web_sys::File;

use crate::app::App;
use crate::{client, page};

/// Where the page stands with its model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ModelState {
    /// None is loaded, and none on its way.
    None,
    /// One is on its way.
    Loading(Loading),
    /// One answers.
    Ready(ModelReport),
    /// It came to nothing.
    Failed(Problem),
}

/// A model on its way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Loading {
    pub(crate) id: u32,
    pub(crate) done: f64,
    pub(crate) total: f64,
    pub(crate) from_store: bool,
    pub(crate) is_preparing: bool,
}

/// Loads a model in the place of the one that is loaded.
pub(crate) fn load(app: App, source: Source, files: Vec<File>) {
    if let ModelState::Loading(loading) = app.model.get_untracked() {
        client::cancel(loading.id);
    }
    app.source.set_value(Some((source.clone(), files.clone())));
    page::persist();
    let pending = client::ask(
        |id| Request::Load { id, source, engine: chosen_engine() },
        &files,
        move |event| {
            app.model.update(|state| {
                let ModelState::Loading(loading) = state else { return };
                match event {
                    Event::Fetching { id, done, total, from_store, .. } if id == loading.id => {
                        (loading.done, loading.total, loading.from_store) = (done, total, from_store);
                    }
                    Event::Preparing { id } if id == loading.id => loading.is_preparing = true,
                    _ => {}
                }
            });
        },
    );
    let id = pending.id;
    let loading = Loading { id, done: 0.0, total: 0.0, from_store: true, is_preparing: false };
    app.model.set(ModelState::Loading(loading));
    spawn_local(async move {
        let last = pending.last().await;
        // Another choice may have been made meanwhile.
        let is_current =
            matches!(app.model.get_untracked(), ModelState::Loading(loading) if loading.id == id);
        if !is_current {
            return;
        }
        match last {
            Event::Loaded { model, .. } => {
                app.say(app.words().ready);
                app.model.set(ModelState::Ready(model));
            }
            Event::Failed { problem: Problem::Cancelled, .. } => app.model.set(ModelState::None),
            Event::Failed { problem, .. } => {
                app.say(&problem.to_string());
                app.model.set(ModelState::Failed(problem));
            }
            _ => {}
        }
    });
}

/// What shall compute: the address of the page can tell, as `?engine=processor`, else what was chosen last.
pub(crate) fn chosen_engine() -> EngineChoice {
    match page::engine().as_str() {
        "web_gpu" => EngineChoice::WebGpu,
        "processor" => EngineChoice::Processor,
        _ => EngineChoice::Fastest,
    }
}

/// Loads again what was loaded last.
pub(crate) fn reload(app: App) {
    if let Some((source, files)) = app.source.get_value() {
        load(app, source, files);
    }
}

/// A number of bytes as people say it.
pub(crate) fn size(bytes: f64) -> String {
    match bytes {
        ..1e6 => format!("{:.0} kB", bytes / 1e3),
        ..1e9 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.2} GB", bytes / 1e9),
    }
}
