use proptest::prelude::*;

use super::*;

/// What an answer falls into: reasoning, text, calls.
type Parsed = (String, String, Vec<String>);

fn parse(shape: AnswerShape, parts: impl Iterator<Item = String>) -> Parsed {
    let mut parser = AnswerParser::new(shape);
    let mut pieces = Vec::new();
    for part in parts {
        pieces.extend(parser.push(&part));
    }
    pieces.extend(parser.finish());
    let mut found = Parsed::default();
    for piece in pieces {
        match piece {
            Piece::Reasoning(text) => found.0.push_str(&text),
            Piece::Text(text) => found.1.push_str(&text),
            Piece::Call(call) => found.2.push(format!("{} {}", call.id, call.to_json())),
            Piece::BrokenCall(raw) => found.2.push(format!("broken {raw}")),
        }
    }
    found
}

/// Feeds `text` in parts of every length; what it falls into must not depend on it.
#[track_caller]
fn check_shape(shape: AnswerShape, text: &str, reasoning: &str, answer: &str, calls: &[&str]) {
    let chars: Vec<char> = text.chars().collect();
    for part in 1..=chars.len().max(1) {
        let found = parse(shape, chars.chunks(part).map(|part| part.iter().collect()));
        let calls: Vec<String> = calls.iter().map(|call| (*call).to_owned()).collect();
        assert_eq!(found, (reasoning.to_owned(), answer.to_owned(), calls), "{text:?} in parts of {part}");
    }
}

#[track_caller]
fn check(in_reasoning: bool, text: &str, reasoning: &str, answer: &str) {
    check_shape(AnswerShape { in_reasoning, ..Default::default() }, text, reasoning, answer, &[]);
}

#[track_caller]
fn check_calls(in_reasoning: bool, text: &str, answer: &str, calls: &[&str]) {
    let shape = AnswerShape { in_reasoning, tools: true, verbatim: false };
    check_shape(shape, text, if in_reasoning { "hm" } else { "" }, answer, calls);
}

#[track_caller]
fn check_verbatim(in_reasoning: bool, tools: bool, text: &str, answer: &str, calls: &[&str]) {
    let shape = AnswerShape { in_reasoning, tools, verbatim: true };
    check_shape(shape, text, if in_reasoning { "hm" } else { "" }, answer, calls);
}

#[test]
fn opened_reasoning_ends_at_its_tag() {
    check(true, "because\n\nso\n</think>\n\n\n<response>\nYes.\n</response>\n", "because\n\nso", "Yes.");
    check(true, "\nbecause</think>\n\nYes.\n", "because", "Yes.\n");
    check(true, "a < b </thin </think>c", "a < b </thin ", "c");
    check(true, "never closed\n", "never closed", "");
    check(true, "</think>x", "", "x");
}

#[test]
fn without_reasoning_all_is_answer() {
    check(false, "a </think> b", "", "a </think> b");
    check(false, "  plain\n", "", "  plain\n");
    check(false, "<thin air", "", "<thin air");
    check(false, "", "", "");
}

#[test]
fn the_model_may_open_reasoning_itself() {
    check(false, "\n<think>\nhm\n</think>\n\nYes", "hm", "Yes");
    check(false, "<response>\n\nYes\nand no\n</response>", "", "Yes\nand no");
}

const F: &str = r#"{"name": "f", "arguments": {"a": 1}}"#;
const G: &str = r#"{"name": "g", "arguments": {}}"#;
const CALL_F: &str = r#"call_0 {"name":"f","arguments":{"a":1}}"#;
const CALL_G: &str = r#"call_1 {"name":"g","arguments":{}}"#;

#[test]
fn without_tools_calls_stay_text() {
    let call = format!("<tool_call>\n{F}\n</tool_call>\n");
    check(true, &format!("hm\n</think>\n\n\n{call}"), "hm", &call);
    check(true, &format!("</think><response>\nok\n</response>\n{call}"), "", &format!("ok\n{call}"));
}

