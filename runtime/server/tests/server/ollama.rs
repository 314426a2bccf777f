//! Ollama's API.

use engine::{GenerateOptions, Message, Part, Role};
use serde_json::{Value, json};

use crate::support::{MODEL, Running, ask, base64, engine, part, png, user};

fn lines(body: &str) -> Vec<Value> {
    body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn chats_are_those_of_the_engine() {
    let server = Running::start();
    let mut engine = engine();
    let png = png(90);
    let parts = vec![part(&engine, &png), Part::Text("What is this?".into())];
    let options = GenerateOptions { max_tokens: 20, ..GenerateOptions::default() };
    let expected = ask(&mut engine, &[Message { role: Role::User, parts }], &options);
    let mut body = json!({
        "model": format!("{MODEL}:latest"),
        "messages": [{ "role": "user", "content": "What is this?", "images": [base64(&png)] }],
        "options": { "temperature": 0, "num_predict": 20, "num_ctx": 512 },
        "keep_alive": "5m",
    });
    let reply = server.post("/api/chat", &body).expect(200);
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    let lines = lines(&reply.body);
    let text: String = lines.iter().filter_map(|line| line["message"]["content"].as_str()).collect();
    assert_eq!(text, expected.text);
    let (last, others) = lines.split_last().unwrap();
    assert!(others.iter().all(|line| line["done"] == false) && last["done"] == true, "{lines:?}");
    assert_eq!(last["prompt_eval_count"], expected.prompt_tokens);
    assert_eq!(last["eval_count"], expected.generated_tokens);
    assert!(last["ocelli"]["notes"].to_string().contains("`options.num_ctx` is not known"), "{last}");

    body["stream"] = false.into();
    let whole = server.post("/api/chat", &body).expect(200).json();
    assert_eq!(whole["message"]["content"], expected.text.as_str());
    assert_eq!(whole["done_reason"], last["done_reason"]);
}

#[test]
fn a_prompt_is_a_message_unless_it_is_raw() {
    let server = Running::start();
    let mut engine = engine();
    let options = GenerateOptions { max_tokens: 12, ..GenerateOptions::default() };
    let expected = ask(&mut engine, &[Message::text(Role::System, "Be brief."), user("Hi")], &options);
    let greedy = json!({ "temperature": 0, "num_predict": 12 });
    let body = json!({ "prompt": "Hi", "system": "Be brief.", "stream": false, "options": greedy });
    let whole = server.post("/api/generate", &body).expect(200).json();
    assert_eq!(whole["response"], expected.text.as_str());
    let raw = json!({ "prompt": "Hi", "raw": true, "stream": false, "options": greedy });
    let raw = server.post("/api/generate", &raw).expect(200).json();
    assert!(raw["prompt_eval_count"].as_u64() < whole["prompt_eval_count"].as_u64(), "{raw} {whole}");
}

#[test]
fn models_are_told_and_errors_have_its_shape() {
    let server = Running::start();
    let tags = server.get("/api/tags").expect(200).json();
    assert_eq!(tags["models"][0]["name"], MODEL);
    assert!(tags["models"][0]["size"].as_u64().unwrap() > 1_000_000);
    let show = server.post("/api/show", &json!({ "model": MODEL })).expect(200).json();
    assert!(show["capabilities"].as_array().unwrap().contains(&json!("vision")));
    assert!(server.get("/api/version").expect(200).json()["version"].is_string());
    let loaded = server.post("/api/chat", &json!({ "model": MODEL })).expect(200).json();
    assert_eq!((&loaded["done"], &loaded["done_reason"]), (&json!(true), &json!("load")));
    let missing = server.post("/api/chat", &json!({ "model": "llama3" })).expect(404).json();
    assert!(missing["error"].as_str().unwrap().contains("`llama3` is not served here"), "{missing}");
    let format = json!({ "messages": [{ "role": "user", "content": "Hi" }], "format": "xml" });
    let refused = server.post("/api/chat", &format).expect(400).json();
    assert!(refused["error"].as_str().unwrap().starts_with("format: "), "{refused}");
}
