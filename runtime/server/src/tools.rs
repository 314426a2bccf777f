//! Tools, the choice among them and forms of answers, as requests name them.

use engine::{Constraint, GenerateOptions, Tool, ToolCall, ToolChoice};
use serde_json::{Map, Value, json};

use crate::fields::{Fields, expected};
use crate::problem::{Problem, Result};

/// Tools in one request.
const MAX_TOOLS: usize = 128;

/// `tools`, `tool_choice` and `parallel_tool_calls`, as OpenAI and Ollama write them.
pub(crate) fn read_openai(
    fields: &mut Fields,
    options: &mut GenerateOptions,
    notes: &mut Vec<String>,
) -> Result<()> {
    options.tools = list(fields, |mut tool| {
        let kind = tool.text("type")?;
        if kind.as_deref().is_some_and(|kind| kind != "function") {
            return Err(Problem::unsupported(
                tool.path("type"),
                "only tools of type `function` are known here",
            ));
        }
        let mut function = tool.object("function")?.ok_or_else(|| tool.missing("function"))?;
        let read = Tool {
            name: function.need_text("name")?,
            description: function.text("description")?.unwrap_or_default(),
            parameters: parameters(&mut function, "parameters")?,
        };
        // Calls keep to their schema whether or not it is asked for; a note tells of what they may not keep to.
        function.pass_over(&["strict"]);
        function.finish(notes);
        tool.finish(notes);
        Ok(read)
    })?;
    let named = |choice: &mut Fields| {
        let mut function = choice.object("function")?.ok_or_else(|| choice.missing("function"))?;
        function.need_text("name")
    };
    read_choice(fields, options, named)
}

/// As [`read_openai`], but without the level `function`, as `/v1/responses` has it.
pub(crate) fn read_responses(
    fields: &mut Fields,
    options: &mut GenerateOptions,
    notes: &mut Vec<String>,
) -> Result<()> {
    options.tools = list(fields, |mut tool| {
        if let Some(kind) = tool.text("type")?.filter(|kind| kind != "function") {
            let message = format!("tools of type `{kind}` run at OpenAI; only functions are known here");
            return Err(Problem::unsupported(tool.path("type"), message));
        }
        let read = Tool {
            name: tool.need_text("name")?,
            description: tool.text("description")?.unwrap_or_default(),
            parameters: parameters(&mut tool, "parameters")?,
        };
        tool.pass_over(&["strict"]);
        tool.finish(notes);
        Ok(read)
    })?;
    let named = |choice: &mut Fields| choice.need_text("name");
    read_choice(fields, options, named)
}

/// `tools` and `tool_choice` as Anthropic writes them.
pub(crate) fn read_anthropic(
    fields: &mut Fields,
    options: &mut GenerateOptions,
    notes: &mut Vec<String>,
) -> Result<()> {
    options.tools = list(fields, |mut tool| {
        if let Some(kind) = tool.text("type")?.filter(|kind| kind != "custom") {
            let message =
                format!("tools of type `{kind}` run at Anthropic; only `custom` ones are known here");
            return Err(Problem::unsupported(tool.path("type"), message));
        }
        let read = Tool {
            name: tool.need_text("name")?,
            description: tool.text("description")?.unwrap_or_default(),
            parameters: parameters(&mut tool, "input_schema")?,
        };
        tool.pass_over(&["cache_control", "strict"]);
        tool.finish(notes);
        Ok(read)
    })?;
    if let Some(mut choice) = fields.object("tool_choice")? {
        options.tool_choice = match choice.need_text("type")?.as_str() {
            "none" => ToolChoice::None,
            "auto" => ToolChoice::Auto,
            "any" => ToolChoice::Required,
            "tool" => ToolChoice::Named(choice.need_text("name")?),
            other => {
                let message = format!("`{other}` is not known; it is none, auto, any or tool");
                return Err(Problem::field(choice.path("type"), message));
            }
        };
        options.parallel_tool_calls = !choice.boolean("disable_parallel_tool_use")?.unwrap_or(false);
        choice.finish(notes);
    }
    check(options, &fields.path("tool_choice"))
}

fn read_choice(
    fields: &mut Fields,
    options: &mut GenerateOptions,
    named: impl FnOnce(&mut Fields) -> Result<String>,
) -> Result<()> {
    let path = fields.path("tool_choice");
    options.tool_choice = match fields.value("tool_choice") {
        None => ToolChoice::Auto,
        Some(Value::String(choice)) => match choice.as_str() {
            "none" => ToolChoice::None,
            "auto" => ToolChoice::Auto,
            "required" => ToolChoice::Required,
            other => {
                let message = format!("`{other}` is not known; it is none, auto, required or a function");
                return Err(Problem::field(path, message));
            }
        },
        Some(value) => ToolChoice::Named(named(&mut Fields::of(value, path)?)?),
    };
    options.parallel_tool_calls = fields.boolean("parallel_tool_calls")?.unwrap_or(true);
    check(options, &fields.path("tool_choice"))
}

