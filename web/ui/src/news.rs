//! What the program that serves this page tells of conversations and tasks: the lines of its `/api/desk`.

use serde::Deserialize;
use serde_json::{Map, Value};

/// A conversation in a list.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Kept {
    /// Its name.
    pub id: String,
    /// What it is about; empty if nobody has said a word.
    pub title: String,
    /// Whether its last task has not ended.
    pub unfinished: bool,
}

/// A message in which something was found.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Hit {
    /// The conversation.
    pub session: String,
    /// What it is about.
    pub title: String,
    /// The words around it.
    pub excerpt: String,
}

/// A conversation with its messages.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Shown {
    /// Whether its last task has not ended.
    pub unfinished: bool,
    /// All messages of the branch that is shown.
    pub turns: Vec<Message>,
}

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// Sets the rules.
    System,
    /// Asks.
    User,
    /// The model.
    Assistant,
    /// The result of a call.
    Tool,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Speaker,
    /// What, in order.
    pub parts: Vec<Part>,
    /// What the model thought before it.
    #[serde(default)]
    pub reasoning: Option<String>,
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Part {
    /// What it is.
    pub content: Content,
}

/// What a part of a message is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Words.
    Text(String),
    /// The name of a picture.
    Picture(String),
    /// A call of a tool.
    Call(Call),
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Call {
    /// Tells it from others.
    pub id: String,
    /// The tool.
    pub name: String,
    /// What for.
    pub arguments: Map<String, Value>,
}

/// A call that needs a yes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Ask {
    /// The call.
    pub call: Call,
    /// What it would do.
    pub effect: Effect,
    /// Who else has spoken: `picture`, `file`, `tool`, `web`.
    pub foreign: Vec<String>,
}

/// What a call would do.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing.
    None,
    /// A change of something that was granted.
    Changes(Subject),
    /// It reaches beyond what was granted.
    Reaches(Subject),
}

/// What an effect is about.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// All that the tool does.
    Anything,
    /// A folder.
    Folder(String),
    /// A host.
    Host(String),
    /// Another program that offers tools.
    Server(String),
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Output {
    /// What the model reads of it.
    pub parts: Vec<Part>,
    /// Whether the call failed.
    pub failed: bool,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With an answer.
    Answered {
        /// Its words.
        text: String,
    },
    /// With an answer that was cut off.
    CutOff {
        /// Its words so far.
        text: String,
    },
    /// At a limit.
    OutOf {
        /// Of what.
        what: String,
    },
    /// Its user ended it.
    Cancelled,
    /// The model could not be asked.
    Failed {
        /// Why.
        message: String,
    },
}

/// A line of a task.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// Where it is kept.
    Session(String),
    /// How many messages are kept.
    Kept(usize),
    /// The model thinks on.
    Reasoning(String),
    /// The model says more.
    Text(String),
    /// The model has replied.
    Replied {
        /// Its words.
        text: String,
        /// What it calls.
        calls: Vec<Call>,
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Those of them that were known from before.
        cached_tokens: usize,
        /// Tokens of the reply.
        generated_tokens: usize,
    },
    /// A call needs a yes.
    Asked(Ask),
    /// A person has decided.
    Decided {
        /// About this call.
        call: Call,
        /// Whether it runs.
        allow: bool,
        /// Why.
        reason: Option<String>,
    },
    /// A call runs.
    Calling(Call),
    /// How far it is.
    Progress(String),
    /// A call has given something, or was refused.
    Returned {
        /// The call.
        call: Call,
        /// What it gave.
        output: Output,
    },
    /// Something was lost or changed on the way.
    Note(String),
    /// The task is over.
    Finished(Outcome),
    /// The task could not go on.
    Failed(String),
}

impl Message {
    /// All its words.
    pub fn text(&self) -> String {
        words(&self.parts)
    }

    /// The names of its pictures.
    pub fn pictures(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match &part.content {
            Content::Picture(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The calls that it makes.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.parts.iter().filter_map(|part| match &part.content {
            Content::Call(call) => Some(call),
            _ => None,
        })
    }
}

impl Output {
    /// All its words.
    pub fn text(&self) -> String {
        words(&self.parts)
    }
}

impl Ask {
    /// What a rule about such calls would be about.
    pub fn subject(&self) -> &Subject {
        match &self.effect {
            Effect::None => &Subject::Anything,
            Effect::Changes(subject) | Effect::Reaches(subject) => subject,
        }
    }
}

fn words(parts: &[Part]) -> String {
    let words = parts.iter().filter_map(|part| match &part.content {
        Content::Text(text) => Some(text.as_str()),
        _ => None,
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(line: &str) -> News {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn lines_of_a_task_are_understood() {
        assert_eq!(news(r#"{"session":"a1"}"#), News::Session("a1".into()));
        assert_eq!(news(r#"{"finished":"cancelled"}"#), News::Finished(Outcome::Cancelled));
        let answered = r#"{"finished":{"answered":{"text":"Done."}}}"#;
        assert_eq!(news(answered), News::Finished(Outcome::Answered { text: "Done.".into() }));
        let asked = r#"{"asked":{"call":{"id":"c","name":"write_file","arguments":{"path":"x"}},
            "effect":{"changes":{"folder":"notes"}},"foreign":["picture"]}}"#;
        let News::Asked(ask) = news(asked) else { panic!("{asked}") };
        assert_eq!(ask.subject(), &Subject::Folder("notes".into()));
        assert_eq!(ask.foreign, ["picture"]);
        let returned = r#"{"returned":{"call":{"id":"c","name":"clock","arguments":{}},"output":
            {"parts":[{"origin":"computed","content":{"text":"noon"}},
            {"origin":"picture","content":{"picture":"77"}}],"failed":false}}}"#;
        let News::Returned { output, .. } = news(returned) else { panic!("{returned}") };
        assert_eq!(output.text(), "noon");
    }

    #[test]
    fn messages_have_words_pictures_and_calls() {
        let turn = r#"{"role":"assistant","parts":[{"origin":"model","content":{"text":"See"}},
            {"origin":"model","content":{"call":{"id":"c","name":"clock","arguments":{}}}},
            {"origin":"picture","content":{"picture":"77"}}],"reasoning":"Hm"}"#;
        let message: Message = serde_json::from_str(turn).unwrap();
        assert_eq!((message.role, message.text()), (Speaker::Assistant, "See".into()));
        assert_eq!(message.pictures().collect::<Vec<_>>(), ["77"]);
        assert_eq!(message.calls().map(|call| &call.name).collect::<Vec<_>>(), ["clock"]);
    }
}
