//! The dialog in which a model is chosen.

use leptos::html::Dialog;
use leptos::prelude::*;
use leptos::task::spawn_local;
use protocol::{EngineReport, Event, Request, Source, StoredModel};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{File, HtmlInputElement};

use crate::app::{App, origin, use_app, where_it_runs};
use crate::caption::click;
use crate::models::{ModelState, load, reload, size};
use crate::words::Words;
use crate::{client, page};

/// What is kept on this device, and how much room there is.
#[derive(Debug, Clone, Default, PartialEq)]
struct Kept {
    models: Vec<StoredModel>,
    usage: f64,
    quota: f64,
}

#[derive(Clone, Copy)]
struct Shelf {
    app: App,
    kept: RwSignal<Kept>,
}

impl Shelf {
    fn ask(self, request: impl FnOnce(u32) -> Request) {
        let pending = client::ask(request, &[], |_| {});
        spawn_local(async move {
            match pending.last().await {
                Event::Stored { models, usage, quota, .. } => self.kept.set(Kept { models, usage, quota }),
                Event::Failed { problem, .. } => self.app.say(&problem.to_string()),
                _ => {}
            }
        });
    }
}

/// The dialog; it opens while [`App::is_picking`] is true.
#[component]
pub(crate) fn Picker() -> impl IntoView {
    let app = use_app();
    let dialog = NodeRef::<Dialog>::new();
    let shelf = Shelf { app, kept: RwSignal::new(Kept::default()) };
    Effect::new(move || {
        let Some(dialog) = dialog.get() else { return };
        match app.is_picking.get() {
            true if !dialog.open() => {
                shelf.ask(|id| Request::ListStored { id });
                let _ = dialog.show_modal();
            }
            false if dialog.open() => dialog.close(),
            _ => {}
        }
    });
    let choose = move |source: Source, files: Vec<File>| {
        app.is_picking.set(false);
        load(app, source, files);
    };
    let on_files = move |event: leptos::ev::Event| {
        let input = event.target().and_then(|target| target.dyn_into::<HtmlInputElement>().ok());
        let Some(files) = input.and_then(|input| input.files()) else { return };
        let files: Vec<File> = (0..files.length()).filter_map(|i| files.get(i)).collect();
        let Some(first) = files.first() else { return };
        // Files of a folder know its name.
        let path = js_sys::Reflect::get(first, &JsValue::from("webkitRelativePath")).ok();
        let path = path.and_then(|path| path.as_string()).unwrap_or_default();
        let folder = path.split('/').next().unwrap_or_default();
        let name = if folder.is_empty() { first.name() } else { folder.to_owned() };
        choose(Source::Files { name }, files);
    };
    let url = RwSignal::new(String::new());
    let server = RwSignal::new("http://localhost:8080".to_owned());
    let key = RwSignal::new(String::new());
    let origin = origin();
    let served = page::is_served().then(|| {
        let url = origin.clone();
        let key = RwSignal::new(String::new());
        let choose = move |event: leptos::ev::SubmitEvent| {
            event.prevent_default();
            let key = Some(key.get_untracked()).filter(|key| !key.is_empty());
            choose(Source::Server { url: url.clone(), key }, Vec::new());
        };
        view! {
            <form class="choice" on:submit=choose>
                <h3>{move || app.words().this_machine}</h3>
                <p class="quiet">{move || app.words().this_machine_text}</p>
                <label>
                    {move || app.words().key}
                    <input type="password" id="own-key" autocomplete="off" prop:value=key
                        on:input=move |event| key.set(event_target_value(&event))/>
                </label>
                <div class="row"><button type="submit" class="main">{move || app.words().use_it}</button></div>
            </form>
        }
    });
    view! {
        <dialog node_ref=dialog id="picker" aria-labelledby="picker-title" on:close=move |_| app.is_picking.set(false)>
            <div class="sheet">
                <div class="row">
                    <h2 id="picker-title">{move || app.words().model}</h2>
                    <button class="push" on:click=move |_| app.is_picking.set(false)>{move || app.words().close}</button>
                </div>
                <EngineLine/>
                {served}
                <div class="choice">
                    <h3>{move || app.words().inside}</h3>
                    <p class="quiet">{move || app.words().inside_text}</p>
                    <div class="row">
                        <button class="main" on:click=move |_| choose(Source::Embedded, Vec::new())>
                            {move || app.words().use_it}
                        </button>
                    </div>
                </div>
                <div class="choice">
                    <h3>{move || app.words().from_disk}</h3>
                    <p class="quiet">{move || app.words().from_disk_text}</p>
                    <p class="quiet"><Fits/></p>
                    <div class="row">
                        <button on:click=move |_| click("model-file")>{move || app.words().choose_file}</button>
                        <input id="model-file" type="file" accept=".gguf" hidden on:change=on_files
                            aria-label=move || app.words().choose_file/>
                        <button on:click=move |_| click("model-folder")>{move || app.words().choose_folder}</button>
                        <input id="model-folder" type="file" prop:webkitdirectory=true hidden on:change=on_files
                            aria-label=move || app.words().choose_folder/>
                    </div>
                </div>
                <form class="choice" on:submit=move |event| {
                    event.prevent_default();
                    choose(Source::Url { url: url.get_untracked().trim().to_owned() }, Vec::new());
                }>
                    <h3>{move || app.words().from_url}</h3>
                    <p class="quiet">{move || app.words().from_url_text}</p>
                    <label>
                        {move || app.words().address}
                        <input type="url" id="model-url" required placeholder="https://…/model.gguf" prop:value=url
                            on:input=move |event| url.set(event_target_value(&event))/>
                    </label>
                    <div class="row"><button type="submit">{move || app.words().load}</button></div>
                </form>
                <form class="choice" on:submit=move |event| {
                    event.prevent_default();
                    let key = Some(key.get_untracked()).filter(|key| !key.is_empty());
                    choose(Source::Server { url: server.get_untracked().trim().to_owned(), key }, Vec::new());
                }>
                    <h3>{move || app.words().from_server}</h3>
                    <p class="quiet">{move || app.words().from_server_text}</p>
                    <p class="quiet"><code>{format!("ocelli serve --allow-origin {origin}")}</code></p>
                    <label>
                        {move || app.words().address}
                        <input type="url" id="server-url" required prop:value=server
                            on:input=move |event| server.set(event_target_value(&event))/>
                    </label>
                    <label>
                        {move || app.words().key}
                        <input type="password" id="server-key" autocomplete="off" prop:value=key
                            on:input=move |event| key.set(event_target_value(&event))/>
                    </label>
                    <div class="row"><button type="submit">{move || app.words().use_it}</button></div>
                </form>
                <KeptList shelf/>
            </div>
        </dialog>
    }
}

