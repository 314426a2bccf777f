use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Tensor;
use tensor::{Backend, DType, ExpertUse, Experts, FileBytes, RawTensor, Routing, SharedBytes};

use super::ledger::{Key, Ledger};
use super::reader::fill;
use crate::Candle;

const HIDDEN: usize = 64;
const INNER: usize = 32;
const N_EXPERTS: usize = 8;
const TOP_K: usize = 3;
/// Three matrices of `HIDDEN * INNER` values in `Q8_0`, and what may lie before them.
const EXPERT_BYTES: u64 = (3 * HIDDEN * INNER / 32 * 34) as u64 + 64;

/// A file that can be made to fail.
struct Disk {
    bytes: Vec<u8>,
    is_broken: Arc<AtomicBool>,
}

impl AsRef<[u8]> for Disk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl FileBytes for Disk {
    fn read_at(&self, offset: usize, out: &mut [u8]) -> io::Result<()> {
        if self.is_broken.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk is gone"));
        }
        out.copy_from_slice(&self.bytes[offset..offset + out.len()]);
        Ok(())
    }
}

/// Numbers that look random, the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }

    fn value(&mut self) -> f32 {
        self.below(2000) as f32 / 1000.0 - 1.0
    }

    fn distinct(&mut self, n: usize, draw: impl Fn(&mut Self) -> usize) -> Vec<usize> {
        let mut chosen = Vec::new();
        while chosen.len() < n {
            let one = draw(self);
            if !chosen.contains(&one) {
                chosen.push(one);
            }
        }
        chosen
    }
}

/// `n_banks` banks in one file.
fn banks(n_banks: usize, is_broken: &Arc<AtomicBool>) -> Vec<Experts<Candle>> {
    let mut random = Random(7);
    let matrix_bytes = DType::Q8_0.n_bytes(&[HIDDEN * INNER]).unwrap();
    let n_matrices = n_banks * N_EXPERTS * 3;
    let mut bytes = Vec::new();
    for _ in 0..n_matrices {
        let values: Vec<f32> = (0..HIDDEN * INNER).map(|_| 0.3 * random.value()).collect();
        let mut blocks = vec![0; matrix_bytes];
        DType::Q8_0.quantize(&values, &mut blocks, None).unwrap();
        bytes.extend(blocks);
    }
    let file = SharedBytes::of_file(Disk { bytes, is_broken: Arc::clone(is_broken) });
    let b = Candle::cpu();
    let mut next = 0;
    let mut matrix = |name: &str, shape: [usize; 2]| {
        let bytes = file.slice(next..next + matrix_bytes).unwrap();
        next += matrix_bytes;
        b.weight(RawTensor::new(name, DType::Q8_0, shape.to_vec(), bytes).unwrap()).unwrap()
    };
    (0..n_banks)
        .map(|_| Experts {
            gate_proj: (0..N_EXPERTS).map(|_| matrix("gate", [INNER, HIDDEN])).collect(),
            up_proj: (0..N_EXPERTS).map(|_| matrix("up", [INNER, HIDDEN])).collect(),
            down_proj: (0..N_EXPERTS).map(|_| matrix("down", [HIDDEN, INNER])).collect(),
        })
        .collect()
}

/// What `n` random rows become in a bank.
fn pass(b: &Candle, experts: &Experts<Candle>, n: usize, random: &mut Random) -> tensor::Result<Vec<f32>> {
    let rows: Vec<f32> = (0..n * HIDDEN).map(|_| random.value()).collect();
    let ids: Vec<u32> = (0..n)
        .flat_map(|_| random.distinct(TOP_K, |random| random.below(N_EXPERTS)))
        .map(|e| e as u32)
        .collect();
    let weights: Vec<f32> = (0..n * TOP_K).map(|_| random.value().abs()).collect();
    let routing = Routing { expert_ids: b.ids(&ids)?, weights: b.tensor(&weights, TOP_K)?, top_k: TOP_K };
    let y: Tensor = b.expert_mlp(&b.tensor(&rows, HIDDEN)?, &routing, experts)?;
    pollster::block_on(b.read(&y))
}