/// OpenAI's `response_format` and vLLM's `structured_outputs`.
pub(crate) fn read_form(fields: &mut Fields, notes: &mut Vec<String>) -> Result<Option<Constraint>> {
    if let Some(mut format) = fields.object("response_format")? {
        let constraint = match format.need_text("type")?.as_str() {
            "text" => None,
            "json_object" => Some(Constraint::json_object()),
            "json_schema" => {
                let mut named = format.object("json_schema")?.ok_or_else(|| format.missing("json_schema"))?;
                let schema = named.value("schema").ok_or_else(|| named.missing("schema"))?;
                named.pass_over(&["name", "description", "strict"]);
                named.finish(notes);
                Some(Constraint::JsonSchema(schema))
            }
            other => {
                let message = format!("`{other}` is not known; it is text, json_object or json_schema");
                return Err(Problem::field(format.path("type"), message));
            }
        };
        format.finish(notes);
        if constraint.is_some() {
            return Ok(constraint);
        }
    }
    let Some(mut form) = fields.object("structured_outputs")? else { return Ok(None) };
    let mut found = Vec::new();
    found.extend(form.value("json").map(Constraint::JsonSchema));
    found.extend(form.text("regex")?.map(Constraint::Regex));
    found.extend(form.text("grammar")?.map(Constraint::Lark));
    found.extend(form.list("choice")?.map(|choices| Constraint::Lark(one_of(&choices))));
    let path = form.path("");
    form.finish(notes);
    if found.len() > 1 {
        return Err(Problem::field(path.trim_end_matches('.'), "it names more than one form; name one"));
    }
    Ok(found.pop())
}

/// A grammar of these texts.
fn one_of(choices: &[Value]) -> String {
    let texts = choices.iter().map(|choice| match choice {
        Value::String(_) => choice.to_string(),
        other => Value::from(other.to_string()).to_string(),
    });
    format!("start: {}", texts.collect::<Vec<_>>().join(" | "))
}

/// Earlier calls as OpenAI and Ollama write them: arguments are a text or an object.
pub(crate) fn read_calls(message: &mut Fields, notes: &mut Vec<String>) -> Result<Vec<ToolCall>> {
    let path = message.path("tool_calls");
    let calls = message.list("tool_calls")?.unwrap_or_default();
    let read = |(i, call): (usize, Value)| {
        let mut call = Fields::of(call, format!("{path}[{i}]"))?;
        let id = call.text("id")?.unwrap_or_else(|| format!("call_{i}"));
        let mut function = call.object("function")?.ok_or_else(|| call.missing("function"))?;
        let (name, field) = (function.need_text("name")?, function.path("arguments"));
        let arguments = match function.value("arguments") {
            None => Map::new(),
            Some(Value::Object(arguments)) => arguments,
            Some(Value::String(text)) if text.trim().is_empty() => Map::new(),
            Some(Value::String(text)) => serde_json::from_str(&text)
                .map_err(|error| Problem::field(&field, format!("it must hold a JSON object: {error}")))?,
            Some(other) => return Err(expected(&field, "a JSON object, as text or as it is", &other)),
        };
        function.pass_over(&["index"]);
        function.finish(notes);
        call.pass_over(&["type", "index"]);
        call.finish(notes);
        Ok(ToolCall { id, name, arguments })
    };
    calls.into_iter().enumerate().map(read).collect()
}

/// A call as OpenAI writes it, with arguments as text.
pub(crate) fn openai_call(call: &ToolCall) -> Value {
    let arguments = Value::Object(call.arguments.clone()).to_string();
    json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": arguments } })
}

fn list(fields: &mut Fields, mut read: impl FnMut(Fields) -> Result<Tool>) -> Result<Vec<Tool>> {
    let path = fields.path("tools");
    let tools = fields.list("tools")?.unwrap_or_default();
    if tools.len() > MAX_TOOLS {
        return Err(Problem::field(path, format!("it has {} tools, the limit is {MAX_TOOLS}", tools.len())));
    }
    let tools = tools.into_iter().enumerate();
    tools.map(|(i, tool)| read(Fields::of(tool, format!("{path}[{i}]"))?)).collect()
}

fn parameters(fields: &mut Fields, name: &str) -> Result<Value> {
    match fields.value(name) {
        None => Ok(json!({ "type": "object", "properties": {} })),
        Some(schema @ Value::Object(_)) => Ok(schema),
        Some(other) => Err(expected(&fields.path(name), "a JSON Schema object", &other)),
    }
}

fn check(options: &GenerateOptions, path: &str) -> Result<()> {
    match &options.tool_choice {
        ToolChoice::Required if options.tools.is_empty() => {
            Err(Problem::field(path, "a call is required, but `tools` is empty"))
        }
        ToolChoice::Named(name) if options.tools.iter().all(|tool| tool.name != *name) => {
            Err(Problem::field(path, format!("`{name}` is not among the tools")))
        }
        _ => Ok(()),
    }
}
