//! Damaged files and nonsense requests are answered with an error: no panic, no hang.

#[path = "support/damage.rs"]
mod damage;
#[path = "../../../tests/random.rs"]
mod random;
mod support;

use std::borrow::Cow;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use engine::chat_template::{ChatTemplate, RenderOptions};
use engine::eval::EvalServer;
use engine::{Device, ModelFiles};
use random::Random;
use serde_json::{Value, json};
use support::{model_files, recorded, tiny_files};

fn file<'a>(files: &'a mut [(String, Vec<u8>)], name: &str) -> &'a mut Vec<u8> {
    &mut files.iter_mut().find(|(found, _)| found == name).unwrap().1
}

/// An own folder for a test.
fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Opening with one file replaced.
fn open_with(name: &str, content: impl Into<Vec<u8>>) -> Result<(), String> {
    let mut files = tiny_files();
    *file(&mut files, name) = content.into();
    support::open(&model_files(&files), Device::Cpu).map(drop).map_err(|error| error.to_string())
}

#[test]
fn every_file_of_a_model_may_be_damaged() {
    let mut random = Random(1);
    for (name, content) in tiny_files() {
        for _ in 0..40 {
            let _ = open_with(&name, random.damage(&content, 3000));
        }
        let error = open_with(&name, content[..content.len() / 2].to_vec());
        // Half a template may be a whole one.
        assert!(error.is_err() || name.ends_with(".jinja"), "{name}");
        let _ = open_with(&name, "");
        let _ = open_with(&name, vec![0; 4096]);
        let _ = open_with(&name, "[".repeat(1 << 16));
    }
}

#[test]
fn absurd_numbers_in_a_configuration_are_refused() {
    for name in ["config.json", "preprocessor_config.json"] {
        let good = tiny_files().swap_remove(if name == "config.json" { 0 } else { 4 }).1;
        let good: Value = serde_json::from_slice(&good).unwrap();
        for key in good.as_object().unwrap().keys() {
            for value in [
                json!(0),
                json!(-1),
                json!(1e300),
                json!(u64::MAX),
                json!(1_u64 << 31),
                json!("x"),
                json!([]),
            ] {
                let mut damaged = good.clone();
                damaged[key] = value;
                let _ = open_with(name, damaged.to_string());
            }
        }
    }
}

#[test]
fn shards_lie_beside_their_index() {
    let dir = scratch("shards");
    for entry in std::fs::read_dir(recorded("dense_sharded")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
    let check = |index: &str| {
        std::fs::write(dir.join("model.safetensors.index.json"), index).unwrap();
        ModelFiles::open(&dir).and_then(|files| files.checkpoint()).map(drop).map_err(|e| e.to_string())
    };
    let good = std::fs::read_to_string(recorded("dense_sharded/model.safetensors.index.json")).unwrap();
    assert_eq!(check(&good), Ok(()));
    for name in [
        "../model.safetensors",
        "/etc/passwd.safetensors",
        "sub/model.safetensors",
        r"..\model.safetensors",
        "C:model.safetensors",
        "config.json",
        "model.safetensors.index.json",
        "",
        "\0.safetensors",
    ] {
        let error = check(&json!({"weight_map": {"a": name}}).to_string()).unwrap_err();
        assert!(error.contains("no safetensors file beside it"), "{name}: {error}");
    }
    let missing = check(&json!({"weight_map": {"a": "none.safetensors"}}).to_string()).unwrap_err();
    assert!(missing.contains("cannot read") && missing.contains("none.safetensors"), "{missing}");
    for index in
        ["", "[]", "{}", r#"{"weight_map": []}"#, r#"{"weight_map": {"a": 1}}"#, r#"{"weight_map": {}}"#]
    {
        assert!(check(index).is_err(), "{index}");
    }
    let first = json!({"weight_map": {"a": "model-00001-of-00003.safetensors"}}).to_string();
    assert!(check(&first).unwrap_err().contains("nearest"), "{:?}", check(&first));
}

fn render(source: &str) -> Result<String, String> {
    let messages = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]);
    let template = ChatTemplate::new(source).map_err(|error| error.to_string())?;
    let options = RenderOptions { add_generation_prompt: Some(true), ..RenderOptions::default() };
    let text = template.render(&messages, &options, &|text| Cow::Borrowed(text));
    text.map_err(|error| error.to_string())
}

