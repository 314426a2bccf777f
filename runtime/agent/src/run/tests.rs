use std::ops::ControlFlow;

use protocol::agent::{Effect, Subject};
use serde_json::{Map, Value, json};

use super::*;
use crate::LocalFuture;
use crate::driver::{Approver, Nobody, Surroundings, Watcher, drive};
use crate::models::Scripted;
use crate::pictures::Pictures;
use crate::tool::{Context, Tool, ToolSpec};

/// A tool that says what it is told to say, and has the effect that it is told to have.
struct Echo {
    spec: ToolSpec,
    origin: Origin,
    effect: Effect,
}

impl Tool for Echo {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn effect(&self, _: &Map<String, Value>) -> Effect {
        self.effect.clone()
    }

    fn call<'a>(&'a self, arguments: &'a Map<String, Value>, _: Context<'a>) -> LocalFuture<'a, ToolOutput> {
        Box::pin(async move { ToolOutput::text(self.origin, format!("ran {}", json!(arguments))) })
    }
}

/// `look` reads from outside, `change` changes something.
fn tools() -> Toolbox {
    let mut tools = Toolbox::default();
    let mut add = |name: &str, origin, effect| {
        let spec = ToolSpec {
            name: name.into(),
            description: String::new(),
            parameters: json!({ "type": "object" }),
        };
        tools.add(Echo { spec, origin, effect }).unwrap();
    };
    add("look", Origin::Web, Effect::None);
    add("change", Origin::Computed, Effect::Changes(Subject::Folder("notes".into())));
    tools
}

fn says(text: &str) -> Reply {
    Reply { text: text.into(), generated_tokens: 10, ..Reply::default() }
}

fn calls(names: &[&str]) -> Reply {
    let call = |name: &&str| {
        let Value::Object(arguments) = json!({ "n": 1 }) else { unreachable!() };
        ToolCall { id: "same".into(), name: (*name).into(), arguments }
    };
    Reply { calls: names.iter().map(call).collect(), generated_tokens: 10, ..Reply::default() }
}

/// Gives the decisions of a list, and remembers the questions.
#[derive(Default)]
struct Person {
    decisions: VecDeque<Decision>,
    asked: Vec<Ask>,
}

impl Approver for Person {
    fn decide<'a>(&'a mut self, ask: &'a Ask) -> LocalFuture<'a, Decision> {
        self.asked.push(ask.clone());
        let decision = self.decisions.pop_front().expect("an unexpected question");
        Box::pin(async move { decision })
    }
}

struct Played {
    run: Run,
    outcome: Outcome,
    events: Vec<Event>,
    model: Scripted,
}

/// Plays a script. After each event the run is stored and read back: nothing may get lost.
fn play(script: Vec<Reply>, limits: Limits, person: &mut dyn Approver) -> Played {
    let mut model = Scripted::new(script);
    let mut run = Run::new(vec![Turn::user("do it")], limits, Policy::default());
    let mut events = Vec::new();
    let mut watch = |run: &Run, _: &Pictures, event: &Event| {
        let stored = serde_json::to_string(run).unwrap();
        assert_eq!(&serde_json::from_str::<Run>(&stored).unwrap(), run);
        let stored = serde_json::to_string(event).unwrap();
        assert_eq!(&serde_json::from_str::<Event>(&stored).unwrap(), event);
        events.push(event.clone());
        ControlFlow::Continue(())
    };
    let ticks = std::cell::Cell::new(0.0);
    let clock = || {
        ticks.set(ticks.get() + 1.0);
        ticks.get()
    };
    let outcome = pollster::block_on(drive(
        &mut run,
        Surroundings {
            model: &mut model,
            tools: &tools(),
            pictures: &mut Pictures::default(),
            approver: person,
            watcher: &mut watch,
            clock: &clock,
        },
    ));
    assert_eq!(events.last(), Some(&Event::Finished(outcome.clone())));
    Played { run, outcome, events, model }
}

