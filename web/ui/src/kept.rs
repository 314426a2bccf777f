//! The dialog of conversations that are kept.

use leptos::html::Dialog;
use leptos::prelude::*;
use leptos::task::spawn_local;
use protocol::agent::{Hit, Kept};

use crate::app::{App, use_app};
use crate::desk::Desk;

/// A line of the list: a conversation, or a place in one.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    session: String,
    title: String,
    /// The words that were looked for, in their surroundings.
    excerpt: Option<String>,
    unfinished: bool,
}

impl From<Kept> for Line {
    fn from(kept: Kept) -> Self {
        Self { session: kept.id, title: kept.title, excerpt: None, unfinished: kept.unfinished }
    }
}

impl From<Hit> for Line {
    fn from(hit: Hit) -> Self {
        Self { session: hit.session, title: hit.title, excerpt: Some(hit.excerpt), unfinished: false }
    }
}

#[derive(Clone, Copy)]
struct Shelf {
    app: App,
    lines: RwSignal<Vec<Line>>,
    wanted: RwSignal<String>,
}

impl Shelf {
    /// Reads the list again; it holds what is looked for, or everything.
    fn read(self, desk: Desk) {
        let words = self.wanted.get_untracked();
        spawn_local(async move {
            let found = match words.trim() {
                "" => desk.list().await.map(|kept| kept.into_iter().map(Line::from).collect()),
                words => desk.search(words).await.map(|hits| hits.into_iter().map(Line::from).collect()),
            };
            match found {
                Ok(lines) => self.lines.set(lines),
                Err(error) => self.app.say(&error),
            }
        });
    }

    fn delete(self, desk: Desk, session: String) {
        spawn_local(async move {
            match desk.delete(&session).await {
                Ok(()) => self.read(desk),
                Err(error) => self.app.say(&error),
            }
        });
    }
}

/// The dialog; it is open while `is_open` is true. `choose` hears which conversation is wanted.
#[component]
pub(crate) fn Conversations(
    desk: Signal<Option<Desk>>,
    is_open: RwSignal<bool>,
    choose: impl Fn(String) + Copy + Send + 'static,
) -> impl IntoView {
    let app = use_app();
    let dialog = NodeRef::<Dialog>::new();
    let shelf = Shelf { app, lines: RwSignal::new(Vec::new()), wanted: RwSignal::new(String::new()) };
    let read = move || {
        if let Some(desk) = desk.get_untracked() {
            shelf.read(desk);
        }
    };
    Effect::new(move || {
        let Some(dialog) = dialog.get() else { return };
        match is_open.get() {
            true if !dialog.open() => {
                read();
                let _ = dialog.show_modal();
            }
            false if dialog.open() => dialog.close(),
            _ => {}
        }
    });
    let line = move |line: Line| {
        let title = if line.title.is_empty() { app.words().picture.to_owned() } else { line.title };
        let (wanted, deleted, name) = (line.session.clone(), line.session, title.clone());
        let is_hit = line.excerpt.is_some();
        view! {
            <li>
                <button class="plain kept" on:click=move |_| {
                    is_open.set(false);
                    choose(wanted.clone());
                }>
                    <span>{title}</span>
                    {line.excerpt.map(|excerpt| view! { <span class="quiet">{excerpt}</span> })}
                    {line.unfinished.then(|| view! { <span class="bad">{move || app.words().not_ended}</span> })}
                </button>
                <Show when=move || !is_hit>
                    <button class="plain" on:click={
                        let deleted = deleted.clone();
                        move |_| {
                            if let Some(desk) = desk.get_untracked() {
                                shelf.delete(desk, deleted.clone());
                            }
                        }
                    }>
                        {move || app.words().forget}<span class="sr">" "{name.clone()}</span>
                    </button>
                </Show>
            </li>
        }
    };
    view! {
        <dialog node_ref=dialog id="conversations" aria-labelledby="conversations-title" on:close=move |_| is_open.set(false)>
            <div class="sheet">
                <div class="row">
                    <h2 id="conversations-title">{move || app.words().conversations}</h2>
                    <button class="push" on:click=move |_| is_open.set(false)>{move || app.words().close}</button>
                </div>
                <form on:submit=move |event| { event.prevent_default(); read() }>
                    <input type="text" id="wanted" aria-label=move || app.words().search placeholder=move || app.words().search
                        prop:value=shelf.wanted on:input=move |event| {
                            shelf.wanted.set(event_target_value(&event));
                            read();
                        }/>
                </form>
                <ul class="stored">{move || shelf.lines.get().into_iter().map(line).collect_view()}</ul>
                <Show when=move || shelf.lines.with(Vec::is_empty)>
                    <p class="quiet">{move || app.words().none_kept}</p>
                </Show>
            </div>
        </dialog>
    }
}
