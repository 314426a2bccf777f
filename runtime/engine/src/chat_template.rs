//! Conversations to prompt text, by the Jinja template of a checkpoint or one of ours.
//!
//! A template is foreign code, so it runs without file access, on limited fuel, and its output is cut off at
//! a limit. What it sees is what transformers shows it: `trim_blocks`, `lstrip_blocks`, loop controls,
//! Python's string methods, `tojson` without escapes, `raise_exception`, and `strftime_now` if a time is given.
//!
//! One way past the limits is known and lies in minijinja 3.1: lists that are added to themselves more than 32
//! times over (`s + s`) are made in full and unpaid.

mod context;
mod limits;
mod strftime;
mod tojson;

use std::borrow::Cow;
use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, Value};
use model::config::Config;
use tokenizer::Tokenizer;

use crate::{Error, Result};

/// Instructions a rendering may take, and 64ths of the bytes it may make on the way.
const FUEL: u64 = 4_000_000;
/// Bytes of a rendered prompt.
const MAX_OUTPUT: usize = 16 << 20;
/// Bytes of a template's source; the longest published ones have about 20 kB.
pub(crate) const MAX_SOURCE: usize = 1 << 20;
/// Nested blocks and calls; a macro call counts as several.
const MAX_RECURSION: usize = 200;
const NAME: &str = "chat";

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    wraps_answers: bool,
}

/// The templates that every build carries, for model files without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltIn {
    /// ERNIE 4.5 text models: `User: …`, `Assistant: …`.
    Text,
    /// ERNIE-4.5-21B-A3B-Thinking: `<|im_start|>` turns, always thinking, tools.
    TextThinking,
    /// ERNIE-4.5-VL: numbered pictures, thinking on request. The embedded model's.
    Vl,
    /// ERNIE-4.5-VL-28B-A3B-Thinking: a default system text, tools, thinking unless switched off.
    VlThinking,
}

/// What a rendering depends on beside the messages.
#[derive(Debug, Clone, Default)]
pub struct RenderOptions {
    /// Whether the text ends where the assistant begins; `None` leaves the variable undefined.
    pub add_generation_prompt: Option<bool>,
    /// Tool definitions, as the template's `tools`.
    pub tools: Option<serde_json::Value>,
    /// Further variables, such as `enable_thinking`.
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// Seconds since 1970 that `strftime_now` tells, as they are (UTC); without them there is no such function.
    pub unix_time: Option<i64>,
}

impl BuiltIn {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Text, Self::TextThinking, Self::Vl, Self::VlThinking];

    /// The template for a model whose files bring none.
    ///
    /// A vision-language model gets [`Vl`](Self::Vl): nothing in the files tells its thinking sibling apart. A
    /// text model gets [`TextThinking`](Self::TextThinking) if its vocabulary has `<|im_start|>` and
    /// `<think>`, else [`Text`](Self::Text).
    ///
    /// # Errors
    /// If the vocabulary lacks a control token that the template writes.
    pub fn for_model(config: &Config, tokenizer: &Tokenizer) -> Result<Self> {
        let has = |token| tokenizer.token_id(token).is_some();
        let (template, needed) = if config.vision.is_some() {
            (
                Self::Vl,
                &["<|begin_of_sentence|>", "<|end_of_sentence|>", "<|IMAGE_START|>", "<|IMAGE_END|>"][..],
            )
        } else if has("<|im_start|>") && has("<think>") {
            (Self::TextThinking, &["<|im_start|>", "<|im_end|>"][..])
        } else {
            (Self::Text, &["<|begin_of_sentence|>", "<|end_of_sentence|>"][..])
        };
        match needed.iter().find(|token| !has(token)) {
            None => Ok(template),
            Some(token) => Err(Error::Template(format!(
                "the model files have none, and the built-in one needs the token `{token}`, \
                 which the vocabulary lacks; put a `chat_template.jinja` beside the weights"
            ))),
        }
    }

    /// Jinja source.
    pub fn source(self) -> &'static str {
        match self {
            Self::Text => include_str!("chat_template/text.jinja"),
            Self::TextThinking => include_str!("chat_template/text_thinking.jinja"),
            Self::Vl => include_str!("chat_template/vl.jinja"),
            Self::VlThinking => include_str!("chat_template/vl_thinking.jinja"),
        }
    }
}

