use agent::{Content, Origin, Part, PictureId, Pictures, Role, ToolCall};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("sessions.db")).unwrap();
    (folder, store)
}

fn say(store: &mut Store, session: &SessionId, text: &str) -> TurnId {
    store.append(session, &Turn::user(text), &Pictures::default()).unwrap()
}

fn texts(store: &Store, session: &SessionId) -> Vec<String> {
    store.turns(session).unwrap().iter().map(|entry| entry.turn.text()).collect()
}

#[test]
fn turns_pictures_and_calls_come_back_after_reopening() {
    let (folder, mut store) = store();
    let session = store.create("").unwrap();
    let mut pictures = Pictures::default();
    let picture = pictures.add(vec![1, 2, 3]);
    let shown = Part { origin: Origin::Picture, content: Content::Picture(picture.clone()) };
    let call = ToolCall { id: "1".into(), name: "f".into(), arguments: Default::default() };
    let turns = [
        Turn::new(Role::User, vec![shown.clone(), Part::text(Origin::User, "  What   is\nthis? ")]),
        Turn {
            reasoning: Some("hm".into()),
            ..Turn::new(Role::Assistant, vec![Part { origin: Origin::Model, content: Content::Call(call) }])
        },
        Turn { call_id: Some("1".into()), ..Turn::new(Role::Tool, vec![shown]) },
    ];
    for turn in &turns {
        store.append(&session, turn, &pictures).unwrap();
    }
    store.set_settings(&session, json!({ "model": "x" }).as_object().unwrap()).unwrap();
    drop(store);
    let store = Store::open(&folder.path().join("sessions.db")).unwrap();
    let stored: Vec<Turn> = store.turns(&session).unwrap().into_iter().map(|entry| entry.turn).collect();
    assert_eq!(stored, turns);
    assert_eq!(&store.pictures(&session).unwrap().get(&picture).unwrap()[..], [1, 2, 3]);
    let listed = store.list().unwrap();
    assert_eq!((listed[0].title.as_str(), listed[0].n_turns), ("What is this?", 3));
    assert_eq!(listed[0].settings["model"], "x");
}

#[test]
fn a_step_is_written_whole_or_not_at_all() {
    let (_folder, mut store) = store();
    let session = store.create("").unwrap();
    let settings = |n: u32| json!({ "step": n }).as_object().unwrap().clone();
    let turns = [Turn::user("a"), Turn::user("b")];
    store.record(&session, &turns, &Pictures::default(), &settings(1)).unwrap();
    assert_eq!(texts(&store, &session), ["a", "b"]);
    assert_eq!(store.find(&session.0).unwrap().settings, settings(1));
    // The second turn shows a picture that nobody has.
    let missing = Content::Picture(PictureId::of(b"gone"));
    let bad = Turn::new(Role::User, vec![Part { origin: Origin::Picture, content: missing }]);
    let turns = [Turn::user("c"), bad];
    store.record(&session, &turns, &Pictures::default(), &settings(2)).unwrap_err();
    assert_eq!(texts(&store, &session), ["a", "b"]);
    assert_eq!(store.find(&session.0).unwrap().settings, settings(1));
    store.record(&session, &[], &Pictures::default(), &settings(3)).unwrap();
    assert_eq!(store.find(&session.0).unwrap().settings, settings(3));
}

#[test]
fn going_back_branches_and_loses_nothing() {
    let (_folder, mut store) = store();
    let session = store.create("x").unwrap();
    let first = say(&mut store, &session, "a");
    let second = say(&mut store, &session, "b");
    say(&mut store, &session, "c");
    store.set_head(&session, Some(first)).unwrap();
    assert_eq!(texts(&store, &session), ["a"]);
    let other = say(&mut store, &session, "d");
    assert_eq!(texts(&store, &session), ["a", "d"]);
    assert_eq!(store.children(&session, Some(first)).unwrap(), [second, other]);
    let edited = store.edit(&session, first, &Turn::user("A"), &Pictures::default()).unwrap();
    assert_eq!(texts(&store, &session), ["A"]);
    assert_eq!(store.children(&session, None).unwrap(), [first, edited]);
    store.set_head(&session, Some(second)).unwrap();
    assert_eq!(texts(&store, &session), ["a", "b"]);
    store.set_head(&session, None).unwrap();
    assert!(texts(&store, &session).is_empty());
    assert_eq!(store.list().unwrap()[0].n_turns, 5);
    let foreign = store.create("y").unwrap();
    assert!(matches!(store.set_head(&foreign, Some(first)), Err(Error::NoTurn { .. })));
    assert!(store.edit(&foreign, first, &Turn::user("B"), &Pictures::default()).is_err());
}

