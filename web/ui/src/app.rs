//! The whole page, and what its parts share.

use std::cell::Cell;

use leptos::prelude::*;
use protocol::{EngineKind, Source};
use wasm_bindgen::prelude::*;
use web_sys::File;

use crate::caption::CaptionView;
use crate::chat::ChatView;
use crate::client::{self, Life};
use crate::desk::Desk;
use crate::models::{self, ModelState, size};
use crate::page;
use crate::picker::Picker;
use crate::words::{Language, Words};

/// What all parts of the page share.
#[derive(Clone, Copy)]
pub(crate) struct App {
    pub(crate) language: RwSignal<Language>,
    pub(crate) is_dark: RwSignal<Option<bool>>,
    pub(crate) model: RwSignal<ModelState>,
    /// What was loaded last.
    pub(crate) source: StoredValue<Option<(Source, Vec<File>)>, LocalStorage>,
    /// What screen readers are told.
    pub(crate) spoken: RwSignal<String>,
    pub(crate) is_picking: RwSignal<bool>,
    pub(crate) view: RwSignal<View>,
}

/// The two views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Caption,
    Chat,
}

impl App {
    fn new() -> Self {
        let kept = page::recall("language");
        let language = Language::of(if kept.is_empty() { page::language() } else { kept }.as_str());
        let is_dark = match page::recall("theme").as_str() {
            "dark" => Some(true),
            "light" => Some(false),
            _ => None,
        };
        Self {
            language: RwSignal::new(language),
            is_dark: RwSignal::new(is_dark),
            model: RwSignal::new(ModelState::None),
            source: StoredValue::new_local(None),
            spoken: RwSignal::new(String::new()),
            is_picking: RwSignal::new(false),
            view: RwSignal::new(View::Caption),
        }
    }

    /// The words of the chosen language.
    pub(crate) fn words(self) -> &'static Words {
        self.language.get().words()
    }

    /// Tells screen readers.
    pub(crate) fn say(self, text: &str) {
        self.spoken.set(text.to_owned());
    }

    /// The program that serves this page, if that is what answers.
    pub(crate) fn desk(self) -> Option<Desk> {
        self.model.track();
        self.desk_untracked()
    }

    /// As [`desk`](Self::desk).
    pub(crate) fn desk_untracked(self) -> Option<Desk> {
        match self.source.get_value() {
            Some((Source::Server { url, key }, _)) if page::is_served() && url == origin() => {
                Some(Desk { key: key.unwrap_or_default() })
            }
            _ => None,
        }
    }

    /// Whether a model answers.
    pub(crate) fn is_ready(self) -> bool {
        self.model.with(|model| matches!(model, ModelState::Ready(_)))
    }
}

/// Of the enclosing page.
pub(crate) fn use_app() -> App {
    expect_context()
}

/// Shows the page. Runs when its module has loaded.
#[wasm_bindgen(start)]
pub fn run() {
    console_error_panic_hook::set_once();
    mount_to_body(Page);
}

#[component]
fn Page() -> impl IntoView {
    let app = App::new();
    provide_context(app);
    let is_first = Cell::new(true);
    client::start(move |life| match life {
        Life::Started if is_first.replace(false) => {}
        Life::Started => models::reload(app),
        Life::Died(message) => {
            let problem = protocol::Problem::Device {
                message: format!("{}: {message}", app.language.get_untracked().words().engine_died),
            };
            app.model.set(ModelState::Failed(problem));
        }
        Life::Moved(engine) => app.model.update(|state| {
            if let ModelState::Ready(report) = state {
                report.engine = engine;
            }
        }),
    });
    let first = match page::is_served() {
        true => Source::Server { url: origin(), key: None },
        false => Source::Embedded,
    };
    models::load(app, first, Vec::new());
    Effect::new(move || page::set_root("lang", app.words().tag));
    Effect::new(move || {
        let theme = app.is_dark.get().map_or("", |dark| if dark { "dark" } else { "light" });
        page::set_root("data-theme", theme);
    });
    view! {
        <a class="skip" href="#main">{move || app.words().skip}</a>
        <Top/>
        <main id="main" tabindex="-1">
            <ModelNotice/>
            <section id="caption-view" role="tabpanel" aria-labelledby="caption-tab" class="view"
                hidden=move || app.view.get() != View::Caption>
                <CaptionView/>
            </section>
            <section id="chat-view" role="tabpanel" aria-labelledby="chat-tab" class="view"
                hidden=move || app.view.get() != View::Chat>
                <ChatView/>
            </section>
        </main>
        <footer>{move || {
            let is_server = app.model.with(|model| {
                matches!(model, ModelState::Ready(report) if report.engine.kind == EngineKind::Server)
            });
            match (is_server, app.desk().is_some()) {
                (true, true) => app.words().served,
                (true, false) => app.words().sent,
                (false, _) => app.words().private,
            }
        }}</footer>
        <Picker/>
        <div class="sr" role="status" aria-live="polite">{move || app.spoken.get()}</div>
    }
}

