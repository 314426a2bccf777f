//! Marks that keep user text from forging control tokens inside a rendered prompt.
//!
//! A chat template renders to one string, in which a typed `<|im_start|>` looks like the template's own. So
//! untrusted text is marked before it is rendered: a [`GUARD`] follows every character that a control token
//! can begin with, hence no control token begins in that text, not even one that is put together from two
//! fields. The marks are noncharacters, which no text should contain; one that does is escaped.

use std::borrow::Cow;

/// The mark: a noncharacter that stands between the characters of a would-be control token.
pub const GUARD: char = '\u{FDD0}';

/// Introduces a typed [`GUARD`] (`0`) or itself (`1`).
const ESCAPE: char = '\u{FDD1}';

pub(crate) fn insert(text: &str, starts_control: impl Fn(char) -> bool) -> Cow<'_, str> {
    let needs_mark = |c| c == GUARD || c == ESCAPE || starts_control(c);
    if !text.chars().any(needs_mark) {
        return Cow::Borrowed(text);
    }
    let mut marked = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            GUARD => marked.extend([ESCAPE, '0']),
            ESCAPE => marked.extend([ESCAPE, '1']),
            c => marked.push(c),
        }
        if starts_control(c) {
            marked.push(GUARD);
        }
    }
    Cow::Owned(marked)
}

pub(crate) fn remove(text: &str) -> Cow<'_, str> {
    if !text.contains([GUARD, ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().filter(|&c| c != GUARD).peekable();
    while let Some(c) = chars.next() {
        let escaped = match chars.peek() {
            Some('0') if c == ESCAPE => Some(GUARD),
            Some('1') if c == ESCAPE => Some(ESCAPE),
            _ => None,
        };
        plain.push(escaped.unwrap_or(c));
        if escaped.is_some() {
            chars.next();
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn guarding_round_trips(fields in prop::collection::vec("[<|a01\u{FDD0}\u{FDD1}\u{FDD2}]{0,8}", 1..4)) {
            let starts = |c| matches!(c, '<' | '0' | '|');
            let marked: String = fields.iter().map(|field| insert(field, starts)).collect();
            prop_assert!(!marked.contains("<|"));
            prop_assert_eq!(remove(&marked), fields.concat());
        }
    }
}
