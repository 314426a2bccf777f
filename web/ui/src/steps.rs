//! What a task does on its way: calls, what they give, and the question whether one may run.

use leptos::prelude::*;
use protocol::agent::{Ask, Effect, Origin, Subject, ToolCall};
use protocol::exact;
use serde_json::Value;

use crate::app::use_app;
use crate::words::Words;

/// Something that happened before the answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Words beside a call.
    Said(String),
    /// A call, and what it gave if it has given anything.
    Called { call: ToolCall, gave: Option<String>, failed: bool },
    /// Something was lost or changed, or a call is under way.
    Note(String),
}

/// The steps of an answer, each call folded until it is wanted.
#[component]
pub(crate) fn Steps(steps: RwSignal<Vec<Step>>) -> impl IntoView {
    let show = |step: Step| match step {
        Step::Said(text) => view! { <li>{text}</li> }.into_any(),
        Step::Note(text) => view! { <li class="quiet">{text}</li> }.into_any(),
        Step::Called { call, gave, failed } => {
            let arguments = exact(&Value::Object(call.arguments).to_string());
            view! {
                <li>
                    <details>
                        <summary><code>{call.name}</code>" "<span class="quiet">{arguments}</span></summary>
                        <pre class:bad=failed>{gave.unwrap_or_else(|| "…".to_owned())}</pre>
                    </details>
                </li>
            }
            .into_any()
        }
    };
    view! {
        <Show when=move || steps.with(|steps| !steps.is_empty())>
            <ol class="steps">{move || steps.get().into_iter().map(show).collect_view()}</ol>
        </Show>
    }
}

/// The question whether a call may run. `decide` hears whether it may, and whether that holds from now on.
#[component]
pub(crate) fn Question(ask: Ask, decide: impl Fn(bool, bool) + Copy + 'static) -> impl IntoView {
    let app = use_app();
    let arguments = serde_json::to_string_pretty(&ask.call.arguments).unwrap_or_default();
    let name = ask.call.name.clone();
    let subject = {
        let subject = ask.subject().clone();
        move || about(app.words(), &subject)
    };
    let (always, never) = (subject.clone(), subject.clone());
    let would = {
        let effect = ask.effect.clone();
        move || {
            let words = app.words();
            match effect {
                Effect::None => words.changes_nothing,
                Effect::Changes(_) => words.changes_something,
                Effect::Reaches(_) => words.reaches_beyond,
            }
        }
    };
    let foreign = ask.foreign;
    let told = move || {
        let words = app.words();
        let names: Vec<&str> = foreign.iter().map(|origin| stranger(words, *origin)).collect();
        (!names.is_empty()).then(|| format!("{} {}{}", words.has_read, names.join(", "), words.may_have_told))
    };
    view! {
        <div class="question" role="group" aria-labelledby="question">
            <p id="question"><strong>{move || app.words().may_run}" "<code>{name}</code></strong></p>
            <pre>{exact(&arguments)}</pre>
            <p>{subject}": "{would}</p>
            <p class="bad">{told}</p>
            <div class="row">
                <button id="yes" on:click=move |_| decide(true, false)>{move || app.words().yes}</button>
                <button class="main" on:click=move |_| decide(false, false)>{move || app.words().no}</button>
                <button class="plain" on:click=move |_| decide(true, true)>{move || app.words().always}" "{always.clone()}</button>
                <button class="plain" on:click=move |_| decide(false, true)>{move || app.words().never}" "{never.clone()}</button>
            </div>
        </div>
    }
}

fn about(words: &Words, subject: &Subject) -> String {
    match subject {
        Subject::Anything => words.this_tool.to_owned(),
        Subject::Folder(folder) => format!("{} {}", words.folder, exact(folder)),
        Subject::Host(host) => format!("{} {}", words.host, exact(host)),
        Subject::Server(server) => format!("{} {}", words.tool_server, exact(server)),
    }
}

/// Who has spoken beside user and model.
fn stranger(words: &Words, origin: Origin) -> &'static str {
    match origin {
        Origin::Picture => words.a_picture,
        Origin::File => words.a_file,
        Origin::Web => words.the_web,
        _ => words.a_tool,
    }
}
