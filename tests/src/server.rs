//! Evaluation as lines of JSON.

use std::fs;
use std::path::PathBuf;

use engine::eval::EvalServer;
use serde_json::{Value, json};

use crate::recorded::{TOLERANCE, case, folder, read, relative_error};

/// A folder that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ocelli-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn ask(server: &mut EvalServer, request: &Value) -> Value {
    server.answer(request.to_string().as_bytes())
}

fn load(server: &mut EvalServer, name: &str) -> Value {
    ask(server, &json!({"id": 1, "op": "load", "model": case(name).model, "dtype": "f32"}))
}

#[test]
fn a_case_is_evaluated_whatever_was_asked_before() {
    let scratch = Scratch::new("order");
    let mut server = EvalServer::default();
    let loaded = load(&mut server, "vl_image");
    assert_eq!((&loaded["ok"], &loaded["arch"]), (&json!(true), &json!("ernie4_5_moe_vl")), "{loaded}");
    assert!(loaded["params"].as_u64().is_some_and(|n| n > 1000));
    let mut outputs = Vec::new();
    for (i, name) in ["vl_image", "vl_video", "vl_text", "vl_image"].into_iter().enumerate() {
        let output = scratch.0.join(format!("{i}.safetensors"));
        let answer = ask(
            &mut server,
            &json!({
                "id": name, "op": "eval", "input": case(name).input, "output": output,
                "max_new_tokens": 16, "capture": ["logits", "hidden", "router", "vision"],
            }),
        );
        assert_eq!((&answer["id"], &answer["ok"]), (&json!(name), &json!(true)), "{answer}");
        assert!(answer["prefill_ms"].is_number() && answer["decode_ms"].is_number());
        let written = read(&output);
        for array in case(name).expected.names() {
            assert_eq!(written.shape(array), case(name).expected.shape(array), "{name} {array}");
        }
        let (_, tensor::weights::NamedArray::F32(found)) = written.array("greedy_logits").unwrap().unwrap()
        else {
            panic!("logits are floats");
        };
        assert!(relative_error(&found, &case(name).expected_f32("greedy_logits")) <= TOLERANCE);
        outputs.push(fs::read(&output).unwrap());
    }
    assert_eq!(outputs[0], outputs[3]);
}

#[test]
fn chosen_rows_come_in_the_order_asked_for_and_unknown_inputs_are_named() {
    let scratch = Scratch::new("rows");
    let (input, output) = (scratch.0.join("in.safetensors"), scratch.0.join("out.safetensors"));
    let (shape, ids) = read(&case("dense").input).array("input_ids").unwrap().unwrap();
    let rows = tensor::weights::NamedArray::I64(vec![5, 0, 5]);
    let unknown = tensor::weights::NamedArray::F32(vec![1.0]);
    let arrays = [("input_ids", shape, ids), ("logits_rows", vec![3], rows), ("odd", vec![1], unknown)];
    fs::write(&input, tensor::weights::write_safetensors(&arrays).unwrap()).unwrap();
    let mut server = EvalServer::default();
    load(&mut server, "dense");
    let answer = ask(&mut server, &json!({"op": "eval", "input": input, "output": output}));
    assert_eq!(answer["ok"], true, "{answer}");
    assert!(answer["warnings"][0].as_str().unwrap().contains("`odd`"), "{answer}");
    let expected = case("dense").expected_f32("logits");
    let expected: Vec<f32> = [5, 0, 5].iter().flat_map(|r| expected[r * 200..][..200].to_vec()).collect();
    let (_, tensor::weights::NamedArray::F32(found)) = read(&output).array("logits").unwrap().unwrap() else {
        panic!("logits are floats");
    };
    assert!(relative_error(&found, &expected) <= TOLERANCE);
}

#[test]
fn every_bad_request_is_answered() {
    let mut requests: Vec<Vec<u8>> = [
        "{",
        "[]",
        "null",
        "\"load\"",
        "{}",
        r#"{"id":1}"#,
        r#"{"id":1,"op":"fly"}"#,
        r#"{"id":1,"op":"load"}"#,
        r#"{"id":1,"op":"load","model":"/nowhere"}"#,
        r#"{"id":1,"op":"load","model":"/nowhere","dtype":"f8"}"#,
        r#"{"id":1,"op":"eval","input":"/nowhere","output":"/nowhere"}"#,
        r#"{"id":1,"op":"tokenize","text":"a"}"#,
        r#"{"id":1,"op":"detokenize","ids":[-1]}"#,
        r#"{"id":1,"op":"preprocess","images":["/nowhere"],"output":"/nowhere"}"#,
        r#"{"id":1,"op":"chat","messages":3,"template_file":"/nowhere"}"#,
    ]
    .map(|line| line.as_bytes().to_vec())
    .into();
    requests.push(vec![0xff, 0xfe]);
    requests.push("[".repeat(100_000).into_bytes());
    requests.push(vec![b'1'; (16 << 20) + 2]);
    requests.push(br#"{"id":"last","op":"load","model":""}"#.to_vec());
    let mut answers = Vec::new();
    EvalServer::default().serve(&mut requests.join(&b'\n').as_slice(), &mut answers).unwrap();
    let answers: Vec<Value> =
        String::from_utf8(answers).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), requests.len());
    for answer in &answers {
        assert_eq!(answer["ok"], false, "{answer}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    assert_eq!(answers.last().unwrap()["id"], "last");
}

#[test]
fn a_failed_load_leaves_no_model() {
    let mut server = EvalServer::default();
    assert_eq!(load(&mut server, "dense")["ok"], true);
    ask(&mut server, &json!({"op": "load", "model": "/nowhere"}));
    let answer = ask(&mut server, &json!({"id": 7, "op": "eval", "input": "/nowhere", "output": "/nowhere"}));
    assert!(answer["error"].as_str().unwrap().contains("no model is loaded"), "{answer}");
}

#[test]
fn a_conversation_is_rendered_by_a_template_file() {
    let conversations: Value =
        serde_json::from_slice(&fs::read(folder("chat").join("conversations.json")).unwrap()).unwrap();
    assert!(conversations.is_object() || conversations.is_array());
    let answer = ask(
        &mut EvalServer::default(),
        &json!({
            "id": 5, "op": "chat", "template_file": folder("chat").join("text.jinja"),
            "messages": [{"role": "user", "content": "Hi"}], "add_generation_prompt": true, "kwargs": {}, "tools": null,
        }),
    );
    assert_eq!(answer["ok"], true, "{answer}");
    assert!(answer["text"].as_str().unwrap().contains("User: Hi"), "{answer}");
}
