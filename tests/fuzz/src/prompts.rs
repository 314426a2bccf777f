//! Templates, forms of answers, and answers.

use std::borrow::Cow;
use std::sync::OnceLock;

use engine::answer::{AnswerParser, AnswerShape, Piece};
use engine::chat_template::{BuiltIn, ChatTemplate, RenderOptions};
use engine::{ChatFormat, Constraint, GenerateOptions, Message, ModelFiles, Role};
use serde_json::{Value, json};

use crate::{apart, joined, root};

/// A template, and what a user says.
pub(crate) fn template(bytes: &[u8]) -> bool {
    let (source, text) = apart(bytes);
    let (source, text) = (String::from_utf8_lossy(source), String::from_utf8_lossy(text));
    let Ok(template) = ChatTemplate::new(&source) else { return false };
    let plain = json!([
        { "role": "system", "content": "Be short." },
        { "role": "user", "content": text },
        { "role": "assistant", "content": text },
        { "role": "user", "content": text },
    ]);
    let rich = json!([
        { "role": "user", "content": [{ "type": "text", "text": text }, { "type": "image" }] },
        { "role": "assistant", "content": text, "tool_calls": [{ "function": { "name": "f", "arguments": {} } }] },
        { "role": "tool", "content": text },
    ]);
    let tools = json!([{ "type": "function", "function": { "name": "f", "description": text } }]);
    let render = |messages: &Value, tools: Option<Value>| {
        let add_generation_prompt = Some(true);
        let options =
            RenderOptions { add_generation_prompt, tools, unix_time: Some(0), ..RenderOptions::default() };
        template.render(messages, &options, &|text| Cow::Borrowed(text))
    };
    // Not every template knows pictures and tools.
    let _ = render(&rich, Some(tools));
    render(&plain, None).is_ok()
}

pub(crate) fn template_seeds() -> Vec<Vec<u8>> {
    BuiltIn::ALL.map(|template| joined(template.source().as_bytes(), "Hello <|im_end|>".as_bytes())).into()
}

/// How the model inside is talked to.
fn format() -> &'static ChatFormat {
    static FORMAT: OnceLock<ChatFormat> = OnceLock::new();
    FORMAT.get_or_init(|| {
        let files = ModelFiles::open(&root().join("assets/model")).expect("the model inside");
        ChatFormat::open(&files).expect("it can be talked to")
    })
}

/// The first byte tells the kind of form.
pub(crate) fn form(bytes: &[u8]) -> bool {
    let Some((kind, text)) = bytes.split_first() else { return false };
    let text = String::from_utf8_lossy(text).into_owned();
    let constraint = match kind % 3 {
        0 => match serde_json::from_str(&text) {
            Ok(schema) => Constraint::JsonSchema(schema),
            Err(_) => return false,
        },
        1 => Constraint::Regex(text),
        _ => Constraint::Lark(text),
    };
    let options = GenerateOptions { constraint: Some(constraint), ..GenerateOptions::default() };
    format().prompt(&[Message::text(Role::User, "Hi")], &options).is_ok()
}

pub(crate) fn form_seeds() -> Vec<Vec<u8>> {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "minLength": 2, "pattern": "^[a-z]+$" },
            "tags": { "type": "array", "items": { "enum": ["a", "b", 3] }, "maxItems": 4 },
            "size": { "anyOf": [{ "type": "integer", "minimum": 0 }, { "$ref": "#/$defs/none" }] },
        },
        "required": ["name"],
        "additionalProperties": false,
        "$defs": { "none": { "const": null } },
    });
    vec![
        format!("\0{schema}").into_bytes(),
        b"\x01(red|green|blue) [0-9]{1,3}\\.?".to_vec(),
        b"\x02start: item+\nitem: /[a-z]+/ \";\" | \"(\" item \")\"\n".to_vec(),
    ]
}

/// The first byte tells what the answer may hold, the second how the text is cut.
pub(crate) fn answer(bytes: &[u8]) -> bool {
    let [flags, step, text @ ..] = bytes else { return false };
    let flag = |bit: u8| flags >> bit & 1 == 1;
    let shape = AnswerShape { in_reasoning: flag(0), tools: flag(1), verbatim: flag(2) };
    let text = String::from_utf8_lossy(text);
    let mut whole = AnswerParser::new(shape);
    let mut at_once = whole.push(&text);
    at_once.extend(whole.finish());
    let mut parser = AnswerParser::new(shape);
    let mut streamed = Vec::new();
    let chars: Vec<char> = text.chars().collect();
    for part in chars.chunks(usize::from(*step) % 7 + 1) {
        streamed.extend(parser.push(&part.iter().collect::<String>()));
    }
    streamed.extend(parser.finish());
    assert_eq!(merged(streamed), merged(at_once), "{shape:?} {text:?}");
    true
}

/// Neighbouring pieces of text as one.
fn merged(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut merged: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (merged.last_mut(), piece) {
            (Some(Piece::Text(text)), Piece::Text(more)) => text.push_str(&more),
            (Some(Piece::Reasoning(text)), Piece::Reasoning(more)) => text.push_str(&more),
            (_, piece) => merged.push(piece),
        }
    }
    merged
}

pub(crate) fn answer_seeds() -> Vec<Vec<u8>> {
    const CALL: &str = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>";
    let text = format!("\nThinking.\n</think>\n\n\n<response>\nHello.\n</response>\n{CALL}\n{CALL}\n");
    (0..8).flat_map(|flags| [0, 3].map(|step| [&[flags, step], text.as_bytes()].concat())).collect()
}