impl ChatTemplate {
    /// Compiles Jinja source.
    ///
    /// # Errors
    /// If it is no valid template, with the line.
    pub fn new(source: &str) -> Result<Self> {
        if source.len() > MAX_SOURCE {
            let len = source.len();
            return Err(Error::Template(format!(
                "its source has {len} bytes, above the limit of {MAX_SOURCE}"
            )));
        }
        limits::check_source(source).map_err(Error::Template)?;
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| template_error(&error))?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(limits::call_method);
        environment.set_debug(false);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(MAX_RECURSION);
        environment.add_filter("tojson", tojson::tojson);
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| template_error(&error))?;
        Ok(Self { environment, wraps_answers: source.contains("<response>") })
    }

    /// Compiles one of ours.
    pub fn built_in(template: BuiltIn) -> Self {
        Self::new(template.source()).expect("the built-in templates are tested")
    }

    /// Whether answers stand between `<response>` tags.
    pub(crate) fn wraps_answers(&self) -> bool {
        self.wraps_answers
    }

    /// Renders `messages`, a list of objects with `role` and `content` as in `transformers`.
    ///
    /// Every string in `messages` and `options.tools` passes through `guard`, which for text that will be
    /// encoded is [`Tokenizer::guard`]; the template's own text does not.
    ///
    /// # Errors
    /// If the template refuses the conversation, fails, or exceeds its limits.
    pub fn render(
        &self,
        messages: &serde_json::Value,
        options: &RenderOptions,
        guard: &dyn for<'a> Fn(&'a str) -> Cow<'a, str>,
    ) -> Result<String> {
        let mut context: Vec<(String, Value)> = options
            .variables
            .iter()
            .map(|(name, value)| (name.clone(), context::to_value(value, &|text| Cow::Borrowed(text))))
            .collect();
        context.push(("messages".into(), context::to_value(messages, guard)));
        // transformers always defines these two.
        let tools = options.tools.as_ref().map_or(Value::from(()), |tools| context::to_value(tools, guard));
        context.push(("tools".into(), tools));
        if !options.variables.contains_key("documents") {
            context.push(("documents".into(), Value::from(())));
        }
        if let Some(add) = options.add_generation_prompt {
            context.push(("add_generation_prompt".into(), Value::from(add)));
        }
        if let Some(time) = options.unix_time {
            let strftime = move |format: String| strftime::strftime(&format, time);
            context.push(("strftime_now".into(), Value::from_function(strftime)));
        }
        let template = self.environment.get_template(NAME).expect("added by `new`");
        let mut output = Limited(Vec::new());
        template
            .render_captured_to(Value::from_pairs(context), &mut output)
            .map_err(|error| template_error(&error))?;
        Ok(String::from_utf8(output.0).expect("templates write whole strings"))
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").finish_non_exhaustive()
    }
}

/// JSON as templates write it: a space behind `,` and `:`, nothing escaped that need not be.
pub(crate) fn python_json(value: &serde_json::Value) -> String {
    let value_as_it_is = context::to_value(value, &|text| Cow::Borrowed(text));
    tojson::plain(&value_as_it_is).unwrap_or_else(|| value.to_string())
}

