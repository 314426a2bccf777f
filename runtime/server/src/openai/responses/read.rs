//! Requests for responses.

use engine::{Constraint, Role, ToolCall, ToolChoice};
use serde_json::{Value, json};

use super::previous;
use crate::app::App;
use crate::fields::{Fields, expected};
use crate::pictures::{Picture, Source};
use crate::problem::{Problem, Result};
use crate::question::{Input, Piece, Question, Turn};
use crate::{sampling, tools};

/// What the answer says of its request.
pub(super) struct Shape {
    /// What the answer goes on from, without instructions.
    pub(super) turns: Vec<Turn>,
    pub(super) previous: Option<String>,
    pub(super) store: bool,
    /// Members of the request that come back with the answer.
    pub(super) echoed: Value,
}

pub(super) fn read(app: &App, mut fields: Fields) -> Result<(Question, Shape)> {
    app.check_model(fields.text("model")?.as_deref())?;
    let mut notes = Vec::new();
    let previous_id = fields.text("previous_response_id")?;
    let mut turns = match &previous_id {
        Some(id) => previous(app, id)?.to_vec(),
        None => Vec::new(),
    };
    read_input(&mut fields, &mut turns, &mut notes)?;
    let instructions = fields.text("instructions")?;

    let mut options = app.defaults.clone();
    sampling::read(&mut fields, &mut options, 2.0)?;
    options.seed = sampling::read_seed(&mut fields)?;
    let max_tokens = fields.integer("max_output_tokens", 1..=u64::MAX)?;
    options.max_tokens = max_tokens.map_or(usize::MAX, |n| n as usize);
    options.thinking_budget = fields.integer("thinking_budget", 0..=u64::MAX)?.map(|n| n as usize);
    if let Some(mut reasoning) = fields.object("reasoning")? {
        options.enable_thinking = reasoning.text("effort")?.map(|effort| effort != "none");
        reasoning.pass_over(&["summary", "generate_summary"]);
        reasoning.finish(&mut notes);
    }
    tools::read_responses(&mut fields, &mut options, &mut notes)?;
    options.constraint = form(&mut fields, &mut notes)?;
    let truncate = sampling::read_truncation(&mut fields)?;
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let store = fields.boolean("store")?.unwrap_or(true);
    let metadata = fields.value("metadata").unwrap_or_else(|| json!({}));
    fields.refuse("background", |value| value == false, "answers are made while the client waits")?;
    fields.refuse("conversation", |_| false, "name the previous answer by `previous_response_id`")?;
    fields.refuse("prompt", |_| false, "stored prompts are not known here; send the text")?;
    fields.pass_over(&[
        "include",
        "user",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "stream_options",
        "top_logprobs",
    ]);
    fields.finish(&mut notes);

    let echoed = json!({
        "instructions": instructions,
        "max_output_tokens": max_tokens,
        "metadata": metadata,
        "parallel_tool_calls": options.parallel_tool_calls,
        "temperature": options.temperature,
        "tool_choice": choice(&options.tool_choice),
        "tools": options.tools.iter().map(|tool| json!({
            "type": "function", "name": tool.name, "description": tool.description,
            "parameters": tool.parameters, "strict": true,
        })).collect::<Value>(),
        "top_p": options.top_p,
        "truncation": if truncate { "auto" } else { "disabled" },
    });
    let system = instructions.map(|text| Turn { role: Role::System, pieces: vec![Piece::Text(text)] });
    let input = Input::Chat(system.into_iter().chain(turns.iter().cloned()).collect());
    let question = Question { input, options, stream, truncate, notes };
    Ok((question, Shape { turns, previous: previous_id, store, echoed }))
}

/// As a response says it.
fn choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({ "type": "function", "name": name }),
    }
}

fn read_input(fields: &mut Fields, turns: &mut Vec<Turn>, notes: &mut Vec<String>) -> Result<()> {
    let path = fields.path("input");
    match fields.value("input") {
        None => return Err(fields.missing("input")),
        Some(Value::String(text)) => turns.push(Turn { role: Role::User, pieces: vec![Piece::Text(text)] }),
        Some(Value::Array(items)) => {
            if items.is_empty() {
                return Err(Problem::field(path, "it is empty; the last item asks something"));
            }
            for (i, item) in items.into_iter().enumerate() {
                read_item(Fields::of(item, format!("{path}[{i}]"))?, turns, notes)?;
            }
        }
        Some(other) => return Err(expected(&path, "a string or a list of items", &other)),
    }
    Ok(())
}

