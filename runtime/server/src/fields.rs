//! The fields of a JSON request, each taken by name and checked; what is left over is reported.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::problem::{Kind, Problem, Result};

/// The members of an object that nobody has taken yet. `null` counts as absent, as clients send it so.
#[derive(Debug)]
pub(crate) struct Fields {
    path: String,
    members: Map<String, Value>,
}

impl Fields {
    /// The members of a request's body.
    pub(crate) fn of_body(body: &[u8]) -> Result<Self> {
        let value = serde_json::from_slice(body)
            .map_err(|error| Problem::new(Kind::Invalid, format!("the body is not JSON: {error}")))?;
        match value {
            Value::Object(members) => Ok(Self { path: String::new(), members }),
            other => {
                let found = kind_of(&other);
                Err(Problem::new(Kind::Invalid, format!("the body must be a JSON object, but is {found}")))
            }
        }
    }

    /// The members of the object at `path`.
    pub(crate) fn of(value: Value, path: String) -> Result<Self> {
        match value {
            Value::Object(members) => Ok(Self { path, members }),
            other => Err(expected(&path, "an object", &other)),
        }
    }

    /// How a member is called from the top of the request.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Whatever is there.
    pub(crate) fn value(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(expected(&self.path(name), "a string", &other)),
        }
    }

    /// A text that must be there.
    pub(crate) fn need_text(&mut self, name: &str) -> Result<String> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Result<Option<bool>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(yes)) => Ok(Some(yes)),
            Some(other) => Err(expected(&self.path(name), "true or false", &other)),
        }
    }

    pub(crate) fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            Some(number) => Err(Problem::field(
                self.path(name),
                format!("it is {number}, but must be between {} and {}", range.start(), range.end()),
            )),
            None => Err(expected(&self.path(name), "a number", &value)),
        }
    }

    pub(crate) fn integer(&mut self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        // Some clients write whole numbers with a fraction of zero.
        let whole = value.as_u64().or_else(|| {
            let number = value.as_f64().filter(|x| x.fract() == 0.0 && (0.0..=2f64.powi(53)).contains(x))?;
            Some(number as u64)
        });
        match whole {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ if value.is_number() => {
                let (least, most) = (range.start(), range.end());
                let wanted = match *most {
                    u64::MAX => format!("a whole number of at least {least}"),
                    most => format!("a whole number between {least} and {most}"),
                };
                Err(Problem::field(self.path(name), format!("it is {value}, but must be {wanted}")))
            }
            _ => Err(expected(&self.path(name), "a whole number", &value)),
        }
    }

    pub(crate) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(expected(&self.path(name), "a list", &other)),
        }
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Fields>> {
        self.value(name).map(|value| Fields::of(value, self.path(name))).transpose()
    }

    /// Texts, of which one may stand without a list.
    pub(crate) fn texts(&mut self, name: &str) -> Result<Vec<String>> {
        let path = self.path(name);
        match self.value(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text]),
            Some(Value::Array(items)) => items
                .into_iter()
                .enumerate()
                .map(|(i, item)| match item {
                    Value::String(text) => Ok(text),
                    other => Err(expected(&format!("{path}[{i}]"), "a string", &other)),
                })
                .collect(),
            Some(other) => Err(expected(&path, "a string or a list of strings", &other)),
        }
    }

    /// Drops members that change no answer here and promise nothing.
    pub(crate) fn pass_over(&mut self, names: &[&str]) {
        names.iter().for_each(|name| drop(self.members.remove(*name)));
    }

    /// Refuses a member unless it says what holds anyway.
    pub(crate) fn refuse(&mut self, name: &str, harmless: impl Fn(&Value) -> bool, why: &str) -> Result<()> {
        match self.value(name) {
            Some(value) if !harmless(&value) => Err(Problem::unsupported(self.path(name), why)),
            _ => Ok(()),
        }
    }

    /// Notes what is left over, which nobody here knows.
    pub(crate) fn finish(self, notes: &mut Vec<String>) {
        for (name, value) in &self.members {
            if !value.is_null() {
                notes.push(format!("`{}` is not known here and was ignored", self.path(name)));
            }
        }
    }

    pub(crate) fn missing(&self, name: &str) -> Problem {
        Problem::field(self.path(name), "it is missing")
    }
}

/// A value of another kind than `wanted`.
pub(crate) fn expected(path: &str, wanted: &str, found: &Value) -> Problem {
    Problem::field(path, format!("it must be {wanted}, but is {}", kind_of(found)))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        Fields::of_body(json.as_bytes()).unwrap()
    }

    #[track_caller]
    fn refused<T: std::fmt::Debug>(result: Result<T>, expected: &str) {
        let problem = result.unwrap_err();
        assert!(problem.message.contains(expected), "{problem:?}");
        assert!(problem.field.is_some(), "{problem:?}");
    }

    #[test]
    fn numbers_keep_to_their_range() {
        let mut f = fields(r#"{"a": -1, "b": 1e300, "c": "1", "d": 2.0, "e": 2.5, "f": 3, "g": -0.0}"#);
        refused(f.integer("a", 0..=9), "a: it is -1, but must be a whole number between 0 and 9");
        refused(f.integer("b", 1..=u64::MAX), "at least 1");
        refused(f.number("c", 0.0..=1.0), "it must be a number, but is a string");
        assert_eq!(f.integer("d", 0..=9).unwrap(), Some(2));
        refused(f.integer("e", 0..=9), "it is 2.5");
        refused(f.number("f", 0.0..=2.0), "it is 3, but must be between 0 and 2");
        assert_eq!(f.integer("g", 0..=9).unwrap(), Some(0));
        assert_eq!(f.number("h", 0.0..=2.0).unwrap(), None);
        assert!(Fields::of_body(br#"{"a": NaN}"#).is_err());
        assert!(Fields::of_body(br#"{"a": 1e999}"#).is_err());
    }

    #[test]
    fn what_is_left_over_is_told_by_its_path() {
        let mut f = fields(r#"{"outer": {"inner": 1, "null": null}, "user": "x"}"#);
        let mut notes = Vec::new();
        f.object("outer").unwrap().unwrap().finish(&mut notes);
        f.pass_over(&["user"]);
        f.finish(&mut notes);
        assert_eq!(notes, ["`outer.inner` is not known here and was ignored"]);
    }

    #[test]
    fn a_body_is_an_object() {
        for body in ["", "[]", "{", "\"x\"", "{\"a\":1}}"] {
            assert!(Fields::of_body(body.as_bytes()).is_err(), "{body}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Fields::of_body(deep.as_bytes()).is_err());
    }
}