/// Output that refuses to grow above the limit: one loop over a long message would outrun any fuel.
struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other(format!("the text is longer than {MAX_OUTPUT} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn template_error(error: &minijinja::Error) -> Error {
    // `raise_exception` and the limits arrive wrapped when they happen inside a macro or a writer.
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = match cause.downcast_ref::<minijinja::Error>() {
        Some(inner) => match (inner.kind(), inner.detail()) {
            (ErrorKind::OutOfFuel, _) => "it takes too many steps".to_owned(),
            (kind, Some(detail)) if kind != ErrorKind::InvalidOperation => format!("{kind}: {detail}"),
            (_, Some(detail)) => detail.to_owned(),
            (kind, None) => kind.to_string(),
        },
        None => cause.to_string(),
    };
    match error.line() {
        Some(line) => Error::Template(format!("{text} (line {line})")),
        None => Error::Template(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/recorded/chat");

    fn plain(text: &str) -> Cow<'_, str> {
        Cow::Borrowed(text)
    }

    fn render(source: &str, messages: &Value) -> Result<String> {
        ChatTemplate::new(source)?.render(messages, &RenderOptions::default(), &plain)
    }

    #[track_caller]
    fn check(source: &str, expected: &str) {
        assert_eq!(render(source, &json!([])).unwrap(), expected);
    }

    #[track_caller]
    fn refused(source: &str, expected: &str) {
        let message = render(source, &json!([{"role": "user", "content": "x".repeat(1 << 16)}])).unwrap_err();
        assert!(message.to_string().contains(expected), "{message}");
    }

    #[test]
    fn recorded_conversations_are_byte_equal() {
        let cases = std::fs::read_to_string(format!("{RECORDED}/conversations.json")).unwrap();
        let cases: Vec<Value> = serde_json::from_str(&cases).unwrap();
        assert!(cases.len() >= 100);
        for case in cases {
            let file = format!("{RECORDED}/{}", case["template"].as_str().unwrap());
            let options = RenderOptions {
                add_generation_prompt: case["add_generation_prompt"].as_bool(),
                tools: (!case["tools"].is_null()).then(|| case["tools"].clone()),
                variables: case["kwargs"].as_object().unwrap().clone(),
                unix_time: None,
            };
            let template = ChatTemplate::new(&std::fs::read_to_string(file).unwrap()).unwrap();
            match (template.render(&case["messages"], &options, &plain), case["text"].as_str()) {
                (Ok(text), Some(expected)) => assert_eq!(text, expected, "{case}"),
                (Ok(text), None) => panic!("{text:?} instead of an error: {case}"),
                (Err(error), Some(_)) => panic!("{error}: {case}"),
                (Err(error), None) => {
                    let expected = case["error"].as_str().unwrap();
                    // Python's own type errors are worded otherwise here.
                    let own = expected.starts_with("can only concatenate");
                    assert!(own || error.to_string().contains(expected), "{error}: {case}");
                }
            }
        }
    }

    #[test]
    fn built_in_templates_are_the_recorded_ones() {
        for (template, name) in BuiltIn::ALL.iter().zip(["text", "text_thinking", "vl", "vl_thinking"]) {
            let recorded = std::fs::read_to_string(format!("{RECORDED}/{name}.jinja")).unwrap();
            assert_eq!(template.source(), recorded);
        }
    }

    #[test]
    fn json_is_that_of_python() {
        check("{{ '<é\u{7f}\"\\\\>\n\u{1}' | tojson }}", "\"<é\u{7f}\\\"\\\\>\\n\\u0001\"");
        check("{{ '<é😈' | tojson(ensure_ascii=true) }}", "\"<\\u00e9\\ud83d\\ude08\"");
        check(
            "{{ [1, 1.0, 1e16, 0.00001, -1.5e300, none, true, []] | tojson }}",
            "[1, 1.0, 1e+16, 1e-05, -1.5e+300, null, true, []]",
        );
        check(
            "{{ {'b': [1, {}], 'a': 2} | tojson(indent=1) }}",
            "{\n \"b\": [\n  1,\n  {}\n ],\n \"a\": 2\n}",
        );
        check(
            "{{ {'b': 1, 'a': [2, 3]} | tojson(separators=(',', ':'), sort_keys=true) }}",
            "{\"a\":[2,3],\"b\":1}",
        );
    }

    #[test]
    fn time_is_told_only_if_given() {
        let source = "{{ strftime_now('%d %b %Y %H:%M:%S %A %j%%') if strftime_now is defined else '-' }}";
        check(source, "-");
        let options = RenderOptions { unix_time: Some(951_782_400 + 3_661), ..Default::default() };
        let text = ChatTemplate::new(source).unwrap().render(&json!([]), &options, &plain).unwrap();
        assert_eq!(text, "29 Feb 2000 01:01:01 Tuesday 060%");
    }

    #[test]
    fn refusals_come_through_word_for_word() {
        refused("{% macro m() %}{{ raise_exception('no pictures') }}{% endmacro %}{{ m() }}", "no pictures");
    }

    #[test]
    fn endless_templates_are_stopped() {
        refused(
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "too many steps",
        );
        refused("{% for a in range(10000) %}{{ messages[0].content }}{% endfor %}", "longer than");
        refused("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion");
        refused("{% include 'chat' %}", "recursion");
        refused(
            "{% set ns = namespace(x=[]) %}{% for a in range(5000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}",
            "nested",
        );
    }

    #[test]
    fn files_are_out_of_reach() {
        refused("{% include '/etc/hostname' %}", "template not found");
        refused("{% import 'tokenizer.json' as x %}", "template not found");
    }

    #[test]
    fn broken_templates_name_the_line() {
        refused("\n\n{% for %}", "line 3");
        refused(&"a".repeat(MAX_SOURCE + 1), "above the limit");
    }
}
