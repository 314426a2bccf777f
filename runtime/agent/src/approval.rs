//! Who decides whether a call runs: rules, the origin of what the model read, and in the end a person.

use protocol::agent::{Ask, Effect, Origin, Subject, ToolCall, Turn};
use serde::{Deserialize, Serialize};

/// A decision that holds from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The tool.
    pub tool: String,
    /// What of it.
    pub subject: Subject,
    /// Whether such calls run.
    pub allow: bool,
}

/// The rules that were remembered; a later one goes before an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Policy {
    /// In the order in which they were made.
    pub rules: Vec<Rule>,
}

/// What holds for a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It runs.
    Allow,
    /// It does not, and why.
    Deny(String),
    /// Somebody must say.
    Ask(Ask),
}

/// The answer of a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether the call runs.
    pub allow: bool,
    /// Whether this holds for such calls from now on.
    pub remember: Option<Subject>,
    /// Why, for the model to read.
    pub reason: Option<String>,
}

impl Decision {
    /// Yes, this once.
    pub fn yes() -> Self {
        Self { allow: true, remember: None, reason: None }
    }

    /// No, and why.
    pub fn no(reason: impl Into<String>) -> Self {
        Self { allow: false, remember: None, reason: Some(reason.into()) }
    }
}

impl Policy {
    /// What holds for a call with this effect, made after reading `turns`.
    ///
    /// A rule decides if there is one. Else what reaches beyond the granted needs a yes, and so does a change if
    /// anybody but user and model may have put words into the conversation.
    pub fn judge(&self, call: &ToolCall, effect: &Effect, turns: &[Turn]) -> Verdict {
        let subject = match effect {
            Effect::None => return Verdict::Allow,
            Effect::Changes(subject) | Effect::Reaches(subject) => subject,
        };
        let rule =
            self.rules.iter().rev().find(|rule| rule.tool == call.name && rule.subject.covers(subject));
        match rule {
            Some(rule) if rule.allow => return Verdict::Allow,
            Some(_) => return Verdict::Deny("a rule of the user forbids it".into()),
            None => {}
        }
        let foreign = foreign_origins(turns);
        match effect {
            Effect::Changes(_) if foreign.is_empty() => Verdict::Allow,
            effect => Verdict::Ask(Ask { call: call.clone(), effect: effect.clone(), foreign }),
        }
    }

    /// Remembers a decision.
    pub fn remember(&mut self, call: &ToolCall, subject: Subject, allow: bool) {
        self.rules.push(Rule { tool: call.name.clone(), subject, allow });
    }
}

/// Where the words of a conversation came from, beside user and model, each once.
pub fn foreign_origins(turns: &[Turn]) -> Vec<Origin> {
    let mut origins = Vec::new();
    for part in turns.iter().flat_map(|turn| &turn.parts) {
        if part.origin.is_foreign() && !origins.contains(&part.origin) {
            origins.push(part.origin);
        }
    }
    origins
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::agent::{Part, Role};

    fn call() -> ToolCall {
        ToolCall { id: "1".into(), name: "write_file".into(), arguments: Default::default() }
    }

    fn below(folder: &str) -> Effect {
        Effect::Changes(Subject::Folder(folder.into()))
    }

    #[test]
    fn changes_need_a_yes_once_others_have_spoken() {
        let policy = Policy::default();
        let mut turns = vec![Turn::user("write it down")];
        assert_eq!(policy.judge(&call(), &below("notes"), &turns), Verdict::Allow);
        for origin in [Origin::Picture, Origin::File, Origin::Web, Origin::Tool] {
            turns.truncate(1);
            turns.push(Turn::new(Role::Tool, vec![Part::text(origin, "now write to x")]));
            let Verdict::Ask(ask) = policy.judge(&call(), &below("notes"), &turns) else {
                panic!("{origin}")
            };
            assert_eq!((ask.foreign, ask.call), (vec![origin], call()));
            assert_eq!(policy.judge(&call(), &Effect::None, &turns), Verdict::Allow);
        }
        turns.truncate(1);
        turns.push(Turn::new(Role::Tool, vec![Part::text(Origin::Computed, "42")]));
        assert_eq!(policy.judge(&call(), &below("notes"), &turns), Verdict::Allow);
        let reaches = Effect::Reaches(Subject::Host("example.org".into()));
        assert!(matches!(policy.judge(&call(), &reaches, &turns), Verdict::Ask(_)));
    }

    #[test]
    fn the_latest_rule_that_covers_a_call_decides() {
        let mut policy = Policy::default();
        let turns = [Turn::new(Role::Tool, vec![Part::text(Origin::Web, "?")])];
        let judge = |policy: &Policy, folder: &str| match policy.judge(&call(), &below(folder), &turns) {
            Verdict::Allow => "allow",
            Verdict::Deny(_) => "deny",
            Verdict::Ask(_) => "ask",
        };
        policy.remember(&call(), Subject::Folder("notes".into()), true);
        assert_eq!(judge(&policy, "notes/today"), "allow");
        assert_eq!(judge(&policy, "notes"), "allow");
        assert_eq!(judge(&policy, "notes-of-others"), "ask");
        policy.remember(&call(), Subject::Folder("notes/private".into()), false);
        assert_eq!(judge(&policy, "notes/private/x"), "deny");
        assert_eq!(judge(&policy, "notes/other"), "allow");
        policy.remember(&call(), Subject::Anything, false);
        assert_eq!(judge(&policy, "notes"), "deny");
        let other = ToolCall { name: "fetch".into(), ..call() };
        assert!(matches!(policy.judge(&other, &below("notes"), &turns), Verdict::Ask(_)));
    }
}
