//! The dialog in which a part of a picture is chosen, by dragging or by numbers.

use leptos::html::Dialog;
use leptos::prelude::*;
use leptos::task::spawn_local;
use web_sys::File;

use crate::app::use_app;
use crate::page;
use crate::words::Words;

/// Left, top, width and height in percent of the picture.
type Region = [f64; 4];
const WHOLE: Region = [0.0, 0.0, 100.0, 100.0];
/// A region with a shorter side was a slip of the hand.
const SMALLEST: f64 = 1.0;

/// The dialog; it shows while there is a `picture`. `take` hears what was cut out.
#[component]
pub(crate) fn RegionDialog(
    picture: RwSignal<Option<File>, LocalStorage>,
    take: impl Fn(File) + Copy + 'static,
) -> impl IntoView {
    let app = use_app();
    let dialog = NodeRef::<Dialog>::new();
    let region = RwSignal::new(WHOLE);
    let url = RwSignal::new(String::new());
    // Where dragging began.
    let begun = RwSignal::new(None::<[f64; 2]>);
    Effect::new(move || {
        let Some(dialog) = dialog.get() else { return };
        match picture.get() {
            Some(file) => {
                region.set(WHOLE);
                url.set(page::object_url(&file));
                if !dialog.open() {
                    let _ = dialog.show_modal();
                }
            }
            None if dialog.open() => dialog.close(),
            None => {}
        }
    });
    let drag = move |[x, y]: [f64; 2]| {
        if let Some([from_x, from_y]) = begun.get_untracked() {
            region.set([from_x.min(x), from_y.min(y), (x - from_x).abs(), (y - from_y).abs()]);
        }
    };
    let end = move || {
        begun.set(None);
        let [.., width, height] = region.get_untracked();
        if width < SMALLEST || height < SMALLEST {
            region.set(WHOLE);
        }
    };
    let cut = move |_| {
        let Some(file) = picture.get_untracked() else { return };
        let [x, y, width, height] = region.get_untracked();
        spawn_local(async move {
            match page::cut(&file, x, y, width, height).await {
                Ok(part) => {
                    picture.set(None);
                    take(part);
                }
                Err(error) => app.say(&page::message(&error)),
            }
        });
    };
    let number = move |i: usize, name: fn(&Words) -> &'static str| {
        let change = move |event: leptos::ev::Event| {
            let value: f64 = event_target_value(&event).parse().unwrap_or(0.0);
            region.update(|region| {
                region[i] = value.clamp(0.0, 100.0);
                // What is chosen stays within the picture.
                for side in [0, 1] {
                    region[side + 2] = region[side + 2].clamp(SMALLEST, 100.0);
                    region[side] = region[side].min(100.0 - region[side + 2]);
                }
            });
        };
        view! {
            <label>
                {move || name(app.words())}
                <input type="number" min="0" max="100" step="1" on:change=change
                    prop:value=move || region.get()[i].round().to_string()/>
            </label>
        }
    };
    let percent = move |i: usize| move || format!("{:.2}%", region.get()[i]);
    view! {
        <dialog node_ref=dialog id="region" class="wide" aria-labelledby="region-title" on:close=move |_| picture.set(None)>
            <div class="sheet">
                <div class="row">
                    <h2 id="region-title">{move || app.words().choose_region}</h2>
                    <button class="push" on:click=move |_| picture.set(None)>{move || app.words().cancel}</button>
                    <button class="main" id="cut" on:click=cut>{move || app.words().use_it}</button>
                </div>
                <p class="quiet">{move || app.words().drag_region}</p>
                <div class="stage" id="stage"
                    on:pointerdown=move |event| {
                        event.prevent_default();
                        begun.set(Some(page::place(&event, "stage")));
                    }
                    on:pointermove=move |event| drag(page::place(&event, "stage"))
                    on:pointerup=move |_| end()>
                    <img src=move || url.get() alt=move || app.words().screen draggable="false"/>
                    <div class="cutout" style:left=percent(0) style:top=percent(1) style:width=percent(2) style:height=percent(3)></div>
                </div>
                <div class="numbers">
                    {number(0, |words| words.left)}
                    {number(1, |words| words.top)}
                    {number(2, |words| words.width)}
                    {number(3, |words| words.height)}
                </div>
            </div>
        </dialog>
    }
}
