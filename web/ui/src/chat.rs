//! Conversations about pictures or anything else.

use leptos::html::Textarea;
use leptos::prelude::*;
use leptos::task::spawn_local;
use protocol::agent::{self, Ask, News, Outcome, PictureId, ToolCall};
use protocol::{
    Answer, Event, Message, Options, Part, PictureView, Problem, Request, Role, Sight, StopReason,
};
use std::sync::Arc;
use wasm_bindgen::JsCast;
use web_sys::{Blob, File, HtmlInputElement, Url};

use crate::app::{App, View, use_app};
use crate::caption::{click, copy};
use crate::client;
use crate::desk::{Desk, Task};
use crate::kept::Conversations;
use crate::markdown_view::Markdown;
use crate::page;
use crate::region::RegionDialog;
use crate::saw::Saw;
use crate::steps::{Question, Step, Steps};

const MAX_TOKENS: usize = 1024;

/// A picture of a message.
#[derive(Clone)]
struct Picture {
    url: String,
    bytes: Arc<Vec<u8>>,
}

/// How far an answer is.
#[derive(Clone)]
enum End {
    Growing,
    /// It was read from what is kept, which knows no speeds.
    Kept,
    Whole(Answer),
    Failed(Problem),
}

/// What answers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Running {
    /// The worker, to the request of this id.
    Worker(u32),
    /// The program that serves this page.
    Desk,
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
    /// Of an answer: what was done before it, and the call that waits for a yes.
    steps: RwSignal<Vec<Step>>,
    asked: RwSignal<Option<Ask>>,
    end: RwSignal<End>,
    /// How many messages are kept before it.
    kept: RwSignal<usize>,
}

