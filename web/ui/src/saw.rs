//! What the model saw of a picture.

use leptos::html::Canvas;
use leptos::prelude::*;
use protocol::{PictureView, Sight};

use crate::app::use_app;
use crate::page;

/// The resized picture under its grid, folded until it is wanted.
#[component]
pub(crate) fn Saw(view: PictureView) -> impl IntoView {
    let app = use_app();
    let canvas = NodeRef::<Canvas>::new();
    let PictureView { sight, rgba } = view;
    let Sight { original, resized, patch_size, merge_size, n_tokens, notes } = sight;
    Effect::new(move || {
        if let Some(canvas) = canvas.get() {
            page::draw_grid(&canvas, &rgba, resized[0], resized[1], patch_size, merge_size);
        }
    });
    let patches = [resized[0] / patch_size, resized[1] / patch_size];
    let changes = move || match notes.is_empty() {
        true => app.words().saw_nothing_changed.to_owned(),
        false => notes.join("; "),
    };
    view! {
        <details class="seen">
            <summary class="quiet">{move || app.words().saw}</summary>
            <div class="saw">
                <canvas node_ref=canvas role="img" aria-label=move || app.words().saw_grid></canvas>
                <dl>
                    <dt>{move || app.words().saw_size}</dt>
                    <dd>{format!("{} × {} → {} × {}", original[0], original[1], resized[0], resized[1])}</dd>
                    <dt>{move || app.words().saw_patches}</dt>
                    <dd>{format!("{} × {} = {}", patches[0], patches[1], patches[0] * patches[1])}</dd>
                    <dt>{move || app.words().saw_tokens}</dt>
                    <dd class="tokens">{n_tokens}</dd>
                    <dt>{move || app.words().saw_changes}</dt>
                    <dd>{changes}</dd>
                </dl>
            </div>
        </details>
    }
}