#[test]
fn calls_are_found_wherever_they_stand() {
    let (f, g) = (format!("<tool_call>\n{F}\n</tool_call>"), format!("<tool_call>\n{G}\n</tool_call>"));
    check_calls(true, &format!("hm\n</think>\n\n\n{f}\n"), "", &[CALL_F]);
    check_calls(true, &format!("hm\n</think>\n\n\n{f}\n\n{g}\n"), "", &[CALL_F, CALL_G]);
    check_calls(true, &format!("hm</think>\n<response>\nok\n</response>\n{f}{g}"), "ok", &[CALL_F, CALL_G]);
    check_calls(false, &format!("I will look.\n\n{f}\nDone.\n"), "I will look.Done.\n", &[CALL_F]);
    check_calls(false, &format!("{f}x{g}"), "x", &[CALL_F, CALL_G]);
    check_calls(false, "no call\n\n", "no call\n\n", &[]);
    check_calls(false, "a <tool_cal", "a <tool_cal", &[]);
}

#[test]
fn a_closing_tag_in_a_text_closes_nothing() {
    let call = r#"<tool_call>{"name": "f", "arguments": {"t": "a</tool_call>b\"</tool_call>"}}</tool_call>"#;
    let parsed = r#"call_0 {"name":"f","arguments":{"t":"a</tool_call>b\"</tool_call>"}}"#;
    check_calls(false, call, "", &[parsed]);
}

#[test]
fn damaged_calls_are_repaired_or_shown() {
    let open = r#"{"name": "f", "arguments": {"a": 1}"#;
    check_calls(false, &format!("<tool_call>{open}</tool_call>"), "", &[CALL_F]);
    check_calls(false, &format!("<tool_call>{F}"), "", &[CALL_F]);
    // A call that was cut off must not run with half of its arguments.
    let cut = r#"<tool_call>{"name": "f", "arguments": {"a": 1"#;
    check_calls(false, cut, "", &[&format!("broken {cut}")]);
    let wild = "<tool_call>f(1)</tool_call>";
    check_calls(false, &format!("{wild}ok"), "ok", &[&format!("broken {wild}")]);
    let twice = format!("<tool_call>{F}{G}</tool_call>");
    check_calls(false, &twice, "", &[&format!("broken {twice}")]);
    // The only closing tag is inside of a text, which is no call.
    let quoted = format!("<tool_call>\"</tool_call>{F}");
    check_calls(false, &quoted, "", &[&format!("broken {quoted}")]);
}

#[test]
fn a_verbatim_answer_keeps_every_character() {
    for answer in ["\n{\"a\": \"</response>\"}\n", "</think>", "<think>x</think>", "", " x\n\n"] {
        check_verbatim(false, false, answer, answer, &[]);
        check_verbatim(true, false, &format!("hm</think>\n\n\n<response>\n{answer}"), answer, &[]);
        check_verbatim(true, true, &format!("hm</think>\n\n\n<response>\n{answer}"), answer, &[]);
    }
    check_verbatim(true, false, "hm\n</think>\n\n{}", "{}", &[]);
    check_verbatim(false, false, "<tool_call>", "<tool_call>", &[]);
    check_verbatim(true, true, &format!("hm</think>\n\n<tool_call>\n{F}\n</tool_call>"), "", &[CALL_F]);
    check_verbatim(false, true, &format!("<tool_call>\n{F}\n</tool_call>\n"), "", &[CALL_F]);
}

/// Text that likes to be markup.
fn markup() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "<think>",
        "</think>",
        "<response>",
        "</response>",
        "<tool_call>",
        "</tool_call>",
        "<tool_",
        "</",
        "{",
        "}",
        "\"",
        "\\",
        "\n",
        F,
        G,
        "é",
        " ",
        "a",
        "[1",
        ",",
    ]);
    prop::collection::vec(words, 0..24).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn parts_do_not_matter(text in markup(), in_reasoning: bool, tools: bool, verbatim: bool, n in 1_usize..9) {
        let shape = AnswerShape { in_reasoning, tools, verbatim };
        let chars: Vec<char> = text.chars().collect();
        let whole = parse(shape, std::iter::once(text.clone()));
        prop_assert_eq!(parse(shape, chars.chunks(n).map(|part| part.iter().collect())), whole);
    }
}