#[test]
fn hostile_templates_end_at_once() {
    let deep = |open: &str, close: &str| open.repeat(5000) + &close.repeat(5000);
    for source in [
        "{% for i in range(100000) %}{% for j in range(100000) %}{% for k in range(100000) %}x{% endfor %}{% endfor %}{% endfor %}".to_owned(),
        "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}".to_owned(),
        "{{ 'x' * 1000000000000 }}".to_owned(),
        "{{ [1] * 1000000000000 }}".to_owned(),
        "{{ 'x' | indent(1000000000000000000) }}".to_owned(),
        "{{ ('x' * 100000).replace('x', 'y' * 100000) }}".to_owned(),
        "{{ ('x' * 1000000) | replace('', 'y' * 100000) }}".to_owned(),
        "{{ ('x' * 100000).join(range(100000)) }}".to_owned(),
        "{{ range(100000) | join('x' * 100000) }}".to_owned(),
        "{{ range(100000) | list | tojson(separators=('x' * 100000, ':')) }}".to_owned(),
        "{{ [[1, 2], [3]] | tojson(indent=1000000000000) }}".to_owned(),
        "{{ '%1000000000000d' | format(1) }}".to_owned(),
        "{{ '{:>1000000000000}'.format(1) }}".to_owned(),
        "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}".to_owned(),
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}".to_owned(),
        "{% include 'chat' %}".to_owned(),
        "{% extends 'chat' %}".to_owned(),
        "{% import 'chat' as c %}{{ c }}".to_owned(),
        "{{ messages | unknown_filter }}".to_owned(),
        "{{ unknown_function() }}".to_owned(),
        "{{ messages.unknown_method() }}".to_owned(),
        "{{ messages[0].content.encode().decode() }}".to_owned(),
        "{{ messages[99].content }}".to_owned(),
        "{{ 1 // 0 }}{{ 1 % 0 }}".to_owned(),
        "{{ 2 ** 100000000 }}".to_owned(),
        deep("(", ")"),
        "{{ ".to_owned() + &deep("(", ")") + " }}",
        "{{ ".to_owned() + &deep("[", "]") + " }}",
        "{{ ".to_owned() + &"-".repeat(50_000) + "1 }}",
        "{{ ".to_owned() + &"not ".repeat(50_000) + "1 }}",
        "{{ x".to_owned() + &".a".repeat(50_000) + " }}",
        "{{ x".to_owned() + &"|upper".repeat(50_000) + " }}",
        "{{ 1".to_owned() + &" + 1".repeat(50_000) + " }}",
        "{% if 0 %}".to_owned() + &"{% elif 0 %}".repeat(50_000) + "{% endif %}",
        deep("{% if true %}", "{% endif %}"),
        deep("{% for i in [1] %}", "{% endfor %}"),
        "{% if true %}".repeat(5000),
        "{#".repeat(50_000),
        "x".repeat(2 << 20),
    ] {
        // What comes out matters less than that it does, and is no longer than a prompt may be.
        if let Ok(text) = render(&source) {
            assert!(text.len() <= 16 << 20, "{} bytes of {:.60}", text.len(), source);
        }
    }
    for source in ["{{ messages | unknown_filter }}", "{{ unknown_function() }}", "{% include 'chat' %}"] {
        assert!(render(source).is_err(), "{source}");
    }
}

#[test]
fn damaged_templates_end_at_once() {
    let mut random = Random(2);
    for name in ["text", "text_thinking", "vl", "vl_thinking", "ocr", "blocks"] {
        let source = std::fs::read(recorded(&format!("chat/{name}.jinja"))).unwrap();
        for _ in 0..60 {
            let damaged = random.damage(&source, source.len());
            let _ = render(&String::from_utf8_lossy(&damaged));
        }
        // Lines that change places leave every word whole.
        let lines: Vec<&str> = std::str::from_utf8(&source).unwrap().lines().collect();
        for _ in 0..60 {
            let mut lines = lines.clone();
            for _ in 0..3 {
                let (a, b) = (random.below(lines.len()), random.below(lines.len()));
                lines.swap(a, b);
            }
            let _ = render(&lines.join("\n"));
        }
    }
}

/// A server with a model loaded, and where its files are.
fn server(name: &str) -> (EvalServer, PathBuf) {
    let dir = scratch(name);
    for (name, content) in tiny_files() {
        std::fs::write(dir.join(name), content).unwrap();
    }
    let mut server = EvalServer::default();
    let loaded = server.answer(json!({"op": "load", "model": dir}).to_string().as_bytes());
    assert_eq!(loaded["ok"], true, "{loaded}");
    (server, dir)
}

