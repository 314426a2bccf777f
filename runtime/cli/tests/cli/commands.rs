//! `chat`, `inspect` and `eval`.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{ocelli, ocelli_reading, picture, recorded, world};

#[test]
fn a_conversation_can_come_from_a_pipe() {
    let dir = world();
    picture(&dir.path().join("a.png"), 56, 56);
    let args = ["chat", "--model", "model", "--max-tokens", "5"];
    let lines =
        "Hello!\n/image a.png\nWhat is this?\n/stats\n\n/system Be brief.\n/reset\nHello!\n/exit\nunheard\n";
    let run = ocelli_reading(dir.path(), &args, lines).expect(0);
    assert!(run.stdout.lines().count() >= 3, "{run:#?}");
    assert!(run.stderr.contains("a.png (56x56, 4 tokens)"), "{run:#?}");
    assert!(run.stderr.contains("tokens/s"), "{run:#?}");
    // Greedy, so the first answer comes again when only quiet is different.
    let again = ocelli_reading(dir.path(), &[&args[..], &["--quiet"]].concat(), "Hello!\n").expect(0);
    assert!(run.stdout.starts_with(&again.stdout), "{run:#?}\n{again:#?}");
}

#[test]
fn a_script_learns_that_a_message_failed() {
    let dir = world();
    let args = ["chat", "--model", "model", "--max-tokens", "3"];
    let run = ocelli_reading(dir.path(), &args, "/imgae a.png\n/image none.png\nHello!\n").expect(1);
    assert!(run.stderr.contains("no command /imgae") && run.stderr.contains("none.png"), "{run:#?}");
    assert!(!run.stdout.is_empty(), "{run:#?}");
}

#[test]
fn a_line_that_is_no_text_is_not_sent() {
    let dir = world();
    let args = ["chat", "--model", "model", "--max-tokens", "3"];
    let run = ocelli_reading(dir.path(), &args, b"\xff\xfe\r\nHello!\r\n").expect(1);
    assert!(run.stderr.contains("not UTF-8"), "{run:#?}");
    assert_eq!(run.stdout, ocelli_reading(dir.path(), &args, "Hello!").expect(0).stdout);
}

#[test]
fn a_conversation_that_is_too_long_can_be_left() {
    let dir = world();
    let args = ["chat", "--model", "model", "--max-tokens", "3"];
    let lines = format!("Hello!\n{}\n/reset\nHello!\n", "far too much ".repeat(2000));
    let run = ocelli_reading(dir.path(), &args, lines).expect(1);
    assert!(run.stderr.contains("/reset begins a new conversation: the prompt has"), "{run:#?}");
    let first = ocelli_reading(dir.path(), &args, "Hello!").expect(0).stdout;
    assert_eq!(run.stdout, first.repeat(2));
}

#[test]
fn answers_do_not_depend_on_threads() {
    let dir = world();
    let ask = |threads: &str| {
        let args = ["ask", "--model", "model", "--max-tokens", "9", "--threads", threads, "Hello?"];
        ocelli(dir.path(), &args).expect(0).stdout
    };
    assert_eq!(ask("1"), ask("3"));
}

fn report(args: &[&str]) -> Value {
    ocelli(Path::new("."), args).expect(0).json().remove(0)
}

#[test]
fn inspect_counts_what_is_there() {
    for case in
        ["dense", "moe", "vl_image", "vl_converted", "gguf_q8_0/model.gguf", "gguf_moe_mixed/model.gguf"]
    {
        let path = recorded(case);
        let path = path.to_str().unwrap();
        let report = report(&["inspect", path, "--json", "--tensors"]);
        let sum = |key: &str| -> u64 {
            report["stored"].as_object().unwrap().values().map(|stored| stored[key].as_u64().unwrap()).sum()
        };
        let tensors = report["tensors"].as_array().unwrap();
        assert_eq!(sum("tensors"), tensors.len() as u64, "{case}");
        assert!(report["parameters"].as_u64().unwrap() <= sum("values"), "{case}");
        assert_eq!(report["published"], Value::Null);
        let memory = &report["memory"];
        assert!(
            memory["weights_read_per_token_bytes"].as_u64() <= memory["weights_bytes"].as_u64(),
            "{case}"
        );
        assert!(memory["weights_bytes"].as_u64().unwrap() <= sum("bytes"), "{case}");
        let text = ocelli(Path::new("."), &["inspect", path]).expect(0).stdout;
        assert!(text.contains("parameters") && text.contains("memory"), "{text}");
    }
    let vl = report(&["inspect", recorded("vl_image").to_str().unwrap(), "--json"]);
    assert_eq!(
        vl["ignored"],
        json!([{"name": "lm_head.weight", "reason": "copy of the embedding, to which the head is tied"}])
    );
    // 3 layers, 2 heads of 16 features, keys and values in f32.
    assert_eq!(vl["memory"]["kv_bytes_per_token"], 3 * 2 * 2 * 16 * 2);
    assert!(vl["tokenizer"]["error"].is_string(), "{vl}");
}

#[test]
fn eval_computes_a_case() {
    let dir = world();
    let (model, input) = (recorded("vl_image"), recorded("vl_image/input.safetensors"));
    let args = ["eval", "--model", model.to_str().unwrap(), "--input", input.to_str().unwrap()];
    let rest = ["--output", "out.safetensors", "--generate", "3", "--hidden", "--dtype", "f32"];
    ocelli(dir.path(), &[&args[..], &rest].concat()).expect(0);
    let out = std::fs::read(dir.path().join("out.safetensors")).unwrap();
    let header_len = u64::from_le_bytes(out[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&out[8..8 + header_len]).unwrap();
    for name in
        ["logits", "position_ids", "vision_out", "resampler_out", "hidden.embed", "hidden.norm", "greedy_ids"]
    {
        assert!(header[name].is_object(), "{name}: {header}");
    }
    let run = ocelli(dir.path(), &["eval", "--model", "none", "--input", "x", "--output", "y"]).expect(2);
    assert!(run.stderr.contains("none"), "{run:#?}");
}

#[test]
fn eval_serves_lines_and_survives_bad_ones() {
    let dir = world();
    let requests = [
        "{\"id\":1,\"op\":\"tokenize\",\"text\":\"a\"}",
        "nonsense",
        "{\"id\":2,\"op\":\"load\",\"model\":\"model\",\"dtype\":\"f32\"}",
        "{\"id\":3,\"op\":\"tokenize\",\"text\":\"hello\"}",
    ];
    let run = ocelli_reading(dir.path(), &["eval"], requests.join("\n")).expect(0);
    let answers = run.json();
    let ok: Vec<_> = answers.iter().map(|answer| answer["ok"].as_bool().unwrap()).collect();
    assert_eq!(ok, [false, false, true, true], "{answers:?}");
    assert_eq!(answers[2]["id"], 2);
    assert!(answers[3]["ids"].is_array());
}
