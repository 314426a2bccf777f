//! What a template may ask of the stack and of memory, where minijinja itself sets no limit.

use minijinja::{Error, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

/// Bytes of one tag, texts in it not counted. Each operator of a chain takes a frame of about 430 bytes of stack
/// when it is compiled; the longest tags of published templates have about 300 bytes.
const MAX_TAG: usize = 1024;
/// `elif` branches of a template, each of which takes a frame of about 1100 bytes.
const MAX_ELIFS: usize = 200;

/// Bytes of a line: minijinja counts columns in 16 bits.
const MAX_LINE: usize = u16::MAX as usize - 1;

/// Refuses source that would overflow the stack, or the count of columns.
pub(super) fn check_source(source: &str) -> Result<(), String> {
    if source.lines().any(|line| line.len() > MAX_LINE) {
        return Err(format!("a line is longer than {MAX_LINE} bytes"));
    }
    if source.matches("elif").count() > MAX_ELIFS {
        return Err(format!("it has more than {MAX_ELIFS} `elif`"));
    }
    let bytes = source.as_bytes();
    let mut start = 0;
    while let Some(open) = bytes[start..].windows(2).position(|pair| matches!(pair, b"{{" | b"{%" | b"{#")) {
        start += open + 2;
        let rest = &bytes[start..];
        start += match bytes[start - 1] {
            b'#' => rest.windows(2).position(|pair| pair == b"#}").unwrap_or(rest.len()),
            b'{' => tag(rest, b"}}")?,
            _ => tag(rest, b"%}")?,
        };
    }
    Ok(())
}

/// Bytes up to `close`, which may also stand in texts and inside braces.
fn tag(bytes: &[u8], close: &[u8]) -> Result<usize, String> {
    let (mut at, mut len, mut depth) = (0, 0, 0_usize);
    while at < bytes.len() && !(depth == 0 && bytes[at..].starts_with(close)) {
        match bytes[at] {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            _ => {}
        }
        (at, len) = (at + 1, len + 1);
        if len > MAX_TAG {
            return Err(format!("a tag is longer than {MAX_TAG} bytes"));
        }
    }
    Ok(at.min(bytes.len()))
}

/// Python's methods. What `str.format` pads is paid for before it is made.
pub(super) fn call_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let ("format", Some(text)) = (method, value.as_str()) {
        let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
        let widths = numbers.map(|digits| digits.parse().unwrap_or(u64::MAX)).fold(0, u64::saturating_add);
        state.consume_fuel(widths / 64)?;
    }
    unknown_method_callback(state, value, method, args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_computed_counts() {
        let text = "x".repeat(5000);
        for fine in [
            text.clone(),
            format!("{{{{ '{text}' }}}}"),
            format!("{{{{ \"\\\"{text}}}}}\" }}}}"),
            "{{ a }}{% if b %}{% endif %}".repeat(1000),
            format!("{{# {{{{ don't {text} #}}}}"),
            format!("{{% set a = {{'b': {{}}}} %}}{text}"),
            "{{ 'never closed".to_owned(),
            "{{".to_owned(),
        ] {
            assert_eq!(check_source(&fine), Ok(()), "{fine:.40}");
        }
        for chain in [" + 1", ".a", "|upper", "-", "{{"] {
            let chain = chain.repeat(1025);
            for source in [format!("{{{{ 1{chain} }}}}"), format!("{{% if {{'a': {{}}}}{chain} %}}")] {
                assert!(check_source(&source).is_err(), "{source:.40}");
            }
        }
        assert!(check_source(&"{% elif 0 %}".repeat(201)).is_err());
    }
}
