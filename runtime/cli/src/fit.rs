//! Whether a model fits this machine, and how.

use std::str::FromStr;

use anyhow::bail;
use engine::quantize::{Preset, Quantization};
use engine::{KvType, LoadOptions, ModelFiles};
use model::{Checkpoint, StoredBytes};

use crate::memory;
use crate::output::{Output, bytes};

/// What computing takes beside weights and cache: activations, the vocabulary, the program.
const RESERVE: u64 = 300 << 20;
/// More than cache and work take beside any model that is smaller than half of this.
const ROOM: u64 = 4 << 30;
/// Tokens whose keys and values shall fit, if the model takes as many.
const CONTEXT: usize = 4096;

/// How much memory routed experts may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ExpertMemory {
    Bytes(u64),
    /// Part of all of them.
    Share(f64),
}

impl FromStr for ExpertMemory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match number_and_unit(text) {
            Some((number, "%")) if number <= 100.0 => Ok(Self::Share(number / 100.0)),
            _ => size(text).map(Self::Bytes).map_err(|_| "a size as 8GiB, 500MB or 60% is needed".to_owned()),
        }
    }
}

/// A number of bytes, as people write it.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wanted = || "a size as 8GiB or 500MB is needed".to_owned();
    let (number, unit) = number_and_unit(text).ok_or_else(wanted)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => f64::from(1 << 10),
        "m" | "mib" => f64::from(1 << 20),
        "g" | "gib" => f64::from(1 << 30),
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return Err(wanted()),
    };
    Ok((number * factor) as u64)
}

fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

/// What a model needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Needs {
    weights: StoredBytes,
    /// Cache and [`RESERVE`].
    beside: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// All of it is in memory, or nobody knows.
    Fits,
    /// So many bytes of experts are.
    Experts(u64),
    /// It runs, but reads its weights from disk for every token.
    Slow,
    /// The budget that was given leaves the rest too little; this one would not.
    Budget(u64),
    /// Nothing helps but a smaller model. So much is needed.
    TooLarge(u64),
}

/// The budget for the experts of a model, if it needs one to fit; `wish` is what the user gives.
///
/// # Errors
/// If it cannot fit, with what would.
pub(crate) fn expert_memory(
    files: &ModelFiles,
    wish: Option<ExpertMemory>,
    quantize: Option<Preset>,
    kv_type: Option<KvType>,
    output: &Output,
) -> anyhow::Result<Option<u64>> {
    if let Some(preset) = quantize {
        output.note(&format!("quantising to {} while loading", preset.name));
        return Ok(None);
    }
    let free = memory::available();
    let size: usize = files.sizes().map(|(_, n)| n).sum();
    if wish.is_none() && free.is_none_or(|free| (size as u64).saturating_mul(2).saturating_add(ROOM) < free) {
        return Ok(None); // no need to look closer
    }
    let needs = Needs::of(&files.checkpoint()?, kv_type.unwrap_or(LoadOptions::KV_TYPE));
    let budget = wish.map(|wish| match wish {
        ExpertMemory::Bytes(n) => n,
        ExpertMemory::Share(share) => (needs.weights.experts as f64 * share).ceil() as u64,
    });
    if budget.is_some() && needs.weights.n_experts == 0 {
        bail!("{} has no experts that --expert-memory could be for", files.name());
    }
    let verdict = decide(&needs, budget, free);
    let free = bytes(free.unwrap_or(0));
    match verdict {
        Verdict::Fits => Ok(budget),
        Verdict::Experts(budget) => {
            output.note(&format!(
                "{free} of memory are free: {} of {} of experts stay in it, the others are read when they are \
                 chosen; --expert-memory sets another limit",
                bytes(budget),
                bytes(needs.weights.experts)
            ));
            Ok(Some(budget))
        }
        Verdict::Slow => {
            let all = bytes(needs.weights.shared + needs.weights.experts);
            let advice = advice(files, &needs);
            output.warning(&format!(
                "the {all} of weights do not fit into the {free} of memory that are free, and will be read from \
                 disk again and again; {advice}"
            ));
            Ok(budget)
        }
        Verdict::Budget(most) => bail!(
            "{} for experts are too many: with {} of other weights, cache and work they do not fit into the \
             {free} that are free; --expert-memory {}MiB would",
            bytes(budget.unwrap_or(0)),
            bytes(needs.weights.shared + needs.beside),
            most >> 20
        ),
        Verdict::TooLarge(least) => bail!(
            "{} needs at least {} of memory, and {free} are free; {}",
            files.name(),
            bytes(least),
            advice(files, &needs)
        ),
    }
}

