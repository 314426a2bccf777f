//! All that the program writes. Answers go to standard output, everything about them to standard error.

use std::env;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

const BOLD_RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[33m";
const CYAN: &str = "\x1b[36m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// Where text goes and how it looks there.
pub(crate) struct Output {
    stdout: Stream,
    stderr: Stream,
    quiet: bool,
    bar: Option<ProgressBar>,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    is_terminal: bool,
    has_colour: bool,
}

impl Stream {
    /// Colours only for terminals that can, and not against `NO_COLOR`.
    fn new(is_terminal: bool) -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|value| value == "dumb");
        Stream { is_terminal, has_colour: is_terminal && !refused }
    }

    fn paint(self, colour: &str, text: &str) -> String {
        if self.has_colour { format!("{colour}{text}{RESET}") } else { text.to_string() }
    }
}

impl Output {
    /// Standard output and standard error of this process.
    pub(crate) fn new() -> Self {
        Output {
            stdout: Stream::new(io::stdout().is_terminal()),
            stderr: Stream::new(io::stderr().is_terminal()),
            quiet: false,
            bar: None,
        }
    }

    /// Leaves out notes and progress from now on, but no warning and no error.
    pub(crate) fn set_quiet(&mut self, quiet: bool) {
        self.quiet = quiet;
    }

    /// Whether somebody watches the answers appear.
    pub(crate) fn is_watched(&self) -> bool {
        self.stdout.is_terminal
    }

    /// Writes a line of an answer.
    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        self.print(&format!("{}\n", self.shown(text)))
    }

    /// Writes part of an answer at once.
    pub(crate) fn piece(&self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.print(&self.shown(text))
    }

    /// Writes one JSON object on a line of its own.
    pub(crate) fn json(&self, value: &impl Serialize) -> io::Result<()> {
        self.print(&format!("{}\n", serde_json::to_string(value)?))
    }

    /// Writes a line about something, behind its name.
    pub(crate) fn named_line(&self, name: &str, text: &str) -> io::Result<()> {
        self.print(&format!("{}: {}\n", self.stdout.paint(CYAN, &self.shown(name)), self.shown(text)))
    }

    /// Writes a line of a report: what it is about, and what there is to say.
    pub(crate) fn row(&self, heading: &str, text: &str) -> io::Result<()> {
        let heading = self.stdout.paint(CYAN, &format!("{heading:<12}"));
        self.print(&format!("{heading} {}\n", self.shown(text)))
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    /// Says something about an answer.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.eprint(&self.stderr.paint(DIM, &printable(text)));
        }
    }

    /// Says what was asked of the program rather than of the model.
    pub(crate) fn reply(&self, text: &str) {
        self.eprint(&printable(text));
    }

    /// Says that something was not as it should be, though the work goes on.
    pub(crate) fn warning(&self, text: &str) {
        self.eprint(&format!("{}: {}", self.stderr.paint(YELLOW, "warning"), printable(text)));
    }

    /// Says in one line what failed and why.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        self.eprint(&format!("{}: {}", self.stderr.paint(BOLD_RED, "error"), printable(&explain(error))));
    }

    /// Asks for a message, if there is somebody to answer.
    pub(crate) fn prompt(&self) {
        if self.stderr.is_terminal {
            let _ = write!(io::stderr(), "{} ", self.stderr.paint(CYAN, "›"));
        }
    }

    /// Leaves the line of a prompt that got no message.
    pub(crate) fn end_prompt(&self) {
        if self.stderr.is_terminal {
            self.eprint("");
        }
    }

    /// Shows how far a batch has come, unless standard error is no terminal.
    pub(crate) fn start_progress(&mut self, n: usize) {
        if n < 2 || self.quiet || !self.stderr.is_terminal {
            return;
        }
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} · {elapsed} · {msg}")
            .expect("the template is well formed")
            .progress_chars("━╾─");
        self.bar = Some(ProgressBar::new(n as u64).with_style(style));
    }

    /// Names what is being worked on.
    pub(crate) fn working_on(&self, name: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(printable(name));
            bar.tick();
        }
    }

    /// One more is done.
    pub(crate) fn advance(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// Takes the progress bar away.
    pub(crate) fn end_progress(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// A model, a file name or a picture may hold sequences that command a terminal; they are shown,
    /// not obeyed. Files and pipes get every byte.
    fn shown(&self, text: &str) -> String {
        if self.stdout.is_terminal { printable(text) } else { text.to_string() }
    }

    fn print(&self, text: &str) -> io::Result<()> {
        self.beside_bar(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes())?;
            stdout.flush()
        })
    }

    fn eprint(&self, line: &str) {
        // There is no better place to report that standard error is gone.
        self.beside_bar(|| {
            let _ = writeln!(io::stderr(), "{line}");
        });
    }

    fn beside_bar<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

/// Control characters but line breaks and tabs, made visible.
fn printable(text: &str) -> String {
    let is_harmless = |c: char| !c.is_control() || c == '\n' || c == '\t';
    text.chars().map(|c| if is_harmless(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// An error and its causes on one line, without causes that were already told.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    explain_chain(error.chain())
}

/// The error with the path of the file that it is about in front, unless it names it already.
pub(crate) fn name_it(error: anyhow::Error, path: &Path) -> anyhow::Error {
    let path = path.display().to_string();
    if explain(&error).contains(&path) { error } else { error.context(path) }
}

fn explain_chain<'a>(chain: impl Iterator<Item = &'a (dyn Error + 'static)>) -> String {
    let mut line = String::new();
    for cause in chain {
        let cause = cause.to_string();
        let cause = cause.trim_end().replace('\n', " ");
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    line
}

/// A number of bytes as people say it.
pub(crate) fn bytes(n: u64) -> String {
    let mut value = n as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    match (unit, value) {
        ("B", _) => format!("{n} B"),
        (_, ..10.0) => format!("{value:.2} {unit}"),
        (_, ..100.0) => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// A count with its thousands apart.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 file`, `2 files`.
pub(crate) fn plural(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(["0 B", "999 B"].map(String::from), [0, 999].map(bytes));
        assert_eq!(bytes(1000), "0.98 KiB");
        assert_eq!(bytes(24 << 20), "24.0 MiB");
        assert_eq!(bytes(700 << 20), "700 MiB");
        assert_eq!(count(7), "7");
        assert_eq!(count(360_748_032), "360 748 032");
        assert_eq!(plural(1, "file"), "1 file");
        assert_eq!(plural(0, "file"), "0 files");
    }

    #[test]
    fn an_error_is_one_line_that_says_everything_once() {
        let error = anyhow::anyhow!("no such\nfile").context("cannot read x: no such file").context("model");
        assert_eq!(explain(&error), "model: cannot read x: no such file");
        let error = anyhow::anyhow!("cause").context("effect");
        assert_eq!(explain(&error), "effect: cause");
    }

    #[test]
    fn text_cannot_command_a_terminal() {
        assert_eq!(printable("a\x1b[31m\tb\n\u{9b}c"), "a\u{fffd}[31m\tb\n\u{fffd}c");
    }
}
