//! What a program that keeps conversations tells a page.

use serde::{Deserialize, Serialize};

use super::{Event, Turn};

/// A conversation in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Its name.
    pub id: String,
    /// What it is about; empty if nobody has said a word.
    pub title: String,
    /// When the last message came, in milliseconds since 1970.
    pub updated_ms: i64,
    /// Whether its last task has not ended.
    pub unfinished: bool,
}

/// A message in which something was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// The conversation.
    pub session: String,
    /// What it is about.
    pub title: String,
    /// The words around it, with what was found in `[` and `]`.
    pub excerpt: String,
}

/// A conversation with its messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// What a list tells of it.
    #[serde(flatten)]
    pub kept: Kept,
    /// All messages of the branch that is shown.
    pub turns: Vec<Turn>,
}

/// A line of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// Where it is kept.
    Session(String),
    /// How many messages are kept.
    Kept(usize),
    /// How far the call under way is.
    Progress(String),
    /// The task could not go on.
    Failed(String),
    /// What happens in it.
    #[serde(untagged)]
    Event(Event),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Sight;
    use crate::agent::{Ask, Effect, Origin, Outcome, Part, PictureId, Subject, ToolCall, ToolOutput};

    /// What is said, and the line that says it.
    #[track_caller]
    fn check(news: impl Into<News>, line: serde_json::Value) {
        let news = news.into();
        assert_eq!(json!(news), line);
        assert_eq!(serde_json::from_value::<News>(line).unwrap(), news);
    }

    impl From<Event> for News {
        fn from(event: Event) -> Self {
            Self::Event(event)
        }
    }

    fn call() -> ToolCall {
        let arguments = json!({ "path": "x" }).as_object().unwrap().clone();
        ToolCall { id: "c".into(), name: "write_file".into(), arguments }
    }

    #[test]
    fn lines_of_a_task_stay_as_they_are() {
        let called = json!({ "id": "c", "name": "write_file", "arguments": { "path": "x" } });
        check(News::Session("a1".into()), json!({ "session": "a1" }));
        check(News::Kept(3), json!({ "kept": 3 }));
        check(Event::Text("Hm".into()), json!({ "text": "Hm" }));
        check(Event::Finished(Outcome::Cancelled), json!({ "finished": "cancelled" }));
        check(
            Event::Finished(Outcome::Answered { text: "Done.".into() }),
            json!({ "finished": { "answered": { "text": "Done." } } }),
        );
        check(
            Event::Asked(Ask {
                call: call(),
                effect: Effect::Changes(Subject::Folder("notes".into())),
                foreign: vec![Origin::Picture],
            }),
            json!({ "asked": {
                "call": called, "effect": { "changes": { "folder": "notes" } }, "foreign": ["picture"],
            } }),
        );
        check(
            Event::Returned { call: call(), output: ToolOutput::text(Origin::Computed, "noon") },
            json!({ "returned": { "call": called, "output": {
                "parts": [{ "origin": "computed", "content": { "text": "noon" } }], "failed": false,
            } } }),
        );
        let sight = Sight {
            original: [640, 480],
            resized: [644, 476],
            patch_size: 14,
            merge_size: 2,
            n_tokens: 391,
            notes: vec!["resized".into()],
        };
        check(
            Event::Saw { picture: PictureId("77".into()), sight },
            json!({ "saw": { "picture": "77", "sight": {
                "original": [640, 480], "resized": [644, 476], "patch_size": 14, "merge_size": 2, "n_tokens": 391,
                "notes": ["resized"],
            } } }),
        );
    }

    #[test]
    fn a_conversation_is_what_a_list_tells_of_it_with_its_messages() {
        let kept = Kept { id: "a1".into(), title: "Hi".into(), updated_ms: 5, unfinished: false };
        let picture =
            Part { origin: Origin::Picture, content: crate::agent::Content::Picture(PictureId("77".into())) };
        let mut turn = Turn::user("Hi");
        turn.parts.push(picture);
        let conversation = Conversation { kept, turns: vec![turn] };
        let told = json!(conversation);
        assert_eq!((&told["id"], &told["turns"][0]["role"]), (&json!("a1"), &json!("user")));
        let read: Conversation = serde_json::from_value(told).unwrap();
        assert_eq!(read, conversation);
        assert_eq!(read.turns[0].text(), "Hi");
        assert_eq!(read.turns[0].pictures().collect::<Vec<_>>(), [&PictureId("77".into())]);
    }
}