#[component]
fn Top() -> impl IntoView {
    let app = use_app();
    let tab = move |view: View, id: &'static str, panel: &'static str, name: fn(&Words) -> &'static str| {
        let is_chosen = move || app.view.get() == view;
        view! {
            <button role="tab" id=id aria-controls=panel
                aria-selected=move || is_chosen().to_string()
                tabindex=move || if is_chosen() { "0" } else { "-1" }
                on:click=move |_| app.view.set(view)>
                {move || name(app.words())}
            </button>
        }
    };
    // Arrow keys go from tab to tab, as in any tab list.
    let on_key = move |event: leptos::ev::KeyboardEvent| {
        if ["ArrowLeft", "ArrowRight", "Home", "End"].contains(&event.key().as_str()) {
            event.prevent_default();
            let (view, id) = match app.view.get_untracked() {
                View::Caption => (View::Chat, "chat-tab"),
                View::Chat => (View::Caption, "caption-tab"),
            };
            app.view.set(view);
            page::focus(id);
        }
    };
    let is_dark_now = move || app.is_dark.get().unwrap_or_else(prefers_dark);
    view! {
        <header class="top">
            <div class="bar">
                <h1 class="brand"><img src="icon.svg" alt="" width="28" height="28"/>"Ocelli"</h1>
                <div role="tablist" aria-label=move || app.words().views on:keydown=on_key>
                    {tab(View::Caption, "caption-tab", "caption-view", |words| words.caption)}
                    {tab(View::Chat, "chat-tab", "chat-view", |words| words.chat)}
                </div>
                <ModelButton/>
                <button class="plain push" on:click=move |_| {
                    let other = app.language.get_untracked().other();
                    page::remember("language", other.words().tag);
                    app.language.set(other);
                }>
                    <span lang=move || app.language.get().other().words().tag>{move || app.words().other_language}</span>
                </button>
                <button class="plain" on:click=move |_| {
                    let dark = !is_dark_now();
                    page::remember("theme", if dark { "dark" } else { "light" });
                    app.is_dark.set(Some(dark));
                }>
                    {move || if is_dark_now() { app.words().light } else { app.words().dark }}
                </button>
            </div>
        </header>
    }
}

/// Where this page comes from.
pub(crate) fn origin() -> String {
    window().location().origin().unwrap_or_default()
}

fn prefers_dark() -> bool {
    let query = window().match_media("(prefers-color-scheme: dark)").ok().flatten();
    query.is_some_and(|query| query.matches())
}

#[component]
fn ModelButton() -> impl IntoView {
    let app = use_app();
    let class = move || {
        app.model.with(|model| match model {
            ModelState::Ready(_) => "dot ready",
            ModelState::Failed(_) => "dot failed",
            _ => "dot",
        })
    };
    let label = move || {
        app.model.with(|model| match model {
            ModelState::Ready(report) if matches!(app.source.get_value(), Some((Source::Embedded, _))) => {
                format!("{} · {}", app.words().inside, where_it_runs(app, report.engine.kind))
            }
            ModelState::Ready(report) => {
                format!("{} · {}", report.name, where_it_runs(app, report.engine.kind))
            }
            ModelState::Loading(loading) if loading.total > 0.0 => {
                format!("{} · {:.0} %", app.words().model, 100.0 * loading.done / loading.total)
            }
            ModelState::Loading(_) => format!("{} …", app.words().model),
            ModelState::None | ModelState::Failed(_) => app.words().no_model.to_owned(),
        })
    };
    view! {
        <button class="model-button" id="model-button" aria-haspopup="dialog" on:click=move |_| app.is_picking.set(true)>
            <span class=class aria-hidden="true"></span>
            <span class="sr">{move || app.words().model}": "</span>
            <span>{label}</span>
        </button>
    }
}

/// What runs a model, in words.
pub(crate) fn where_it_runs(app: App, kind: EngineKind) -> &'static str {
    match kind {
        EngineKind::WebGpu => app.words().gpu,
        EngineKind::Processor => app.words().processor,
        EngineKind::Server if app.desk().is_some() => app.words().this_machine,
        EngineKind::Server => app.words().server,
    }
}

/// How far a model has come, or why it has not, and whatever was unusual about loading it.
#[component]
fn ModelNotice() -> impl IntoView {
    let app = use_app();
    move || {
        let words = app.words();
        match app.model.get() {
            ModelState::Loading(loading) => {
                let text = match (loading.is_preparing, loading.from_store) {
                    (true, _) => words.preparing,
                    (false, true) => words.reading,
                    (false, false) => words.fetching,
                };
                let share = if loading.total > 0.0 { loading.done / loading.total } else { 0.0 };
                Some(
                    view! {
                        <div class="notice" id="loading">
                            <div class="row">
                                <span>{text}</span>
                                <span class="quiet">{format!("{} / {}", size(loading.done), size(loading.total))}</span>
                                <button class="push" on:click=move |_| client::cancel(loading.id)>{words.cancel}</button>
                            </div>
                            <progress max="1" value=share.to_string() aria-label=text></progress>
                        </div>
                    }
                    .into_any(),
                )
            }
            ModelState::Failed(problem) => Some(
                view! {
                    <div class="notice wrong" role="alert">
                        <p><strong>{words.failed}</strong></p>
                        <p>{problem.to_string()}</p>
                        <div class="row">
                            <button class="main" on:click=move |_| models::reload(app)>{words.try_again}</button>
                            <button on:click=move |_| app.is_picking.set(true)>{words.model}</button>
                        </div>
                    </div>
                }
                .into_any(),
            ),
            ModelState::Ready(report) if !report.notes.is_empty() => Some(
                view! {
                    <div class="notice" id="model-notes">
                        <ul class="notes">
                            {report.notes.into_iter().map(|note| view! { <li>{note}</li> }).collect_view()}
                        </ul>
                    </div>
                }
                .into_any(),
            ),
            _ => None,
        }
    }
}