/// What runs models here and why, and what shall.
#[component]
fn EngineLine() -> impl IntoView {
    let app = use_app();
    let line = move || {
        let report = app.model.with(|model| match model {
            ModelState::Ready(report) => Some(report.engine.clone()),
            _ => None,
        })?;
        let (words, place) = (app.words(), where_it_runs(app, report.kind));
        let EngineReport { detail, why, .. } = report;
        Some(format!("{} {place} ({detail}), {} {why}.", words.runs_on, words.why))
    };
    let chosen = page::engine();
    let option = move |value: &'static str, name: fn(&Words) -> &'static str| {
        let is_chosen = chosen == value;
        view! { <option value=value selected=is_chosen>{move || name(app.words())}</option> }
    };
    view! {
        <div class="choice">
            <label>
                {move || app.words().compute_on}
                <select id="engine" on:change=move |event| {
                    page::choose_engine(&event_target_value(&event));
                    reload(app);
                }>
                    {option("", |words| words.fastest)}
                    {option("web_gpu", |words| words.gpu)}
                    {option("processor", |words| words.processor)}
                </select>
            </label>
            <p class="quiet" id="engine-line">{line}</p>
        </div>
    }
}

/// How large a model may be.
#[component]
fn Fits() -> impl IntoView {
    let app = use_app();
    move || match page::memory() {
        0.0 => app.words().limits.to_owned(),
        memory => format!("{} {} {memory} GB.", app.words().limits, app.words().device_memory),
    }
}

#[component]
fn KeptList(shelf: Shelf) -> impl IntoView {
    let app = use_app();
    let line = move |model: StoredModel| {
        let key = model.key.clone();
        let name = model.url.rsplit('/').next().unwrap_or_default().to_owned();
        let share = match model.bytes < model.total {
            true => format!("{} / {}", size(model.bytes), size(model.total)),
            false => size(model.total),
        };
        let remove = move |_| {
            let key = key.clone();
            shelf.ask(|id| Request::Forget { id, key });
        };
        view! {
            <li>
                <span title=model.url.clone()>{format!("{} · {share}", display(&model.url, &name))}</span>
                <button class="plain" on:click=remove>
                    {move || app.words().forget}<span class="sr">" "{name.clone()}</span>
                </button>
            </li>
        }
    };
    view! {
        <div class="choice">
            <h3>{move || app.words().stored}</h3>
            <ul class="stored">{move || shelf.kept.get().models.into_iter().map(line).collect_view()}</ul>
            <p class="quiet">{move || {
                let kept = shelf.kept.get();
                let words = app.words();
                match kept.quota > 0.0 {
                    true => format!("{} {} {}.", size(kept.usage), words.room, size(kept.quota)),
                    false => words.nothing_stored.to_owned(),
                }
            }}</p>
        </div>
    }
}

/// A list of files is called as its folder is.
fn display(url: &str, name: &str) -> String {
    match name == "manifest.json" {
        true => url.trim_end_matches("/manifest.json").rsplit('/').next().unwrap_or(name).to_owned(),
        false => name.to_owned(),
    }
}