fn names(events: &[Event]) -> Vec<&'static str> {
    let name = |event: &Event| match event {
        Event::Reasoning(_) => "reasoning",
        Event::Text(_) => "text",
        Event::Replied { .. } => "replied",
        Event::Asked(_) => "asked",
        Event::Decided { allow: true, .. } => "allowed",
        Event::Decided { .. } => "refused",
        Event::Calling(_) => "calling",
        Event::Returned { output, .. } if output.failed => "failed",
        Event::Returned { .. } => "returned",
        Event::Note(_) => "note",
        Event::Saw { .. } => "saw",
        Event::Finished(_) => "finished",
    };
    events.iter().map(name).collect()
}

#[test]
fn an_answer_ends_the_run() {
    let reply = Reply { reasoning: Some("hm".into()), notes: vec!["resized".into()], ..says("42") };
    let played = play(vec![reply], Limits::default(), &mut Nobody);
    assert_eq!(played.outcome, Outcome::Answered { text: "42".into() });
    assert_eq!(names(&played.events), ["reasoning", "text", "note", "replied", "finished"]);
    assert_eq!(played.run.turns[1].reasoning.as_deref(), Some("hm"));
}

#[test]
fn a_picture_is_told_of_when_it_is_new() {
    let mut pictures = Pictures::default();
    let [first, second] = [b"first", b"other"].map(|bytes| pictures.add(bytes.to_vec()));
    let show = |run: &mut Run, role, picture: &PictureId| {
        let content = Content::Picture(picture.clone());
        run.turns.push(Turn::new(role, vec![Part { origin: Origin::Picture, content }]));
    };
    let reply = |pictures: &[&PictureId]| {
        let sights = pictures.iter().map(|&picture| (picture.clone(), protocol::Sight::default())).collect();
        Reply { sights, ..calls(&["look"]) }
    };
    let told = |events: &[Event]| {
        let pictures = events.iter().filter_map(|event| match event {
            Event::Saw { picture, .. } => Some(picture.clone()),
            _ => None,
        });
        pictures.collect::<Vec<_>>()
    };
    let mut run = Run::new(vec![Turn::user("do it")], Limits::default(), Policy::default());
    show(&mut run, Role::User, &first);
    assert_eq!(told(&run.replied(reply(&[&first]), &tools())), std::slice::from_ref(&first));
    show(&mut run, Role::Tool, &second);
    assert_eq!(told(&run.replied(reply(&[&first, &second]), &tools())), [second]);
    assert_eq!(told(&run.replied(reply(&[&first]), &tools())), []);
}

#[test]
fn calls_run_in_order_and_their_results_are_read() {
    let played = play(vec![calls(&["look", "look"]), says("done")], Limits::default(), &mut Nobody);
    let expected = ["replied", "calling", "returned", "calling", "returned", "text", "replied", "finished"];
    assert_eq!(names(&played.events), expected);
    let seen = &played.model.seen[1].turns;
    let roles: Vec<Role> = seen.iter().map(|turn| turn.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::Tool, Role::Tool]);
    assert_eq!(seen[2].text(), "ran {\"n\":1}");
    // Ids are unique, whatever the model called them.
    assert_ne!(seen[2].call_id, seen[3].call_id);
    assert_eq!(played.model.seen[0].tools, ["look", "change"]);
}

#[test]
fn a_change_after_foreign_words_needs_a_yes() {
    // Without foreign words none is needed.
    let played = play(vec![calls(&["change"]), says("done")], Limits::default(), &mut Person::default());
    assert_eq!(names(&played.events)[..3], ["replied", "calling", "returned"]);

    let script = || vec![calls(&["look", "change"]), says("done")];
    let mut person = Person { decisions: [Decision::yes()].into(), ..Person::default() };
    let played = play(script(), Limits::default(), &mut person);
    let expected = [
        "replied", "calling", "returned", "asked", "allowed", "calling", "returned", "text", "replied",
        "finished",
    ];
    assert_eq!(names(&played.events), expected);
    assert_eq!(person.asked[0].foreign, [Origin::Web]);
    assert_eq!(json!(person.asked[0].call.arguments), json!({ "n": 1 }));

    let mut person = Person { decisions: [Decision::no("not today")].into(), ..Person::default() };
    let played = play(script(), Limits::default(), &mut person);
    let expected =
        ["replied", "calling", "returned", "asked", "refused", "failed", "text", "replied", "finished"];
    assert_eq!(names(&played.events), expected);
    assert!(played.model.seen[1].turns[3].text().contains("not allowed: not today"));

    // And if nobody is there, it is refused.
    let played = play(script(), Limits::default(), &mut Nobody);
    assert!(names(&played.events).contains(&"refused"));
    assert!(
        !played.events.iter().any(|event| matches!(event, Event::Calling(call) if call.name == "change"))
    );
}