#[track_caller]
fn refused(server: &mut EvalServer, line: &[u8]) -> String {
    let answer = server.answer(line);
    assert_eq!(answer["ok"], false, "{answer}");
    answer["error"].as_str().unwrap().to_owned()
}

#[test]
fn nonsense_requests_are_refused() {
    let (mut server, dir) = server("requests");
    let path = |name: &str| dir.join(name).display().to_string();
    for line in [
        "",
        "{}",
        "[]",
        "null",
        "7",
        "\"load\"",
        "{\"op\":",
        "\u{feff}{}",
        "{\"op\":null}",
        "{\"op\":[]}",
        "{\"op\":\"\"}",
        "{\"op\":\"LOAD\"}",
        "{\"op\":\"load\"}",
        "{\"op\":\"load\",\"model\":[]}",
        "{\"op\":\"tokenize\",\"text\":{}}",
        "{\"op\":\"tokenize\",\"text\":\"\\ud800\"}",
        "{\"op\":\"detokenize\",\"ids\":[-1]}",
        "{\"op\":\"detokenize\",\"ids\":[4294967296]}",
        "{\"op\":\"detokenize\",\"ids\":\"x\"}",
        "{\"op\":\"chat\"}",
        "{\"op\":\"chat\",\"messages\":[],\"kwargs\":[]}",
        "{\"op\":\"eval\",\"input\":1,\"output\":2}",
        "{\"op\":\"preprocess\",\"images\":7,\"output\":\"x\"}",
    ] {
        refused(&mut server, line.as_bytes());
    }
    refused(&mut server, "[".repeat(1 << 20).as_bytes());
    refused(&mut server, &vec![b' '; (16 << 20) + 1]);
    let mut random = Random(3);
    for _ in 0..300 {
        let line: Vec<u8> = (0..random.below(60)).map(|_| random.below(256) as u8).collect();
        refused(&mut server, &line);
    }

    let template = json!({"op": "chat", "messages": [], "template_file": path("none")}).to_string();
    let error = refused(&mut server, template.as_bytes());
    assert_eq!(error.matches("No such file").count(), 1, "{error}");
    if Path::new("/dev/zero").exists() {
        let endless = json!({"op": "chat", "messages": [], "template_file": "/dev/zero"}).to_string();
        assert!(refused(&mut server, endless.as_bytes()).contains("above the limit"));
        let endless = json!({"op": "eval", "input": "/dev/zero", "output": path("out")}).to_string();
        assert!(refused(&mut server, endless.as_bytes()).contains("no plain file"));
    }
    let (picture, nowhere) = (recorded("preprocess/animated.gif"), path("none/out"));
    let unwritable = json!({"op": "preprocess", "images": [picture], "output": nowhere}).to_string();
    assert!(refused(&mut server, unwritable.as_bytes()).contains("cannot write"));
    // The model is still there.
    assert_eq!(server.answer(br#"{"op": "tokenize", "text": "a"}"#)["ok"], true);
}

#[test]
fn damaged_inputs_of_an_evaluation_are_refused() {
    let (mut server, dir) = server("inputs");
    let (input, output) = (dir.join("in.safetensors"), dir.join("out.safetensors"));
    let request = json!({"op": "eval", "input": input, "output": output, "max_new_tokens": 2}).to_string();
    let good = std::fs::read(recorded("vl_image/input.safetensors")).unwrap();
    std::fs::write(&input, &good).unwrap();
    assert_eq!(server.answer(request.as_bytes())["ok"], true);
    let mut random = Random(4);
    for _ in 0..150 {
        std::fs::write(&input, random.damage(&good, 700)).unwrap();
        let answer = server.answer(request.as_bytes());
        assert!(answer["ok"].is_boolean(), "{answer}");
    }
    std::fs::write(&input, &good).unwrap();
    let endless =
        json!({"op": "eval", "input": input, "output": output, "max_new_tokens": u32::MAX}).to_string();
    assert!(refused(&mut server, endless.as_bytes()).contains("4096"));
}

#[test]
fn every_line_gets_one_answer() {
    let long = vec![b'x'; (16 << 20) + 100];
    let input =
        [b"nonsense\n\xff\xfe\n".as_slice(), &long, b"\n{\"id\":7,\"op\":\"tokenize\",\"text\":\"\"}"]
            .concat();
    let mut answers = Vec::new();
    EvalServer::default().serve(&mut Cursor::new(input), &mut answers).unwrap();
    let answers: Vec<Value> =
        String::from_utf8(answers).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 4, "{answers:?}");
    assert!(answers.iter().all(|answer| answer["ok"] == false));
    assert_eq!(answers[3]["id"], 7);
}
