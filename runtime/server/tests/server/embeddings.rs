//! `/v1/embeddings`: vectors for texts.

use std::ops::ControlFlow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{MODEL, Running, engine};

const EMBEDDINGS: &str = "/v1/embeddings";

fn vector(embedding: &Value) -> Vec<f32> {
    embedding.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

#[test]
fn a_vector_is_the_one_of_the_engine_in_either_spelling() {
    let server = Running::start();
    let mut engine = engine();
    let texts = ["A red circle.", "Two apples on a table", "A red circle."];
    let told = server.post(EMBEDDINGS, &json!({ "model": MODEL, "input": texts })).expect(200).json();
    let mut n_tokens = 0;
    for (i, text) in texts.iter().enumerate() {
        let prompt = engine.format().plain_prompt(text);
        n_tokens += prompt.input.token_ids.len();
        let go_on = &mut || ControlFlow::Continue(());
        // Whatever the chunks, the bits are the same.
        let expected = pollster::block_on(engine.embed(&prompt, 1, go_on)).unwrap();
        let found = &told["data"][i];
        assert_eq!((&found["index"], vector(&found["embedding"])), (&json!(i), expected.clone()));
        let length: f32 = expected.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
        let body = json!({ "input": text, "encoding_format": "base64" });
        let spelt = server.post(EMBEDDINGS, &body).expect(200).json();
        let bytes = STANDARD.decode(spelt["data"][0]["embedding"].as_str().unwrap()).unwrap();
        assert_eq!(bytes, expected.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
    }
    assert_eq!(told["usage"]["prompt_tokens"], n_tokens);
    assert_eq!(told["data"][0]["embedding"], told["data"][2]["embedding"]);
    assert_ne!(told["data"][0]["embedding"], told["data"][1]["embedding"]);
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let server = Running::start();
    for (body, field) in [
        (json!({}), "input"),
        (json!({ "input": [] }), "input"),
        (json!({ "input": 5 }), "input"),
        (json!({ "input": ["a", ""] }), "input[1]"),
        (json!({ "input": [[1, 2]] }), "input[0]"),
        (json!({ "input": vec!["a"; 257] }), "input"),
        (json!({ "input": "a", "encoding_format": "int8" }), "encoding_format"),
        (json!({ "input": "a", "dimensions": 3 }), "dimensions"),
        (json!({ "input": "a", "dimensions": -1 }), "dimensions"),
    ] {
        let error = server.post(EMBEDDINGS, &body).expect(400).json();
        assert_eq!(error["error"]["param"], field, "{error}");
    }
    let long = json!({ "input": "word ".repeat(20_000) });
    let error = server.post(EMBEDDINGS, &long).expect(400).json();
    assert_eq!(error["error"]["code"], "context_length_exceeded");
}
