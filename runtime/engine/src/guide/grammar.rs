//! The grammar of an answer with reasoning, tool calls and a given form.

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Value, json};

use super::{BEFORE_ANSWER, BEFORE_RESPONSE, Constraint, Form, RESPONSE};

/// The grammar, whose first part describes the frame and names the others.
pub(super) fn of(form: &Form<'_>) -> TopLevelGrammar {
    let (mut parts, mut rules) = (Vec::new(), Vec::new());
    let reasoned = if form.in_reasoning { "think " } else { "" };
    if form.in_reasoning {
        rules.push(r#"think[suffix="</think>"]: /(?s:.*)/"#.to_owned());
    }
    let (before_calls, before_answer) = match (form.in_reasoning, form.wraps_answers) {
        (false, _) => (String::new(), String::new()),
        (true, true) => (literal(BEFORE_RESPONSE), literal(&format!("{BEFORE_RESPONSE}{RESPONSE}"))),
        (true, false) => (literal(BEFORE_ANSWER), literal(BEFORE_ANSWER)),
    };
    let mut ways = Vec::new();
    if let Some(constraint) = form.constraint.filter(|_| !form.must_call) {
        ways.push(format!("{before_answer} @answer"));
        parts.push(named("answer", answer(constraint)));
    }
    if !form.tools.is_empty() {
        let more = if form.may_call_more { r" (/\n{1,2}/ call)*" } else { "" };
        if form.constraint.is_none() && !form.must_call {
            // Free text, in which a call may begin at any place.
            let further = if form.may_call_more { "(before call_rest)*" } else { "(before call_rest)?" };
            ways.push(format!("{further} TEXT?"));
            rules.push(r#"before[suffix="<tool_call>"]: /(?s:.*)/"#.to_owned());
            rules.push("TEXT: /(?s:.+)/ & ~/(?s:.*)<tool_call>(?s:.*)/".to_owned());
        } else {
            ways.push(format!("{before_calls} call{more}"));
            rules.push(r#"call: "<tool_call>" call_rest"#.to_owned());
        }
        rules.push(format!("call_rest: {} tool {}", literal("\n"), literal("\n</tool_call>")));
        let mut tools = Vec::new();
        for (i, tool) in form.tools.iter().enumerate() {
            let head = format!("{{\"name\": {}, \"arguments\": ", Value::from(tool.name.as_str()));
            tools.push(format!("{} @arguments_{i} {}", literal(&head), literal("}")));
            let schema = written(&arguments_schema(&tool.parameters), true);
            parts.push(named(&format!("arguments_{i}"), GrammarWithLexer::from_json_schema(schema)));
        }
        rules.push(format!("tool: {}", tools.join(" | ")));
    }
    rules.push(format!("start: {reasoned}out"));
    rules.push(format!("out: {}", ways.join(" | ")));
    parts.insert(0, GrammarWithLexer::from_lark(rules.join("\n")));
    TopLevelGrammar { grammars: parts, max_tokens: None }
}

fn answer(constraint: &Constraint) -> GrammarWithLexer {
    match constraint {
        Constraint::JsonSchema(schema) => GrammarWithLexer::from_json_schema(written(schema, false)),
        Constraint::Regex(regex) => GrammarWithLexer::from_regex(regex),
        Constraint::Lark(lark) => GrammarWithLexer::from_lark(lark.clone()),
    }
}

fn named(name: &str, grammar: GrammarWithLexer) -> GrammarWithLexer {
    GrammarWithLexer { name: Some(name.to_owned()), ..grammar }
}

/// A schema without a type describes an object here, and one without properties takes any.
fn arguments_schema(parameters: &Value) -> Value {
    let mut schema = parameters.clone();
    if let Value::Object(members) = &mut schema
        && !["type", "$ref", "anyOf", "oneOf", "allOf"].iter().any(|key| members.contains_key(*key))
    {
        members.insert("type".into(), json!("object"));
    }
    schema
}

/// JSON is written as models saw it most, on one line with a space behind `,` and `:`; so no model can fill an
/// answer with white space. A schema that says otherwise is left alone.
///
/// Of a `lenient` one, what no grammar can hold is left out: schemas of tools are often made by programs that
/// know nothing of grammars, and the tool looks at its arguments itself.
fn written(schema: &Value, lenient: bool) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(members) = &mut schema {
        members.entry("x-guidance").or_insert_with(|| {
            json!({
                "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": ", "lenient": lenient,
            })
        });
    }
    hold_dates(&mut schema);
    schema
}

/// Times and dates as JSON Schema means them: the grammars of llguidance also take a 60th second at any minute, and
/// 29 February in any year.
fn hold_dates(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            for (key, child) in members.iter_mut() {
                match (key.as_str(), child) {
                    ("const" | "enum" | "default" | "examples", _) => {}
                    ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(named)) => {
                        named.values_mut().for_each(hold_dates);
                    }
                    (_, child) => hold_dates(child),
                }
            }
            let pattern = match members.get("format").and_then(Value::as_str) {
                Some("date") => format!("^{DATE}$"),
                Some("time") => format!("^{TIME}$"),
                Some("date-time") => format!("^{DATE}[tT]{TIME}$"),
                _ => return,
            };
            members.entry("pattern").or_insert(pattern.into());
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(hold_dates),
        _ => {}
    }
}

/// A day that its year has.
const DATE: &str = "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)\
     |02-(?:0[1-9]|1[0-9]|2[0-8]))\
     |(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)";
/// A time with its zone; leap seconds, which only some days have, are left out.
const TIME: &str = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]+)?\
     (?:[zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";

/// A text in Lark, which writes them as JSON does.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}
