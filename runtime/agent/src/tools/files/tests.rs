use std::fs;
use std::ops::ControlFlow;

use protocol::agent::{Content, Effect, Origin, Role, Subject, Turn};
use serde_json::Value;

use super::*;
use crate::pictures::Pictures;
use crate::tool::Context;

/// A folder to read and one to write, with a secret beside them.
struct Granted {
    root: tempfile::TempDir,
    tools: Toolbox,
}

fn granted() -> Granted {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::create_dir_all(at("docs/sub")).unwrap();
    fs::create_dir_all(at("notes")).unwrap();
    fs::write(at("secret.txt"), "hunter2").unwrap();
    fs::write(at("docs/a.txt"), "First line\nThe needle is here\n").unwrap();
    fs::write(at("docs/sub/b.txt"), "Another NEEDLE\n").unwrap();
    fs::write(at("docs/.hidden"), "needle").unwrap();
    fs::write(at("docs/data.bin"), [0xff, 0xfe, 0]).unwrap();
    let folders = vec![Folder::open(&at("docs"), false).unwrap(), Folder::open(&at("notes"), true).unwrap()];
    let mut tools = Toolbox::default();
    Folders::new(folders).unwrap().add_to(&mut tools).unwrap();
    Granted { root, tools }
}

fn call(granted: &Granted, tool: &str, arguments: Value) -> (bool, String) {
    let mut pictures = Pictures::default();
    let Value::Object(arguments) = arguments else { unreachable!() };
    let context = Context { turns: &[], pictures: &mut pictures, wait: &mut |_| ControlFlow::Continue(()) };
    let output = pollster::block_on(granted.tools.get(tool).unwrap().call(&arguments, context));
    (output.failed, Turn::new(Role::Tool, output.parts).text())
}

#[test]
fn granted_folders_are_listed_read_and_searched() {
    let granted = granted();
    assert_eq!(call(&granted, "list_files", json!({})).1, "docs/ (read only)\nnotes/");
    let listed = call(&granted, "list_files", json!({ "path": "docs/" })).1;
    assert_eq!(listed, ".hidden (6 bytes)\na.txt (30 bytes)\ndata.bin (3 bytes)\nsub/");
    assert_eq!(call(&granted, "read_file", json!({ "path": "docs/sub/b.txt" })).1, "Another NEEDLE\n");
    assert_eq!(
        call(&granted, "read_file", json!({ "path": "docs/a.txt", "offset": 6 })).1,
        "line\nThe needle is here\n"
    );
    let found = call(&granted, "search_files", json!({ "path": "docs", "text": "needle" })).1;
    assert_eq!(found, "docs/a.txt:2: The needle is here\ndocs/sub/b.txt:1: Another NEEDLE");
    assert!(call(&granted, "read_file", json!({ "path": "docs/data.bin" })).1.contains("neither text"));
    assert!(
        call(&granted, "read_file", json!({ "path": "docs/a.txt", "offset": 1000 }))
            .1
            .contains("only 30 bytes")
    );
}

#[test]
fn files_are_written_where_that_is_granted() {
    let granted = granted();
    let (failed, text) =
        call(&granted, "write_file", json!({ "path": "notes/new/today.txt", "content": "é" }));
    assert!(!failed, "{text}");
    assert_eq!(fs::read_to_string(granted.root.path().join("notes/new/today.txt")).unwrap(), "é");
    assert!(
        call(&granted, "write_file", json!({ "path": "docs/x", "content": "" }))
            .1
            .contains("may only be read")
    );
    assert!(!granted.root.path().join("docs/x").exists());
    let effect = |path: &str| {
        let Value::Object(arguments) = json!({ "path": path, "content": "" }) else { unreachable!() };
        granted.tools.get("write_file").unwrap().effect(&arguments)
    };
    let folder = |name: &str| {
        let full = granted.root.path().canonicalize().unwrap().join(name);
        Effect::Changes(Subject::Folder(full.to_str().unwrap().to_owned()))
    };
    assert_eq!(effect("./notes/new/today.txt"), folder("notes/new"));
    assert_eq!(effect("notes/today.txt"), folder("notes"));
    assert_eq!(effect("notes/new/../../x"), Effect::Changes(Subject::Anything));
    // Such a call fails by itself.
    assert_eq!(effect("elsewhere/x"), Effect::None);
    let Value::Object(read) = json!({ "path": "docs/a.txt" }) else { unreachable!() };
    assert_eq!(granted.tools.get("read_file").unwrap().effect(&read), Effect::None);
}

