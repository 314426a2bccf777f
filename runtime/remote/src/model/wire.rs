//! A conversation in the words of OpenAI's API.

use ::agent::{Content, Error, PictureId, Pictures, Result, Role, ToolSpec, Turn};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

pub(super) fn tools(tools: &[ToolSpec]) -> Value {
    let tools = tools.iter().map(|tool| {
        let function =
            json!({ "name": tool.name, "description": tool.description, "parameters": tool.parameters });
        json!({ "type": "function", "function": function })
    });
    tools.collect()
}

pub(super) fn messages(turns: &[Turn], pictures: &Pictures) -> Result<Value> {
    turns.iter().map(|turn| message(turn, pictures)).collect()
}

fn message(turn: &Turn, pictures: &Pictures) -> Result<Value> {
    let role = match turn.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut parts = Vec::new();
    let mut calls = Vec::new();
    for part in &turn.parts {
        match &part.content {
            Content::Text(text) => parts.push(json!({ "type": "text", "text": text })),
            Content::Picture(id) => {
                parts.push(json!({ "type": "image_url", "image_url": { "url": data_url(id, pictures)? } }));
            }
            Content::Call(call) => {
                let arguments = Value::Object(call.arguments.clone()).to_string();
                let function = json!({ "name": call.name, "arguments": arguments });
                calls.push(json!({ "id": call.id, "type": "function", "function": function }));
            }
        }
    }
    let has_pictures = parts.iter().any(|part| part["type"] != "text");
    let mut message = json!({ "role": role });
    message["content"] = if has_pictures { json!(parts) } else { json!(turn.text()) };
    if !calls.is_empty() {
        message["tool_calls"] = json!(calls);
    }
    if let Some(id) = &turn.call_id {
        message["tool_call_id"] = json!(id);
    }
    Ok(message)
}

fn data_url(id: &PictureId, pictures: &Pictures) -> Result<String> {
    let bytes =
        pictures.get(id).ok_or_else(|| Error::Picture(format!("{} is not in the conversation", id.0)))?;
    let format = image::guess_format(bytes)
        .map_err(|_| Error::Picture(format!("{} is of a format that is not known here", id.0)))?;
    Ok(format!("data:{};base64,{}", format.to_mime_type(), STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use ::agent::{Origin, Part, ToolCall};

    use super::*;

    #[test]
    fn a_conversation_is_told_in_full() {
        let mut pictures = Pictures::default();
        let png = b"\x89PNG\r\n\x1a\n".to_vec();
        let picture = Content::Picture(pictures.add(png));
        let call = ToolCall {
            id: "call_1_0".into(),
            name: "image_zoom".into(),
            arguments: json!({ "picture": 1 }).as_object().unwrap().clone(),
        };
        let call = Part { origin: Origin::Model, content: Content::Call(call) };
        let result =
            vec![Part::text(Origin::Computed, "here:"), Part { origin: Origin::Picture, content: picture }];
        let turns = [
            Turn::new(Role::System, vec![Part::text(Origin::User, "Be short.")]),
            Turn::user("What is it?"),
            Turn::new(Role::Assistant, vec![call]),
            Turn { call_id: Some("call_1_0".into()), ..Turn::new(Role::Tool, result) },
        ];
        let expected = json!([
            { "role": "system", "content": "Be short." },
            { "role": "user", "content": "What is it?" },
            { "role": "assistant", "content": "", "tool_calls": [{
                "id": "call_1_0", "type": "function",
                "function": { "name": "image_zoom", "arguments": "{\"picture\":1}" },
            }] },
            { "role": "tool", "content": [
                { "type": "text", "text": "here:" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBORw0KGgo=" } },
            ], "tool_call_id": "call_1_0" },
        ]);
        assert_eq!(messages(&turns, &pictures).unwrap(), expected);
        let error = messages(&turns, &Pictures::default()).unwrap_err().to_string();
        assert!(error.contains("not in the conversation"), "{error}");
    }
}