fn read_item(mut item: Fields, turns: &mut Vec<Turn>, notes: &mut Vec<String>) -> Result<()> {
    let kind = item.text("type")?;
    match kind.as_deref().unwrap_or("message") {
        "message" => {
            let role = match item.need_text("role")?.as_str() {
                "system" | "developer" => Role::System,
                "user" => Role::User,
                "assistant" => Role::Assistant,
                other => {
                    let message =
                        format!("`{other}` is not known; it is system, developer, user or assistant");
                    return Err(Problem::field(item.path("role"), message));
                }
            };
            let pieces = pieces(&mut item, "content", notes)?;
            push(turns, Turn { role, pieces });
        }
        "function_call" => {
            let field = item.path("arguments");
            let arguments = item.need_text("arguments")?;
            let arguments = serde_json::from_str(&arguments)
                .map_err(|error| Problem::field(field, format!("it must hold a JSON object: {error}")))?;
            let call = ToolCall { id: item.need_text("call_id")?, name: item.need_text("name")?, arguments };
            push(turns, Turn { role: Role::Assistant, pieces: vec![Piece::Call(call)] });
        }
        "function_call_output" => {
            let pieces = pieces(&mut item, "output", notes)?;
            item.pass_over(&["call_id"]);
            turns.push(Turn { role: Role::Tool, pieces });
        }
        // What was thought in earlier turns is not shown to the model again.
        "reasoning" => item.pass_over(&["summary", "content", "encrypted_content"]),
        other => {
            let message =
                format!("items of type `{other}` are not supported; messages and function calls are");
            return Err(Problem::unsupported(item.path("type"), message));
        }
    }
    item.pass_over(&["id", "status"]);
    item.finish(notes);
    Ok(())
}

/// Words and calls of the assistant that follow each other are one turn.
fn push(turns: &mut Vec<Turn>, turn: Turn) {
    match turns.last_mut() {
        Some(last) if last.role == Role::Assistant && turn.role == Role::Assistant => {
            last.pieces.extend(turn.pieces)
        }
        _ => turns.push(turn),
    }
}

fn pieces(item: &mut Fields, name: &str, notes: &mut Vec<String>) -> Result<Vec<Piece>> {
    let path = item.path(name);
    match item.value(name) {
        None => Err(item.missing(name)),
        Some(Value::String(text)) => Ok(vec![Piece::Text(text)]),
        Some(Value::Array(parts)) => {
            let parts = parts.into_iter().enumerate();
            parts.map(|(i, part)| piece(Fields::of(part, format!("{path}[{i}]"))?, notes)).collect()
        }
        Some(other) => Err(expected(&path, "a string or a list of parts", &other)),
    }
}

fn piece(mut part: Fields, notes: &mut Vec<String>) -> Result<Piece> {
    let piece = match part.need_text("type")?.as_str() {
        "input_text" | "output_text" | "text" => Piece::Text(part.need_text("text")?),
        "refusal" => Piece::Text(part.need_text("refusal")?),
        "input_image" => {
            let field = part.path("image_url");
            let url = part.need_text("image_url")?;
            part.refuse(
                "detail",
                |detail| detail == "auto" || detail == "high",
                "pictures are always read in full detail; send a smaller one to save tokens",
            )?;
            Piece::Picture(Picture { field, source: Source::Url(url) })
        }
        other => {
            let message =
                format!("parts of type `{other}` are not supported; `input_text` and `input_image` are");
            return Err(Problem::unsupported(part.path("type"), message));
        }
    };
    part.pass_over(&["annotations", "logprobs"]);
    part.finish(notes);
    Ok(piece)
}

/// `text.format`.
fn form(fields: &mut Fields, notes: &mut Vec<String>) -> Result<Option<Constraint>> {
    let Some(mut text) = fields.object("text")? else { return Ok(None) };
    let format = text.object("format")?;
    text.pass_over(&["verbosity"]);
    text.finish(notes);
    let Some(mut format) = format else { return Ok(None) };
    let constraint = match format.need_text("type")?.as_str() {
        "text" => None,
        "json_object" => Some(Constraint::json_object()),
        "json_schema" => {
            let schema = format.value("schema").ok_or_else(|| format.missing("schema"))?;
            Some(Constraint::JsonSchema(schema))
        }
        other => {
            let message = format!("`{other}` is not known; it is text, json_object or json_schema");
            return Err(Problem::field(format.path("type"), message));
        }
    };
    format.pass_over(&["name", "description", "strict"]);
    format.finish(notes);
    Ok(constraint)
}