#[derive(Clone, Copy)]
struct Chat {
    app: App,
    turns: RwSignal<Vec<Turn>>,
    running: RwSignal<Option<Running>>,
    /// The conversation, if it is kept: its name, how many messages it has, and whether its task has not ended.
    session: RwSignal<Option<String>>,
    n_kept: RwSignal<usize>,
    unfinished: RwSignal<bool>,
    with_tools: RwSignal<bool>,
    is_listing: RwSignal<bool>,
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
            steps: RwSignal::new(Vec::new()),
            asked: RwSignal::new(None),
            end: RwSignal::new(End::Growing),
            kept: RwSignal::new(self.n_kept.get_untracked()),
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
        match self.app.desk_untracked() {
            Some(desk) => {
                let said =
                    Task { text: turn.text.get_untracked(), pictures: turn.encoded(), ..Task::default() };
                self.work(desk, Task { keep: Some(turn.kept.get_untracked()), ..said });
            }
            None => self.answer(),
        }
    }

    /// Has the worker answer the conversation as it stands.
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
        self.running.set(Some(Running::Worker(pending.id)));
        if let Some(asked) = asked {
            asked.views.set(Vec::new());
        }
        spawn_local(async move {
            let end = match pending.last().await {
                Event::Answered { answer, .. } => {
                    turn.text.set(answer.text.clone());
                    End::Whole(answer)
                }
                Event::Failed { problem, .. } => End::Failed(problem),
                _ => End::Failed(Problem::Cancelled),
            };
            self.ended(turn, end);
        });
    }

    fn ended(self, turn: Turn, end: End) {
        if let End::Failed(problem) = &end {
            self.app.say(&problem.to_string());
        }
        turn.asked.set(None);
        turn.end.set(end);
        self.running.set(None);
    }

    /// Has the program that serves this page do a task, and shows what it tells.
    fn work(self, desk: Desk, task: Task) {
        let turn = self.turn(Role::Assistant, String::new(), Vec::new());
        let asked = self.turns.get_untracked().last().copied().unwrap_or(turn);
        asked.views.set(Vec::new());
        self.turns.update(|turns| turns.push(turn));
        page::scroll_to_end();
        self.running.set(Some(Running::Desk));
        self.unfinished.set(false);
        let session = self.session.get_untracked();
        // A conversation begins without anything that could stay.
        let keep = task.keep.filter(|_| session.is_some());
        let task = Task { session, keep, tools: self.with_tools.get_untracked(), ..task };
        let mut told = Told::new(self, asked, turn);
        spawn_local(async move {
            let end = RwSignal::new(None);
            let done = desk.work(task, move |news| {
                if let Some(ended) = told.hear(news) {
                    end.set(Some(ended));
                }
            });
            let lost = |message| End::Failed(Problem::Network { message });
            let failed = match done.await {
                Ok(()) => lost("the server went away before the task had ended".to_owned()),
                Err(message) => lost(message),
            };
            self.ended(turn, end.get_untracked().unwrap_or(failed));
        });
    }

    /// Goes on with a task that has not ended.
    fn go_on(self) {
        let is_free = self.running.get_untracked().is_none();
        if let (Some(desk), true) = (self.app.desk_untracked(), is_free) {
            self.work(desk, Task::default());
        }
    }

    fn decide(self, turn: Turn, allow: bool, remember: bool) {
        let (Some(desk), Some(session)) = (self.app.desk_untracked(), self.session.get_untracked()) else {
            return;
        };
        let Some(ask) = turn.asked.get_untracked() else { return };
        turn.asked.set(None);
        spawn_local(async move {
            if let Err(error) = desk.decide(&session, &ask, allow, remember).await {
                self.app.say(&error);
                turn.steps.update(|steps| steps.push(Step::Note(error)));
            }
        });
    }

    /// Shows a conversation that is kept.
    fn open(self, session: String) {
        let Some(desk) = self.app.desk_untracked() else { return };
        self.stop();
        spawn_local(async move {
            match self.read(&desk, &session).await {
                Ok(()) => page::focus("message"),
                Err(error) => self.app.say(&error),
            }
        });
    }

    async fn read(self, desk: &Desk, session: &str) -> Result<(), String> {
        let shown = desk.show(session).await?;
        let mut turns: Vec<Turn> = Vec::new();
        for (i, message) in shown.turns.iter().enumerate() {
            // What happens between a question and its answer shows as one.
            let (role, last) = match message.role {
                agent::Role::System => continue,
                agent::Role::User => (Role::User, None),
                agent::Role::Assistant | agent::Role::Tool => (Role::Assistant, turns.last()),
            };
            let turn = match last.filter(|turn| turn.role == Role::Assistant) {
                Some(turn) => *turn,
                None => {
                    let turn = self.turn(role, String::new(), Vec::new());
                    turn.kept.set(i);
                    turn.end.set(End::Kept);
                    turns.push(turn);
                    turn
                }
            };
            match message.role {
                agent::Role::Tool => turn.gave(&message.text(), false),
                agent::Role::User => {
                    let mut pictures = Vec::new();
                    for name in message.pictures() {
                        pictures.push(Picture::of(desk.picture(session, name).await?));
                    }
                    turn.pictures.set_value(pictures);
                    turn.text.set(message.text());
                }
                _ => {
                    turn.reasoning.set(message.reasoning.clone().unwrap_or_default());
                    turn.replied(message.text(), message.calls());
                }
            }
        }
        self.session.set(Some(session.to_owned()));
        self.n_kept.set(shown.turns.len());
        self.unfinished.set(shown.kept.unfinished);
        self.turns.set(turns);
        Ok(())
    }

    fn stop(self) {
        match self.running.get_untracked() {
            Some(Running::Worker(id)) => client::cancel(id),
            Some(Running::Desk) => {
                let (desk, session) = (self.app.desk_untracked(), self.session.get_untracked());
                let (Some(desk), Some(session)) = (desk, session) else { return };
                spawn_local(async move {
                    // It may have ended by itself meanwhile.
                    if let Err(error) = desk.stop(&session).await {
                        self.app.say(&error);
                    }
                });
            }
            None => {}
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
            match self.app.desk_untracked() {
                Some(desk) => {
                    let keep = Some(turn.kept.get_untracked());
                    self.work(desk, Task { keep, ..Task::default() });
                }
                None => self.answer(),
            }
        }
    }

    /// Takes a message back into the composer, with all that followed it gone.
    fn edit(self, turn: Turn) {
        if self.running.get_untracked().is_none() {
            self.draft.set(turn.text.get_untracked());
            self.attached.set(turn.pictures.get_value());
            self.n_kept.set(turn.kept.get_untracked());
            self.unfinished.set(false);
            self.cut(turn.key);
            page::focus("message");
        }
    }

    fn clear(self) {
        self.stop();
        self.turns.set(Vec::new());
        self.session.set(None);
        self.n_kept.set(0);
        self.unfinished.set(false);
        page::focus("message");
    }
}

/// What a task has told so far.
struct Told {
    chat: Chat,
    /// The question, and the answer that grows.
    asked: Turn,
    turn: Turn,
    /// How the model read pictures that are not shown yet.
    sights: Vec<(PictureId, Sight)>,
    started: f64,
    first: Option<f64>,
    is_begun: bool,
    answer: Answer,
}

impl Told {
    fn new(chat: Chat, asked: Turn, turn: Turn) -> Self {
        let (sights, answer) = (Vec::new(), Answer::default());
        Self { chat, asked, turn, sights, started: page::now(), first: None, is_begun: false, answer }
    }

