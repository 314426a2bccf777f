//! `/v1/embeddings`: vectors for texts.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::app::App;
use crate::dialect::json_response;
use crate::fields::{Fields, expected};
use crate::problem::{Problem, Result};

/// Texts of one request.
const MAX_TEXTS: usize = 256;

pub(super) async fn answer(app: &Arc<App>, mut fields: Fields) -> Result<Response> {
    app.check_model(fields.text("model")?.as_deref())?;
    let mut notes = Vec::new();
    let texts = texts(&mut fields)?;
    let as_base64 = match fields.text("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let message = format!("`{other}` is not known; it is float or base64");
            return Err(Problem::field("encoding_format", message));
        }
    };
    let size = app.format.config().text.hidden_size;
    let own = |n: &Value| n.as_u64() == Some(size as u64);
    fields.refuse("dimensions", own, "vectors of this model are not cut; leave it out")?;
    fields.pass_over(&["user"]);
    fields.finish(&mut notes);

    let (mut data, mut n_tokens) = (Vec::new(), 0);
    for (index, text) in texts.into_iter().enumerate() {
        let (vector, n) = app.embed(text).await?;
        n_tokens += n;
        let embedding = match as_base64 {
            true => json!(STANDARD.encode(vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())),
            false => json!(vector),
        };
        data.push(json!({ "object": "embedding", "index": index, "embedding": embedding }));
    }
    let body = json!({
        "object": "list",
        "data": data,
        "model": app.model.name,
        "usage": { "prompt_tokens": n_tokens, "total_tokens": n_tokens },
        "ocelli": { "notes": notes },
    });
    Ok(json_response(StatusCode::OK, &body))
}

/// `input`: a text or a list of texts.
fn texts(fields: &mut Fields) -> Result<Vec<String>> {
    let path = fields.path("input");
    let texts = match fields.value("input") {
        None => return Err(fields.missing("input")),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(texts)) => {
            let text = |(i, text): (usize, Value)| match text {
                Value::String(text) => Ok(text),
                other => {
                    Err(expected(&format!("{path}[{i}]"), "a text; ids of tokens are not taken", &other))
                }
            };
            texts.into_iter().enumerate().map(text).collect::<Result<_>>()?
        }
        Some(other) => return Err(expected(&path, "a text or a list of texts", &other)),
    };
    match (texts.len(), texts.iter().position(String::is_empty)) {
        (0, _) => Err(Problem::field(path, "it is empty; give at least one text")),
        (n, _) if n > MAX_TEXTS => {
            Err(Problem::field(path, format!("it has {n} texts, the limit is {MAX_TEXTS}")))
        }
        (_, Some(i)) => Err(Problem::field(format!("{path}[{i}]"), "it is empty")),
        (_, None) => Ok(texts),
    }
}
