//! Bodies of requests, sent to a server that answers with the model inside.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use engine::{Batch, Device, GenerateOptions, ModelFiles};
use serde_json::json;
use server::{Options, Server};

use crate::root;

const ROUTES: [&str; 10] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/api/chat",
    "/api/generate",
    "/api/show",
    "/v1/no/such/route",
];

/// How long an answer is waited for: a long one is given up, which the server takes as it does a client that left.
const PATIENCE: Duration = Duration::from_millis(300);

/// The server of this process.
fn address() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let defaults = GenerateOptions { max_tokens: 2, ..GenerateOptions::default() };
        let options = Options { max_body: 1 << 20, defaults, ..Options::default() };
        let server = Server::bind(([127, 0, 0, 1], 0).into(), options).expect("a free port");
        let address = server.address().expect("it has an address");
        thread::spawn(move || {
            let files = ModelFiles::open(&root().join("assets/model")).expect("the model inside");
            let started = Instant::now();
            let clock = Box::new(move || started.elapsed().as_secs_f64() * 1000.0);
            let batch = Batch::open(&files, Device::Cpu, clock).expect("it loads");
            server.run(&batch).expect("the server goes on");
        });
        address
    })
}

/// The first byte tells the route.
pub(crate) fn request(bytes: &[u8]) -> bool {
    let Some((route, body)) = bytes.split_first() else { return false };
    let route = ROUTES[usize::from(*route) % ROUTES.len()];
    let status = ask("POST", route, body, PATIENCE);
    let body = String::from_utf8_lossy(body);
    assert!(
        status.is_none_or(|status| (200..500).contains(&status)),
        "{route} answered {status:?} to {body:?}"
    );
    assert_eq!(ask("GET", "/health", b"", Duration::from_secs(60)), Some(200), "the server is well");
    status.is_none_or(|status| status == 200)
}

/// The status of the response, if it began in time.
fn ask(method: &str, route: &str, body: &[u8], patience: Duration) -> Option<u16> {
    let address = address();
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(patience)).expect("a timeout");
    let length = body.len();
    let head = format!(
        "{method} {route} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    // A body that is refused by its length is not read to its end.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut line = [0; 12];
    let read = stream.read_exact(&mut line);
    let _ = stream.shutdown(Shutdown::Both);
    read.ok()?;
    Some(std::str::from_utf8(&line[9..]).ok().and_then(|status| status.parse().ok()).expect("a status line"))
}

pub(crate) fn request_seeds() -> Vec<Vec<u8>> {
    const PIXEL: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
    let text = json!([{ "role": "user", "content": "Hi" }]);
    let tool = json!({ "type": "object", "properties": { "x": { "type": "number" } }, "required": ["x"] });
    let picture = json!([{ "role": "user", "content": [
        { "type": "text", "text": "What?" },
        { "type": "image_url", "image_url": { "url": PIXEL } },
    ] }]);
    let bodies = [
        (
            0,
            json!({
                "model": "ocelli", "messages": picture, "max_tokens": 2, "temperature": 0.7, "top_p": 0.9, "seed": 1,
                "stop": ["."], "logprobs": true, "top_logprobs": 2, "stream": true,
                "stream_options": { "include_usage": true }, "logit_bias": {}, "n": 1,
            }),
        ),
        (
            0,
            json!({
                "model": "ocelli", "messages": text, "max_tokens": 2, "tool_choice": "required",
                "tools": [{ "type": "function", "function": { "name": "f", "parameters": tool } }],
            }),
        ),
        (
            0,
            json!({
                "messages": text, "max_tokens": 2,
                "response_format": { "type": "json_schema", "json_schema": { "name": "s", "schema": tool } },
            }),
        ),
        (1, json!({ "prompt": "Hi", "max_tokens": 2, "echo": false })),
        (
            2,
            json!({ "input": "Hi", "max_output_tokens": 2, "store": false, "text": { "format": { "type": "text" } } }),
        ),
        (3, json!({ "input": ["a", "b"], "encoding_format": "base64" })),
        (
            4,
            json!({
                "model": "ocelli", "messages": text, "max_tokens": 2, "system": "Be short.", "stop_sequences": ["."],
                "tools": [{ "name": "f", "input_schema": tool }], "thinking": { "type": "enabled", "budget_tokens": 8 },
            }),
        ),
        (5, json!({ "model": "ocelli", "messages": text })),
        (
            6,
            json!({ "model": "ocelli", "messages": text, "stream": false, "options": { "num_predict": 2 }, "format": "json" }),
        ),
        (
            7,
            json!({ "model": "ocelli", "prompt": "Hi", "stream": false, "options": { "num_predict": 2 }, "images": [] }),
        ),
        (8, json!({ "model": "ocelli" })),
    ];
    bodies.map(|(route, body)| [&[route], body.to_string().as_bytes()].concat()).into()
}
