//! Anthropic's API.

use engine::{GenerateOptions, Message, Part, Role};
use serde_json::{Value, json};

use crate::support::{MODEL, Running, ask, base64, engine, part, png};

#[test]
fn answers_are_those_of_the_engine() {
    let server = Running::start();
    let mut engine = engine();
    let png = png(90);
    let parts = vec![part(&engine, &png), Part::Text("What is this?".into())];
    let messages = [Message::text(Role::System, "Be brief."), Message { role: Role::User, parts }];
    let options = GenerateOptions { max_tokens: 20, ..GenerateOptions::default() };
    let expected = ask(&mut engine, &messages, &options);
    let mut body = json!({
        "model": MODEL,
        "max_tokens": 20,
        "temperature": 0,
        "system": [{ "type": "text", "text": "Be brief.", "cache_control": { "type": "ephemeral" } }],
        "messages": [{ "role": "user", "content": [
            { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": base64(&png) } },
            { "type": "text", "text": "What is this?" },
        ]}],
    });
    let counted = server.post("/v1/messages/count_tokens", &body).expect(200).json();
    assert_eq!(counted["input_tokens"], expected.prompt_tokens);

    let whole = server.post("/v1/messages", &body).expect(200).json();
    assert_eq!(whole["content"], json!([{ "type": "text", "text": expected.text }]));
    assert_eq!((&whole["type"], &whole["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!(whole["usage"]["input_tokens"], expected.prompt_tokens);
    assert_eq!(whole["usage"]["output_tokens"], expected.generated_tokens);

    body["stream"] = true.into();
    let events = server.post("/v1/messages", &body).expect(200).events();
    let mut names: Vec<&str> =
        events.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "ping").collect();
    names.dedup();
    assert_eq!(
        names,
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    let data: Vec<Value> = events.iter().map(|(_, data)| serde_json::from_str(data).unwrap()).collect();
    assert!(events.iter().zip(&data).all(|((name, _), data)| data["type"] == name.as_str()));
    let text: String = data.iter().filter_map(|data| data["delta"]["text"].as_str()).collect();
    assert_eq!(text, expected.text);
    let last = &data[data.len() - 2];
    assert_eq!(last["delta"]["stop_reason"], whole["stop_reason"]);
    // The second time, all but the last token was cached.
    assert_eq!(last["usage"]["cache_read_input_tokens"], expected.prompt_tokens - 1);
    assert_eq!(last["usage"]["input_tokens"], 1);
}

#[test]
fn the_stop_text_is_named() {
    let server = Running::start();
    let mut body = json!({
        "max_tokens": 30, "temperature": 0, "messages": [{ "role": "user", "content": "Hi" }],
    });
    let full = server.post("/v1/messages", &body).expect(200).json();
    let text = full["content"][0]["text"].as_str().unwrap().to_owned();
    let stop: String = text.chars().skip(text.chars().count() / 2).take(1).collect();
    body["stop_sequences"] = json!(["\u{1}never", stop]);
    let stopped = server.post("/v1/messages", &body).expect(200).json();
    assert_eq!((&stopped["stop_reason"], &stopped["stop_sequence"]), (&json!("stop_sequence"), &json!(stop)));
    assert_eq!(stopped["content"][0]["text"], text.split(&stop).next().unwrap());
}

#[test]
fn errors_have_its_shape() {
    let server = Running::start();
    for (body, field) in [
        (json!({ "messages": [{ "role": "user", "content": "Hi" }] }), "max_tokens"),
        (json!({ "max_tokens": 1, "messages": [{ "role": "robot", "content": "Hi" }] }), "messages[0].role"),
        (
            json!({ "max_tokens": 1, "messages": [{ "role": "user", "content": [{ "type": "document" }] }] }),
            "messages[0].content[0].type",
        ),
        (json!({ "max_tokens": 1, "messages": [], "tools": [] }), "messages"),
    ] {
        let error = server.post("/v1/messages", &body).expect(400).json();
        assert_eq!(
            (&error["type"], &error["error"]["type"]),
            (&json!("error"), &json!("invalid_request_error"))
        );
        assert!(error["error"]["message"].as_str().unwrap().starts_with(&format!("{field}: ")), "{error}");
    }
    let error = server.post("/v1/messages/none", &json!({})).expect(404).json();
    assert_eq!(error["error"]["type"], "not_found_error");
}