#[test]
fn a_file_beside_the_one_that_is_written_stays() {
    let granted = granted();
    let own = granted.root.path().join("notes/x.0.part");
    fs::write(&own, "mine").unwrap();
    let (failed, text) = call(&granted, "write_file", json!({ "path": "notes/x", "content": "new" }));
    assert!(!failed, "{text}");
    assert_eq!(fs::read_to_string(own).unwrap(), "mine");
    assert_eq!(fs::read_dir(granted.root.path().join("notes")).unwrap().count(), 2);
}

#[cfg(unix)]
#[test]
fn a_pipe_is_not_waited_for() {
    let granted = granted();
    let pipe = granted.root.path().join("docs/pipe");
    assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
    assert!(call(&granted, "read_file", json!({ "path": "docs/pipe" })).1.contains("no file"));
    assert!(
        call(&granted, "search_files", json!({ "path": "docs", "text": "needle" })).1.contains("a.txt:2")
    );
}

#[test]
fn nothing_leads_out_of_a_granted_folder() {
    let granted = granted();
    #[cfg(unix)]
    {
        let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, granted.root.path().join(at)).unwrap();
        link("../secret.txt", "docs/link.txt");
        link("/", "docs/rootlink");
        link("..", "notes/up");
    }
    let secret = granted.root.path().join("secret.txt");
    for path in [
        "secret.txt",
        "docs/../secret.txt",
        "docs/sub/../../secret.txt",
        "../secret.txt",
        "docs/link.txt",
        "docs/rootlink/etc/passwd",
        "/etc/passwd",
        "docs//../../etc/passwd",
        "docs/\0",
        "",
        secret.to_str().unwrap(),
    ] {
        let (failed, text) = call(&granted, "read_file", json!({ "path": path }));
        assert!(failed && !text.contains("hunter2"), "{path:?}: {text}");
        let (failed, text) = call(&granted, "search_files", json!({ "path": path, "text": "hunter" }));
        assert!(failed && !text.contains("hunter2"), "{path:?}: {text}");
    }
    for path in [
        "notes/../secret.txt",
        "notes/up/secret.txt",
        "secret.txt",
        "notes/up/docs/a.txt",
        "notes",
        "notes/.",
    ] {
        let (failed, text) = call(&granted, "write_file", json!({ "path": path, "content": "gone" }));
        assert!(failed, "{path}: {text}");
    }
    let found = call(&granted, "search_files", json!({ "path": "docs", "text": "hunter2" })).1;
    assert_eq!(found, "nothing found");
    assert_eq!(fs::read_to_string(secret).unwrap(), "hunter2");
    assert!(fs::read_to_string(granted.root.path().join("docs/a.txt")).unwrap().starts_with("First"));
}

#[test]
fn pictures_are_shown_as_pictures() {
    let granted = granted();
    let path = granted.root.path().join("docs/p.png");
    image::RgbImage::new(5, 4).save_with_format(&path, image::ImageFormat::Png).unwrap();
    let mut pictures = Pictures::default();
    let Value::Object(arguments) = json!({ "path": "docs/p.png" }) else { unreachable!() };
    let context = Context { turns: &[], pictures: &mut pictures, wait: &mut |_| ControlFlow::Continue(()) };
    let output = pollster::block_on(granted.tools.get("read_file").unwrap().call(&arguments, context));
    assert!(matches!(&output.parts[1].content, Content::Picture(id) if pictures.get(id).is_some()));
    assert_eq!(output.parts[1].origin, Origin::Picture);
}

#[test]
fn folders_of_one_name_are_refused() {
    let root = tempfile::tempdir().unwrap();
    for name in ["a/x", "b/x"] {
        fs::create_dir_all(root.path().join(name)).unwrap();
    }
    let open = |name: &str| Folder::open(&root.path().join(name), false).unwrap();
    let error = Folders::new(vec![open("a/x"), open("b/x")]).unwrap_err().to_string();
    assert!(error.contains("two granted folders are called `x`"), "{error}");
    assert!(Folder::open(&root.path().join("missing"), false).is_err());
}
