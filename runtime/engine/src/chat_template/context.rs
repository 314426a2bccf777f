//! JSON to template values.

use std::borrow::Cow;

use minijinja::Value;

/// Converts `json`, with `guard` over every string and key in it.
pub(super) fn to_value(json: &serde_json::Value, guard: &dyn for<'a> Fn(&'a str) -> Cow<'a, str>) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(b) => Value::from(*b),
        serde_json::Value::String(text) => Value::from(guard(text)),
        serde_json::Value::Array(items) => items.iter().map(|item| to_value(item, guard)).collect(),
        serde_json::Value::Object(map) => {
            Value::from_pairs(map.iter().map(|(key, value)| (guard(key), to_value(value, guard))))
        }
        serde_json::Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => Value::from(n),
            (_, Some(n)) => Value::from(n),
            // Without arbitrary precision a number that is no integer is an f64.
            _ => Value::from(n.as_f64().unwrap_or(f64::NAN)),
        },
    }
}