    /// Shows news; returns the end when that comes.
    fn hear(&mut self, news: News) -> Option<End> {
        let (chat, turn) = (self.chat, self.turn);
        match news {
            News::Session(id) => chat.session.set(Some(id)),
            News::Kept(n) => {
                chat.n_kept.set(n);
                if !std::mem::replace(&mut self.is_begun, true) {
                    turn.kept.set(n);
                }
            }
            News::Progress(text) => turn.steps.update(|steps| {
                steps.pop_if(|step| matches!(step, Step::Note(_)));
                steps.push(Step::Note(text));
            }),
            News::Failed(message) => return Some(End::Failed(Problem::Network { message })),
            News::Event(event) => return self.happens(event),
        }
        None
    }

    fn happens(&mut self, event: agent::Event) -> Option<End> {
        let (chat, turn) = (self.chat, self.turn);
        match event {
            agent::Event::Reasoning(text) => {
                self.speaks();
                turn.reasoning.update(|all| all.push_str(&text));
            }
            agent::Event::Text(text) => {
                self.speaks();
                turn.text.update(|all| all.push_str(&text));
                page::scroll_to_end();
            }
            agent::Event::Saw { picture, sight } => self.sights.push((picture, sight)),
            agent::Event::Replied { text, calls, prompt_tokens, cached_tokens, generated_tokens } => {
                self.show();
                self.answer.prompt_tokens += prompt_tokens;
                self.answer.cached_tokens += cached_tokens;
                self.answer.generated_tokens += generated_tokens;
                if !calls.is_empty() {
                    turn.text.set(String::new());
                    turn.said(text);
                }
            }
            agent::Event::Asked(ask) => {
                chat.app.say(&format!("{} {}", chat.app.words().may_run, ask.call.name));
                turn.asked.set(Some(ask));
                page::scroll_to_end();
            }
            agent::Event::Decided { .. } => turn.asked.set(None),
            agent::Event::Calling(call) => turn.calls(call),
            agent::Event::Returned { call, output } => {
                let is_known = turn.steps.with(|steps| {
                    steps
                        .iter()
                        .any(|step| matches!(step, Step::Called { call: known, .. } if known.id == call.id))
                });
                if !is_known {
                    turn.calls(call);
                }
                turn.gave(&output.words(), output.failed);
            }
            agent::Event::Note(note) => self.answer.notes.push(note),
            agent::Event::Finished(outcome) => return Some(self.end(outcome)),
        }
        None
    }

    /// Shows the pictures that the model has read: with the question, or with the answer if tools gave them.
    fn show(&mut self) {
        let (desk, session) = (self.chat.app.desk_untracked(), self.chat.session.get_untracked());
        let (Some(desk), Some(session)) = (desk, session) else { return };
        let has_called = |steps: &Vec<Step>| steps.iter().any(|step| matches!(step, Step::Called { .. }));
        let at = if self.turn.steps.with_untracked(has_called) { self.turn } else { self.asked };
        let sights = std::mem::take(&mut self.sights);
        spawn_local(async move {
            for (picture, sight) in sights {
                // One that cannot be drawn was still seen, and the notes tell how.
                let Ok(picture) = desk.picture(&session, &picture).await else { continue };
                let drawn = client::ask(|id| Request::Show { id, picture, sight }, &[], |_| {});
                if let Event::Shown { view, .. } = drawn.last().await {
                    at.views.update(|views| views.push(view));
                }
            }
        });
    }

    fn speaks(&mut self) {
        self.first.get_or_insert_with(page::now);
    }

    fn end(&mut self, outcome: Outcome) -> End {
        let words = self.chat.app.words();
        let text = match outcome {
            Outcome::Answered { text } => text,
            Outcome::CutOff { text } => {
                self.answer.stop_reason = StopReason::MaxTokens;
                self.answer.notes.push(words.cut_off.to_owned());
                text
            }
            Outcome::Cancelled => {
                self.answer.stop_reason = StopReason::Cancelled;
                self.turn.text.get_untracked()
            }
            Outcome::OutOf { what } => {
                return End::Failed(Problem::Input { message: format!("{} {what}", words.used_up) });
            }
            Outcome::Failed { message } => return End::Failed(Problem::Network { message }),
        };
        let first = self.first.unwrap_or_else(page::now);
        self.answer.ttft_ms = first - self.started;
        self.answer.decode_ms = page::now() - first;
        self.turn.text.set(text.clone());
        self.answer.text = text;
        End::Whole(self.answer.clone())
    }
}

impl Picture {
    /// Of a file's bytes.
    fn of(bytes: Vec<u8>) -> Self {
        let part = js_sys::Array::of1(&js_sys::Uint8Array::from(bytes.as_slice()));
        let blob = Blob::new_with_u8_array_sequence(&part).ok();
        let url = blob.and_then(|blob| Url::create_object_url_with_blob(&blob).ok());
        Self { url: url.unwrap_or_default(), bytes: Arc::new(bytes) }
    }
}