impl Needs {
    fn of(checkpoint: &Checkpoint, kv_type: KvType) -> Self {
        let text = &checkpoint.config.text;
        let context = CONTEXT.min(text.max_position_embeddings);
        let cache = text.n_layers * kv_type.row_bytes(text.heads()) * context;
        Self { weights: checkpoint.stored_bytes(), beside: RESERVE + cache as u64 }
    }
}

fn decide(needs: &Needs, budget: Option<u64>, free: Option<u64>) -> Verdict {
    let Needs { weights, beside } = *needs;
    let Some(free) = free else { return Verdict::Fits };
    let others = weights.shared + beside;
    // What is in a file needs no memory of its own as long as nobody else wants it, but work does.
    if beside > free {
        return Verdict::TooLarge(others + weights.least_experts);
    }
    if !weights.experts_in_file {
        return if others + weights.experts <= free { Verdict::Fits } else { Verdict::Slow };
    }
    match budget {
        Some(budget) if budget >= weights.experts || others + budget <= free => Verdict::Fits,
        None if others + weights.experts <= free => Verdict::Fits,
        _ if others + weights.least_experts > free => Verdict::TooLarge(others + weights.least_experts),
        Some(_) => Verdict::Budget(free - others),
        None => Verdict::Experts(free - others),
    }
}

/// The nearest type to the original that would fit.
fn advice(files: &ModelFiles, needs: &Needs) -> String {
    let room = memory::available().unwrap_or(0).saturating_sub(needs.beside);
    let size = |preset: &Preset| Some(Quantization::plan(files, preset).ok()?.layout().file_len());
    let fitting = Preset::ALL.iter().find_map(|preset| {
        let size = size(preset).filter(|&size| size <= room)?;
        Some((preset.name, size))
    });
    match fitting {
        Some((name, size)) => {
            format!("`ocelli quantize --type {name}` would make it {}, which fits", bytes(size))
        }
        None => "no type of `ocelli quantize` makes it small enough; free memory, or take a smaller model"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn needs() -> Needs {
        let weights = StoredBytes {
            shared: GIB,
            experts: 11 * GIB,
            n_experts: 1728,
            least_experts: 80 << 20,
            experts_in_file: true,
        };
        Needs { weights, beside: GIB }
    }

    #[track_caller]
    fn check(budget: Option<u64>, free: Option<u64>, expected: Verdict) {
        assert_eq!(decide(&needs(), budget, free), expected);
    }

    #[test]
    fn experts_get_what_is_free() {
        check(None, None, Verdict::Fits);
        check(None, Some(13 * GIB), Verdict::Fits);
        check(None, Some(8 * GIB), Verdict::Experts(6 * GIB));
        check(None, Some(2 * GIB), Verdict::TooLarge(2 * GIB + (80 << 20)));
    }

    #[test]
    fn a_wish_is_checked() {
        check(Some(6 * GIB), Some(8 * GIB), Verdict::Fits);
        check(Some(7 * GIB), Some(8 * GIB), Verdict::Budget(6 * GIB));
        // All of them need not be held: they may stay where the file is mapped.
        check(Some(11 * GIB), Some(8 * GIB), Verdict::Fits);
        check(Some(GIB), Some(GIB / 2), Verdict::TooLarge(2 * GIB + (80 << 20)));
    }

    #[test]
    fn weights_that_cannot_be_left_on_disk_are_slow() {
        let mut needs = needs();
        needs.weights.experts_in_file = false;
        assert_eq!(decide(&needs, None, Some(8 * GIB)), Verdict::Slow);
        assert_eq!(decide(&needs, None, Some(14 * GIB)), Verdict::Fits);
    }

    #[test]
    fn sizes_are_read() {
        for (text, expected) in [
            ("8GiB", ExpertMemory::Bytes(8 * GIB)),
            ("1.5 g", ExpertMemory::Bytes(3 * GIB / 2)),
            ("500MB", ExpertMemory::Bytes(500_000_000)),
            ("4096", ExpertMemory::Bytes(4096)),
            ("60%", ExpertMemory::Share(0.6)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for bad in ["", "GiB", "-1GiB", "120%", "8 apples", "1.2.3"] {
            assert!(bad.parse::<ExpertMemory>().is_err(), "{bad}");
        }
    }
}
