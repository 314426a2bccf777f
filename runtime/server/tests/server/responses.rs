//! `/v1/responses`: answers that are remembered.

use engine::{GenerateOptions, Message, Role};
use serde_json::{Value, json};

use crate::support::{MODEL, Running, ask, base64, engine, png, user};

const RESPONSES: &str = "/v1/responses";

fn text(response: &Value) -> &str {
    let message =
        response["output"].as_array().unwrap().iter().find(|item| item["type"] == "message").unwrap();
    message["content"][0]["text"].as_str().unwrap()
}

#[test]
fn an_answer_goes_on_from_the_one_before() {
    let server = Running::start();
    let mut engine = engine();
    let greedy = GenerateOptions { max_tokens: 20, ..GenerateOptions::default() };
    let asked = |input: Value, previous: Option<&Value>| {
        let body = json!({
            "model": MODEL, "input": input, "instructions": "Be brief.", "temperature": 0, "max_output_tokens": 20,
            "previous_response_id": previous,
        });
        server.post(RESPONSES, &body).expect(200).json()
    };
    let system = Message::text(Role::System, "Be brief.");
    let first = asked(json!("Hi"), None);
    let expected = ask(&mut engine, &[system.clone(), user("Hi")], &greedy);
    assert_eq!(text(&first), expected.text);
    assert_eq!((&first["object"], &first["instructions"]), (&json!("response"), &json!("Be brief.")));
    assert_eq!(first["usage"]["input_tokens"], expected.prompt_tokens);

    let second = asked(
        json!([{ "role": "user", "content": [{ "type": "input_text", "text": "So?" }] }]),
        Some(&first["id"]),
    );
    let turns = [system, user("Hi"), Message::text(Role::Assistant, expected.text), user("So?")];
    assert_eq!(text(&second), ask(&mut engine, &turns, &greedy).text);
    assert_eq!(second["previous_response_id"], first["id"]);

    let path = format!("{RESPONSES}/{}", second["id"].as_str().unwrap());
    assert_eq!(server.get(&path).expect(200).json(), second);
    server.send("DELETE", &path, &[&server.host()], "").expect(200);
    server.get(&path).expect(404);
    let gone = json!({ "input": "x", "previous_response_id": second["id"] });
    let error = server.post(RESPONSES, &gone).expect(404).json();
    assert_eq!(error["error"]["param"], "previous_response_id");
    let unkept = json!({ "input": "Hi", "store": false, "max_output_tokens": 1 });
    let unkept = server.post(RESPONSES, &unkept).expect(200).json();
    server.get(&format!("{RESPONSES}/{}", unkept["id"].as_str().unwrap())).expect(404);
    assert_eq!(
        (&unkept["status"], &unkept["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );
}

#[test]
fn a_stream_is_the_answer_in_events() {
    let server = Running::start();
    let url = format!("data:image/png;base64,{}", base64(&png(60)));
    let input = json!([{ "role": "user", "content": [
        { "type": "input_text", "text": "What?" }, { "type": "input_image", "image_url": url, "detail": "auto" },
    ] }]);
    let body = json!({ "input": input, "temperature": 0, "max_output_tokens": 20, "stream": true });
    let events: Vec<Value> = server
        .post(RESPONSES, &body)
        .expect(200)
        .events()
        .iter()
        .map(|(name, data)| {
            let data: Value = serde_json::from_str(data).unwrap();
            assert_eq!(data["type"], name.as_str());
            data
        })
        .collect();
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], n, "{event}");
    }
    let deltas = events.iter().filter(|event| event["type"] == "response.output_text.delta");
    let streamed: String = deltas.map(|event| event["delta"].as_str().unwrap()).collect();
    let last = events.last().unwrap();
    assert_eq!(streamed, text(&last["response"]));
    assert_eq!(events[0]["type"], "response.created");
    let done = events.iter().find(|event| event["type"] == "response.output_item.done").unwrap();
    assert_eq!(done["item"], last["response"]["output"][0]);
}

#[test]
fn functions_are_called_and_answered() {
    let server = Running::start();
    let parameters = json!({ "type": "object", "properties": { "city": { "enum": ["Rome"] } }, "required": ["city"],
        "additionalProperties": false });
    let mut body = json!({
        "input": "Where?", "tool_choice": { "type": "function", "name": "weather" },
        "tools": [{ "type": "function", "name": "weather", "parameters": parameters, "strict": true }],
    });
    let first = server.post(RESPONSES, &body).expect(200).json();
    assert_eq!(first["tool_choice"], body["tool_choice"]);
    let call = &first["output"][0];
    assert_eq!((&call["type"], &call["name"]), (&json!("function_call"), &json!("weather")));
    assert_eq!(call["arguments"], "{\"city\":\"Rome\"}");
    body["previous_response_id"] = first["id"].clone();
    body["tool_choice"] = json!("none");
    body["max_output_tokens"] = json!(5);
    body["input"] =
        json!([{ "type": "function_call_output", "call_id": call["call_id"], "output": "Sunny." }]);
    let second = server.post(RESPONSES, &body).expect(200).json();
    assert!(!second["ocelli"]["notes"].to_string().contains("passes over"), "{second}");
    let form = json!({ "input": "Where?", "text": { "format": { "type": "json_schema", "name": "x", "schema": parameters } } });
    assert_eq!(text(&server.post(RESPONSES, &form).expect(200).json()), "{\"city\": \"Rome\"}");
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let server = Running::start();
    for (body, field) in [
        (json!({}), "input"),
        (json!({ "input": [] }), "input"),
        (json!({ "input": [{ "role": "robot", "content": "x" }] }), "input[0].role"),
        (json!({ "input": [{ "type": "computer_call" }] }), "input[0].type"),
        (
            json!({ "input": [{ "type": "function_call", "call_id": "1", "name": "f", "arguments": "[" }] }),
            "input[0].arguments",
        ),
        (json!({ "input": "x", "tools": [{ "type": "web_search" }] }), "tools[0].type"),
        (json!({ "input": "x", "background": true }), "background"),
        (json!({ "input": "x", "truncation": "some" }), "truncation"),
        (json!({ "input": "x", "max_output_tokens": -1 }), "max_output_tokens"),
        (json!({ "input": "x", "text": { "format": { "type": "xml" } } }), "text.format.type"),
    ] {
        let error = server.post(RESPONSES, &body).expect(400).json();
        assert_eq!(error["error"]["param"], field, "{error}");
    }
}

#[test]
fn too_long_conversations_are_cut_only_if_that_is_asked() {
    let server = Running::start();
    let limit = engine().context_limit();
    let mut messages = vec![json!({ "role": "system", "content": "Be brief." })];
    for i in 0..40 {
        messages.push(json!({ "role": "user", "content": format!("{i} {}", "word ".repeat(limit / 30)) }));
        messages.push(json!({ "role": "assistant", "content": "Yes." }));
    }
    messages.push(json!({ "role": "user", "content": "And now?" }));
    let mut body = json!({ "messages": messages, "temperature": 0, "max_tokens": 5 });
    let error = server.post("/v1/chat/completions", &body).expect(400).json();
    assert_eq!(error["error"]["code"], "context_length_exceeded");
    body["truncation"] = json!("auto");
    let answer = server.post("/v1/chat/completions", &body).expect(200).json();
    let n = answer["usage"]["prompt_tokens"].as_u64().unwrap() as usize;
    assert!(n < limit && n > limit / 2, "{n} of {limit}");
    assert!(
        answer["ocelli"]["notes"].to_string().contains("oldest messages of 82 were left out"),
        "{answer}"
    );
}