fn go_on(run: &mut Run, model: &mut Scripted, approver: &mut Person, watcher: &mut dyn Watcher) -> Outcome {
    let (tools, pictures) = (&tools(), &mut Pictures::default());
    pollster::block_on(drive(run, Surroundings { model, tools, pictures, approver, watcher, clock: &|| 0.0 }))
}

#[test]
fn a_run_goes_on_wherever_it_was_stored() {
    // After each event the run is stored, as if the process had ended there; then it goes on.
    let script = || vec![calls(&["look", "change"]), says("done")];
    let yes = || Person { decisions: [Decision::yes()].into(), ..Person::default() };
    let whole = play(script(), Limits::default(), &mut yes());
    for n in 0..whole.events.len() {
        let mut run = Run::new(vec![Turn::user("do it")], Limits::default(), Policy::default());
        let mut model = Scripted::new(script());
        let (mut n_seen, mut stored) = (0, String::new());
        let mut watch = |run: &Run, _: &Pictures, _: &Event| {
            if n_seen == n {
                stored = serde_json::to_string(run).unwrap();
            }
            n_seen += 1;
            ControlFlow::Continue(())
        };
        go_on(&mut run, &mut model, &mut yes(), &mut watch);

        let mut run: Run = serde_json::from_str(&stored).unwrap();
        // The model goes on with what it has not said yet.
        let mut model = Scripted::new(script().into_iter().skip(run.steps));
        let mut person = Person { decisions: [Decision::yes(), Decision::yes()].into(), ..Person::default() };
        let mut ignore = |_: &Run, _: &Pictures, _: &Event| ControlFlow::Continue(());
        run.resume(&tools());
        let outcome = go_on(&mut run, &mut model, &mut person, &mut ignore);
        assert_eq!(outcome, whole.outcome, "{n}");
        assert_eq!(run.turns, whole.run.turns, "{n}");
        // The change is asked about again unless its result was there, since it may have run or not.
        let is_over = stored.contains("call_1_1") && stored.matches("ran ").count() == 2;
        assert_eq!(person.asked.len(), usize::from(!is_over), "{n}: {stored}");
    }
}

#[test]
fn remembered_decisions_hold() {
    let always = Decision { remember: Some(Subject::Folder("notes".into())), ..Decision::yes() };
    let mut person = Person { decisions: [always].into(), ..Person::default() };
    let script = vec![calls(&["look", "change"]), calls(&["change", "change"]), says("done")];
    let played = play(script, Limits::default(), &mut person);
    assert_eq!(person.asked.len(), 1);
    assert_eq!(names(&played.events).iter().filter(|name| **name == "returned").count(), 4);
    assert_eq!(played.run.policy.rules.len(), 1);
    let never = Decision { remember: Some(Subject::Anything), ..Decision::no("never") };
    let mut person = Person { decisions: [never].into(), ..Person::default() };
    let script = vec![calls(&["look", "change"]), calls(&["change"]), says("done")];
    let played = play(script, Limits::default(), &mut person);
    assert_eq!(person.asked.len(), 1);
    assert_eq!(names(&played.events).iter().filter(|name| **name == "failed").count(), 2);
}

#[test]
fn unknown_tools_are_told_to_the_model() {
    let played = play(vec![calls(&["shell"]), says("sorry")], Limits::default(), &mut Nobody);
    assert!(
        played.model.seen[1].turns[2].text().contains("no tool `shell`; there are [\"look\", \"change\"]")
    );
    assert_eq!(played.outcome, Outcome::Answered { text: "sorry".into() });
}

