//! Pages of a server on this machine, good and bad, as a model gets them.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::thread;

use agent::{Content, Context, Origin, Pictures, Role, Tool, ToolOutput, Turn};
use remote::{Fetch, Host};
use serde_json::json;

/// A server that answers these paths, with whole responses; `BASE` in them is its own address.
fn serve(pages: Vec<(&'static str, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            let mut reader = BufReader::new(&stream);
            reader.read_line(&mut line).unwrap();
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            while reader.read_line(&mut line).is_ok_and(|n| n > 2) {}
            let page = pages.iter().find(|(name, _)| *name == path);
            let page =
                page.map_or(&b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"[..], |(_, page)| page);
            // Whoever asks may hang up first.
            let _ = stream.write_all(page);
        }
    });
    base
}

fn page(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\n{headers}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into()
}

/// Fetches with `127.0.0.1` as the only allowed host.
fn fetch(url: &str) -> (ToolOutput, Pictures) {
    let tool = Fetch::new(vec![Host::parse("127.0.0.1").unwrap()], false);
    let mut pictures = Pictures::default();
    let arguments = json!({ "url": url });
    let mut wait = |_: Option<&str>| ControlFlow::Continue(());
    let context = Context { turns: &[], pictures: &mut pictures, wait: &mut wait };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let output = runtime.block_on(tool.call(arguments.as_object().unwrap(), context));
    // Whatever comes of a page, the page may have chosen it.
    assert!(output.parts.iter().all(|part| part.origin == Origin::Web), "{output:?}");
    (output, pictures)
}

#[track_caller]
fn check(url: &str, failed: bool, expected: &str) {
    let (output, _) = fetch(url);
    let text = Turn::new(Role::Tool, output.parts).text();
    assert!(output.failed == failed && text.contains(expected), "{url}: {text}");
}

#[test]
fn pages_texts_and_pictures_come_as_such() {
    let png =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/images/two-apples.png")).unwrap();
    let html = b"<title>T</title><script>evil()</script><p>Gr\xc3\xbc\xc3\x9fe <a href=/x>x</a>";
    let base = serve(vec![
        ("/page", page("Content-Type: text/html; charset=utf-8", html)),
        ("/latin", page("Content-Type: text/plain; charset=ISO-8859-1", b"Gr\xfc\xdfe")),
        ("/json", page("Content-Type: application/json", b"{\"a\": \"<b>\"}")),
        ("/a.png", page("Content-Type: image/png", &png)),
        ("/fake.png", page("Content-Type: image/png", b"no picture")),
        ("/zip", page("Content-Type: application/zip", b"PK")),
    ]);
    check(&format!("{base}/page"), false, "/page:\nT\nGrüße x [/x]");
    check(&format!("{base}/latin"), false, "Grüße");
    check(&format!("{base}/json"), false, "{\"a\": \"<b>\"}");
    check(&format!("{base}/fake.png"), true, "neither text nor a picture");
    check(&format!("{base}/zip"), true, "`application/zip`");
    check(&format!("{base}/none"), true, "404 Not Found");
    let (output, pictures) = fetch(&format!("{base}/a.png"));
    let Content::Picture(id) = &output.parts[1].content else { panic!("{output:?}") };
    assert_eq!((&pictures.get(id).unwrap()[..], output.parts[1].origin), (&png[..], Origin::Web));
}

#[test]
fn redirects_are_checked_at_every_hop() {
    let base = serve(vec![
        ("/twice", redirect("/once")),
        ("/once", redirect("/page")),
        ("/page", page("Content-Type: text/plain", b"there")),
        ("/loop", redirect("/loop")),
        ("/here", redirect("http://localhost:1/")),
        ("/inner", redirect("http://169.254.169.254/latest/meta-data")),
        ("/file", redirect("file:///etc/passwd")),
        ("/user", redirect("http://a:b@127.0.0.1/")),
        ("/nowhere", b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n".to_vec()),
    ]);
    check(&format!("{base}/twice"), false, "/page:\nthere");
    check(&format!("{base}/loop"), true, "more than 5 times");
    check(&format!("{base}/here"), true, "another host");
    check(&format!("{base}/inner"), true, "another host");
    check(&format!("{base}/file"), true, "only http and https");
    check(&format!("{base}/user"), true, "do not belong");
    check(&format!("{base}/nowhere"), true, "without an address");
}

#[test]
fn too_much_is_refused() {
    let huge = vec![b'x'; (8 << 20) + 1];
    let base = serve(vec![
        ("/huge", page("Content-Type: text/plain", &huge)),
        ("/cut", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_vec()),
        ("/noise", b"\0\0\0".to_vec()),
    ]);
    check(&format!("{base}/huge"), true, "larger than 8 MiB");
    check(&format!("{base}/cut"), true, "broke off");
    check(&format!("{base}/noise"), true, "broke off");
}
