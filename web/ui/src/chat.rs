//! Conversations about pictures or anything else.

use leptos::html::Textarea;
use leptos::prelude::*;
use leptos::task::spawn_local;
use protocol::{Answer, Event, Message, Options, Part, PictureView, Problem, Request, Role, StopReason};
use std::sync::Arc;
use wasm_bindgen::JsCast;
use web_sys::{Blob, File, HtmlInputElement, Url};

use crate::app::{App, View, use_app};
use crate::caption::{click, copy};
use crate::client;
use crate::markdown_view::Markdown;
use crate::page;
use crate::saw::Saw;

const MAX_TOKENS: usize = 1024;

/// A picture of a message.
#[derive(Clone)]
struct Picture {
    url: String,
    bytes: Arc<Vec<u8>>,
}

/// A message of the conversation as it shows.
#[derive(Clone, Copy)]
struct Turn {
    key: u32,
    role: Role,
    pictures: StoredValue<Vec<Picture>>,
    text: RwSignal<String>,
    reasoning: RwSignal<String>,
    views: RwSignal<Vec<PictureView>>,
    /// Of an answer: how it ended.
    end: RwSignal<Option<Result<Answer, Problem>>>,
}

#[derive(Clone, Copy)]
struct Chat {
    app: App,
    turns: RwSignal<Vec<Turn>>,
    /// The request that runs.
    running: RwSignal<Option<u32>>,
    draft: RwSignal<String>,
    attached: RwSignal<Vec<Picture>>,
    last_key: StoredValue<u32>,
    /// Of the view, so that what is made in the handlers of a turn outlives that turn.
    owner: StoredValue<Owner>,
}

impl Chat {
    fn turn(self, role: Role, text: String, pictures: Vec<Picture>) -> Turn {
        self.last_key.update_value(|key| *key += 1);
        self.owner.get_value().with(|| Turn {
            key: self.last_key.get_value(),
            role,
            pictures: StoredValue::new(pictures),
            text: RwSignal::new(text),
            reasoning: RwSignal::new(String::new()),
            views: RwSignal::new(Vec::new()),
            end: RwSignal::new(None),
        })
    }

    fn attach(self, files: Vec<File>) {
        spawn_local(async move {
            for file in files {
                let Ok(bytes) = page::bytes(&file).await else { continue };
                let url = Url::create_object_url_with_blob(&Blob::from(file)).unwrap_or_default();
                self.attached.update(|attached| attached.push(Picture { url, bytes: Arc::new(bytes) }));
            }
        });
    }

    fn send(self) {
        let text = self.draft.get_untracked().trim().to_owned();
        let pictures = self.attached.get_untracked();
        let is_free = self.running.get_untracked().is_none() && self.app.is_ready();
        if !is_free || (text.is_empty() && pictures.is_empty()) {
            return;
        }
        self.draft.set(String::new());
        self.attached.set(Vec::new());
        let turn = self.turn(Role::User, text, pictures);
        self.turns.update(|turns| turns.push(turn));
        self.answer();
    }

    /// Answers the conversation as it stands.
    fn answer(self) {
        let messages: Vec<Message> = self.turns.get_untracked().iter().map(|turn| turn.message()).collect();
        let turn = self.turn(Role::Assistant, String::new(), Vec::new());
        let asked = self.turns.get_untracked().last().copied();
        self.turns.update(|turns| turns.push(turn));
        page::scroll_to_end();
        let options = Options { max_tokens: MAX_TOKENS, ..Options::default() };
        let mut sentence = String::new();
        let app = self.app;
        let pending = client::ask(
            |id| Request::Chat { id, messages, options },
            &[],
            move |event| match event {
                Event::Seen { view, .. } => {
                    if let Some(asked) = asked {
                        asked.views.update(|views| views.push(view));
                    }
                }
                Event::Reasoning { text, .. } => turn.reasoning.update(|all| all.push_str(&text)),
                Event::Text { text, .. } => {
                    turn.text.update(|all| all.push_str(&text));
                    page::scroll_to_end();
                    // Screen readers get whole sentences rather than syllables.
                    sentence.push_str(&text);
                    if let Some(end) = sentence.rfind(['.', '!', '?', '。', '！', '？', '\n']) {
                        let width = sentence[end..].chars().next().map_or(1, char::len_utf8);
                        let rest = sentence.split_off(end + width);
                        app.say(&std::mem::replace(&mut sentence, rest));
                    }
                }
                _ => {}
            },
        );
        self.running.set(Some(pending.id));
        if let Some(asked) = asked {
            asked.views.set(Vec::new());
        }
        spawn_local(async move {
            let end = match pending.last().await {
                Event::Answered { answer, .. } => {
                    turn.text.set(answer.text.clone());
                    Ok(answer)
                }
                Event::Failed { problem, .. } => Err(problem),
                _ => Err(Problem::Cancelled),
            };
            if let Err(problem) = &end {
                app.say(&problem.to_string());
            }
            turn.end.set(Some(end));
            self.running.set(None);
        });
    }