#[test]
fn every_limit_ends_the_run() {
    let endless = || (0..50).map(|_| calls(&["look"])).collect::<Vec<_>>();
    let out_of = |what: &str| Outcome::OutOf { what: what.into() };
    let played = play(endless(), Limits { steps: 3, ..Limits::default() }, &mut Nobody);
    assert_eq!((played.outcome, played.run.steps), (out_of("steps"), 3));
    // In its last step the model is told to answer.
    let choices: Vec<Choice> = played.model.seen.iter().map(|seen| seen.choice).collect();
    assert_eq!(choices, [Choice::Free, Choice::Free, Choice::Answer]);
    let mut run = Run::new(vec![Turn::user("do it")], Limits::default(), Policy::default());
    run.first = Choice::Call;
    assert!(matches!(run.next(), Action::Generate { choice: Choice::Call, .. }));
    run.replied(calls(&["look"]), &tools());
    run.returned(ToolOutput::text(Origin::Web, "x"), &tools());
    assert!(matches!(run.next(), Action::Generate { choice: Choice::Free, .. }));
    let played = play(endless(), Limits { tokens: 45, ..Limits::default() }, &mut Nobody);
    assert_eq!((played.outcome, played.run.tokens), (out_of("tokens"), 50));
    let played = play(endless(), Limits { ms: 9.0, ..Limits::default() }, &mut Nobody);
    assert_eq!(played.outcome, out_of("time"));
    let many = vec![calls(&["look"; 5]), says("done")];
    let played = play(many, Limits { calls_a_step: 2, ..Limits::default() }, &mut Nobody);
    let texts: Vec<String> =
        played.run.turns.iter().filter(|t| t.role == Role::Tool).map(Turn::text).collect();
    assert_eq!(texts.iter().filter(|text| text.contains("2 calls at most")).count(), 3, "{texts:?}");
    let played = play(vec![Reply { cut_off: true, ..says("half") }], Limits::default(), &mut Nobody);
    assert_eq!(played.outcome, Outcome::CutOff { text: "half".into() });
}

#[test]
fn a_model_that_fails_ends_the_run() {
    let played = play(vec![calls(&["look"])], Limits::default(), &mut Nobody);
    assert_eq!(played.outcome, Outcome::Failed { message: "the script has ended".into() });
}

#[test]
fn cancelling_leaves_no_call_without_a_result() {
    for n_events in 0..9 {
        let mut model = Scripted::new([calls(&["look", "look", "change"]), says("done")]);
        let mut run = Run::new(vec![Turn::user("do it")], Limits::default(), Policy::default());
        let mut left = n_events;
        let mut watch = |_: &Run, _: &Pictures, _: &Event| {
            left -= 1;
            if left < 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let around = Surroundings {
            model: &mut model,
            tools: &tools(),
            pictures: &mut Pictures::default(),
            approver: &mut Nobody,
            watcher: &mut watch,
            clock: &|| 0.0,
        };
        let outcome = pollster::block_on(drive(&mut run, around));
        assert_eq!(outcome, Outcome::Cancelled, "after {n_events} events");
        let parts = run.turns.iter().flat_map(|turn| &turn.parts);
        let made: Vec<String> = parts
            .filter_map(|part| match &part.content {
                Content::Call(call) => Some(call.id.clone()),
                _ => None,
            })
            .collect();
        let answered: Vec<String> = run.turns.iter().filter_map(|turn| turn.call_id.clone()).collect();
        assert_eq!(made, answered, "after {n_events} events");
    }
}

/// A stored run goes on as the one that was not stored.
#[test]
fn a_run_goes_on_after_it_was_stored() {
    let tools = tools();
    let script = [calls(&["look", "change"]), says("done")];
    let mut run = Run::new(vec![Turn::user("do it")], Limits::default(), Policy::default());
    let mut replies = script.iter();
    for _ in 0..20 {
        run = serde_json::from_str(&serde_json::to_string(&run).unwrap()).unwrap();
        match run.next() {
            Action::Finish(outcome) => {
                assert_eq!(outcome, Outcome::Answered { text: "done".into() });
                return;
            }
            Action::Generate { .. } => drop(run.replied(replies.next().unwrap().clone(), &tools)),
            Action::Approve(_) => drop(run.decided(Decision::yes(), &tools)),
            Action::Call(_) => drop(run.returned(ToolOutput::text(Origin::Web, "x"), &tools)),
        }
    }
    panic!("the run does not end");
}
