//! The question whether a call may run, put to whoever sits at the terminal.

use std::io::{self, BufRead};

use ::agent::{Approver, Ask, Decision, Effect, LocalFuture, Subject};
use protocol::exact;

use crate::output::Output;

/// Asks at the terminal.
pub(super) struct AtTerminal<'a> {
    output: &'a Output,
}

impl<'a> AtTerminal<'a> {
    pub(super) fn new(output: &'a Output) -> Self {
        Self { output }
    }
}

impl Approver for AtTerminal<'_> {
    fn decide<'a>(&'a mut self, ask: &'a Ask) -> LocalFuture<'a, Decision> {
        Box::pin(async move {
            let answer = answer(self.output, &question(ask), "y, n, a or v?", |line| decision(line, ask));
            answer.unwrap_or_else(|| Decision::no("nobody answered"))
        })
    }
}

/// Puts a question that has two answers.
pub(super) fn is_yes(output: &Output, question: &str) -> bool {
    let read = |line: &str| match line.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Some(true),
        "n" | "no" => Some(false),
        _ => None,
    };
    answer(output, question, "y or n?", read).unwrap_or(false)
}

/// Puts a question until `read` makes something of the answer. `None` if nobody answers.
fn answer<T>(output: &Output, question: &str, hint: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    output.reply(question);
    loop {
        output.prompt();
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line) {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
        match read(&line) {
            Some(answer) => return Some(answer),
            None => output.reply(hint),
        }
    }
}

/// The call with its exact arguments, what it would do, and who else has spoken.
fn question(ask: &Ask) -> String {
    let arguments = exact(&serde_json::to_string_pretty(&ask.call.arguments).unwrap_or_default());
    let would = match &ask.effect {
        Effect::None => "it changes nothing",
        Effect::Changes(_) => "it changes something",
        Effect::Reaches(_) => "it reaches beyond what was granted",
    };
    let about = named(ask.subject());
    let foreign: Vec<String> = ask.foreign.iter().map(ToString::to_string).collect();
    let told = match foreign.is_empty() {
        true => String::new(),
        false => {
            format!(" The model has read words from {}, which may have told it to.", foreign.join(" and "))
        }
    };
    format!(
        "May `{}` run with exactly this?\n{arguments}\nFor {about}: {would}.{told}\n\
         y yes · n no · a always for {about} · v never for {about}",
        ask.call.name
    )
}

fn named(subject: &Subject) -> String {
    match subject {
        Subject::Anything => "this tool".into(),
        Subject::Folder(folder) => format!("the folder `{folder}`"),
        Subject::Host(host) => format!("the host `{host}`"),
        Subject::Server(server) => format!("the server of tools `{server}`"),
    }
}

fn decision(line: &str, ask: &Ask) -> Option<Decision> {
    let always = Some(ask.subject().clone());
    match line.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Some(Decision::yes()),
        "n" | "no" => Some(Decision::no("the user said no")),
        "a" | "always" => Some(Decision { remember: always, ..Decision::yes() }),
        "v" | "never" => Some(Decision { remember: always, ..Decision::no("the user said never") }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ::agent::{Origin, ToolCall};

    use super::*;

    #[test]
    fn the_exact_arguments_and_the_origin_are_shown() {
        let arguments = serde_json::json!({ "path": "notes/x\u{202e}txt.", "content": "rm -rf" });
        let call = ToolCall {
            id: "1".into(),
            name: "write_file".into(),
            arguments: arguments.as_object().unwrap().clone(),
        };
        let effect = Effect::Changes(Subject::Folder("notes".into()));
        let ask = Ask { call, effect, foreign: vec![Origin::Picture] };
        let text = question(&ask);
        for part in [
            "`write_file`",
            "\"path\": \"notes/x\\u{202e}txt.\"",
            "\"content\": \"rm -rf\"",
            "a picture",
            "the folder `notes`",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(decision(" Y\n", &ask), Some(Decision::yes()));
        assert_eq!(decision("a", &ask).unwrap().remember, Some(Subject::Folder("notes".into())));
        assert!(!decision("v", &ask).unwrap().allow && !decision("n", &ask).unwrap().allow);
        // Nothing else is a yes, least of all an empty line.
        assert_eq!(decision("\n", &ask), None);
        assert_eq!(decision("yep", &ask), None);
    }
}
