//! A camera or a screen: captions of single moments, or one after the other.

use leptos::html::Video;
use leptos::prelude::*;
use leptos::task::spawn_local;
use protocol::{Event, Options, Request};
use wasm_bindgen::JsValue;
use web_sys::File;

use crate::app::use_app;
use crate::{client, page};

/// The longer side of a moment, in pixels.
const LONGEST: u32 = 768;
/// Captions that the rate is measured over.
const MEASURED: usize = 8;

/// Where moving pictures come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Camera,
    Screen,
}

/// Shows a source, and captions it on demand.
#[component]
pub(crate) fn Live(
    source: Source,
    on_take: impl Fn(File) + Copy + 'static,
    on_close: impl Fn() + Copy + 'static,
) -> impl IntoView {
    let app = use_app();
    let video = NodeRef::<Video>::new();
    let stream = StoredValue::new_local(None::<JsValue>);
    let is_open = StoredValue::new_local(true);
    let problem = RwSignal::new(None::<String>);
    let is_live = RwSignal::new(false);
    let text = RwSignal::new(String::new());
    let rate = RwSignal::new(None::<f64>);

    Effect::new(move || {
        let Some(video) = video.get() else { return };
        spawn_local(async move {
            let opened = match source {
                Source::Camera => page::open_camera().await,
                Source::Screen => page::open_screen().await,
            };
            match opened {
                // It was closed while the browser asked for permission.
                Ok(opened) if is_open.try_get_value().is_none() => page::stop(&opened),
                Ok(opened) => {
                    stream.set_value(Some(opened.clone()));
                    if let Err(error) = page::play(&video, &opened).await {
                        problem.set(Some(page::message(&error)));
                    }
                }
                Err(error) => problem.set(Some(page::message(&error))),
            }
        });
    });
    on_cleanup(move || {
        is_live.try_set(false);
        if let Some(stream) = stream.try_get_value().flatten() {
            page::stop(&stream);
        }
    });

    let take = move |_| {
        let Some(video) = video.get_untracked() else { return };
        spawn_local(async move {
            match page::frame(&video, LONGEST).await {
                Ok(file) => on_take(file),
                Err(error) => problem.set(Some(page::message(&error))),
            }
        });
    };
    let run = move |_| {
        if is_live.get_untracked() {
            return is_live.set(false);
        }
        let Some(video) = video.get_untracked() else { return };
        is_live.set(true);
        spawn_local(async move {
            let mut ended = Vec::new();
            while is_live.try_get_untracked() == Some(true) {
                let over = !stream.try_get_value().flatten().is_some_and(|stream| page::is_live(&stream));
                // Nobody reads captions of a tab that does not show.
                if page::is_hidden() && !over {
                    page::next_frame().await;
                    continue;
                }
                let Ok(frame) = page::frame(&video, LONGEST).await else { break };
                let Ok(picture) = page::bytes(&frame).await else { break };
                if over {
                    break;
                }
                let options = Options { max_tokens: 64, ..Options::default() };
                let pending = client::ask(|id| Request::Caption { id, picture, options }, &[], |_| {});
                match pending.last().await {
                    Event::Answered { answer, .. } => {
                        text.try_set(answer.text.trim().to_owned());
                        ended.push(now());
                        if ended.len() > MEASURED {
                            ended.remove(0);
                        }
                        if let [first, .., last] = ended[..] {
                            rate.try_set(Some(1e3 * (ended.len() - 1) as f64 / (last - first)));
                        }
                    }
                    Event::Failed { problem: failed, .. } => {
                        problem.try_set(Some(failed.to_string()));
                        break;
                    }
                    _ => break,
                }
                page::next_frame().await;
            }
            is_live.try_set(false);
        });
    };
    view! {
        <div class="live">
            <video node_ref=video muted playsinline aria-label=move || match source {
                Source::Camera => app.words().camera,
                Source::Screen => app.words().screen,
            }></video>
            <div class="side">
                <p class="said" lang="en">{move || text.get()}</p>
                <p class="quiet rate">{move || rate.get().map(|rate| format!("{rate:.1} {}", app.words().rate))}</p>
                {move || problem.get().map(|problem| view! {
                    <p class="bad" role="alert">{format!("{}: {problem}", app.words().no_camera)}</p>
                })}
                <div class="row">
                    <button class="main" disabled=move || !app.is_ready() on:click=run>
                        {move || if is_live.get() { app.words().stop_live } else { app.words().live }}
                    </button>
                    <button on:click=take>{move || app.words().take}</button>
                    <button on:click=move |_| on_close()>{move || app.words().close_camera}</button>
                </div>
            </div>
        </div>
    }
}

fn now() -> f64 {
    window().performance().map_or(0.0, |performance| performance.now())
}