#[test]
fn any_budget_gives_the_same_bits_and_is_kept() {
    let banks = banks(3, &Arc::default());
    let all = EXPERT_BYTES * 3 * N_EXPERTS as u64;
    for in_integers in [true, false] {
        let plain = || match in_integers {
            true => Candle::cpu_in_integers().unwrap(),
            false => Candle::cpu(),
        };
        for budget in [2 * EXPERT_BYTES, TOP_K as u64 * EXPERT_BYTES + 1, all * 6 / 10, all] {
            let (free, bounded) = (plain(), plain().with_expert_memory(budget).unwrap());
            for n in [1, 1, 20, 1, 1, 2, 1, 0, 1, 1] {
                for experts in &banks {
                    let mut random = Random(n as u64 + 11);
                    let expected = pass(&free, experts, n, &mut random).unwrap();
                    let mut random = Random(n as u64 + 11);
                    assert_eq!(pass(&bounded, experts, n, &mut random).unwrap(), expected);
                    let usage = bounded.expert_use().unwrap();
                    assert!(usage.resident_bytes <= budget, "{usage:?}");
                }
            }
            let usage = bounded.expert_use().unwrap();
            assert!(usage.hits < usage.uses && usage.read_bytes > 0, "{usage:?}");
            if budget == all {
                assert!(usage.read_bytes <= all, "what is in memory is read again: {usage:?}");
            }
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_and_tried_again() {
    let is_broken = Arc::new(AtomicBool::new(true));
    let banks = banks(1, &is_broken);
    let b = Candle::cpu_in_integers().unwrap().with_expert_memory(4 * EXPERT_BYTES).unwrap();
    let error = pass(&b, &banks[0], 1, &mut Random(3)).unwrap_err().to_string();
    assert!(error.contains("of `gate`") && error.contains("the disk is gone"), "{error}");
    is_broken.store(false, Ordering::Relaxed);
    let expected = pass(&Candle::cpu_in_integers().unwrap(), &banks[0], 1, &mut Random(3)).unwrap();
    assert_eq!(pass(&b, &banks[0], 1, &mut Random(3)).unwrap(), expected);
}

#[test]
fn experts_that_lie_in_memory_stay_where_they_are() {
    let b = Candle::cpu().with_expert_memory(1).unwrap();
    let weight = |shape: [usize; 2]| {
        b.weight(RawTensor::from_f32("w", &shape, &vec![0.1; shape[0] * shape[1]])).unwrap()
    };
    let experts = Experts::<Candle> {
        gate_proj: (0..N_EXPERTS).map(|_| weight([INNER, HIDDEN])).collect(),
        up_proj: (0..N_EXPERTS).map(|_| weight([INNER, HIDDEN])).collect(),
        down_proj: (0..N_EXPERTS).map(|_| weight([HIDDEN, INNER])).collect(),
    };
    assert_eq!(pass(&b, &experts, 2, &mut Random(5)).unwrap().len(), 2 * HIDDEN);
    assert_eq!(b.expert_use().unwrap().uses, 0);
}

/// A store without threads: every order is carried out at once, guesses too.
struct Trace {
    ledger: Ledger,
    banks: Vec<usize>,
}

impl Trace {
    fn new(budget_experts: u64, banks: &[Experts<Candle>]) -> Self {
        let mut ledger = Ledger::new(budget_experts * EXPERT_BYTES, false);
        let banks = banks.iter().map(|experts| ledger.bank(experts).unwrap()).collect();
        Self { ledger, banks }
    }

    fn read_all(&mut self) {
        while let Some(mut job) = self.ledger.next_job() {
            let read = fill(&job.parts, &mut job.buffer);
            self.ledger.finish(job.key, job.buffer, read);
        }
    }

    /// One layer: the experts with the rows each gets.
    fn lease(&mut self, bank: usize, chosen: &[(usize, usize)], n_rows: usize) {
        self.ledger.begin(self.banks[bank], chosen, n_rows);
        let mut remaining: Vec<usize> = chosen.iter().map(|&(e, _)| e).collect();
        while !remaining.is_empty() {
            self.read_all();
            let before = remaining.len();
            let key = |expert| Key { bank: self.banks[bank], expert };
            remaining.retain(|&e| self.ledger.take(key(e)).unwrap().is_none());
            assert!(remaining.len() < before, "nothing comes any more");
        }
    }

    fn row(&mut self, bank: usize, chosen: &[usize]) {
        let chosen: Vec<(usize, usize)> = chosen.iter().map(|&e| (e, 1)).collect();
        self.lease(bank, &chosen, 1);
    }

    fn usage(&self) -> ExpertUse {
        self.ledger.usage()
    }
}

#[test]
fn popular_experts_stay() {
    let banks = banks(2, &Arc::default());
    let mut trace = Trace::new(6, &banks);
    let mut random = Random(1);
    // Three in four choices fall on two experts of each bank: four of sixteen, and there is room for six.
    let draw = |random: &mut Random| match random.below(4) {
        0 => 2 + random.below(N_EXPERTS - 2),
        _ => random.below(2),
    };
    let mut run = |n: usize| {
        let before = trace.usage();
        for _ in 0..n {
            for bank in 0..2 {
                let chosen = random.distinct(1, draw);
                trace.row(bank, &chosen);
            }
        }
        trace.usage().since(&before)
    };
    run(100);
    let usage = run(1000);
    assert!(usage.hit_rate() > 0.75, "{usage:?}");
}

#[test]
fn reading_all_experts_in_turn_still_finds_some() {
    let banks = banks(4, &Arc::default());
    // All 32 experts pass by again and again, and 16 fit: whoever kept the latest would find none.
    let mut trace = Trace::new(16, &banks);
    let all: Vec<(usize, usize)> = (0..N_EXPERTS).map(|e| (e, 5)).collect();
    for _ in 0..4 {
        (0..4).for_each(|bank| trace.lease(bank, &all, 13));
    }
    let usage = trace.usage();
    assert!(usage.hit_rate() > 0.3, "{usage:?}");
}

#[test]
fn what_follows_is_foreseen() {
    let banks = banks(2, &Arc::default());
    let mut trace = Trace::new(6, &banks);
    let mut random = Random(4);
    for _ in 0..400 {
        // The second bank always chooses as the first one did.
        let chosen = random.distinct(1, |random| random.below(N_EXPERTS));
        trace.row(0, &chosen);
        trace.read_all();
        trace.row(1, &chosen);
    }
    let usage = trace.usage();
    assert!(usage.foreseen > 100, "{usage:?}");
}

#[test]
fn a_bank_that_is_no_longer_asked_returns_its_memory() {
    let banks = banks(2, &Arc::default());
    let mut trace = Trace::new(16, &banks);
    trace.lease(1, &[(0, 9), (1, 9), (2, 9)], 9); // pictures are read
    for _ in 0..6 {
        trace.row(0, &[4]);
        trace.read_all();
    }
    let left = trace.usage().resident_bytes;
    assert!((EXPERT_BYTES - 64..=EXPERT_BYTES).contains(&left), "{left}");
}
