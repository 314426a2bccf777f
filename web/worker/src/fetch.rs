//! Ranges of files over HTTP, piece by piece.

use js_sys::{Reflect, Uint8Array};
use protocol::Problem;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, ReadableStreamDefaultReader, Request, RequestInit, Response};

use crate::browser::{message, scope};

/// The answer to a request, its body still on the way.
pub(crate) struct Body {
    response: Response,
    /// Answers to HEAD have none.
    reader: Option<ReadableStreamDefaultReader>,
}

/// What to ask for.
#[derive(Default)]
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    pub(crate) url: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: Option<&'a str>,
    /// The first byte wanted.
    pub(crate) from: u64,
}

impl Body {
    /// Sends a request. Statuses other than success are returned too, so that their words can be read.
    pub(crate) async fn open(ask: &Ask<'_>, signal: &AbortSignal) -> Result<Self, Problem> {
        let failed = |error: JsValue| network(ask.url, &error, signal);
        let init = RequestInit::new();
        init.set_method(if ask.method.is_empty() { "GET" } else { ask.method });
        init.set_signal(Some(signal));
        if let Some(body) = ask.body {
            init.set_body(&body.into());
        }
        let request = Request::new_with_str_and_init(ask.url, &init)
            .map_err(|_| Problem::Input { message: format!("`{}` is no address of a file", ask.url) })?;
        for (name, value) in ask.headers {
            request.headers().set(name, value).map_err(failed)?;
        }
        if ask.from > 0 {
            request.headers().set("range", &format!("bytes={}-", ask.from)).map_err(failed)?;
        }
        let response = JsFuture::from(scope().fetch_with_request(&request)).await.map_err(failed)?;
        let response: Response = response.unchecked_into();
        let reader = response.body().map(|stream| stream.get_reader().unchecked_into());
        Ok(Self { response, reader })
    }

    /// As [`open`](Self::open), but any other status than success is an error.
    pub(crate) async fn open_file(ask: &Ask<'_>, signal: &AbortSignal) -> Result<Self, Problem> {
        let body = Self::open(ask, signal).await?;
        match body.status() {
            200 | 206 => Ok(body),
            status => Err(Problem::Network {
                message: format!("`{}` answered {status} {}", ask.url, body.response.status_text()),
            }),
        }
    }

    pub(crate) fn status(&self) -> u16 {
        self.response.status()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.response.headers().get(name).ok().flatten()
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn next(&self, signal: &AbortSignal) -> Result<Option<Uint8Array>, Problem> {
        let failed = |error: JsValue| network(&self.response.url(), &error, signal);
        let Some(reader) = &self.reader else { return Ok(None) };
        let step = JsFuture::from(reader.read()).await.map_err(failed)?;
        if Reflect::get(&step, &"done".into()).map_err(failed)?.is_truthy() {
            return Ok(None);
        }
        Ok(Some(Reflect::get(&step, &"value".into()).map_err(failed)?.unchecked_into()))
    }

    /// Everything, if it is at most `limit` bytes.
    pub(crate) async fn all(&self, limit: usize, signal: &AbortSignal) -> Result<Vec<u8>, Problem> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.next(signal).await? {
            if bytes.len() + piece.length() as usize > limit {
                let message = format!("`{}` is longer than {limit} bytes", self.response.url());
                return Err(Problem::Network { message });
            }
            bytes.extend(piece.to_vec());
        }
        Ok(bytes)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // Whatever is still on the way is not wanted; that a broken stream refuses does not matter.
        let Some(reader) = &self.reader else { return };
        let cancelled = reader.cancel();
        wasm_bindgen_futures::spawn_local(async move {
            let _ = JsFuture::from(cancelled).await;
        });
    }
}

fn network(url: &str, error: &JsValue, signal: &AbortSignal) -> Problem {
    if signal.aborted() {
        return Problem::Cancelled;
    }
    Problem::Network { message: format!("cannot read `{url}`: {}", message(error)) }
}
