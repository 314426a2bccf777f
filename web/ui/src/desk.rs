//! The program that serves this page, as it keeps conversations and does tasks.

use js_sys::Uint8Array;
use protocol::agent::{Ask, Conversation, Event, Hit, Kept, News, PictureId};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::Closure;

use crate::page;

/// Why it did not do what was asked.
type Result<T, E = String> = std::result::Result<T, E>;

/// The way there.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Desk {
    /// Sent with every request, if not empty.
    pub(crate) key: String,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(crate) struct Task {
    /// In this conversation, else in a new one.
    pub(crate) session: Option<String>,
    /// What the user says; nothing has the last message answered again, or a task gone on with.
    pub(crate) text: String,
    /// Picture files in base64.
    pub(crate) pictures: Vec<String>,
    /// Whether tools may be called.
    pub(crate) tools: bool,
    /// How many messages stay; the others make room for what comes.
    pub(crate) keep: Option<usize>,
}

impl Desk {
    /// All conversations, the latest first.
    pub(crate) async fn list(&self) -> Result<Vec<Kept>> {
        self.ask("GET", "/sessions", None).await
    }

    /// Messages with all these words.
    pub(crate) async fn search(&self, words: &str) -> Result<Vec<Hit>> {
        self.ask("POST", "/search", Some(json!({ "words": words }))).await
    }

    /// A conversation.
    pub(crate) async fn show(&self, session: &str) -> Result<Conversation> {
        self.ask("GET", &format!("/sessions/{session}"), None).await
    }

    /// The file of a picture.
    pub(crate) async fn picture(&self, session: &str, picture: &PictureId) -> Result<Vec<u8>> {
        let path = format!("/sessions/{session}/pictures/{}", picture.0);
        let bytes = page::desk_bytes(&path, &self.key).await.map_err(|error| page::message(&error))?;
        Ok(bytes.unchecked_into::<Uint8Array>().to_vec())
    }

    /// Deletes a conversation.
    pub(crate) async fn delete(&self, session: &str) -> Result<()> {
        self.tell("DELETE", &format!("/sessions/{session}"), None).await.map(drop)
    }

    /// Says whether a call may run, and with `remember` that this holds from now on.
    pub(crate) async fn decide(&self, session: &str, ask: &Ask, allow: bool, remember: bool) -> Result<()> {
        let word = json!({ "call": ask.call.id, "allow": allow, "remember": remember });
        self.tell("POST", &format!("/sessions/{session}/decision"), Some(word)).await.map(drop)
    }

    /// Ends the task that is under way.
    pub(crate) async fn stop(&self, session: &str) -> Result<()> {
        self.tell("POST", &format!("/sessions/{session}/stop"), None).await.map(drop)
    }

    /// Does a task, and tells what happens. Returns when it is over.
    pub(crate) async fn work(&self, task: Task, mut told: impl FnMut(News) + 'static) -> Result<()> {
        let path = match &task.session {
            Some(session) => format!("/sessions/{session}"),
            None => "/sessions".to_owned(),
        };
        let body = json!({
            "text": Some(task.text).filter(|text| !text.is_empty()),
            "pictures": task.pictures,
            "tools": task.tools,
            "keep": task.keep,
        });
        let told = Closure::<dyn FnMut(String)>::new(move |line: String| match serde_json::from_str(&line) {
            Ok(news) => told(news),
            Err(error) => {
                told(News::Event(Event::Note(format!("a line that is not understood ({error}): {line}"))));
            }
        });
        let done = page::desk_lines(&path, &self.key, &body.to_string(), &told).await;
        done.map_err(|error| page::message(&error))
    }

    async fn ask<T: DeserializeOwned>(&self, method: &str, path: &str, body: Option<Value>) -> Result<T> {
        let text = self.tell(method, path, body).await?;
        serde_json::from_str(&text).map_err(|error| format!("the server's answer is not understood: {error}"))
    }

    async fn tell(&self, method: &str, path: &str, body: Option<Value>) -> Result<String> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let text = page::desk(method, path, &self.key, &body).await.map_err(|error| page::message(&error))?;
        Ok(text.as_string().unwrap_or_default())
    }
}
