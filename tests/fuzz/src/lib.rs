//! Everything that reads what strangers wrote, as functions of bytes: none may panic, hang or take much memory,
//! whatever it gets.
//!
//! `tests/mutated.rs` calls each with damaged copies of good input; `cargo xtask check fuzz` has libFuzzer look for
//! worse, guided by coverage.

mod files;
mod prompts;
mod requests;

use std::path::PathBuf;

/// Something that reads bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What `cargo fuzz run` calls it.
    pub name: &'static str,
    /// Reads them, and tells whether they were taken for good.
    pub run: fn(&[u8]) -> bool,
    /// Good input, from which damaged input is made.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    Target { name: "gguf", run: files::gguf, seeds: files::gguf_seeds },
    Target { name: "safetensors", run: files::safetensors, seeds: files::safetensors_seeds },
    Target { name: "tokenizer", run: files::tokenizer, seeds: files::tokenizer_seeds },
    Target { name: "picture", run: files::picture, seeds: files::picture_seeds },
    Target { name: "session", run: files::session, seeds: files::session_seeds },
    Target { name: "template", run: prompts::template, seeds: prompts::template_seeds },
    Target { name: "form", run: prompts::form, seeds: prompts::form_seeds },
    Target { name: "answer", run: prompts::answer, seeds: prompts::answer_seeds },
    Target { name: "request", run: requests::request, seeds: requests::request_seeds },
];

/// Runs the target of a name, as the programs of `libfuzzer` do.
///
/// # Panics
/// If there is none, or if it found something.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    (target.run)(bytes);
}

/// A file of this repository.
fn read(path: &str) -> Vec<u8> {
    let path = root().join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Two inputs as one: the length of the first in four bytes, then both.
fn joined(first: &[u8], second: &[u8]) -> Vec<u8> {
    let len = u32::try_from(first.len()).expect("a short input").to_le_bytes();
    [&len[..], first, second].concat()
}

/// The two inputs that [`joined`] made one, or any bytes taken apart in the same way.
fn apart(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((len, rest)) = bytes.split_first_chunk::<4>() else { return (bytes, &[]) };
    rest.split_at(rest.len().min(u32::from_le_bytes(*len) as usize))
}
