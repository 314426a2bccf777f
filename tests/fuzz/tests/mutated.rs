//! Every target with good input, and with copies of it that are damaged in the ways that hurt: flipped bits, lengths
//! made huge, pieces cut out, doubled or put elsewhere. The damage is the same each time.

#[path = "../../random.rs"]
mod random;

use std::time::{Duration, Instant};

use fuzz::{TARGETS, Target};
use random::Random;

/// Damaged copies of each seed.
const COPIES: u64 = 160;
/// What one input may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A copy with one to four damages. Headers are at the front, so half of the damage is.
fn damaged(seed: &[u8], noise: &mut Random) -> Vec<u8> {
    const NUMBERS: [u64; 6] = [0, 1, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];
    let mut bytes = seed.to_vec();
    for _ in 0..=noise.below(4) {
        let end = if noise.below(2) == 0 { bytes.len().min(512) } else { bytes.len() };
        let at = noise.below(end.max(1));
        let len = noise.below(64).min(bytes.len() - at);
        match noise.below(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..at + len)),
            2 => {
                let piece = bytes[at..at + len].to_vec();
                let to = noise.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            3 => {
                let number = NUMBERS[noise.below(NUMBERS.len())].to_le_bytes();
                bytes[at..at + len.min(8)].copy_from_slice(&number[..len.min(8)]);
            }
            4 => bytes[at..at + len].iter_mut().for_each(|byte| *byte = noise.below(256) as u8),
            _ if at < bytes.len() => bytes[at] ^= 1 << noise.below(8),
            _ => {}
        }
    }
    bytes
}

fn endures(name: &str) {
    let target: &Target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty());
    let mut noise = Random(11);
    for seed in &seeds {
        assert!((target.run)(seed), "{name}: a seed is refused");
        for copy in 0..COPIES {
            let bytes = damaged(seed, &mut noise);
            let started = Instant::now();
            let _ = (target.run)(&bytes);
            assert!(started.elapsed() < PATIENCE, "{name}: copy {copy} took {:?}", started.elapsed());
        }
    }
}

/// One test each, so that they run side by side and a failure tells which.
macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                endures(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_tested() {
            assert_eq!(TARGETS.map(|target| target.name), [$(stringify!($name)),*]);
        }
    };
}

targets! { gguf safetensors tokenizer picture session template form answer request }
