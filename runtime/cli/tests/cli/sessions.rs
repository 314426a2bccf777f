//! Conversations that are kept, and agents.

use serde_json::Value;

use crate::support::{ocelli, ocelli_reading, picture, world};

/// The numbers of a line of `/stats` that begins with `prompt`: tokens, and those that were cached.
#[track_caller]
fn prompt(stderr: &str) -> Vec<usize> {
    let line = stderr.lines().rfind(|line| line.starts_with("prompt ")).unwrap_or_else(|| panic!("{stderr}"));
    let numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok());
    numbers.take(2).collect()
}

#[test]
fn a_conversation_with_pictures_goes_on_without_being_read_again() {
    let dir = world();
    picture(&dir.path().join("a.png"), 84, 56);
    picture(&dir.path().join("b.png"), 56, 112);
    let chat = ["chat", "--model", "model", "--max-tokens", "6"];
    let lines = "/image a.png\n/image b.png\nWhat are these?\n/stats\n";
    let first =
        ocelli_reading(dir.path(), &[&chat[..], &["--keep", "--system", "Be brief."]].concat(), lines)
            .expect(0);
    let [n_first, cached] = prompt(&first.stderr)[..] else { panic!("{first:#?}") };
    assert_eq!(cached, 0);
    let resumed =
        ocelli_reading(dir.path(), &[&chat[..], &["--resume"]].concat(), "And now?\n/stats\n").expect(0);
    let [n_second, cached] = prompt(&resumed.stderr)[..] else { panic!("{resumed:#?}") };
    // All that was read before is known, pictures included, but for the empty thoughts that the template opens an
    // answer with and then forgets; a random model's own words may be spelt otherwise.
    assert!(cached + 10 > n_first && n_second - cached < 40, "{n_first}, {n_second}, {cached}");
    // Without the cache the answer is the same, but everything is read.
    std::fs::remove_dir_all(dir.path().join("data/ocelli/sessions.caches")).unwrap();
    let args = [&chat[..], &["--resume", "last"]].concat();
    let again = ocelli_reading(dir.path(), &args, "/back\nAnd now?\n/stats\n").expect(0);
    assert_eq!(prompt(&again.stderr), [n_second, 0]);
    assert_eq!(again.stdout, resumed.stdout);
}

#[test]
fn conversations_are_listed_searched_moved_and_deleted() {
    let dir = world();
    picture(&dir.path().join("a.png"), 56, 56);
    let args = ["chat", "--model", "model", "--max-tokens", "3", "--keep"];
    let lines = "/image a.png\nA zebra?\n/edit A giraffe?\n/reset\nSomething else\n/again\n";
    ocelli_reading(dir.path(), &args, lines).expect(0);
    let sessions = |args: &[&str], code| ocelli(dir.path(), &[&["sessions"], args].concat()).expect(code);
    let listed = sessions(&["list", "--json"], 0).json();
    assert_eq!(listed.len(), 2);
    assert_eq!((&listed[0]["title"], &listed[1]["title"]), (&"Something else".into(), &"A zebra?".into()));
    assert_eq!((&listed[0]["n_turns"], &listed[1]["n_turns"]), (&4.into(), &4.into()));
    let id = listed[1]["id"].as_str().unwrap();
    assert!(sessions(&["search", "zebra"], 0).stdout.contains(id));
    assert!(sessions(&["show", id], 0).stdout.contains("you: [picture] A giraffe?"));
    sessions(&["rename", &id[..10], "Animals"], 0);
    sessions(&["export", id, "out.json"], 0);
    sessions(&["delete", id], 0);
    assert!(sessions(&["show", id], 2).stderr.contains("no session"));
    assert_eq!(sessions(&["search", "zebra"], 0).stdout, "");
    let copy = sessions(&["import", "out.json"], 0).stdout;
    let listed = sessions(&["list"], 0).stdout;
    assert!(listed.contains("Animals") && listed.contains(copy.trim()), "{listed}");
    let exported: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("out.json")).unwrap()).unwrap();
    assert_eq!(exported["pictures"].as_object().unwrap().len(), 1);
    assert!(sessions(&["import", "a.png"], 2).stderr.contains("is not JSON"));
}

#[test]
fn nothing_is_kept_of_a_pipe_unless_asked() {
    let dir = world();
    ocelli_reading(dir.path(), &["chat", "--model", "model", "--max-tokens", "3"], "Hello\n").expect(0);
    assert!(!dir.path().join("data").exists());
}

#[test]
fn an_agent_tells_its_steps() {
    let dir = world();
    picture(&dir.path().join("a.png"), 56, 56);
    std::fs::create_dir(dir.path().join("docs")).unwrap();
    let args = [
        "agent",
        "--model",
        "model",
        "--max-tokens",
        "8",
        "--image",
        "a.png",
        "--grant",
        "docs",
        "What is it?",
    ];
    let run = ocelli(dir.path(), &args);
    // A random model says anything; what counts is that it ends, and says how.
    assert!(run.code == 0 || run.code == 1, "{run:#?}");
    assert!(run.stderr.contains("step 1: "), "{run:#?}");
    let run = ocelli(dir.path(), &[&args[..], &["--json"]].concat());
    let events = run.json();
    assert!(events.iter().any(|event| event["replied"].is_object()), "{events:?}");
    assert!(events.last().unwrap()["finished"].is_object(), "{events:?}");
    let run = ocelli(dir.path(), &["agent", "--model", "model", "--tool", "files", "x"]).expect(2);
    assert!(run.stderr.contains("--grant"), "{run:#?}");
    ocelli(dir.path(), &["agent", "--model", "model", "--tool", "shell", "x"]).expect(2);
}
