//! OpenAI's API.

use std::ops::ControlFlow;

use engine::{GenerateOptions, Message, Part, Role};
use serde_json::{Value, json};

use crate::support::{MODEL, Running, ask, base64, engine, part, png, user};

const CHAT: &str = "/v1/chat/completions";

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, ..GenerateOptions::default() }
}

fn content(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

#[test]
fn answers_are_those_of_the_engine() {
    let server = Running::start();
    let mut engine = engine();
    let messages = [
        Message::text(Role::System, "Be brief."),
        user("Hi"),
        Message::text(Role::Assistant, "Hello."),
        user("Well?"),
    ];
    let sent = json!([
        { "role": "developer", "content": "Be brief." },
        { "role": "user", "content": "Hi" },
        { "role": "assistant", "content": "Hello." },
        { "role": "user", "content": [{ "type": "text", "text": "Well?" }] },
    ]);
    let sampled =
        GenerateOptions { temperature: 1.0, top_p: 0.9, seed: 7, presence_penalty: 0.5, ..greedy(40) };
    for (options, wishes) in [
        (greedy(24), json!({ "temperature": 0, "max_tokens": 24 })),
        (
            sampled,
            json!({ "temperature": 1, "top_p": 0.9, "seed": 7, "presence_penalty": 0.5, "max_completion_tokens": 40 }),
        ),
    ] {
        let expected = ask(&mut engine, &messages, &options);
        let mut body = json!({ "model": MODEL, "messages": sent });
        body.as_object_mut().unwrap().extend(wishes.as_object().unwrap().clone());
        let whole = server.post(CHAT, &body).expect(200).json();
        let choice = &whole["choices"][0];
        assert_eq!(choice["message"]["content"], expected.text.as_str());
        assert_eq!(choice["message"]["role"], "assistant");
        assert_eq!(choice["logprobs"], Value::Null);
        assert_eq!(whole["usage"]["prompt_tokens"], expected.prompt_tokens);
        assert_eq!(whole["usage"]["completion_tokens"], expected.generated_tokens);
        assert_eq!((&whole["object"], &whole["model"]), (&json!("chat.completion"), &json!(MODEL)));

        body["stream"] = true.into();
        body["stream_options"] = json!({ "include_usage": true });
        let chunks = server.post(CHAT, &body).expect(200).chunks();
        assert_eq!(content(&chunks), expected.text);
        let [.., finish, usage] = &chunks[..] else { panic!("{chunks:?}") };
        assert_eq!(finish["choices"][0]["finish_reason"], choice["finish_reason"]);
        assert_eq!(usage["choices"], json!([]));
        assert_eq!(usage["usage"]["total_tokens"], whole["usage"]["total_tokens"]);
        assert!(chunks[..chunks.len() - 1].iter().all(|chunk| chunk["usage"].is_null()));
        assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
    }
}

#[test]
fn pictures_are_seen_and_what_they_lose_is_told() {
    let server = Running::start();
    let mut engine = engine();
    let png = png(100);
    let parts = vec![part(&engine, &png), Part::Text("What is this?".into())];
    let expected = ask(&mut engine, &[Message { role: Role::User, parts }], &greedy(32));
    let url = format!("data:image/png;base64,{}", base64(&png));
    let body = json!({
        "messages": [{ "role": "user", "content": [
            { "type": "image_url", "image_url": { "url": url, "detail": "auto" } },
            { "type": "text", "text": "What is this?" },
        ]}],
        "temperature": 0,
        "max_tokens": 32,
        "colour": "blue",
    });
    let whole = server.post(CHAT, &body).expect(200).json();
    assert_eq!(whole["choices"][0]["message"]["content"], expected.text.as_str());
    assert_eq!(whole["usage"]["prompt_tokens"], expected.prompt_tokens);
    let notes: Vec<&str> =
        whole["ocelli"]["notes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(notes.contains(&"`colour` is not known here and was ignored"), "{notes:?}");
    for note in &expected.notes {
        assert!(notes.contains(&note.as_str()), "{note} is not in {notes:?}");
    }
    assert!(expected.notes.iter().any(|note| note.contains("resized from 100x100")), "{:?}", expected.notes);
    let [sight] = &whole["ocelli"]["pictures"].as_array().unwrap()[..] else { panic!("{whole}") };
    assert_eq!(sight["original"], json!([100, 100]));
    let n = |value: &Value| value.as_u64().unwrap();
    let block = n(&sight["patch_size"]) * n(&sight["merge_size"]);
    assert_eq!(n(&sight["n_tokens"]), n(&sight["resized"][0]) / block * (n(&sight["resized"][1]) / block));

    // The same picture and question again: all but the last token is cached.
    let again = server.post(CHAT, &body).expect(200).json();
    let cached = &again["usage"]["prompt_tokens_details"]["cached_tokens"];
    assert_eq!(cached, expected.prompt_tokens - 1);
    assert_eq!(again["choices"], whole["choices"]);
}

#[test]
fn probabilities_belong_to_the_text() {
    let server = Running::start();
    let body = json!({
        "messages": [{ "role": "user", "content": "Hi" }],
        "temperature": 0,
        "max_tokens": 12,
        "logprobs": true,
        "top_logprobs": 3,
    });
    let whole = server.post(CHAT, &body).expect(200).json();
    let tokens = whole["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let bytes: Vec<u8> = tokens
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap())
        .map(|byte| byte.as_u64().unwrap() as u8)
        .collect();
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), text);
    for token in tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        // Greedily, the chosen token is the likeliest one.
        assert_eq!((&token["token"], &token["logprob"]), (&top[0]["token"], &top[0]["logprob"]));
        let mass: f64 = top.iter().map(|token| token["logprob"].as_f64().unwrap().exp()).sum();
        assert!(mass > 0.0 && mass <= 1.0 + 1e-5, "{mass}");
    }
    let mut streamed = body;
    streamed["stream"] = true.into();
    let chunks = server.post(CHAT, &streamed).expect(200).chunks();
    let of_chunks: Vec<&Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .collect();
    assert_eq!(of_chunks.len(), tokens.len());
    for (streamed, token) in of_chunks.into_iter().zip(tokens) {
        assert_eq!(streamed["bytes"], token["bytes"]);
        // The prompt was cached by then, and fewer rows at once are added up in another order.
        let difference = streamed["logprob"].as_f64().unwrap() - token["logprob"].as_f64().unwrap();
        assert!(difference.abs() < 1e-3, "{streamed} {token}");
    }
}

