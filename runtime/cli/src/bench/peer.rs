//! llama.cpp on the same file: its `llama-bench`, run in turns with us.
//!
//! Figures of two programs compare only if both ran within the same seconds: what else a machine does, and how
//! warm it is, changes more than programs differ. So each repetition measures one and then the other, and the
//! ratio is the median of the ratios of these pairs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use super::BenchArgs;
use super::median::{median, per_second};
use super::process::{self, Start};

/// Another program, and what pairs of runs gave.
pub(super) struct Peer<'a> {
    program: &'a Path,
    model: PathBuf,
    args: &'a BenchArgs,
    n_threads: usize,
    /// Cores of its threads, if they are pinned.
    cores: Option<&'a [usize]>,
    build: String,
    prefill: Pairs,
    decode: Pairs,
    start: Pairs,
    peak_rss_bytes: Option<u64>,
}

/// Figures of both programs, one after the other.
#[derive(Debug, Default)]
struct Pairs(Vec<(f64, f64)>);

/// What a comparison gave.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    pub(super) program: String,
    /// Which build of it, in its own words.
    pub(super) build: String,
    pub(super) pairs: usize,
    pub(super) prefill_tokens_per_s: Compared,
    pub(super) decode_tokens_per_s: Compared,
    /// From the start of the process to the first token, and its end.
    pub(super) start_ms: Compared,
    pub(super) peak_rss_bytes: Option<u64>,
}

/// Medians of both, and of the ratios of pairs.
#[derive(Debug, Clone, Copy, Serialize, PartialEq)]
pub(super) struct Compared {
    pub(super) ours: f64,
    pub(super) theirs: f64,
    pub(super) ratio: f64,
}

impl Pairs {
    fn compared(&self) -> Compared {
        let of = |figure: fn(&(f64, f64)) -> f64| median(self.0.iter().map(figure).collect());
        Compared { ours: of(|pair| pair.0), theirs: of(|pair| pair.1), ratio: of(|pair| pair.0 / pair.1) }
    }
}

/// A test of `llama-bench -o json`.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    build_commit: String,
    #[serde(default)]
    build_number: i64,
    /// Tokens a second, on average over its repetitions.
    avg_ts: f64,
}

impl<'a> Peer<'a> {
    /// # Errors
    /// If the model is no single GGUF file.
    pub(super) fn new(
        program: &'a Path,
        args: &'a BenchArgs,
        n_threads: usize,
        cores: Option<&'a [usize]>,
    ) -> anyhow::Result<Self> {
        let model = args.model.model.clone().context("--against needs --model FILE.gguf")?;
        ensure!(model.is_file(), "--against needs one GGUF file, but {} is none", model.display());
        Ok(Self {
            program,
            model,
            args,
            n_threads,
            cores,
            build: String::new(),
            prefill: Pairs::default(),
            decode: Pairs::default(),
            start: Pairs::default(),
            peak_rss_bytes: None,
        })
    }

    /// Reads the prompt with the other program, right after ours took `ours_ms`.
    pub(super) fn prefill(&mut self, ours_ms: f64) -> anyhow::Result<()> {
        let n = self.args.prompt;
        let theirs = self.best(&["-p", &n.to_string(), "-n", "0"])?;
        self.prefill.0.push((per_second(n, ours_ms), theirs));
        Ok(())
    }

    /// Generates with the other program, right after ours took `ours_ms`.
    pub(super) fn decode(&mut self, ours_ms: f64) -> anyhow::Result<()> {
        let (n, depth) = (self.args.generate, self.args.depth.to_string());
        let n_tokens = n.to_string();
        let test = ["-p", "0", "-n", &n_tokens, "-d", &depth, "-fa", "0,1"];
        // Which of its two kinds of attention is faster at a depth depends on the machine: the better one counts.
        let theirs = self.best(if self.args.depth == 0 { &test[..4] } else { &test })?;
        self.decode.0.push((per_second(n, ours_ms), theirs));
        Ok(())
    }

    /// Starts the other program for the same prompt, without a warm-up, right after ours was started.
    pub(super) fn start(&mut self, ours: &Start) -> anyhow::Result<()> {
        let n = self.args.prompt.to_string();
        let (_, theirs) = process::run(&mut self.command(&["-p", &n, "-n", "0", "--no-warmup"]))?;
        self.start.0.push((ours.ms, theirs.ms));
        self.peak_rss_bytes = self.peak_rss_bytes.max(theirs.peak_rss_bytes);
        Ok(())
    }

    /// Tokens a second of the fastest of the tests asked for.
    fn best(&mut self, test: &[&str]) -> anyhow::Result<f64> {
        let (json, _) = process::run(&mut self.command(test))?;
        let program = self.program.display();
        let not_json = || format!("{program} is no llama-bench: it did not write its JSON");
        let entries: Vec<Entry> = serde_json::from_str(&json).with_context(not_json)?;
        if let Some(entry) = entries.first() {
            self.build = format!("{} ({})", entry.build_commit, entry.build_number);
        }
        let best = entries.iter().map(|entry| entry.avg_ts).max_by(f64::total_cmp);
        match best.filter(|best| best.is_finite() && *best > 0.0) {
            Some(best) => Ok(best),
            None => bail!("{program} gave no figure for `{}`", test.join(" ")),
        }
    }

    fn command(&self, test: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.arg("-m").arg(&self.model).args(["-t", &self.n_threads.to_string(), "-r", "1", "-o", "json"]);
        if let Some(cores) = self.cores {
            command.args(["-C", &mask(cores), "--cpu-strict", "1"]);
        }
        command.args(test);
        command
    }

    pub(super) fn comparison(self) -> Comparison {
        Comparison {
            program: self.program.display().to_string(),
            build: self.build,
            pairs: self.prefill.0.len(),
            prefill_tokens_per_s: self.prefill.compared(),
            decode_tokens_per_s: self.decode.compared(),
            start_ms: self.start.compared(),
            peak_rss_bytes: self.peak_rss_bytes,
        }
    }
}

/// Cores as the bits of a hexadecimal number.
fn mask(cores: &[usize]) -> String {
    let n_digits = cores.iter().max().map_or(1, |core| core / 4 + 1);
    let digit =
        |i: usize| (0..4).filter(|bit| cores.contains(&(4 * i + bit))).map(|bit| 1 << bit).sum::<u32>();
    let digits = (0..n_digits).rev().map(|i| char::from_digit(digit(i), 16).expect("four bits"));
    format!("0x{}", digits.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_pairs() {
        // A slow spell in the middle touches both.
        let pairs = Pairs(vec![(20.0, 10.0), (4.0, 2.0), (30.0, 10.0), (20.0, 10.0), (21.0, 10.0)]);
        assert_eq!(pairs.compared(), Compared { ours: 20.0, theirs: 10.0, ratio: 2.0 });
    }

    #[test]
    fn cores_are_bits() {
        assert_eq!(mask(&[0, 1]), "0x3");
        assert_eq!(mask(&[0, 2, 7]), "0x85");
        assert_eq!(mask(&[64]), "0x10000000000000000");
    }
}
