//! Tools and forms of answers, in the words of each API. The model knows no tools, so nothing but the grammar
//! can make its calls right.

use serde_json::{Value, json};

use crate::support::{MODEL, Running, base64, png};

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "city": { "enum": ["Paris", "Rome"] },
            "days": { "type": "integer", "minimum": 1, "maximum": 9 },
        },
        "required": ["city", "days"],
        "additionalProperties": false,
    })
}

#[track_caller]
fn check(arguments: &Value) {
    let members = arguments.as_object().unwrap();
    assert_eq!(members.len(), 2, "{arguments}");
    assert!(matches!(arguments["city"].as_str(), Some("Paris" | "Rome")), "{arguments}");
    assert!((1..=9).contains(&arguments["days"].as_i64().unwrap()), "{arguments}");
}

#[track_caller]
fn check_text(text: &Value) {
    check(&serde_json::from_str(text.as_str().unwrap()).unwrap());
}

/// A text and a picture, as OpenAI's API takes them.
fn question() -> Value {
    let url = format!("data:image/png;base64,{}", base64(&png(60)));
    json!([{ "type": "text", "text": "Where?" }, { "type": "image_url", "image_url": { "url": url } }])
}

#[test]
fn openai_calls_tools_and_reads_their_results() {
    let server = Running::start();
    let tools = json!([{ "type": "function", "function": {
        "name": "weather", "description": "Tells the weather.", "parameters": schema(), "strict": true,
    } }]);
    let ask = |choice: Value, stream: bool| {
        json!({
            "model": MODEL, "messages": [{ "role": "user", "content": question() }], "tools": tools,
            "tool_choice": choice, "parallel_tool_calls": false, "temperature": 1, "seed": 3, "stream": stream,
        })
    };
    for choice in [json!("required"), json!({ "type": "function", "function": { "name": "weather" } })] {
        let whole = server.post("/v1/chat/completions", &ask(choice.clone(), false)).expect(200).json();
        let choice_0 = &whole["choices"][0];
        assert_eq!(
            (&choice_0["finish_reason"], &choice_0["message"]["content"]),
            (&json!("tool_calls"), &Value::Null)
        );
        let call = &choice_0["message"]["tool_calls"][0];
        assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("weather")));
        check_text(&call["function"]["arguments"]);
        assert!(whole["ocelli"]["timings"]["mask_ms"].as_f64().unwrap() > 0.0, "{whole}");

        let chunks = server.post("/v1/chat/completions", &ask(choice, true)).expect(200).chunks();
        let deltas: Vec<&Value> = chunks
            .iter()
            .flat_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array())
            .flatten()
            .collect();
        assert_eq!((deltas.len(), &deltas[0]["index"]), (1, &json!(0)));
        assert_eq!(deltas[0]["function"], call["function"]);
        assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");

        let mut next = ask(json!("none"), false);
        next["max_tokens"] = json!(5);
        let turns = next["messages"].as_array_mut().unwrap();
        turns.push(choice_0["message"].clone());
        turns.push(json!({ "role": "tool", "tool_call_id": call["id"], "content": "Sunny." }));
        let answer = server.post("/v1/chat/completions", &next).expect(200).json();
        assert_eq!(answer["choices"][0]["message"]["tool_calls"], Value::Null);
        let notes = answer["ocelli"]["notes"].to_string();
        assert!(!notes.contains("passes over") && !notes.contains("not known"), "{notes}");
    }
}

#[test]
fn openai_answers_have_their_form() {
    let server = Running::start();
    let ask = |name: &str, value: Value| {
        let mut body =
            json!({ "messages": [{ "role": "user", "content": question() }], "temperature": 1, "seed": 5 });
        body[name] = value;
        let whole = server.post("/v1/chat/completions", &body).expect(200).json();
        assert_eq!(whole["choices"][0]["finish_reason"], "stop", "{whole}");
        whole["choices"][0]["message"]["content"].clone()
    };
    let named = json!({ "type": "json_schema", "json_schema": { "name": "place", "strict": true, "schema": schema() } });
    check_text(&ask("response_format", named));
    check_text(&ask("structured_outputs", json!({ "json": schema() })));
    assert!(matches!(
        ask("structured_outputs", json!({ "choice": ["a", "b\"c"] })).as_str(),
        Some("a" | "b\"c")
    ));
    let text = ask("structured_outputs", json!({ "regex": "[0-9]{4}" }));
    assert!(text.as_str().is_some_and(|text| text.len() == 4 && text.parse::<u16>().is_ok()), "{text}");
    let text = ask("structured_outputs", json!({ "grammar": "start: \"x\" | \"y\"" }));
    assert!(matches!(text.as_str(), Some("x" | "y")));
}

