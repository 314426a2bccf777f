//! A model behind our own server, and servers that do what they should not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::thread;
use std::time::{Instant, UNIX_EPOCH};

use agent::{
    ChatModel, Choice, Content, Limits, Nobody, Origin, Outcome, Part, Pictures, Piece, Policy, Reply,
    Request, Role, Run, Surroundings, Toolbox, Turn, drive, tools,
};
use engine::{Batch, Device, ModelFiles};
use remote::RemoteModel;
use serde_json::{Value, json};
use server::{Options, Server};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Does something with the address of a server that has the model inside, and ends the server.
fn with_server(ask: impl AsyncFnOnce(&str)) {
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), Options::default()).unwrap();
    let (url, stop) = (format!("http://{}", server.address().unwrap()), server.stop());
    let thread = thread::spawn(move || {
        let model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../assets/model");
        let start = Instant::now();
        let clock = Box::new(move || start.elapsed().as_secs_f64() * 1000.0);
        server
            .run(&Batch::open(&ModelFiles::open(&model).unwrap(), Device::default(), clock).unwrap())
            .unwrap();
    });
    block_on(ask(&url));
    stop.stop();
    thread.join().unwrap();
}

/// Asks for a reply to one message; returns it and the words that came piece by piece.
async fn ask(model: &mut RemoteModel, turn: Turn, pictures: &Pictures) -> agent::Result<(Reply, String)> {
    let mut shown = String::new();
    let turns = [turn];
    let request = Request { turns: &turns, pictures, tools: &[], choice: Choice::Free, max_tokens: 12 };
    let reply = model
        .reply(request, &mut |piece| {
            if let Piece::Text(text) = piece {
                shown.push_str(text);
            }
            ControlFlow::Continue(())
        })
        .await?;
    Ok((reply, shown))
}

fn picture(pictures: &mut Pictures) -> Turn {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../assets/images/two-apples.png");
    let id = pictures.add(std::fs::read(path).unwrap());
    let picture = Part { origin: Origin::Picture, content: Content::Picture(id) };
    Turn::new(Role::User, vec![picture, Part::text(Origin::User, "Describe this picture.")])
}

#[test]
fn our_own_server_replies() {
    with_server(async |url| {
        let mut model = RemoteModel::connect(url, None, None).await.unwrap();
        assert_eq!(model.name(), "ocelli");
        let mut pictures = Pictures::default();
        let turn = picture(&mut pictures);
        let (reply, shown) = ask(&mut model, turn.clone(), &pictures).await.unwrap();
        assert!(reply.text.contains("apple") && reply.text == shown, "{reply:?}");
        assert!(reply.prompt_tokens > 20 && reply.generated_tokens > 2, "{reply:?}");
        // What was read before is known, as the server counts it.
        let (again, _) = ask(&mut model, turn, &pictures).await.unwrap();
        assert_eq!((&again.text, again.prompt_tokens), (&reply.text, reply.prompt_tokens));
        assert!(again.cached_tokens > 0, "{again:?}");
        // The server says what is wrong.
        model.options.insert("temperature".into(), json!(-1));
        let error = ask(&mut model, Turn::user("Hi"), &pictures).await.unwrap_err().to_string();
        assert!(error.contains("400 Bad Request") && error.contains("temperature"), "{error}");
    });
}

#[test]
fn a_run_calls_tools_through_our_own_server() {
    with_server(async |url| {
        let mut model = RemoteModel::connect(url, Some("ocelli"), None).await.unwrap();
        let mut toolbox = Toolbox::default();
        toolbox.add(tools::Clock::at(|| UNIX_EPOCH)).unwrap();
        let limits = Limits { steps: 2, tokens_a_step: 120, ..Limits::default() };
        let mut run = Run::new(vec![Turn::user("How late is it?")], limits, Policy::default());
        // The model knows no tools; the grammar of the server makes it call one.
        run.first = Choice::Call;
        let mut watch = |_: &Run, _: &Pictures, _: &agent::Event| ControlFlow::Continue(());
        let around = Surroundings {
            model: &mut model,
            tools: &toolbox,
            pictures: &mut Pictures::default(),
            approver: &mut Nobody,
            watcher: &mut watch,
            clock: &|| 0.0,
        };
        let outcome = drive(&mut run, around).await;
        assert!(matches!(outcome, Outcome::Answered { .. } | Outcome::CutOff { .. }), "{outcome:?}");
        let result = run.turns.iter().find(|turn| turn.role == Role::Tool).unwrap();
        assert_eq!(result.text(), "Thursday, 1970-01-01T00:00:00Z", "{:?}", run.turns);
        assert_eq!(run.turns.last().unwrap().role, Role::Assistant);
    });
}