#[test]
fn many_at_once_answer_as_each_alone() {
    let server = Running::start();
    let mut engine = engine();
    let png = png(84);
    let ask_for = |i: u64| {
        let text = format!("What do you think about number {i}?");
        let image =
            json!({ "type": "image_url", "image_url": format!("data:image/png;base64,{}", base64(&png)) });
        let mut parts = vec![json!({ "type": "text", "text": text })];
        if i.is_multiple_of(3) {
            parts.insert(0, image);
        }
        let body = json!({
            "messages": [{ "role": "user", "content": parts }],
            "temperature": 1, "seed": i, "max_tokens": 30 + i, "stream": i.is_multiple_of(2), "ignore_eos": true,
        });
        let reply = server.post(CHAT, &body).expect(200);
        match i % 2 {
            0 => content(&reply.chunks()),
            _ => reply.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned(),
        }
    };
    let found: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|i| scope.spawn(move || ask_for(i))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (i, found) in (0..).zip(found) {
        let mut parts = vec![Part::Text(format!("What do you think about number {i}?"))];
        if i % 3 == 0 {
            parts.insert(0, part(&engine, &png));
        }
        let options =
            GenerateOptions { temperature: 1.0, seed: i, ignore_eos: true, ..greedy(30 + i as usize) };
        let expected = ask(&mut engine, &[Message { role: Role::User, parts }], &options);
        assert_eq!(found, expected.text, "request {i}");
    }
    // Some answers were decoded together.
    let metrics = server.get("/metrics").expect(200).body;
    let of = |name: &str| -> f64 {
        metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap()
    };
    assert!(of("ocelli_decode_batch_size_sum") > of("ocelli_decode_batch_size_count"), "{metrics}");
}

#[test]
fn stop_texts_end_the_answer() {
    let server = Running::start();
    let mut engine = engine();
    let full = ask(&mut engine, &[user("Hi")], &greedy(30)).text;
    let stop = full.char_indices().nth(full.chars().count() / 2).map(|(at, _)| &full[at..at + 1]).unwrap();
    let body = json!({
        "messages": [{ "role": "user", "content": "Hi" }],
        "temperature": 0, "max_tokens": 30, "stop": [stop],
    });
    let whole = server.post(CHAT, &body).expect(200).json();
    assert_eq!(whole["choices"][0]["message"]["content"], full.split(stop).next().unwrap());
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
}

#[test]
fn a_text_goes_on_without_a_template() {
    let server = Running::start();
    let body = json!({ "prompt": "The picture shows", "temperature": 0, "max_tokens": 8 });
    let whole = server.post("/v1/completions", &body).expect(200).json();
    let mut engine = engine();
    let prompt = engine.format().plain_prompt("The picture shows");
    let listen = &mut |_| ControlFlow::Continue(());
    let expected = pollster::block_on(engine.generate(&prompt, &greedy(8), listen)).unwrap();
    assert_eq!(whole["choices"][0]["text"], expected.text.as_str());
    let mut streamed = body;
    streamed["stream"] = true.into();
    let chunks = server.post("/v1/completions", &streamed).expect(200).chunks();
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, expected.text);
}

#[test]
fn the_model_is_listed() {
    let server = Running::start();
    let list = server.get("/v1/models").expect(200).json();
    assert_eq!(list["data"][0]["id"], MODEL);
    assert_eq!(server.get(&format!("/v1/models/{MODEL}")).expect(200).json(), list["data"][0]);
    let missing = server.get("/v1/models/gpt-4").expect(404).json();
    assert!(missing["error"]["message"].as_str().unwrap().contains(MODEL), "{missing}");
}
