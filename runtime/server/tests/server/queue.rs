//! Places, cancelling and the end.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;

use serde_json::{Value, json};
use server::Options;

use crate::support::{Running, endless, read_chunk};

const CHAT: &str = "/v1/chat/completions";

fn short() -> Value {
    json!({ "messages": [{ "role": "user", "content": "Hi" }], "temperature": 0, "max_tokens": 4 })
}

fn streamed(mut body: Value) -> Value {
    body["stream"] = true.into();
    body
}

/// Begins an endless answer and waits for its first words.
fn begin_endless(server: &Running) -> BufReader<TcpStream> {
    let mut stream = server.begin(CHAT, &streamed(endless()));
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
    }
    loop {
        let chunk = String::from_utf8(read_chunk(&mut stream).unwrap()).unwrap();
        let data = chunk.strip_prefix("data: ").and_then(|data| serde_json::from_str::<Value>(data).ok());
        let content = data.map(|data| data["choices"][0]["delta"]["content"].clone());
        if content.is_some_and(|content| content.as_str().is_some_and(|content| !content.is_empty())) {
            return stream;
        }
    }
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let server = Running::with(Options { n_slots: 1, queue: 1, ..Options::default() });
    let running = begin_endless(&server);
    let waiting = server.begin(CHAT, &streamed(short()));
    server.wait_for("ocelli_requests_waiting", 1);
    for (path, body) in
        [(CHAT, short()), ("/v1/messages", short()), ("/api/generate", json!({ "prompt": "Hi" }))]
    {
        let reply = server.post(path, &body).expect(429);
        let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{reply:?}");
    }
    // What needs no engine is answered.
    server.get("/v1/models").expect(200);
    drop(running);
    server.wait_for("ocelli_cancelled_total", 1);
    drop(waiting);
    server.wait_for("ocelli_requests_running", 0);
    server.post(CHAT, &short()).expect(200);
}

#[test]
fn a_client_that_goes_away_frees_its_slot() {
    let server = Running::with(Options { n_slots: 1, queue: 4, ..Options::default() });
    // While an answer streams, while one is made in full, and while one waits.
    drop(begin_endless(&server));
    server.wait_for("ocelli_cancelled_total", 1);
    server.wait_for("ocelli_requests_running", 0);
    let generated = server.metric("ocelli_generated_tokens_total");
    assert!(generated < 2000, "{generated} tokens were made for nobody");

    let whole = server.begin(CHAT, &endless());
    server.wait_for("ocelli_requests_running", 1);
    let waiting = server.begin(CHAT, &short());
    server.wait_for("ocelli_requests_waiting", 1);
    drop(waiting);
    server.wait_for("ocelli_cancelled_total", 2);
    drop(whole);
    server.wait_for("ocelli_cancelled_total", 3);
    server.wait_for("ocelli_requests_running", 0);
    server.post(CHAT, &short()).expect(200);
}

#[test]
fn a_server_that_stops_completes_what_it_began() {
    let server = Running::with(Options { n_slots: 2, ..Options::default() });
    let mut limited = endless();
    limited["max_tokens"] = 60.into();
    let mut stream = server.begin(CHAT, &streamed(limited));
    server.wait_for("ocelli_requests_running", 1);
    server.stop.stop();
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
    }
    let body: Vec<u8> = std::iter::from_fn(|| read_chunk(&mut stream)).flatten().collect();
    assert!(String::from_utf8(body).unwrap().ends_with("data: [DONE]\n\n"));
}
