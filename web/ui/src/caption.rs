//! Pictures in, captions out: one or many.

use leptos::prelude::*;
use leptos::task::spawn_local;
use protocol::{Event, Options, PictureView, Request, StopReason};
use wasm_bindgen::JsCast;
use web_sys::{Blob, File, HtmlInputElement, Url};

use crate::app::{App, View, use_app};
use crate::batch_file::{Kind, Row};
use crate::client;
use crate::live::{Live, Source};
use crate::page;
use crate::saw::Saw;

/// A picture and how far its caption is.
#[derive(Clone, Copy)]
struct Item {
    key: u32,
    name: StoredValue<String>,
    /// For the thumbnail.
    url: StoredValue<String>,
    blob: StoredValue<Blob, LocalStorage>,
    text: RwSignal<String>,
    state: RwSignal<State>,
    view: RwSignal<Option<PictureView>>,
    notes: RwSignal<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Waiting,
    Running(u32),
    Done,
    Failed(String),
    Stopped,
}

#[derive(Clone, Copy)]
struct Batch {
    app: App,
    items: RwSignal<Vec<Item>>,
    is_running: RwSignal<bool>,
    last_key: StoredValue<u32>,
    /// Of the view, so that pictures of a camera outlive it.
    owner: StoredValue<Owner>,
}

impl Batch {
    fn add(self, files: Vec<File>) {
        if files.is_empty() {
            return self.app.say(self.app.words().not_pictures);
        }
        let mut items = self.items.get_untracked();
        for file in files {
            self.last_key.update_value(|key| *key += 1);
            items.push(self.owner.get_value().with(|| Item {
                key: self.last_key.get_value(),
                name: StoredValue::new(file.name()),
                url: StoredValue::new(Url::create_object_url_with_blob(&file).unwrap_or_default()),
                blob: StoredValue::new_local(file.into()),
                text: RwSignal::new(String::new()),
                state: RwSignal::new(State::Waiting),
                view: RwSignal::new(None),
                notes: RwSignal::new(Vec::new()),
            }));
        }
        self.items.set(items);
        self.run();
    }

    /// Captions what waits, one after the other.
    fn run(self) {
        if self.is_running.get_untracked() {
            return;
        }
        self.is_running.set(true);
        spawn_local(async move {
            loop {
                let items = self.items.get_untracked();
                let next = items.iter().find(|item| item.state.get_untracked() == State::Waiting);
                let Some(&item) = next else { break };
                item.caption(self.app).await;
            }
            let rows = self.rows();
            if rows.len() > 1 {
                let n_done = rows.iter().filter(|row| row.caption.is_some()).count();
                self.app.say(&format!("{n_done} / {} {}", rows.len(), self.app.words().done_of));
            }
            self.is_running.set(false);
        });
    }

    fn stop(self) {
        for item in self.items.get_untracked() {
            match item.state.get_untracked() {
                State::Running(id) => client::cancel(id),
                State::Waiting => item.state.set(State::Stopped),
                _ => {}
            }
        }
    }

    fn clear(self) {
        self.stop();
        for item in self.items.get_untracked() {
            let _ = Url::revoke_object_url(&item.url.get_value());
        }
        self.items.set(Vec::new());
    }

    fn rows(self) -> Vec<Row> {
        let items = self.items.get_untracked();
        let row = |item: &Item| Row {
            name: item.name.get_value(),
            caption: (item.state.get_untracked() == State::Done).then(|| item.text.get_untracked()),
            error: match item.state.get_untracked() {
                State::Failed(message) => Some(message),
                _ => None,
            },
            notes: item.notes.get_untracked(),
        };
        items.iter().map(row).collect()
    }
}

impl Item {
    async fn caption(self, app: App) {
        let picture = match page::bytes(&self.blob.get_value()).await {
            Ok(bytes) => bytes,
            Err(error) => return self.state.set(State::Failed(page::message(&error))),
        };
        let options = Options { max_tokens: 96, ..Options::default() };
        let pending = client::ask(
            |id| Request::Caption { id, picture, options },
            &[],
            move |event| match event {
                Event::Seen { view, .. } => self.view.set(Some(view)),
                Event::Text { text, .. } => self.text.update(|all| all.push_str(&text)),
                _ => {}
            },
        );
        self.state.set(State::Running(pending.id));
        match pending.last().await {
            Event::Answered { answer, .. } => {
                self.text.set(answer.text.trim().to_owned());
                self.notes.set(answer.notes);
                let is_stopped = answer.stop_reason == StopReason::Cancelled;
                self.state.set(if is_stopped { State::Stopped } else { State::Done });
                app.say(&format!("{}: {}", self.name.get_value(), self.text.get_untracked()));
            }
            Event::Failed { problem: protocol::Problem::Cancelled, .. } => self.state.set(State::Stopped),
            Event::Failed { problem, .. } => {
                app.say(&format!("{}: {problem}", self.name.get_value()));
                self.state.set(State::Failed(problem.to_string()));
            }
            _ => {}
        }
    }
}

