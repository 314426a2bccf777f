//! Help and completions.

use std::path::Path;
use std::{env, fs};

use crate::support::ocelli;

#[track_caller]
fn check(args: &[&str], name: &str) {
    let help = ocelli(Path::new("."), args).expect(0).stdout;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/help").join(name);
    if env::var_os("OCELLI_BLESS").is_some() {
        fs::write(&path, &help).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(help, expected, "if this help is right, run the test with OCELLI_BLESS=1 and review {name}");
}

#[test]
fn help_reads_as_reviewed() {
    check(&["--help"], "ocelli.txt");
    for command in [
        "caption", "ask", "chat", "agent", "sessions", "serve", "mcp", "inspect", "bench", "eval",
        "quantize", "compare",
    ] {
        check(&[command, "--help"], &format!("{command}.txt"));
    }
}

#[test]
fn every_shell_gets_its_completions() {
    for (shell, mark) in [
        ("bash", "complete -F _ocelli"),
        ("zsh", "#compdef ocelli"),
        ("fish", "complete -c ocelli"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion"),
    ] {
        let script = ocelli(Path::new("."), &["completions", shell]).expect(0).stdout;
        assert!(script.contains(mark) && script.contains("repetition-penalty"), "{shell}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for args in [
        &["caption"][..],
        &["look", "x.png"],
        &["caption", "--top-p", "2", "x.png"],
        &["caption", "--repetition-penalty", "0.5", "x.png"],
        &["caption", "--prefill-chunk", "0", "x.png"],
        &["ask"],
        &["ask", "--frames", "4", "--fps", "2", "x.gif", "What?"],
        &["bench", "--generate", "0"],
        &["eval", "--input", "x.safetensors"],
        &["quantize", "model"],
        &["completions", "dos"],
    ] {
        let run = ocelli(Path::new("."), args).expect(2);
        assert!(run.stderr.starts_with("error: ") && run.stdout.is_empty(), "{run:#?}");
    }
}

#[test]
fn a_number_below_zero_is_refused_as_a_number() {
    for command in ["caption", "ask"] {
        let run = ocelli(Path::new("."), &[command, "x.png", "--temperature", "-1"]).expect(2);
        assert!(run.stderr.contains("a number from 0 up is needed"), "{run:#?}");
    }
}
