//! Answers of a given form, by a model that would say anything: its logits are random.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{Constraint, Tool, ToolCall, ToolChoice};

/// Tokens that the longest of the schemas needs by far not.
const ENOUGH: usize = 4000;

fn schemas() -> Vec<Value> {
    serde_json::from_str(include_str!("schemas.json")).unwrap()
}

fn random(seed: u64) -> GenerateOptions {
    GenerateOptions { temperature: 1.0, seed, max_tokens: ENOUGH, ..Default::default() }
}

fn validator(schema: &Value) -> jsonschema::Validator {
    jsonschema::options().should_validate_formats(true).build(schema).unwrap()
}

/// Answers, and checks that the events say what the answer says.
fn stream(engine: &mut Engine, messages: &[Message], options: &GenerateOptions) -> Answer {
    let (mut text, mut reasoning, mut calls) = (String::new(), String::new(), Vec::new());
    let mut listen = |event| {
        match event {
            Event::Text(more) => text.push_str(&more),
            Event::Reasoning(more) => reasoning.push_str(&more),
            Event::ToolCall(call) => calls.push(call),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let answer = pollster::block_on(engine.chat(messages, options, &mut listen)).unwrap();
    assert_eq!((&text, &calls), (&answer.text, &answer.tool_calls));
    assert_eq!(reasoning, answer.reasoning.clone().unwrap_or_default());
    answer
}

fn tool(name: &str, parameters: Value) -> Tool {
    Tool { name: name.into(), description: "Does something.".into(), parameters }
}

/// Two tools, the first of which takes what `schema` says.
fn tools(schema: &Value) -> Vec<Tool> {
    let mut first = json!({
        "type": "object", "properties": { "value": schema }, "required": ["value"], "additionalProperties": false,
    });
    // References begin at the root.
    for name in ["$defs", "definitions"] {
        if let Some(definitions) = schema.get(name) {
            first[name] = definitions.clone();
        }
    }
    let second = json!({ "type": "object", "properties": { "n": { "type": "integer", "minimum": 0, "maximum": 9 } },
        "additionalProperties": false });
    vec![tool("first", first), tool("second", second)]
}

#[track_caller]
fn check_call(call: &ToolCall, tools: &[Tool]) {
    let tool = tools.iter().find(|tool| tool.name == call.name).unwrap();
    let arguments = Value::Object(call.arguments.clone());
    if let Err(error) = validator(&tool.parameters).validate(&arguments) {
        panic!("{error}: {arguments} for {}", tool.parameters);
    }
}

#[track_caller]
fn check_json(answer: &Answer, schema: &Value) {
    assert_eq!(answer.stop_reason, StopReason::Eos, "{:?} for {schema}", answer.text);
    let value: Value = serde_json::from_str(&answer.text)
        .unwrap_or_else(|error| panic!("{error}: {:?} for {schema}", answer.text));
    if let Err(error) = validator(schema).validate(&value) {
        panic!("{error}: {value} for {schema}");
    }
}

/// Plain, thinking, with a picture, with tools that may and that must be called; all of them streamed.
///
/// `OCELLI_SEEDS` asks for more than one answer of each kind: 8 make 2,360.
#[test]
#[expect(clippy::print_stderr, reason = "the figures of a run, for whoever asks for them with --nocapture")]
fn every_answer_has_its_form() {
    let n_seeds: u64 = std::env::var("OCELLI_SEEDS").map_or(1, |n| n.parse().unwrap());
    let schemas = schemas();
    assert!(schemas.len() >= 50);
    let picture = Message { role: Role::User, parts: vec![picture(7), Part::Text("What?".into())] };
    let (mut plain, mut vl, mut thinking) =
        (engine(BuiltIn::Text), engine(BuiltIn::VlThinking), engine(BuiltIn::TextThinking));
    let (mut n, mut n_calls, mut n_tokens, mut mask_ms) = (0, 0, 0, 0.0);
    for (schema, seed) in schemas.iter().flat_map(|schema| (0..n_seeds).map(move |seed| (schema, seed))) {
        let form =
            GenerateOptions { constraint: Some(Constraint::JsonSchema(schema.clone())), ..random(seed) };
        let thinks = GenerateOptions { thinking_budget: Some(9), ..form.clone() };
        let may_call = GenerateOptions { tools: tools(schema), ..thinks.clone() };
        let must_call = GenerateOptions {
            tool_choice: ToolChoice::Required,
            parallel_tool_calls: false,
            constraint: None,
            ..may_call.clone()
        };
        let mut answers = vec![
            stream(&mut plain, &[user("Hi")], &form),
            stream(&mut thinking, &[user("Hi")], &thinks),
            stream(&mut vl, std::slice::from_ref(&picture), &thinks),
        ];
        answers.iter().for_each(|answer| check_json(answer, schema));
        assert!(answers[1].reasoning.is_some() && answers[2].reasoning.is_some());
        let free = stream(&mut vl, std::slice::from_ref(&picture), &may_call);
        if free.tool_calls.is_empty() {
            check_json(&free, schema);
        }
        let called = stream(&mut thinking, &[user("Hi")], &must_call);
        assert_eq!((called.tool_calls.len(), called.text.as_str()), (1, ""));
        for answer in [free, called] {
            n_calls += answer.tool_calls.len();
            answer.tool_calls.iter().for_each(|call| check_call(call, &may_call.tools));
            answers.push(answer);
        }
        for answer in &answers {
            (n, n_tokens, mask_ms) = (n + 1, n_tokens + answer.generated_tokens, mask_ms + answer.mask_ms);
        }
    }
    assert!(n_calls > schemas.len(), "{n_calls}");
    assert!(mask_ms > 0.0 && n_tokens > n, "{n} answers, {n_calls} calls, {n_tokens} tokens");
    let (schemas, us) = (schemas.len(), mask_ms * 1000.0 / n_tokens as f64);
    eprintln!(
        "{n} answers to {schemas} schemas, {n_calls} calls, {n_tokens} tokens, {us:.0} µs of mask a token"
    );
}

#[test]
fn expressions_and_grammars_hold_too() {
    let mut engine = engine(BuiltIn::Text);
    for seed in 0..8 {
        let mut ask = |constraint| {
            stream(
                &mut engine,
                &[user("Hi")],
                &GenerateOptions { constraint: Some(constraint), ..random(seed) },
            )
            .text
        };
        let text = ask(Constraint::Regex("[a-f]{3}(-[0-9]{2}){1,2}".into()));
        let (letters, digits) = text.split_at(3);
        assert!(letters.bytes().all(|b| (b'a'..=b'f').contains(&b)), "{text}");
        assert!(matches!(digits.len(), 3 | 6) && digits.starts_with('-'), "{text}");
        let text = ask(Constraint::Lark("start: (\"ab\" | \"c\"){2,4} \"!\"".into()));
        assert!(text.strip_suffix('!').unwrap().replace("ab", "").replace('c', "").is_empty(), "{text}");
    }
}

#[test]
fn tool_choice_is_honoured() {
    let tools = tools(&json!({ "type": "boolean" }));
    for template in BuiltIn::ALL {
        let mut engine = engine(template);
        for seed in 0..4 {
            let options = GenerateOptions { tools: tools.clone(), thinking_budget: Some(5), ..random(seed) };
            let named =
                GenerateOptions { tool_choice: ToolChoice::Named("second".into()), ..options.clone() };
            let answer = stream(&mut engine, &[user("Hi")], &named);
            assert_eq!((answer.tool_calls.len(), answer.tool_calls[0].name.as_str()), (1, "second"));
            check_call(&answer.tool_calls[0], &tools);
            let none = GenerateOptions { tool_choice: ToolChoice::None, max_tokens: 60, ..options.clone() };
            assert!(stream(&mut engine, &[user("Hi")], &none).tool_calls.is_empty());
            // Free text of a random model holds no tag, and so no call.
            let auto = GenerateOptions { max_tokens: 60, ..options };
            stream(&mut engine, &[user("Hi")], &auto)
                .tool_calls
                .iter()
                .for_each(|call| check_call(call, &tools));
        }
    }
}

/// A model that says its script wherever the form lets it.
#[test]
fn calls_in_free_text_take_their_form() {
    let tools = tools(&json!({ "enum": ["yes", "no"] }));
    let options = GenerateOptions { tools: tools.clone(), max_tokens: ENOUGH, ..Default::default() };
    let prompt = engine(BuiltIn::TextThinking).prompt(&[user("Hi")], &options).unwrap();
    let script = "hm\n</think>\n\n\n<response>\nI look.\n</response>\n<tool_call>\n{\"name\": \"fi";
    let ids = tokenizer().encode_prompt(script);
    let mut engine =
        engine_of(BuiltIn::TextThinking, |model| model.saying(prompt.input.token_ids.len(), &ids));
    let answer = stream(&mut engine, &[user("Hi")], &options);
    assert_eq!((answer.reasoning.as_deref(), answer.tool_calls[0].name.as_str()), (Some("hm"), "first"));
    assert!(answer.text.starts_with("I look."), "{}", answer.text);
    answer.tool_calls.iter().for_each(|call| check_call(call, &tools));
}

#[test]
fn a_budget_ends_thoughts() {
    for template in [BuiltIn::TextThinking, BuiltIn::VlThinking] {
        let mut engine = engine(template);
        let lengths: Vec<usize> = [0, 4, 20]
            .into_iter()
            .map(|budget| {
                let options = GenerateOptions {
                    thinking_budget: Some(budget),
                    enable_thinking: Some(true),
                    max_tokens: 60,
                    ..random(3)
                };
                let answer = stream(&mut engine, &[user("Hi")], &options);
                assert!(!answer.text.is_empty());
                engine.tokenizer().encode(answer.reasoning.as_deref().unwrap_or_default()).len()
            })
            .collect();
        assert_eq!(lengths[0], 0);
        assert!(lengths[1] > 0 && lengths[1] < lengths[2] && lengths[2] < 60, "{lengths:?}");
    }
}

#[test]
fn a_budget_waits_for_the_end_of_a_character() {
    let form = Constraint::JsonSchema(json!({ "type": "boolean" }));
    let options = GenerateOptions { constraint: Some(form), thinking_budget: Some(1), ..random(3) };
    let prompt = engine(BuiltIn::TextThinking).prompt(&[user("Hi")], &options).unwrap();
    let first_byte = tokenizer().token_id("<0xE4>").unwrap();
    let mut engine =
        engine_of(BuiltIn::TextThinking, |model| model.saying(prompt.input.token_ids.len(), &[first_byte]));
    let answer = stream(&mut engine, &[user("Hi")], &options);
    assert_eq!(answer.token_ids[0], first_byte);
    let thoughts: Vec<char> = answer.reasoning.as_deref().unwrap().chars().collect();
    assert!(matches!(thoughts[..], ['\u{4000}'..='\u{4fff}']), "{thoughts:?}");
    check_json(&answer, &json!({ "type": "boolean" }));
}

#[test]
fn forms_that_cannot_be_had_are_refused() {
    let engine = engine(BuiltIn::Text);
    let refused = |constraint| {
        let options = GenerateOptions { constraint: Some(constraint), ..Default::default() };
        engine.prompt(&[user("Hi")], &options).unwrap_err().to_string()
    };
    for constraint in [
        Constraint::Regex("(".into()),
        Constraint::Lark("start: nowhere".into()),
        Constraint::Lark(String::new()),
        Constraint::JsonSchema(json!({ "type": "colour" })),
        Constraint::JsonSchema(json!({ "$ref": "https://example.org/schema" })),
        Constraint::JsonSchema(json!({ "type": "integer", "minimum": 3, "maximum": 1 })),
        Constraint::JsonSchema(json!([])),
    ] {
        let message = refused(constraint.clone());
        assert!(message.contains("cannot have the form"), "{constraint:?}: {message}");
    }
}

#[test]
fn what_no_grammar_holds_of_a_tool_is_told() {
    let engine = engine(BuiltIn::Text);
    let loose = json!({ "type": "object", "properties": { "n": { "type": "integer", "format": "uint32" },
        "all": { "type": "array", "uniqueItems": true, "items": { "type": "string" } } } });
    let notes = |parameters: &Value| {
        let options = GenerateOptions { tools: vec![tool("f", parameters.clone())], ..Default::default() };
        engine.prompt(&[user("Hi")], &options).unwrap().notes.join("\n")
    };
    let told = notes(&loose);
    assert!(told.contains("uniqueItems") && told.contains("schema of their tool"), "{told}");
    assert_eq!(notes(&json!({ "type": "object" })), "");
}

#[test]
fn conversations_with_calls_show_in_every_template() {
    let call = ToolCall { id: "1".into(), name: "look_up".into(), arguments: Default::default() };
    let tool = tool("look_up", json!({ "type": "object" }));
    for template in BuiltIn::ALL {
        let engine = engine(template);
        let mut result = vec![Part::Text("it says 42".into())];
        if engine.takes_pictures() {
            result.push(picture(3));
        }
        let messages = [
            user("Hi"),
            Message { role: Role::Assistant, parts: vec![Part::ToolCall(call.clone())] },
            Message { role: Role::Tool, parts: result },
        ];
        let options = GenerateOptions { tools: vec![tool.clone()], ..Default::default() };
        let prompt = engine.prompt(&messages, &options).unwrap();
        assert_eq!(prompt.input.visuals.len(), usize::from(engine.takes_pictures()), "{template:?}");
        assert!(prompt.notes.iter().all(|note| !note.contains("passes over")), "{:?}", prompt.notes);
        let text = engine.render(&messages, &options).unwrap();
        let parts =
            ["Does something.", "<tool_call>\n{\"name\": \"look_up\", \"arguments\": {}}", "it says 42"];
        let places: Vec<usize> = parts.iter().map(|part| text.find(part).expect(part)).collect();
        assert!(places.is_sorted(), "{text}");
        assert_eq!(text.matches("Does something.").count(), 1, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn neither_calls_nor_tools_forge_a_control_token(key in hostile(), value in hostile(), about in hostile()) {
        for template in BuiltIn::ALL {
            let engine = engine(template);
            let controls_with = |key: &str, value: &str, about: &str| {
                let arguments = Value::from_iter([(key, value)]);
                let call = ToolCall {
                    id: "1".into(), name: "f".into(), arguments: arguments.as_object().unwrap().clone(),
                };
                let messages = [
                    user("Hi"),
                    Message { role: Role::Assistant, parts: vec![Part::ToolCall(call)] },
                    Message::text(Role::Tool, value),
                ];
                let schema = json!({ "type": "object", "properties": { key: { "type": "string", "description": about } } });
                let offered = Tool { name: "f".into(), description: about.into(), parameters: schema };
                let options = GenerateOptions { tools: vec![offered], ..Default::default() };
                engine.prompt(&messages, &options).map(|prompt| controls(&prompt, engine.tokenizer()))
            };
            prop_assert_eq!(controls_with(&key, &value, &about).unwrap(), controls_with("k", "v", "a").unwrap());
        }
    }
}
