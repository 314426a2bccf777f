//! What the browser offers to the page, in our types.

use js_sys::{Array, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::{Blob, File, HtmlCanvasElement, HtmlVideoElement};

#[wasm_bindgen(module = "/src/page.js")]
extern "C" {
    /// Sets an attribute of the document, or removes it if the value is empty.
    #[wasm_bindgen(js_name = setRoot)]
    pub(crate) fn set_root(name: &str, value: &str);
    pub(crate) fn remember(key: &str, value: &str);
    pub(crate) fn recall(key: &str) -> String;
    pub(crate) fn language() -> String;
    /// The name of the engine that was chosen, or nothing.
    pub(crate) fn engine() -> String;
    #[wasm_bindgen(js_name = chooseEngine)]
    pub(crate) fn choose_engine(name: &str);
    pub(crate) fn persist();
    #[wasm_bindgen(catch)]
    pub(crate) async fn copy(text: &str) -> Result<(), JsValue>;
    pub(crate) fn save(name: &str, text: &str, mime: &str);
    #[wasm_bindgen(catch, js_name = pasted)]
    async fn pasted_raw() -> Result<JsValue, JsValue>;
    #[wasm_bindgen(catch, js_name = bytes)]
    async fn bytes_raw(blob: &Blob) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(js_name = isServed)]
    pub(crate) fn is_served() -> bool;
    #[wasm_bindgen(catch, js_name = desk)]
    pub(crate) async fn desk(method: &str, path: &str, key: &str, body: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(catch, js_name = deskBytes)]
    pub(crate) async fn desk_bytes(path: &str, key: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(catch, js_name = deskLines)]
    pub(crate) async fn desk_lines(
        path: &str,
        key: &str,
        body: &str,
        told: &Closure<dyn FnMut(String)>,
    ) -> Result<(), JsValue>;
    #[wasm_bindgen(catch, js_name = look)]
    async fn look_raw(key: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(js_name = place)]
    fn place_raw(event: &JsValue, id: &str) -> Vec<f64>;
    #[wasm_bindgen(catch, js_name = cut)]
    async fn cut_raw(file: &File, x: f64, y: f64, width: f64, height: f64) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(js_name = objectUrl)]
    pub(crate) fn object_url(blob: &Blob) -> String;
    #[wasm_bindgen(catch, js_name = openCamera)]
    pub(crate) async fn open_camera() -> Result<JsValue, JsValue>;
    #[wasm_bindgen(catch, js_name = openScreen)]
    pub(crate) async fn open_screen() -> Result<JsValue, JsValue>;
    #[wasm_bindgen(catch)]
    pub(crate) async fn play(video: &HtmlVideoElement, stream: &JsValue) -> Result<(), JsValue>;
    pub(crate) fn stop(stream: &JsValue);
    #[wasm_bindgen(js_name = isLive)]
    pub(crate) fn is_live(stream: &JsValue) -> bool;
    #[wasm_bindgen(catch, js_name = frame)]
    async fn frame_raw(video: &HtmlVideoElement, longest: u32) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(js_name = drawGrid)]
    pub(crate) fn draw_grid(
        canvas: &HtmlCanvasElement,
        rgba: &[u8],
        width: u32,
        height: u32,
        patch: u32,
        merge: u32,
    );
    /// Milliseconds since the page was opened.
    pub(crate) fn now() -> f64;
    /// Gibibytes of memory, as far as the browser tells; else 0.
    pub(crate) fn memory() -> f64;
    #[wasm_bindgen(js_name = isHidden)]
    pub(crate) fn is_hidden() -> bool;
    #[wasm_bindgen(js_name = nextFrame)]
    pub(crate) async fn next_frame();
    #[wasm_bindgen(js_name = scrollToEnd)]
    pub(crate) fn scroll_to_end();
    pub(crate) fn focus(id: &str);
}

/// The picture files in a list of any things.
pub(crate) fn pictures(list: &JsValue) -> Vec<File> {
    let list = Array::from(list);
    let files = list.iter().filter_map(|file| file.dyn_into::<File>().ok());
    files.filter(|file| file.type_().starts_with("image/")).collect()
}

pub(crate) async fn pasted() -> Result<Vec<File>, JsValue> {
    Ok(pictures(&pasted_raw().await?))
}

pub(crate) async fn bytes(blob: &Blob) -> Result<Vec<u8>, JsValue> {
    Ok(bytes_raw(blob).await?.unchecked_into::<Uint8Array>().to_vec())
}

/// What a video shows now, as a PNG file whose longer side is at most `longest`.
pub(crate) async fn frame(video: &HtmlVideoElement, longest: u32) -> Result<File, JsValue> {
    Ok(frame_raw(video, longest).await?.unchecked_into())
}

/// What the program that serves this page wants looked at, if it opened the page for that.
pub(crate) async fn look(key: &str) -> Result<Option<File>, JsValue> {
    Ok(look_raw(key).await?.dyn_into().ok())
}

/// Where a pointer is in the element of that id, in percent of its width and height.
pub(crate) fn place(event: &JsValue, id: &str) -> [f64; 2] {
    place_raw(event, id).try_into().unwrap_or_default()
}

/// A part of a picture, given in percent.
pub(crate) async fn cut(file: &File, x: f64, y: f64, width: f64, height: f64) -> Result<File, JsValue> {
    Ok(cut_raw(file, x, y, width, height).await?.unchecked_into())
}

/// What a JavaScript error says.
pub(crate) fn message(error: &JsValue) -> String {
    let message = js_sys::Reflect::get(error, &"message".into()).ok().and_then(|message| message.as_string());
    message.or_else(|| error.as_string()).unwrap_or_else(|| format!("{error:?}"))
}