#[test]
fn words_are_found_in_all_sessions() {
    let (_folder, mut store) = store();
    let (cats, dogs) = (store.create("cats").unwrap(), store.create("dogs").unwrap());
    say(&mut store, &cats, "The café cat sleeps");
    say(&mut store, &dogs, "A dog named \"OR\" sleeps too");
    let found = |words: &str| -> Vec<String> {
        store.search(words, 9).unwrap().into_iter().map(|hit| hit.title).collect()
    };
    assert_eq!(found("CAFE"), ["cats"]);
    assert_eq!(found("slee dog"), ["dogs"]);
    assert_eq!(found("sleeps").len(), 2);
    assert_eq!(found("\"OR\""), ["dogs"]);
    for nothing in ["bird", "", "  ", "NOT", "dog* -", "\"", "(", "text:dog"] {
        assert!(found(nothing).is_empty() || nothing == "dog* -", "{nothing}");
    }
    assert!(store.search("cat", 9).unwrap()[0].excerpt.contains("[cat]"));
}

#[test]
fn deleting_takes_everything_that_nobody_else_shows() {
    let (folder, mut store) = store();
    let mut pictures = Pictures::default();
    let (shared, own) = (pictures.add(vec![1]), pictures.add(vec![2]));
    let show = |id: &PictureId| {
        Turn::new(Role::User, vec![Part { origin: Origin::Picture, content: Content::Picture(id.clone()) }])
    };
    let (a, b) = (store.create("a").unwrap(), store.create("b").unwrap());
    for (session, picture) in [(&a, &shared), (&a, &own), (&b, &shared)] {
        store.append(session, &show(picture), &pictures).unwrap();
    }
    say(&mut store, &a, "unforgettable");
    store.keep_cache(&a, 7, b"kv").unwrap();
    store.keep_cache(&b, 7, b"kv").unwrap();
    let holds = |word: &str| {
        let files = fs::read_dir(folder.path()).unwrap().flatten().filter(|file| file.path().is_file());
        files.into_iter().any(|file| {
            let bytes = fs::read(file.path()).unwrap();
            bytes.windows(word.len()).any(|window| window == word.as_bytes())
        })
    };
    assert!(holds("unforgettable"));
    store.delete(&a).unwrap();
    assert!(!holds("unforgettable"));
    assert!(store.turns(&a).is_err() && store.search("unforgettable", 1).unwrap().is_empty());
    assert_eq!((store.cache(&a, 7).unwrap(), store.cache(&b, 7).unwrap()), (None, Some(b"kv".to_vec())));
    let kept: i64 =
        store.connection.query_row("SELECT count(*) FROM pictures", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 1);
    assert!(store.pictures(&b).unwrap().get(&shared).is_some());
    assert!(matches!(store.delete(&a), Err(Error::NoSession(_))));
}

#[test]
fn the_oldest_caches_make_room() {
    let (_folder, mut store) = store();
    let sessions: Vec<SessionId> = (0..3).map(|_| store.create("").unwrap()).collect();
    for (session, age) in sessions.iter().zip([20, 30, 10]) {
        store.keep_cache(session, 7, &[1; 100]).unwrap();
        let file = fs::OpenOptions::new().write(true).open(store.cache_path(session, 7)).unwrap();
        file.set_modified(SystemTime::now() - std::time::Duration::from_secs(age)).unwrap();
    }
    let kept =
        |store: &Store| sessions.iter().map(|id| store.cache(id, 7).unwrap().is_some()).collect::<Vec<_>>();
    store.make_room(&store.cache_path(&sessions[2], 7), 250);
    assert_eq!(kept(&store), [true, false, true]);
    // The latest one stays, however large it is.
    store.make_room(&store.cache_path(&sessions[0], 7), 10);
    assert_eq!(kept(&store), [true, false, false]);
}

