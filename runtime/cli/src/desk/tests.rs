//! The desk over HTTP, with a model that follows a script and tools that are real.

use std::collections::VecDeque;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Response;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Desk, Tasks, routes};
use crate::agent::ToolArgs;

/// What the model says, one reply after the other.
type Script = Arc<Mutex<VecDeque<Value>>>;

/// A desk and its model, each behind a port of its own, and a folder that tools may write to.
struct Office {
    url: String,
    script: Script,
    client: reqwest::Client,
    folder: TempDir,
}

fn words(text: &str) -> Value {
    json!({ "content": text })
}

fn write(name: &str) -> Value {
    let arguments = json!({ "path": name, "content": "milk" }).to_string();
    json!({ "tool_calls": [{ "index": 0, "id": "c", "function": { "name": "write_file", "arguments": arguments } }] })
}

async fn reply(State(script): State<Script>, _: Request) -> String {
    let delta = script.lock().unwrap().pop_front().expect("the script has another reply");
    let usage = json!({ "prompt_tokens": 9, "completion_tokens": 3 });
    let chunk =
        json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": "stop" }], "usage": usage });
    format!("data: {chunk}\n\ndata: [DONE]\n\n")
}

async fn listen(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

impl Office {
    async fn open(script: impl IntoIterator<Item = Value>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script: Script = Arc::new(Mutex::new(script.into_iter().collect()));
        let model = Router::new().route("/v1/chat/completions", post(reply)).with_state(Arc::clone(&script));
        let model = listen(model).await;
        let notes = folder.path().join("notes");
        fs::create_dir(&notes).unwrap();
        let tools = ToolArgs::attended(Vec::new(), vec![notes]);
        let desk = Desk {
            url: OnceLock::from(format!("http://{model}")),
            model: "scripted".into(),
            conversations: folder.path().join("sessions.db"),
            rules: folder.path().join("approvals.json"),
            toolbox: Box::new(move || tools.toolbox()),
            tasks: Tasks::default(),
            look: Mutex::new(Some(b"PNG".to_vec())),
        };
        let address = listen(routes(Arc::new(desk))).await;
        let client = remote::client().unwrap();
        Self { url: format!("http://{address}/api/desk"), script, client, folder }
    }

    async fn post(&self, path: &str, body: Value) -> Response {
        self.client.post(format!("{}{path}", self.url)).json(&body).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    async fn show(&self, session: &str) -> Value {
        json_of(self.get(&format!("/sessions/{session}")).await).await
    }

    /// Whether the list that a model wished for was written.
    fn is_written(&self) -> bool {
        Path::exists(&self.folder.path().join("notes/list.txt"))
    }
}

async fn json_of(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

/// The lines of a task as they come.
struct Lines {
    response: Response,
    rest: Vec<u8>,
}

impl Lines {
    fn of(response: Response) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        Self { response, rest: Vec::new() }
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            self.rest.extend(self.response.chunk().await.unwrap()?);
        }
    }

    /// The next line with this member.
    async fn find(&mut self, name: &str) -> Value {
        loop {
            let line = self.next().await.unwrap_or_else(|| panic!("no line has `{name}`"));
            if let Some(found) = line.get(name) {
                return found.clone();
            }
        }
    }

    /// How the task ended; nothing comes after that.
    async fn end(mut self) -> Value {
        let end = self.find("finished").await;
        while let Some(line) = self.next().await {
            assert!(line.get("kept").is_some(), "{line}");
        }
        end
    }

    async fn session(&mut self) -> String {
        self.find("session").await.as_str().unwrap().to_owned()
    }
}

/// A picture, so that a stranger may have spoken, and a wish to write.
fn task() -> Value {
    let mut png = Vec::new();
    let picture = image::RgbImage::from_pixel(32, 32, image::Rgb([200, 40, 40]));
    picture.write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
    json!({ "text": "Write down what it says", "pictures": [STANDARD.encode(png)], "tools": true })
}

#[tokio::test]
async fn a_call_waits_for_the_word_that_is_about_it() {
    let office = Office::open([write("notes/list.txt"), words("Done.")]).await;
    let mut lines = Lines::of(office.post("/sessions", task()).await);
    let session = lines.session().await;
    let asked = lines.find("asked").await;
    assert_eq!(asked["call"]["arguments"], json!({ "path": "notes/list.txt", "content": "milk" }));
    assert_eq!(asked["foreign"], json!(["picture"]));
    let decision = format!("/sessions/{session}/decision");
    // Neither a word about another call, nor one that is no word.
    let other = office.post(&decision, json!({ "call": "?", "allow": true })).await;
    assert_eq!(other.status(), StatusCode::NO_CONTENT);
    let wrong = office.post(&decision, json!({ "call": "c", "allowed": true })).await;
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    assert!(json_of(wrong).await["error"].as_str().unwrap().contains("allowed"));
    assert!(!office.is_written());
    // Meanwhile nobody else goes on with it.
    let second = office.post(&format!("/sessions/{session}"), json!({ "text": "And?" })).await;
    assert_eq!(second.status(), StatusCode::CONFLICT);
    office.post(&decision, json!({ "call": asked["call"]["id"], "allow": true })).await;
    assert_eq!(lines.end().await, json!({ "answered": { "text": "Done." } }));
    assert!(office.is_written());
    let late = office.post(&decision, json!({ "call": "c", "allow": true })).await;
    assert_eq!(late.status(), StatusCode::NOT_FOUND);
    let roles: Vec<Value> = office.show(&session).await["turns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|turn| turn["role"].clone())
        .collect();
    assert_eq!(roles, ["user", "assistant", "tool", "assistant"]);
}

#[tokio::test]
async fn a_page_that_goes_away_leaves_a_task_that_goes_on_later() {
    let office = Office::open([write("notes/list.txt"), words("As you wish.")]).await;
    let mut lines = Lines::of(office.post("/sessions", task()).await);
    let session = lines.session().await;
    lines.find("asked").await;
    drop(lines);
    let path = format!("/sessions/{session}");
    let go_on = json!({ "tools": true });
    let mut lines = loop {
        let response = office.post(&path, go_on.clone()).await;
        if response.status() != StatusCode::CONFLICT {
            break Lines::of(response);
        }
    };
    assert_eq!(office.show(&session).await["unfinished"], true);
    let asked = lines.find("asked").await;
    let never = json!({ "call": asked["call"]["id"], "allow": false, "remember": true });
    office.post(&format!("{path}/decision"), never).await;
    assert_eq!(lines.end().await, json!({ "answered": { "text": "As you wish." } }));
    assert!(!office.is_written());
    assert_eq!(office.show(&session).await["unfinished"], false);
    // What was remembered holds for the next conversation, without a question.
    office.script.lock().unwrap().extend([write("notes/list.txt"), words("I may not.")]);
    let mut lines = Lines::of(office.post("/sessions", task()).await);
    while let Some(line) = lines.next().await {
        assert!(line.get("asked").is_none(), "{line}");
    }
    assert!(!office.is_written());
}

#[tokio::test]
async fn a_task_that_is_stopped_is_over() {
    let office = Office::open([write("notes/list.txt")]).await;
    let mut lines = Lines::of(office.post("/sessions", task()).await);
    let session = lines.session().await;
    lines.find("asked").await;
    let stopped = office.post(&format!("/sessions/{session}/stop"), json!({})).await;
    assert_eq!(stopped.status(), StatusCode::NO_CONTENT);
    assert_eq!(lines.end().await, "cancelled");
    assert!(!office.is_written());
    assert_eq!(office.show(&session).await["unfinished"], false);
}

#[tokio::test]
async fn messages_are_answered_again_and_changed_on_a_branch() {
    let office = Office::open(["One.", "Two.", "Three."].map(words)).await;
    let mut lines = Lines::of(office.post("/sessions", json!({ "text": "Count" })).await);
    let session = lines.session().await;
    lines.end().await;
    let texts = async || -> Vec<String> {
        let shown = office.show(&session).await;
        let turns = shown["turns"].as_array().unwrap().clone();
        turns.iter().map(|turn| turn["parts"][0]["content"]["text"].as_str().unwrap().to_owned()).collect()
    };
    let path = format!("/sessions/{session}");
    Lines::of(office.post(&path, json!({ "keep": 1 })).await).end().await;
    assert_eq!(texts().await, ["Count", "Two."]);
    Lines::of(office.post(&path, json!({ "keep": 0, "text": "Go on" })).await).end().await;
    assert_eq!(texts().await, ["Go on", "Three."]);
    let too_many = office.post(&path, json!({ "keep": 9 })).await;
    assert_eq!(too_many.status(), StatusCode::BAD_REQUEST);
    let nothing = office.post(&path, json!({})).await;
    assert_eq!(nothing.status(), StatusCode::BAD_REQUEST);
    // What was left is found, but not shown.
    let hits = json_of(office.post("/search", json!({ "words": "count" })).await).await;
    assert_eq!(hits[0]["session"], session.as_str());
}

#[tokio::test]
async fn conversations_are_listed_shown_and_deleted() {
    let office = Office::open([words("A red square.")]).await;
    let mut lines = Lines::of(office.post("/sessions", task()).await);
    let session = lines.session().await;
    lines.end().await;
    let list = json_of(office.get("/sessions").await).await;
    assert_eq!(list[0]["id"], session.as_str());
    assert_eq!(list[0]["title"], "Write down what it says");
    let shown = office.show(&session).await;
    let id = shown["turns"][0]["parts"][0]["content"]["picture"].as_str().unwrap().to_owned();
    let picture = office.get(&format!("/sessions/{session}/pictures/{id}")).await;
    assert_eq!(picture.headers()["content-type"], "image/png");
    assert!(picture.bytes().await.unwrap().starts_with(b"\x89PNG"));
    assert_eq!(office.get(&format!("/sessions/{session}/pictures/0")).await.status(), StatusCode::NOT_FOUND);
    for (path, is_there) in [(&session[..4], false), ("..", false), (&*session, true)] {
        let url = format!("{}/sessions/{path}", office.url);
        let deleted = office.client.delete(url).send().await.unwrap();
        assert_eq!(deleted.status() == StatusCode::NO_CONTENT, is_there, "{path}");
    }
    assert_eq!(json_of(office.get("/sessions").await).await, json!([]));
    assert_eq!(office.get(&format!("/sessions/{session}")).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_to_be_looked_at_is_given_once() {
    let office = Office::open([]).await;
    let look = office.get("/look").await;
    assert_eq!(look.headers()["content-type"], "image/png");
    assert_eq!(&look.bytes().await.unwrap()[..], b"PNG");
    assert_eq!(office.get("/look").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let office = Office::open([]).await;
    for (body, told) in [
        (json!({}), "begins with a `text`"),
        (json!({ "text": "  " }), "begins with a `text`"),
        (json!({ "txt": "Hello" }), "unknown field `txt`"),
        (json!({ "pictures": ["?"] }), "picture 1 is not in base64"),
        (json!({ "pictures": [STANDARD.encode(b"GIF89a")] }), "picture 1"),
    ] {
        let response = office.post("/sessions", body.clone()).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body}");
        let error = json_of(response).await["error"].as_str().unwrap().to_owned();
        assert!(error.contains(told), "{error}");
    }
    let unknown = office.post("/sessions/nobody", json!({ "text": "Hello" })).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    // Nothing of all this was kept.
    assert_eq!(json_of(office.get("/sessions").await).await, json!([]));
}