impl Turn {
    /// The model has replied: with its answer, or with calls and words beside them.
    fn replied<'a>(self, text: String, calls: impl Iterator<Item = &'a ToolCall>) {
        let mut calls = calls.peekable();
        match calls.peek() {
            None => self.text.set(text),
            Some(_) => {
                self.said(text);
                calls.for_each(|call| self.calls(call.clone()));
            }
        }
    }

    fn said(self, text: String) {
        if !text.trim().is_empty() {
            self.steps.update(|steps| steps.push(Step::Said(text)));
        }
    }

    fn calls(self, call: ToolCall) {
        self.steps.update(|steps| steps.push(Step::Called { call, gave: None, failed: false }));
    }

    /// The first call that has given nothing yet has given this.
    fn gave(self, text: &str, has_failed: bool) {
        self.steps.update(|steps| {
            steps.pop_if(|step| matches!(step, Step::Note(_)));
            let waiting = steps.iter_mut().find_map(|step| match step {
                Step::Called { gave, failed, .. } if gave.is_none() => Some((gave, failed)),
                _ => None,
            });
            if let Some((gave, failed)) = waiting {
                *gave = Some(text.to_owned());
                *failed = has_failed;
            }
        });
    }

    /// Its pictures in base64.
    fn encoded(self) -> Vec<String> {
        use base64::Engine as _;
        let encode = |picture: &Picture| base64::engine::general_purpose::STANDARD.encode(&*picture.bytes);
        self.pictures.with_value(|pictures| pictures.iter().map(encode).collect())
    }

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
        session: RwSignal::new(None),
        n_kept: RwSignal::new(0),
        unfinished: RwSignal::new(false),
        with_tools: RwSignal::new(page::recall("tools") == "yes"),
        is_listing: RwSignal::new(false),
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
    // The program that opened this page may want something looked at.
    let shown = RwSignal::new_local(None::<File>);
    if page::is_served() {
        spawn_local(async move {
            let key = app.desk_untracked().unwrap_or_default().key;
            match page::look(&key).await {
                Ok(Some(picture)) => {
                    app.view.set(View::Chat);
                    shown.set(Some(picture));
                }
                Ok(None) => {}
                Err(error) => app.say(&page::message(&error)),
            }
        });
    }
    let on_drop = move |event: leptos::ev::DragEvent| {
        event.prevent_default();
        if let Some(files) = event.data_transfer().and_then(|data| data.files()) {
            chat.attach(page::pictures(&files));
        }
    };
    let is_empty = move || chat.turns.with(|turns| turns.is_empty());
    view! {
        <h2 class="sr">{move || app.words().chat}</h2>
        <div class="row">
            <Show when=move || app.desk().is_some()>
                <button id="kept" class="plain" aria-haspopup="dialog" on:click=move |_| chat.is_listing.set(true)>
                    {move || app.words().conversations}
                </button>
                <label class="check">
                    <input type="checkbox" id="tools" prop:checked=chat.with_tools on:change=move |event| {
                        let is_wanted = event_target_checked(&event);
                        page::remember("tools", if is_wanted { "yes" } else { "" });
                        chat.with_tools.set(is_wanted);
                    }/>
                    {move || app.words().tools}
                </label>
            </Show>
            <Show when=move || !is_empty()>
                <button class="plain push" on:click=move |_| chat.clear()>{move || app.words().new_chat}</button>
            </Show>
        </div>
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
        <Show when=move || chat.unfinished.get() && chat.running.get().is_none()>
            <div class="notice row">
                <span>{move || app.words().not_ended}</span>
                <button class="push" id="go-on" on:click=move |_| chat.go_on()>{move || app.words().go_on}</button>
            </div>
        </Show>
        <Composer chat/>
        <RegionDialog picture=shown take=move |part| {
            chat.attach(vec![part]);
            page::focus("message");
        }/>
        <Conversations desk=Signal::derive(move || app.desk()) is_open=chat.is_listing choose=move |id| chat.open(id)/>
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
    let is_growing = move || !is_user && turn.end.with(|end| matches!(end, End::Growing));
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
                <Steps steps=turn.steps/>
                <Markdown text=turn.text/>
                {move || turn.asked.get().map(|ask| {
                    view! { <Question ask decide=move |allow, remember| chat.decide(turn, allow, remember)/> }
                })}
                {move || ending(app, &turn.end.get())}
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
                End::Whole(answer) => Some(view! { <Details answer/> }),
                _ => None,
            }}
        </li>
    }
}

/// What is to be said about the end of an answer.
fn ending(app: App, end: &End) -> Option<AnyView> {
    match end {
        End::Whole(answer) if answer.stop_reason != StopReason::Cancelled => None,
        End::Growing | End::Kept => None,
        End::Whole(_) | End::Failed(Problem::Cancelled) => {
            Some(view! { <p class="quiet">{app.words().cancelled}</p> }.into_any())
        }
        End::Failed(problem) => Some(view! { <p class="bad">{problem.to_string()}</p> }.into_any()),
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