/// The view of captions.
#[component]
pub(crate) fn CaptionView() -> impl IntoView {
    let app = use_app();
    let batch = Batch {
        app,
        items: RwSignal::new(Vec::new()),
        is_running: RwSignal::new(false),
        last_key: StoredValue::new(0),
        owner: StoredValue::new(Owner::current().unwrap_or_default()),
    };
    let is_over = RwSignal::new(false);
    let live = RwSignal::new(None::<Source>);

    // Pasting works wherever the focus is, but in the other view.
    let _ = window_event_listener(leptos::ev::paste, move |event| {
        let files = event.clipboard_data().and_then(|data| data.files());
        let files = files.map(|files| page::pictures(&files)).unwrap_or_default();
        if app.view.get_untracked() == View::Caption && !files.is_empty() {
            event.prevent_default();
            batch.add(files);
        }
    });
    let on_drop = move |event: leptos::ev::DragEvent| {
        event.prevent_default();
        is_over.set(false);
        if let Some(files) = event.data_transfer().and_then(|data| data.files()) {
            batch.add(page::pictures(&files));
        }
    };
    let on_choose = move |event: leptos::ev::Event| {
        let Some(input) = event.target().and_then(|target| target.dyn_into::<HtmlInputElement>().ok()) else {
            return;
        };
        if let Some(files) = input.files() {
            batch.add(page::pictures(&files));
        }
        // The same file can be chosen again.
        input.set_value("");
    };
    let on_paste = move |_| {
        spawn_local(async move {
            match page::pasted().await {
                Ok(files) if !files.is_empty() => batch.add(files),
                _ => app.say(app.words().no_pictures),
            }
        });
    };
    view! {
        <h2 class="sr">{move || app.words().caption}</h2>
        <div class="drop" class:over=move || is_over.get()
            on:dragover=move |event| { event.prevent_default(); is_over.set(true) }
            on:dragleave=move |_| is_over.set(false)
            on:drop=on_drop>
            <div>
                <p class="big">{move || app.words().drop_here}</p>
                <p class="quiet">{move || app.words().drop_more}</p>
            </div>
            <div class="row">
                <button class="main" on:click=move |_| click("pictures")>{move || app.words().choose}</button>
                <input id="pictures" type="file" accept="image/*" multiple hidden on:change=on_choose
                    aria-label=move || app.words().choose/>
                <button on:click=on_paste>{move || app.words().paste}</button>
                <button on:click=move |_| live.set(Some(Source::Camera))>{move || app.words().camera}</button>
                <button on:click=move |_| live.set(Some(Source::Screen))>{move || app.words().screen}</button>
            </div>
        </div>
        {move || live.get().map(|source| view! {
            <Live source on_take=move |file| batch.add(vec![file]) on_close=move || live.set(None)/>
        })}
        <Show when=move || batch.items.with(|items| !items.is_empty())>
            <BatchBar batch/>
            <table class="batch">
                <thead><tr>
                    <th scope="col">{move || app.words().picture}</th>
                    <th scope="col">{move || app.words().says}</th>
                </tr></thead>
                <tbody>
                    <For each=move || batch.items.get().into_iter().rev() key=|item| item.key let:item>
                        <ItemRow item/>
                    </For>
                </tbody>
            </table>
        </Show>
    }
}

/// Opens the browser's dialog of a hidden input.
pub(crate) fn click(id: &str) {
    if let Some(input) = document().get_element_by_id(id).and_then(|e| e.dyn_into::<HtmlInputElement>().ok())
    {
        input.click();
    }
}

#[component]
fn BatchBar(batch: Batch) -> impl IntoView {
    let app = use_app();
    let save = move |kind: Kind| {
        let label = format!(".{}", kind.extension());
        view! {
            <button on:click=move |_| {
                page::save(&format!("captions.{}", kind.extension()), &kind.write(&batch.rows()), kind.mime());
            }>{label}</button>
        }
    };
    let copy_all = move |_| copy(app, Kind::Text.write(&batch.rows()));
    view! {
        <div class="row">
            <Show when=move || batch.is_running.get()>
                <button class="main" on:click=move |_| batch.stop()>{move || app.words().stop}</button>
            </Show>
            <button on:click=copy_all>{move || app.words().copy_all}</button>
            {save(Kind::Text)}
            {save(Kind::JsonLines)}
            {save(Kind::Csv)}
            <button class="push" on:click=move |_| batch.clear()>{move || app.words().clear}</button>
        </div>
    }
}

/// Puts a text on the clipboard, and says so.
pub(crate) fn copy(app: App, text: String) {
    spawn_local(async move {
        match page::copy(&text).await {
            Ok(()) => app.say(app.words().copied),
            Err(error) => app.say(&page::message(&error)),
        }
    });
}

#[component]
fn ItemRow(item: Item) -> impl IntoView {
    let app = use_app();
    let name = item.name.get_value();
    let status = move || match item.state.get() {
        State::Waiting => Some(view! { <p class="quiet">{app.words().waiting}"…"</p> }.into_any()),
        State::Failed(message) => Some(view! { <p class="bad">{message}</p> }.into_any()),
        State::Stopped => Some(view! { <p class="quiet">{app.words().cancelled}</p> }.into_any()),
        State::Running(_) | State::Done => None,
    };
    let is_running = move || matches!(item.state.get(), State::Running(_));
    let is_done = move || item.state.get() == State::Done;
    view! {
        <tr>
            <td class="thumb">
                <img src=item.url.get_value() alt=""/>
                <span class="name">{name}</span>
            </td>
            <td>
                <p class="said" class:caret=is_running lang="en">{move || item.text.get()}</p>
                {status}
                {move || {
                    let notes = item.notes.get();
                    (!notes.is_empty()).then(|| view! {
                        <ul class="notes">{notes.into_iter().map(|note| view! { <li>{note}</li> }).collect_view()}</ul>
                    })
                }}
                {move || item.view.get().map(|view| view! { <Saw view/> })}
                <Show when=is_done>
                    <button class="plain" on:click=move |_| copy(app, item.text.get_untracked())>
                        {move || app.words().copy}
                    </button>
                </Show>
            </td>
        </tr>
    }
}
