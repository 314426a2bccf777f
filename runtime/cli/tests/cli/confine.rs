//! Programs that can touch only what they are given.

#![expect(clippy::print_stdout, reason = "a test that is passed over says so")]

use std::fs;
use std::path::Path;

use crate::support::{Run, ocelli};

/// Runs a line of shell that may read `read` and change `write`; `None` where the kernel confines nothing.
fn confined(dir: &Path, line: &str) -> Option<Run> {
    let args = ["confine", "--read", "read", "--write", "write", "--", "sh", "-c", line];
    let run = ocelli(dir, &args);
    if run.stderr.contains("this kernel has no Landlock") {
        println!("passed over: {}", run.stderr);
        return None;
    }
    Some(run)
}

#[test]
fn a_confined_program_touches_only_what_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["read", "write", "other"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
        fs::write(dir.path().join(folder).join("old"), "old").unwrap();
    }
    for (line, can) in [
        ("cat read/old write/old", true),
        ("echo new > write/new && rm write/old && mkdir write/more && echo x >> write/more/x", true),
        ("cat /etc/passwd > /dev/null && ls /usr/bin > /dev/null", true),
        ("cat other/old", false),
        ("ls .", false),
        ("echo new > other/new", false),
        ("echo new > read/new", false),
        ("rm read/old", false),
        ("echo new >> read/old", false),
        ("mv read/old write/moved", false),
        ("ln write/new other/link", false),
        ("ln -s ../other/old write/link; cat write/link", false),
        ("cd other", true),
        ("mkdir other/more", false),
        // What it starts is confined like itself.
        ("sh -c 'sh -c \"cat other/old\"'", false),
    ] {
        let Some(run) = confined(dir.path(), line) else { return };
        assert_eq!(run.code == 0, can, "{line}: {run:#?}");
    }
    assert_eq!(fs::read_to_string(dir.path().join("read/old")).unwrap(), "old");
    assert_eq!(fs::read_to_string(dir.path().join("write/new")).unwrap(), "new\n");
    assert_eq!(fs::read_dir(dir.path().join("other")).unwrap().count(), 1);
}

#[test]
fn a_confined_program_neither_ends_nor_reads_another() {
    let dir = tempfile::tempdir().unwrap();
    let us = std::process::id();
    // Signal 0 only asks whether it may be sent. The environment of another may hold its keys.
    for line in [
        format!("kill -0 $$ && ! kill -0 {us}"),
        format!("cat /proc/self/environ >/dev/null && ! cat /proc/{us}/environ"),
        format!(
            "! readlink /proc/{us}/cwd && ! readlink /proc/{us}/fd/0 && ! cat /proc/{us}/root/etc/passwd"
        ),
        "grep '^CapEff:\t0000000000000000$' /proc/self/status".to_owned(),
    ] {
        let Some(run) = confined(dir.path(), &line) else { return };
        run.expect(0);
    }
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = ocelli(dir.path(), &["confine", "--", "no-such-program"]).expect(2);
    assert!(run.stderr.contains("no-such-program") || run.stderr.contains("no Landlock"), "{run:#?}");
}