#[cfg(unix)]
#[test]
fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, mut store) = store();
    let session = store.create("").unwrap();
    store.keep_cache(&session, 7, b"kv").unwrap();
    let files = fs::read_dir(folder.path()).unwrap().flatten().map(|file| file.path());
    for path in files.filter(|path| path.is_file()).chain([store.cache_path(&session, 7)]) {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
    }
}

#[test]
fn a_picture_that_is_missing_stores_nothing() {
    let (_folder, mut store) = store();
    let session = store.create("x").unwrap();
    let part = Part { origin: Origin::Picture, content: Content::Picture(PictureId("no".into())) };
    let turn = Turn::new(Role::User, vec![part]);
    assert!(matches!(store.append(&session, &turn, &Pictures::default()), Err(Error::NoPicture(_))));
    assert!(store.turns(&session).unwrap().is_empty() && store.list().unwrap()[0].n_turns == 0);
}

#[test]
fn an_exported_session_is_the_same_elsewhere() {
    let (_folder, mut store) = store();
    let session = store.create("trip").unwrap();
    let mut pictures = Pictures::default();
    let id = pictures.add(vec![9; 100]);
    let part = Part { origin: Origin::Picture, content: Content::Picture(id.clone()) };
    let first = store.append(&session, &Turn::new(Role::User, vec![part]), &pictures).unwrap();
    say(&mut store, &session, "left");
    store.set_head(&session, Some(first)).unwrap();
    say(&mut store, &session, "right");
    let exported = store.export(&session).unwrap();
    let (_other_folder, mut other) = self::store();
    let copy = other.import(exported.clone()).unwrap();
    assert_eq!(texts(&other, &copy), ["", "right"]);
    assert!(other.pictures(&copy).unwrap().get(&id).is_some());
    assert_eq!(other.search("left", 1).unwrap().len(), 1);
    let mut again = other.export(&copy).unwrap();
    again["turns"] = exported["turns"].clone();
    again["head"] = exported["head"].clone();
    assert_eq!(again, exported);

    for (pointer, value) in [
        ("/ocelli_session", json!(99)),
        ("/turns/1/parent", json!(12345)),
        ("/turns/0/parent", exported["turns"][2]["id"].clone()),
        ("/head", json!(-1)),
        ("/pictures", json!({})),
        ("/turns/0/turn/role", json!("robot")),
        ("/turns/1/id", exported["turns"][0]["id"].clone()),
    ] {
        let mut damaged = exported.clone();
        *damaged.pointer_mut(pointer).unwrap() = value;
        assert!(other.import(damaged).is_err(), "{pointer}");
        assert_eq!(other.list().unwrap().len(), 1, "{pointer}");
    }
}

#[test]
fn sessions_are_found_by_the_beginning_of_their_names() {
    let (_folder, mut store) = store();
    assert!(matches!(store.find("last"), Err(Error::NoSession(_))));
    let a = store.create("a").unwrap();
    let b = store.create("b").unwrap();
    assert_eq!(store.find(&a.0[..9]).unwrap().id, a);
    assert_eq!(store.find("last").unwrap().id, b);
    assert!(store.find("").is_err() && store.find("%").is_err());
}

#[test]
fn files_of_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    fs::write(&path, "this is a text and no database, and it is long enough to be looked at closely")
        .unwrap();
    assert!(matches!(Store::open(&path), Err(Error::Open { .. })));
    let newer = folder.path().join("newer.db");
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(Store::open(&newer).unwrap_err().to_string().contains("version 99"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_words_are_stored_and_searched(text in "\\PC{0,60}", query in "\\PC{0,20}") {
        let (_folder, mut store) = store();
        let session = store.create("").unwrap();
        say(&mut store, &session, &text);
        prop_assert_eq!(texts(&store, &session), [text.clone()]);
        prop_assert!(store.search(&query, 5).is_ok());
        prop_assert!(store.search(&text, 5).is_ok());
    }
}