    fn stop(self) {
        if let Some(id) = self.running.get_untracked() {
            client::cancel(id);
        }
    }

    /// Forgets the turn with this key and all that follow.
    fn cut(self, key: u32) {
        self.turns.update(|turns| {
            if let Some(at) = turns.iter().position(|turn| turn.key == key) {
                turns.truncate(at);
            }
        });
    }

    fn regenerate(self, turn: Turn) {
        if self.running.get_untracked().is_none() && self.app.is_ready() {
            self.cut(turn.key);
            self.answer();
        }
    }

    /// Takes a message back into the composer, with all that followed it gone.
    fn edit(self, turn: Turn) {
        if self.running.get_untracked().is_none() {
            self.draft.set(turn.text.get_untracked());
            self.attached.set(turn.pictures.get_value());
            self.cut(turn.key);
            page::focus("message");
        }
    }

    fn clear(self) {
        self.stop();
        self.turns.set(Vec::new());
        page::focus("message");
    }
}

impl Turn {
    fn message(self) -> Message {
        let pictures = self.pictures.get_value();
        let pictures = pictures.iter().map(|picture| Part::Image { bytes: picture.bytes.to_vec() });
        let text = self.text.get_untracked();
        let text = (!text.is_empty()).then_some(Part::Text { text });
        Message { role: self.role, parts: pictures.chain(text).collect() }
    }
}

/// The view of a conversation.
#[component]
pub(crate) fn ChatView() -> impl IntoView {
    let app = use_app();
    let chat = Chat {
        app,
        turns: RwSignal::new(Vec::new()),
        running: RwSignal::new(None),
        draft: RwSignal::new(String::new()),
        attached: RwSignal::new(Vec::new()),
        last_key: StoredValue::new(0),
        owner: StoredValue::new(Owner::current().unwrap_or_default()),
    };
    let _ = window_event_listener(leptos::ev::paste, move |event| {
        let files = event.clipboard_data().and_then(|data| data.files());
        let files = files.map(|files| page::pictures(&files)).unwrap_or_default();
        if app.view.get_untracked() == View::Chat && !files.is_empty() {
            event.prevent_default();
            chat.attach(files);
        }
    });
    let on_drop = move |event: leptos::ev::DragEvent| {
        event.prevent_default();
        if let Some(files) = event.data_transfer().and_then(|data| data.files()) {
            chat.attach(page::pictures(&files));
        }
    };
    let is_empty = move || chat.turns.with(|turns| turns.is_empty());
    view! {
        <h2 class="sr">{move || app.words().chat}</h2>
        <Show when=move || !is_empty()>
            <div class="row">
                <button class="plain push" on:click=move |_| chat.clear()>{move || app.words().new_chat}</button>
            </div>
        </Show>
        <Show when=is_empty>
            <div class="empty">
                <p class="big">{move || app.words().start_chat}</p>
                <p>{move || app.words().small_model}</p>
            </div>
        </Show>
        <ol class="messages" aria-label=move || app.words().conversation
            on:dragover=move |event| event.prevent_default() on:drop=on_drop>
            <For each=move || chat.turns.get() key=|turn| turn.key let:turn>
                <TurnView chat turn/>
            </For>
        </ol>
        <Composer chat/>
    }
}

#[component]
fn Composer(chat: Chat) -> impl IntoView {
    let app = use_app();
    let input = NodeRef::<Textarea>::new();
    let on_key = move |event: leptos::ev::KeyboardEvent| {
        // Enter that ends the composition of a character sends nothing.
        if event.key() == "Enter" && !event.shift_key() && !event.is_composing() {
            event.prevent_default();
            chat.send();
        }
    };
    let on_choose = move |event: leptos::ev::Event| {
        let Some(input) = event.target().and_then(|target| target.dyn_into::<HtmlInputElement>().ok()) else {
            return;
        };
        if let Some(files) = input.files() {
            chat.attach(page::pictures(&files));
        }
        input.set_value("");
    };
    let cannot_send = move || {
        let is_blank = chat.draft.with(|draft| draft.trim().is_empty()) && chat.attached.with(Vec::is_empty);
        is_blank || !app.is_ready()
    };
    view! {
        <form class="composer" on:submit=move |event| { event.prevent_default(); chat.send() }>
            <Show when=move || chat.attached.with(|attached| !attached.is_empty())>
                <div class="pictures">
                    <For each=move || chat.attached.get() key=|picture| picture.url.clone() let:picture>
                        {
                            let url = picture.url.clone();
                            let removed = picture.url;
                            view! {
                                <span class="attached">
                                    <img src=url alt=move || app.words().picture/>
                                    <button type="button" aria-label=move || app.words().remove on:click=move |_| {
                                        chat.attached.update(|attached| attached.retain(|p| p.url != removed));
                                    }>"×"</button>
                                </span>
                            }
                        }
                    </For>
                </div>
            </Show>
            <textarea id="message" node_ref=input rows="2" aria-label=move || app.words().ask
                placeholder=move || app.words().ask prop:value=chat.draft on:keydown=on_key
                on:input=move |event| chat.draft.set(event_target_value(&event))></textarea>
            <div class="row">
                <button type="button" on:click=move |_| click("chat-pictures")>{move || app.words().attach}</button>
                <input id="chat-pictures" type="file" accept="image/*" multiple hidden on:change=on_choose
                    aria-label=move || app.words().attach/>
                <Show when=move || chat.running.get().is_some()
                    fallback=move || view! {
                        <button type="submit" class="main push" disabled=cannot_send>{move || app.words().send}</button>
                    }>
                    <button type="button" class="main push" on:click=move |_| chat.stop()>{move || app.words().stop}</button>
                </Show>
            </div>
        </form>
    }
}

