//! A program from its start to its end: how long that takes, and the most memory it holds.

use std::env;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::median::ms;

/// How often to look what memory a program holds; its largest is kept by the system, so only the end is missed.
const LOOK: Duration = Duration::from_millis(5);
/// Of what a program that failed said last.
const LAST_WORDS: usize = 300;

/// A program that was started, read a prompt, and ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    pub(super) ms: f64,
    /// Where the system tells.
    pub(super) peak_rss_bytes: Option<u64>,
}

impl Start {
    /// This program, as it was called, on the prompt that is measured.
    pub(super) fn of_ours() -> anyhow::Result<Self> {
        let mut command = Command::new(env::current_exe().context("cannot find this program")?);
        command.args(env::args_os().skip(1)).arg("--start");
        Ok(run(&mut command)?.1)
    }
}

/// Runs a program to its end. Returns what it wrote to standard output, and what it took.
///
/// # Errors
/// If it cannot be started or fails; the message ends with its last words.
pub(super) fn run(command: &mut Command) -> anyhow::Result<(String, Start)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = Path::new(command.get_program()).display().to_string();
    let begin = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let status_path = format!("/proc/{}/status", child.id());
    let has_ended = AtomicBool::new(false);
    let (stdout, stderr, status, took_ms, peak_rss_bytes) = thread::scope(|scope| {
        let peak = scope.spawn(|| {
            let mut peak = None;
            while !has_ended.load(Ordering::Relaxed) {
                peak = fs::read_to_string(&status_path).ok().and_then(|status| peak_rss(&status)).or(peak);
                thread::sleep(LOOK);
            }
            peak
        });
        let stderr = scope.spawn(move || read(stderr.as_mut()));
        let stdout = read(stdout.as_mut());
        let status = child.wait();
        let took_ms = ms(begin);
        has_ended.store(true, Ordering::Relaxed);
        let joined = "reading cannot panic";
        (stdout, stderr.join().expect(joined), status, took_ms, peak.join().expect(joined))
    });
    let status = status.with_context(|| format!("cannot wait for {name}"))?;
    if !status.success() {
        let said = stderr.unwrap_or_default();
        let words: Vec<char> = said.trim().chars().collect();
        let last: String = words[words.len().saturating_sub(LAST_WORDS)..].iter().collect();
        bail!("{name} failed ({status}): {last}");
    }
    let stdout = stdout.with_context(|| format!("cannot read what {name} writes"))?;
    Ok((stdout, Start { ms: took_ms, peak_rss_bytes }))
}

fn read(pipe: Option<&mut impl Read>) -> io::Result<String> {
    let mut bytes = Vec::new();
    pipe.map_or(Ok(0), |pipe| pipe.read_to_end(&mut bytes))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The largest resident memory so far, from `/proc/…/status`.
fn peak_rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read() {
        assert_eq!(peak_rss("Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t 1 kB\n"), Some(2 << 20));
        assert_eq!(peak_rss("Name:\tx\n"), None);
    }
}
