//! Who is let in.

use std::io::Write;

use axum::routing::get;
use serde_json::json;
use server::{Access, KeyHash, Options, Routes, Server, new_key};

use crate::support::{MODEL, Reply, Running};

const ROUTES: [&str; 8] = [
    "/v1/models",
    "/v1/chat/completions",
    "/v1/messages",
    "/api/tags",
    "/api/chat",
    "/metrics",
    "/",
    "/none",
];

#[test]
fn rebound_names_are_refused_on_every_route() {
    let server = Running::start();
    for path in ROUTES.iter().chain(&["/health"]) {
        for host in ["evil.example", "evil.example:80", "localhost.evil.example", "192.168.1.1"] {
            server.send("GET", path, &[&format!("Host: {host}")], "").expect(403);
            server.send("POST", path, &[&format!("Host: {host}")], "{}").expect(403);
        }
    }
    let twice = ["Host: localhost", "Host: evil.example"];
    assert!((400..500).contains(&server.send("GET", "/v1/models", &twice, "").status));
    let mut stream = server.connect();
    write!(
        stream,
        "GET http://evil.example/v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    Reply::read(stream).expect(403);
    let mut stream = server.connect();
    write!(stream, "GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    Reply::read(stream).expect(400);
    for host in ["localhost", "LocalHost:1", "127.0.0.1", "[::1]:9"] {
        server.send("GET", "/v1/models", &[&format!("Host: {host}")], "").expect(200);
    }
}

#[test]
fn foreign_origins_are_refused_on_every_route() {
    let allowed = "https://app.example";
    let access = Access { origins: vec![allowed.into()], ..Access::default() };
    let server = Running::with(Options { access, ..Options::default() });
    let host = server.host();
    for path in ROUTES {
        for origin in ["https://evil.example", "null", "http://127.0.0.1:1", "https://app.example.evil"] {
            let origin = format!("Origin: {origin}");
            let reply = server.send("POST", path, &[&host, &origin], "{}").expect(403);
            assert_eq!(reply.header("access-control-allow-origin"), None, "{reply:?}");
            server.send("OPTIONS", path, &[&host, &origin], "").expect(403);
        }
    }
    let own = format!("Origin: http://{}", server.address);
    server.send("GET", "/v1/models", &[&host, &own], "").expect(200);
    let foreign = format!("Origin: {allowed}");
    let reply = server.send("GET", "/v1/models", &[&host, &foreign], "").expect(200);
    assert_eq!(reply.header("access-control-allow-origin"), Some(allowed));
    assert_eq!(reply.header("vary"), Some("origin"));
    let preflight = server.send("OPTIONS", "/v1/chat/completions", &[&host, &foreign], "").expect(204);
    assert!(preflight.header("access-control-allow-headers").unwrap().contains("authorization"));
}

#[test]
fn other_addresses_need_a_key() {
    let address = "0.0.0.0:0";
    let error = Server::bind(address.parse().unwrap(), Options::default()).unwrap_err();
    assert!(error.to_string().contains("needs a key"), "{error}");

    let key = new_key().unwrap();
    let access = Access { key: Some(KeyHash::of(&key)), ..Access::default() };
    let server = Running::at(address, Options { access, ..Options::default() });
    let host = server.host();
    let wrong = format!("{}x", &key[..key.len() - 1]);
    for path in ROUTES {
        for header in [
            "X-Nothing: 1".to_owned(),
            "Authorization: Bearer".to_owned(),
            "Authorization: Bearer ".to_owned(),
            format!("Authorization: Bearer {wrong}"),
            format!("Authorization: Basic {key}"),
            format!("x-api-key: {wrong}"),
        ] {
            let reply = server.send("POST", path, &[&host, &header], "{}").expect(401);
            assert!(!reply.body.contains(&key), "{reply:?}");
        }
    }
    for header in [format!("Authorization: Bearer {key}"), format!("x-api-key: {key}")] {
        let models = server.send("GET", "/v1/models", &[&host, &header], "").expect(200).json();
        assert_eq!(models["data"][0]["id"], MODEL);
    }
    server.get("/health").expect(200);
    // From outside it may be called by any address, but by no name.
    let bearer = format!("Authorization: Bearer {key}");
    server.send("GET", "/v1/models", &["Host: 192.168.1.1", &bearer], "").expect(200);
    server.send("GET", "/v1/models", &["Host: evil.example", &bearer], "").expect(403);
}

#[test]
fn pages_need_no_key_but_all_else_does() {
    let access = Access { key: Some(KeyHash::of("secret")), ..Access::default() };
    let pages = axum::Router::new().route("/", get(|| async { "a page" }));
    let further = Routes::new(|_| axum::Router::new().route("/further", get(|| async { "a tool" })));
    let (pages, routes) = (Some(pages), Some(further));
    let server = Running::at("0.0.0.0:0", Options { access, pages, routes, ..Options::default() });
    assert_eq!(server.get("/").expect(200).body, "a page");
    server.get("/none").expect(404);
    server.send("GET", "/", &["Host: evil.example"], "").expect(403);
    for path in ["/v1/models", "/v1/none", "/api/tags", "/metrics", "/further"] {
        server.get(path).expect(401);
    }
    for path in ["/metrics", "/further"] {
        server.send("GET", path, &[&server.host(), "Authorization: Bearer secret"], "").expect(200);
    }
}

#[test]
fn refusals_have_the_shape_of_the_api() {
    let server = Running::start();
    let evil = ["Host: evil.example"];
    let openai = server.send("GET", "/v1/models", &evil, "").expect(403).json();
    assert_eq!(openai["error"]["type"], "permission_error");
    let anthropic = server.send("POST", "/v1/messages", &evil, "{}").expect(403).json();
    assert_eq!(
        (&anthropic["type"], &anthropic["error"]["type"]),
        (&json!("error"), &json!("permission_error"))
    );
    let ollama = server.send("GET", "/api/tags", &evil, "").expect(403).json();
    assert!(ollama["error"].as_str().unwrap().contains("--allow-host"), "{ollama}");
    server.get("/api/chat").expect(405);
    server.get("/api/none").expect(404);
}