#[component]
fn TurnView(chat: Chat, turn: Turn) -> impl IntoView {
    let app = use_app();
    let is_user = turn.role == Role::User;
    let is_free = move || chat.running.get().is_none();
    let pictures = turn.pictures.get_value();
    let shown_pictures = (!pictures.is_empty()).then(|| {
        let images = pictures.into_iter().map(|picture| {
            view! { <img src=picture.url alt=move || app.words().picture/> }
        });
        view! { <div class="pictures">{images.collect_view()}</div> }
    });
    let is_growing = move || !is_user && turn.end.with(Option::is_none);
    view! {
        <li class="message" class:user=is_user>
            <h3 class="sr">{move || if is_user { app.words().you } else { app.words().answer }}</h3>
            <div class="bubble" class:caret=move || is_growing() && turn.text.with(String::is_empty)>
                <Show when=move || turn.reasoning.with(|reasoning| !reasoning.is_empty())>
                    <details class="thinking">
                        <summary>{move || app.words().thinking}</summary>
                        <p>{move || turn.reasoning.get()}</p>
                    </details>
                </Show>
                {shown_pictures}
                <Markdown text=turn.text/>
                {move || turn.end.get().and_then(|end| ending(app, &end))}
            </div>
            {move || turn.views.get().into_iter().map(|view| view! { <Saw view/> }).collect_view()}
            <div class="row acts">
                <button class="plain" on:click=move |_| copy(app, turn.text.get_untracked())>{move || app.words().copy}</button>
                <Show when=move || is_user && is_free()>
                    <button class="plain" on:click=move |_| chat.edit(turn)>{move || app.words().edit}</button>
                </Show>
                <Show when=move || !is_user && is_free()>
                    <button class="plain" on:click=move |_| chat.regenerate(turn)>{move || app.words().regenerate}</button>
                </Show>
            </div>
            {move || match turn.end.get() {
                Some(Ok(answer)) => Some(view! { <Details answer/> }),
                _ => None,
            }}
        </li>
    }
}

/// What is to be said about the end of an answer.
fn ending(app: App, end: &Result<Answer, Problem>) -> Option<AnyView> {
    match end {
        Ok(answer) if answer.stop_reason == StopReason::Cancelled => {
            Some(view! { <p class="quiet">{app.words().cancelled}</p> }.into_any())
        }
        Ok(_) => None,
        Err(Problem::Cancelled) => Some(view! { <p class="quiet">{app.words().cancelled}</p> }.into_any()),
        Err(problem) => Some(view! { <p class="bad">{problem.to_string()}</p> }.into_any()),
    }
}

/// Speed and whatever changed on the way in, folded until it is wanted.
#[component]
fn Details(answer: Answer) -> impl IntoView {
    let app = use_app();
    // The first token is part of the time to it.
    let decoded = answer.generated_tokens.saturating_sub(1) as f64;
    let rate = if answer.decode_ms > 0.0 { 1e3 * decoded / answer.decode_ms } else { 0.0 };
    let line = move || {
        let words = app.words();
        let cached = match answer.cached_tokens {
            0 => String::new(),
            n => format!(", {n} {}", words.of_them_cached),
        };
        format!(
            "{rate:.1} {} · {:.0} ms {} · {} {}{cached}",
            words.tokens_per_s, answer.ttft_ms, words.first_token, answer.prompt_tokens, words.prompt_tokens
        )
    };
    let notes = answer.notes.into_iter().map(|note| view! { <li>{note}</li> }).collect_view();
    view! {
        <details class="quiet">
            <summary>{move || app.words().details}</summary>
            <p class="speed">{line}</p>
            <ul class="notes">{notes}</ul>
        </details>
    }
}
