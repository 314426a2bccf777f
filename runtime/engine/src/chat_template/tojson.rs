//! The `tojson` filter as transformers defines it: Python's `json.dumps`, without HTML or ASCII escapes.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use tokenizer::GUARD;

use super::MAX_OUTPUT;

/// Python's own limit is about a thousand; tool schemas have ten.
const MAX_DEPTH: usize = 100;

pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let separators: Option<Vec<String>> = options.get("separators")?;
    let indent: Option<usize> = options.get("indent")?;
    let (comma, colon) = match separators.as_deref() {
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
        Some([comma, colon]) => (comma.clone(), colon.clone()),
        Some(_) => return Err(invalid("separators are two strings")),
    };
    let mut json = Json {
        out: String::new(),
        comma,
        colon,
        indent,
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    json.value(value, 0)?;
    Ok(Value::from(json.out))
}

/// What Python writes without options.
pub(super) fn plain(value: &Value) -> Option<String> {
    let mut json = Json {
        out: String::new(),
        comma: ", ".to_owned(),
        colon: ": ".to_owned(),
        indent: None,
        ensure_ascii: false,
        sort_keys: false,
    };
    json.value(value, 0).ok()?;
    Some(json.out)
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {what}"))
}

struct Json {
    out: String,
    comma: String,
    colon: String,
    indent: Option<usize>,
    ensure_ascii: bool,
    sort_keys: bool,
}

impl Json {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(invalid("the value is nested too deeply"));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => self.out.push_str(&value.to_string()),
            ValueKind::Number => self.float(f64::try_from(value.clone())?),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.items('[', ']', &items, depth, |json, item| json.value(item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.items('{', '}', &keys, depth, |json, key| {
                    json.string(&key.to_string());
                    json.out.push_str(&json.colon.clone());
                    json.value(&value.get_item(key)?, depth + 1)
                })?;
            }
            _ => return Err(invalid("the value is undefined or no data")),
        }
        Ok(())
    }

    fn items(
        &mut self,
        open: char,
        close: char,
        items: &[Value],
        depth: usize,
        mut write: impl FnMut(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.out.push_str(&self.comma.clone());
            }
            self.new_line(depth + 1);
            write(self, item)?;
            // Fuel is charged for the whole text, which is too late for long separators.
            if self.out.len() > MAX_OUTPUT {
                return Err(invalid("the text is too long"));
            }
        }
        if !items.is_empty() {
            self.new_line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent.min(16) * depth));
        }
    }

    fn float(&mut self, x: f64) {
        if x.is_nan() {
            self.out.push_str("NaN");
        } else if x.is_infinite() {
            self.out.push_str(if x > 0.0 { "Infinity" } else { "-Infinity" });
        } else {
            // Rust and Python print the same digits and change to exponents at the same sizes.
            let text = format!("{x:?}");
            match text.split_once('e') {
                None => self.out.push_str(&text),
                Some((digits, exponent)) => {
                    let (sign, exponent) = match exponent.strip_prefix('-') {
                        Some(exponent) => ('-', exponent),
                        None => ('+', exponent),
                    };
                    let _ = write!(self.out, "{digits}e{sign}{exponent:0>2}");
                }
            }
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' => self.escape(c),
                // Guards are taken out before encoding, which they could not be once escaped.
                GUARD => self.out.push(c),
                c if self.ensure_ascii && !c.is_ascii() => self.escape(c),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn escape(&mut self, c: char) {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(self.out, "\\u{unit:04x}");
        }
    }
}
