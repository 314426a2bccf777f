//! What the browser offers, in our types.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use js_sys::Function;
use protocol::Problem;
use wasm_bindgen::prelude::*;
use web_sys::{DedicatedWorkerGlobalScope, File, FileSystemDirectoryHandle, FileSystemSyncAccessHandle};

#[wasm_bindgen(module = "/src/browser.js")]
extern "C" {
    #[wasm_bindgen(catch, js_name = hold)]
    async fn hold_raw(name: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(catch, js_name = folder)]
    async fn folder_raw(key: &str, create: bool) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(catch)]
    pub(crate) async fn forget(key: &str) -> Result<(), JsValue>;
    #[wasm_bindgen(catch, js_name = keys)]
    async fn keys_raw() -> Result<JsValue, JsValue>;
    #[wasm_bindgen(catch, js_name = writer)]
    async fn writer_raw(folder: &FileSystemDirectoryHandle, name: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(catch, js_name = reader)]
    async fn reader_raw(folder: &FileSystemDirectoryHandle, name: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(js_name = estimate)]
    async fn estimate_raw() -> JsValue;
    #[wasm_bindgen(js_name = whyNoGpu)]
    async fn why_no_gpu_raw() -> JsValue;
    pub(crate) async fn sleep(ms: f64);
    /// Lets other messages be handled first.
    pub(crate) async fn turn();
}

/// The scope of this worker.
pub(crate) fn scope() -> DedicatedWorkerGlobalScope {
    js_sys::global().unchecked_into()
}

/// Milliseconds since the worker started.
pub(crate) fn now() -> f64 {
    scope().performance().map_or(0.0, |performance| performance.now())
}

/// What `work` gives, or `None` if that takes longer than `ms`.
pub(crate) async fn within<T>(ms: f64, work: impl Future<Output = T>) -> Option<T> {
    let (mut work, mut late) = (pin!(work), pin!(sleep(ms)));
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => late.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// A lock over all tabs of this site, given back when dropped.
pub(crate) struct Lock(Function);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.call0(&JsValue::NULL);
    }
}

pub(crate) async fn hold(name: &str) -> Result<Lock, JsValue> {
    Ok(Lock(hold_raw(name).await?.unchecked_into()))
}

pub(crate) async fn folder(key: &str, create: bool) -> Result<Option<FileSystemDirectoryHandle>, JsValue> {
    let handle = folder_raw(key, create).await?;
    Ok((!handle.is_null()).then(|| handle.unchecked_into()))
}

pub(crate) async fn keys() -> Result<Vec<String>, JsValue> {
    let keys = js_sys::Array::from(&keys_raw().await?);
    Ok(keys.iter().filter_map(|key| key.as_string()).collect())
}

/// An open file that is closed when dropped.
pub(crate) struct Writer(FileSystemSyncAccessHandle);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Writer {
    pub(crate) async fn open(folder: &FileSystemDirectoryHandle, name: &str) -> Result<Self, JsValue> {
        Ok(Self(writer_raw(folder, name).await?.unchecked_into()))
    }

    /// Writes all of `bytes`, and waits until they are on disk.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> Result<(), JsValue> {
        let options = web_sys::FileSystemReadWriteOptions::new();
        options.set_at(at as f64);
        let n = self.0.write_with_u8_array_and_options(bytes, &options)?;
        // Where the disk or the quota is full, Chromium returns a negative error in an unsigned number.
        let n = if n > bytes.len() as f64 { 0.0 } else { n };
        if n as usize != bytes.len() {
            return Err(js_sys::Error::new(&format!("only {n} of {} bytes fit", bytes.len())).into());
        }
        self.0.flush()
    }

    /// Makes `bytes` all that the file holds.
    pub(crate) fn replace(&self, bytes: &[u8]) -> Result<(), JsValue> {
        self.0.truncate_with_f64(bytes.len() as f64)?;
        self.write(0, bytes)
    }
}

pub(crate) async fn reader(folder: &FileSystemDirectoryHandle, name: &str) -> Result<Option<File>, JsValue> {
    let file = reader_raw(folder, name).await?;
    Ok((!file.is_null()).then(|| file.unchecked_into()))
}

/// Bytes stored for this site, and bytes that could be.
pub(crate) async fn estimate() -> (u64, u64) {
    let pair = js_sys::Array::from(&estimate_raw().await);
    let number = |i| pair.get(i).as_f64().unwrap_or(0.0) as u64;
    (number(0), number(1))
}

/// Why there is no GPU, if so.
pub(crate) async fn why_no_gpu() -> Option<String> {
    why_no_gpu_raw().await.as_string().filter(|why| !why.is_empty())
}

/// What a JavaScript error says.
pub(crate) fn message(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => format!("{}: {}", String::from(error.name()), String::from(error.message())),
        // A DOMException is no `Error` to all browsers.
        None => js_sys::Reflect::get(error, &"message".into())
            .ok()
            .and_then(|message| message.as_string())
            .or_else(|| error.as_string())
            .unwrap_or_else(|| format!("{error:?}")),
    }
}

/// What an error of the engine means to who asked.
pub(crate) fn engine_problem(error: &engine::Error) -> Problem {
    let mut innermost = error;
    while let engine::Error::InFile { source, .. } = innermost {
        innermost = source;
    }
    match innermost {
        engine::Error::Tensor(tensor::Error::Device { .. }) => Problem::Device { message: error.to_string() },
        _ => input_problem(error),
    }
}

/// An error with all its causes, on one line.
pub(crate) fn input_problem(error: &dyn std::error::Error) -> Problem {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    Problem::Input { message }
}