#[test]
fn a_reply_is_cut_off_when_nobody_waits_any_more() {
    with_server(async |url| {
        let mut model = RemoteModel::connect(url, None, None).await.unwrap();
        model.options.insert("ignore_eos".into(), json!(true));
        let turns = [Turn::user("Tell me everything.")];
        let pictures = Pictures::default();
        let request = Request {
            turns: &turns,
            pictures: &pictures,
            tools: &[],
            choice: Choice::Free,
            max_tokens: 2000,
        };
        let mut stop = |piece: Piece<'_>| match piece {
            Piece::Text(_) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let reply = model.reply(request, &mut stop).await.unwrap();
        assert!(reply.cut_off && !reply.text.is_empty() && reply.text.len() < 100, "{reply:?}");
    });
}

/// A server that answers each connection with the next of these, and hangs up.
fn fake(answers: Vec<Vec<u8>>) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let thread = thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            requests.push(read_request(&stream));
            // The client may hang up first.
            let _ = stream.write_all(&answer);
        }
        requests
    });
    (url, thread)
}

/// The head of a request, and its body behind an empty line.
fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let start = head.len();
        reader.read_line(&mut head).unwrap();
        let line = head[start..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    head + std::str::from_utf8(&body).unwrap()
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
        .into()
}

fn stream(lines: &[&str]) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\n\r\n";
    let events: String = lines.iter().map(|line| format!("data: {line}\n\n")).collect();
    format!("{head}{events}").into()
}

const WORD: &str = r#"{"choices":[{"delta":{"content":"word"}}]}"#;
const END: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;

/// Asks a fake server with a key; returns what came of it, and the requests.
fn ask_fake(answers: Vec<Vec<u8>>) -> (Result<String, String>, Vec<String>) {
    let (url, thread) = fake(answers);
    let reply = block_on(async {
        let mut model = RemoteModel::connect(&url, Some("x"), Some("secret".into())).await.unwrap();
        ask(&mut model, Turn::user("Hi"), &Pictures::default()).await
    });
    (reply.map(|(reply, _)| reply.text).map_err(|error| error.to_string()), thread.join().unwrap())
}