#[test]
fn anthropic_calls_tools_and_reads_their_results() {
    let server = Running::start();
    let image = json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": base64(&png(60)) } });
    let mut body = json!({
        "model": MODEL, "max_tokens": 200, "temperature": 1,
        "messages": [{ "role": "user", "content": [{ "type": "text", "text": "Where?" }, image] }],
        "tools": [{ "name": "weather", "description": "Tells the weather.", "input_schema": schema() }],
        "tool_choice": { "type": "any", "disable_parallel_tool_use": true },
    });
    let whole = server.post("/v1/messages", &body).expect(200).json();
    assert_eq!(whole["stop_reason"], "tool_use");
    let call = &whole["content"][0];
    assert_eq!((&call["type"], &call["name"]), (&json!("tool_use"), &json!("weather")));
    check(&call["input"]);

    body["stream"] = true.into();
    let events = server.post("/v1/messages", &body).expect(200).events();
    let data: Vec<Value> = events.iter().map(|(_, data)| serde_json::from_str(data).unwrap()).collect();
    let start = data.iter().find(|event| event["type"] == "content_block_start").unwrap();
    assert_eq!(
        (&start["content_block"]["name"], &start["content_block"]["input"]),
        (&json!("weather"), &json!({}))
    );
    let delta = data.iter().find(|event| event["type"] == "content_block_delta").unwrap();
    check_text(&delta["delta"]["partial_json"]);

    body["stream"] = false.into();
    body["tool_choice"] = json!({ "type": "none" });
    body["max_tokens"] = json!(5);
    let turns = body["messages"].as_array_mut().unwrap();
    turns.push(json!({ "role": "assistant", "content": whole["content"] }));
    let result =
        json!({ "type": "tool_result", "tool_use_id": call["id"], "content": "Sunny.", "is_error": false });
    turns.push(json!({ "role": "user", "content": [result, { "type": "text", "text": "So?" }] }));
    let answer = server.post("/v1/messages", &body).expect(200).json();
    assert!(!answer["ocelli"]["notes"].to_string().contains("passes over"), "{answer}");

    let mut form = json!({ "max_tokens": 200, "messages": [{ "role": "user", "content": "Where?" }] });
    form["output_config"] = json!({ "format": { "type": "json_schema", "schema": schema() } });
    check_text(&server.post("/v1/messages", &form).expect(200).json()["content"][0]["text"]);
}

#[test]
fn ollama_calls_tools_and_keeps_to_formats() {
    let server = Running::start();
    let tool = json!({ "type": "function", "function": { "name": "weather", "parameters": schema() } });
    let mut body = json!({
        "model": MODEL, "messages": [{ "role": "user", "content": "Where?", "images": [base64(&png(60))] }],
        "tools": [tool], "tool_choice": "required", "parallel_tool_calls": false, "stream": false,
    });
    let whole = server.post("/api/chat", &body).expect(200).json();
    let call = &whole["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "weather");
    check(&call["arguments"]);
    body["stream"] = true.into();
    let lines = server.post("/api/chat", &body).expect(200).body;
    let calls: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["message"]["tool_calls"].is_array())
        .collect();
    assert_eq!(calls.len(), 1, "{lines}");

    let turns = json!([
        { "role": "user", "content": "Where?" }, whole["message"], { "role": "tool", "tool_name": "weather", "content": "Sunny." },
    ]);
    let form = json!({ "messages": turns, "format": schema(), "stream": false });
    check_text(&server.post("/api/chat", &form).expect(200).json()["message"]["content"]);
    let form = json!({ "prompt": "Where?", "format": schema(), "stream": false });
    check_text(&server.post("/api/generate", &form).expect(200).json()["response"]);
}