#[test]
fn a_server_is_asked_in_its_own_words() {
    let (reply, requests) = ask_fake(vec![stream(&[WORD, END, "[DONE]"])]);
    assert_eq!(reply.unwrap(), "word");
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v1/chat/completions "), "{head}");
    assert!(head.to_ascii_lowercase().contains("\r\nauthorization: bearer secret"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    let expected = json!({
        "model": "x", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 12, "stream": true,
        "stream_options": { "include_usage": true },
    });
    assert_eq!(body, expected);
}

#[test]
fn what_a_server_does_wrong_is_told() {
    let said = |text: &str| format!(r#"{{"error":{{"message":"{text}"}}}}"#);
    let mut cut = answer("200 OK", "Content-Type: text/event-stream\r\n", &format!("data: {WORD}\n\n"));
    cut.pop();
    for (name, answers, expected) in [
        ("cut", vec![stream(&[WORD])], "ended before it was complete"),
        ("broken off", vec![cut], "broke off"),
        ("nothing", vec![Vec::new()], "broke off"),
        ("no JSON", vec![stream(&["{", END])], "no JSON"),
        ("error in the stream", vec![stream(&[WORD, &said("out of memory")])], "out of memory"),
        ("no HTTP", vec![b"SSH-2.0-x\r\n".to_vec()], "broke off"),
        (
            "refused",
            vec![answer("400 Bad Request", "", &said("no such model"))],
            "400 Bad Request: no such model",
        ),
        (
            "wrong key",
            vec![answer("401 Unauthorized", "", &said("wrong key"))],
            "401 Unauthorized: wrong key",
        ),
        ("plain", vec![answer("502 Bad Gateway", "", "down")], "502 Bad Gateway: down"),
        ("elsewhere", vec![answer("302 Found", "Location: http://x/\r\n", "")], "sends to http://x/"),
        ("later", vec![answer("429 Too Many Requests", "", &said("full"))], "429 Too Many Requests: full"),
        ("much later", vec![answer("429 Too Many Requests", "Retry-After: 3600\r\n", &said("full"))], "429"),
    ] {
        let error = ask_fake(answers).0.unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
        assert!(error.starts_with("the server at http://127.0.0.1:") && !error.contains("secret"), "{error}");
    }
}

#[test]
fn a_busy_server_is_asked_again_a_few_times() {
    let busy = || answer("429 Too Many Requests", "Retry-After: 0\r\n", "full");
    let (reply, requests) = ask_fake(vec![busy(), busy(), stream(&[WORD, END])]);
    assert_eq!((reply.as_deref(), requests.len()), (Ok("word"), 3));
    let (reply, requests) = ask_fake(vec![busy(), busy(), busy(), busy()]);
    assert!(reply.unwrap_err().contains("429 Too Many Requests: full"));
    assert_eq!(requests.len(), 4);
}

#[test]
fn a_line_without_end_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        read_request(&socket);
        socket.write_all(&stream(&[])).unwrap();
        let chunk = vec![b'x'; 1 << 20];
        // As much as a gigabyte, if the client takes it.
        (0..1024).take_while(|_| socket.write_all(&chunk).is_ok()).count()
    });
    let error = block_on(async {
        let mut model = RemoteModel::connect(&url, Some("x"), None).await.unwrap();
        ask(&mut model, Turn::user("Hi"), &Pictures::default()).await.unwrap_err().to_string()
    });
    assert!(error.contains("an event of its reply is longer than 4 MiB"), "{error}");
    let taken = thread.join().unwrap();
    assert!(taken < 64, "{taken} MiB were taken");
}

#[test]
fn the_model_is_the_only_one_or_named() {
    let connect = |body: &str| {
        let (url, thread) = fake(vec![answer("200 OK", "", body)]);
        let name = block_on(RemoteModel::connect(&url, None, None)).map(|model| model.name().to_owned());
        assert!(thread.join().unwrap()[0].starts_with("GET /v1/models "));
        name.map_err(|error| error.to_string())
    };
    assert_eq!(connect(r#"{"data":[{"id":"ernie"}]}"#).unwrap(), "ernie");
    let error = connect(r#"{"data":[{"id":"a"},{"id":"b"}]}"#).unwrap_err();
    assert!(error.contains("--server-model: a, b"), "{error}");
    for (body, expected) in [("{}", "names no model"), ("<html>", "is no JSON")] {
        let error = connect(body).unwrap_err();
        assert!(error.contains(expected) && error.contains("--server-model"), "{error}");
    }
}

#[test]
fn addresses_that_are_none_are_refused() {
    for url in ["localhost:8000", "ftp://x/", "x", "http://a:b@x/", "http://x/?key=1"] {
        let error = block_on(RemoteModel::connect(url, Some("x"), None)).unwrap_err().to_string();
        assert!(error.contains("is no address of a server"), "{error}");
    }
    let shows = |url: &str, key: Option<&str>| {
        block_on(RemoteModel::connect(url, Some("x"), key.map(str::to_owned))).unwrap().shows_its_key()
    };
    assert!(shows("http://10.0.0.1:8000", Some("k")) && shows("http://127.example.com", Some("k")));
    assert!(!shows("http://10.0.0.1:8000", None) && !shows("https://x", Some("k")));
    assert!(!shows("http://127.0.0.1:1/v1", Some("k")) && !shows("http://[::1]:1", Some("k")));
}
