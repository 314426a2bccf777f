//! Who is in memory, who is worth it, and who is to come next. No thread and no file: a pure account.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use memmap2::MmapMut;
use tensor::{Error, ExpertUse, Experts, RawTensor, Result, SharedBytes};

use super::forecast::Forecast;
use super::in_file;
use crate::packing::panel_bytes;
use crate::{Candle, Stored, Weight};

/// Rows after which what was chosen before them counts for half of an expert's popularity.
const POPULARITY_ROWS: f32 = 256.0;
/// Passes of the model after which a bank that no row went to is given up: that of pictures, once they are read.
const IDLE_PASSES: u64 = 4;
/// An expert that is less probable than this is not brought ahead of its layer.
const LEAST_PROBABLE: f32 = 0.2;
/// Part of the budget that may be spent on guesses at a time.
const GUESSED_SHARE: u64 = 4;
/// Parts of an expert are aligned in its buffer as they are where their file is mapped, up to a multiple of this:
/// kernels that look at alignment do the same in both places.
const ALIGNMENT: usize = 64;

/// A projection of an expert.
#[derive(Clone)]
pub(super) struct Part {
    /// As it lies in the file.
    pub(super) stored: Arc<Stored>,
    /// Whether it is packed when it is read.
    pub(super) is_packed: bool,
}

/// Gate, up and down projection of an expert.
pub(super) type Parts = [Part; 3];

/// An expert of a bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) bank: usize,
    pub(super) expert: usize,
}

/// An expert in memory.
pub(crate) struct Resident {
    /// Gate, up and down projection.
    pub(crate) weights: [Weight; 3],
    bytes: Arc<MmapMut>,
}

/// An order for a reader.
pub(super) struct Job {
    pub(super) key: Key,
    pub(super) parts: Parts,
    pub(super) buffer: MmapMut,
}

enum Place {
    OnDisk,
    /// A reader is at it.
    Coming,
    InMemory(Arc<Resident>),
    Failed(String),
}

/// Why an expert is not to be given up although nobody computes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    None,
    /// A lease waits for it.
    Wanted,
    /// Its layer is next, and likely to choose it.
    Foreseen,
}

struct Slot {
    place: Place,
    guard: Guard,
    /// Part of the rows that chose it, the last ones counting most.
    popularity: f32,
}

struct Bank {
    parts: Vec<Parts>,
    slots: Vec<Slot>,
    /// Rows that popularity is of.
    rows: f32,
    /// When it was last asked: the pass of the model, and the lease.
    last_pass: u64,
    last_lease: u64,
    /// What the last row chose, if it came alone.
    last_chosen: Option<Vec<usize>>,
    forecast: Forecast,
}

/// The account of a store.
pub(super) struct Ledger {
    budget: u64,
    /// Whether experts are packed when they are read.
    packs: bool,
    /// Bytes of all buffers, those of readers and the spare ones included.
    held: u64,
    banks: Vec<Bank>,
    by_address: HashMap<usize, usize>,
    pass: u64,
    lease: u64,
    last_bank: Option<usize>,
    wanted: VecDeque<Key>,
    guesses: VecDeque<(Key, f32)>,
    spare: Vec<MmapMut>,
    usage: ExpertUse,
    pub(super) stop: bool,
}

/// Where each part lies in the buffer of an expert, and how long that is.
pub(super) fn ranges(parts: &Parts) -> ([Range<usize>; 3], usize) {
    let mut end = 0;
    let ranges = std::array::from_fn(|i| {
        let mapped = parts[i].stored.bytes.as_ref();
        let start = end + (mapped.as_ptr() as usize).wrapping_sub(end) % ALIGNMENT;
        end = start + mapped.len();
        start..end
    });
    (ranges, end)
}

/// Owns the bytes that the tensors of a resident share.
struct Filled(Arc<MmapMut>);

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Resident {
    fn new(parts: &Parts, buffer: MmapMut) -> Self {
        let bytes = Arc::new(buffer);
        let shared = SharedBytes::new(Filled(Arc::clone(&bytes)));
        let (ranges, _) = ranges(parts);
        let weights = std::array::from_fn(|i| {
            let bytes = shared.slice(ranges[i].clone()).expect("the buffer is as long as its parts");
            let Part { stored, is_packed } = &parts[i];
            Weight::Mapped(Arc::new(match is_packed {
                true => stored.with_packed(bytes),
                false => Stored::new(RawTensor { bytes, ..(***stored).clone() }),
            }))
        });
        Self { weights, bytes }
    }

    fn into_buffer(self) -> Option<MmapMut> {
        drop(self.weights);
        Arc::try_unwrap(self.bytes).ok()
    }
}

impl Bank {
    fn new(parts: Vec<Parts>) -> Self {
        let slot = |_: &Parts| Slot { place: Place::OnDisk, guard: Guard::None, popularity: 0.0 };
        Self {
            slots: parts.iter().map(slot).collect(),
            parts,
            rows: 0.0,
            last_pass: 0,
            last_lease: 0,
            last_chosen: None,
            forecast: Forecast::default(),
        }
    }

    /// `chosen` experts got some of `n_rows` rows each.
    fn count(&mut self, chosen: &[(usize, usize)], n_rows: usize) {
        let rows = self.rows + n_rows as f32;
        self.slots.iter_mut().for_each(|slot| slot.popularity *= self.rows / rows);
        for &(e, n) in chosen {
            self.slots[e].popularity += n as f32 / rows;
        }
        self.rows = rows.min(POPULARITY_ROWS);
    }
}

impl Ledger {
    pub(super) fn new(budget: u64, packs: bool) -> Self {
        Self {
            budget,
            packs,
            held: 0,
            banks: Vec::new(),
            by_address: HashMap::new(),
            pass: 0,
            lease: 0,
            last_bank: None,
            wanted: VecDeque::new(),
            guesses: VecDeque::new(),
            spare: Vec::new(),
            usage: ExpertUse::default(),
            stop: false,
        }
    }

    pub(super) fn usage(&self) -> ExpertUse {
        ExpertUse { budget_bytes: self.budget, resident_bytes: self.held, ..self.usage }
    }

    pub(super) fn count_wait(&mut self, waited: Option<Duration>) {
        self.usage.waited_ns += waited.map_or(0, |waited| waited.as_nanos() as u64);
    }

    /// The bank of `experts`, which is met for the first time perhaps; `None` if it does not lie in a file.
    pub(super) fn bank(&mut self, experts: &Experts<Candle>) -> Option<usize> {
        // The ledger holds on to the tensor, so that nothing else ever has its address.
        let address = Arc::as_ptr(in_file(experts.gate_proj.first()?)?) as usize;
        if let Some(&bank) = self.by_address.get(&address) {
            return Some(bank);
        }
        let projections = experts.gate_proj.iter().zip(&experts.up_proj).zip(&experts.down_proj);
        let part = |stored: &Arc<Stored>| Part {
            stored: Arc::clone(stored),
            is_packed: self.packs && panel_bytes(stored).is_some(),
        };
        let parts = projections
            .map(|((gate, up), down)| Some([in_file(gate)?, in_file(up)?, in_file(down)?].map(part)));
        self.banks.push(Bank::new(parts.collect::<Option<_>>()?));
        self.by_address.insert(address, self.banks.len() - 1);
        Some(self.banks.len() - 1)
    }

    /// A layer asks for the experts `chosen` of `bank`, each with the rows that it gets.
    pub(super) fn begin(&mut self, bank: usize, chosen: &[(usize, usize)], n_rows: usize) {
        self.lease += 1;
        if self.banks[bank].last_pass == self.pass {
            self.pass += 1;
            self.give_up_idle();
        }
        let ids: Vec<usize> = chosen.iter().map(|&(e, _)| e).collect();
        self.learn(bank, &ids, n_rows);
        let this = &mut self.banks[bank];
        (this.last_pass, this.last_lease) = (self.pass, self.lease);
        this.last_chosen = (n_rows == 1).then(|| ids.clone());
        this.count(chosen, n_rows);
        for (expert, slot) in this.slots.iter_mut().enumerate() {
            if !ids.contains(&expert) {
                slot.guard = Guard::None;
                continue;
            }
            self.usage.uses += 1;
            if matches!(slot.place, Place::InMemory(_)) {
                self.usage.hits += 1;
                self.usage.foreseen += u64::from(slot.guard == Guard::Foreseen);
            } else {
                self.wanted.push_back(Key { bank, expert });
            }
            slot.guard = Guard::Wanted;
        }
        self.last_bank = Some(bank);
        self.guess(bank, &ids, n_rows);
    }

    fn learn(&mut self, bank: usize, chosen: &[usize], n_rows: usize) {
        let Some(last) = self.last_bank.filter(|&last| last != bank) else { return };
        let (n, n_next) = (self.banks[last].slots.len(), self.banks[bank].slots.len());
        let Bank { forecast, last_chosen, .. } = &mut self.banks[last];
        forecast.follow(n, bank, n_next);
        if let (Some(before), 1) = (last_chosen, n_rows) {
            forecast.learn(before, chosen);
        }
    }

    /// Orders what the bank after this one is likely to choose and has not in memory.
    fn guess(&mut self, bank: usize, chosen: &[usize], n_rows: usize) {
        self.guesses.clear();
        let Some(next) = self.banks[bank].forecast.next else { return };
        let forecast = &self.banks[bank].forecast;
        let absent = self.banks[next].slots.iter().enumerate();
        let absent = absent.filter(|(_, slot)| matches!(slot.place, Place::OnDisk));
        let mut guesses: Vec<(Key, f32)> = absent
            .map(|(expert, slot)| {
                let one = match n_rows {
                    1 => forecast.probability(chosen, expert, slot.popularity),
                    _ => slot.popularity,
                };
                (Key { bank: next, expert }, 1.0 - (1.0 - one).powi(n_rows as i32))
            })
            .filter(|&(_, probability)| probability >= LEAST_PROBABLE)
            .collect();
        guesses.sort_by(|a, b| b.1.total_cmp(&a.1));
        guesses.truncate(chosen.len());
        self.guesses.extend(guesses);
    }

    /// What a reader is to read next, and into what.
    pub(super) fn next_job(&mut self) -> Option<Job> {
        while let Some(&key) = self.wanted.front() {
            if matches!(self.slot(key).place, Place::OnDisk) {
                match self.job(key, None) {
                    // Nothing else is read either: the room that gets free is for this one.
                    Ok(None) => return None,
                    Ok(Some(job)) => {
                        self.wanted.pop_front();
                        return Some(job);
                    }
                    Err(error) => self.slot(key).place = Place::Failed(error.to_string()),
                }
            }
            self.wanted.pop_front();
        }
        while let Some((key, probability)) = self.guesses.pop_front() {
            let is_absent = matches!(self.slot(key).place, Place::OnDisk);
            if is_absent
                && self.guessed_bytes() < self.budget / GUESSED_SHARE
                && let Ok(Some(job)) = self.job(key, Some(probability))
            {
                self.slot(key).guard = Guard::Foreseen;
                return Some(job);
            }
        }
        None
    }

    fn job(&mut self, key: Key, worth: Option<f32>) -> io::Result<Option<Job>> {
        let parts = self.banks[key.bank].parts[key.expert].clone();
        let Some(buffer) = self.buffer(ranges(&parts).1, worth)? else { return Ok(None) };
        self.slot(key).place = Place::Coming;
        Ok(Some(Job { key, parts, buffer }))
    }

    /// A job is done.
    pub(super) fn finish(&mut self, key: Key, buffer: MmapMut, read: io::Result<()>) {
        let place = match read {
            Ok(()) => {
                self.usage.read_bytes += buffer.len() as u64;
                let parts = &self.banks[key.bank].parts[key.expert];
                Place::InMemory(Arc::new(Resident::new(parts, buffer)))
            }
            Err(error) => {
                self.spare.push(buffer);
                match self.slot(key).guard {
                    Guard::Wanted => Place::Failed(error.to_string()),
                    // Whoever wants it will try again, and tell.
                    _ => Place::OnDisk,
                }
            }
        };
        self.slot(key).place = place;
    }

    /// An expert that a lease wants, if it is in memory; else it is ordered, if it is not on its way.
    pub(super) fn take(&mut self, key: Key) -> Result<Option<Arc<Resident>>> {
        let slot = &mut self.banks[key.bank].slots[key.expert];
        match &slot.place {
            Place::InMemory(resident) => {
                slot.guard = Guard::None;
                Ok(Some(Arc::clone(resident)))
            }
            Place::Failed(_) => {
                let Place::Failed(message) = std::mem::replace(&mut slot.place, Place::OnDisk) else {
                    unreachable!("it was that a line ago")
                };
                let name = &self.banks[key.bank].parts[key.expert][0].stored.name;
                let message = format!("cannot read expert {} of `{name}`: {message}", key.expert);
                Err(Error::Device { op: "expert store", message })
            }
            Place::OnDisk => {
                slot.guard = Guard::Wanted;
                if !self.wanted.contains(&key) {
                    self.wanted.push_back(key);
                }
                Ok(None)
            }
            Place::Coming => {
                slot.guard = Guard::Wanted;
                Ok(None)
            }
        }
    }

    /// A lease ends without this expert.
    pub(super) fn give_back(&mut self, key: Key) {
        self.wanted.retain(|wanted| *wanted != key);
        let slot = self.slot(key);
        slot.guard = Guard::None;
        if matches!(slot.place, Place::Failed(_)) {
            slot.place = Place::OnDisk;
        }
    }

    /// A buffer of `len` bytes within the budget. For a guess that is `worth` less than one, only experts that
    /// are less popular make room; for one that is wanted, the least valuable.
    fn buffer(&mut self, len: usize, worth: Option<f32>) -> io::Result<Option<MmapMut>> {
        loop {
            if let Some(i) = self.spare.iter().position(|buffer| buffer.len() == len) {
                return Ok(Some(self.spare.swap_remove(i)));
            }
            if self.held + len as u64 <= self.budget {
                let buffer = MmapMut::map_anon(len)?;
                self.held += len as u64;
                return Ok(Some(buffer));
            }
            if let Some(spare) = self.spare.pop() {
                self.held -= spare.len() as u64;
                continue;
            }
            let Some(victim) = self.least_valuable(worth) else { return Ok(None) };
            self.give_up(victim);
        }
    }

    /// The expert in memory that is missed least: chosen most seldom and, among equals, the one whose layer has
    /// just been, which is the last to come again.
    fn least_valuable(&self, worth: Option<f32>) -> Option<Key> {
        let mut least = None;
        for (bank, this) in self.banks.iter().enumerate() {
            for (expert, slot) in this.slots.iter().enumerate() {
                let Place::InMemory(resident) = &slot.place else { continue };
                let is_guarded = match (slot.guard, worth) {
                    (Guard::None, _) => false,
                    (Guard::Foreseen, None) => false, // a guess gives way to what is wanted, but last
                    _ => true,
                };
                if is_guarded
                    || Arc::strong_count(resident) > 1
                    || worth.is_some_and(|worth| slot.popularity >= worth)
                {
                    continue;
                }
                let rank = (slot.guard == Guard::Foreseen, slot.popularity, Reverse(this.last_lease));
                if least.as_ref().is_none_or(|(other, _)| rank < *other) {
                    least = Some((rank, Key { bank, expert }));
                }
            }
        }
        least.map(|(_, key)| key)
    }

    /// Takes an expert out of memory. Its buffer is spare now.
    fn give_up(&mut self, key: Key) {
        let slot = self.slot(key);
        slot.guard = Guard::None;
        let Place::InMemory(resident) = std::mem::replace(&mut slot.place, Place::OnDisk) else { return };
        let buffer = Arc::into_inner(resident).and_then(Resident::into_buffer);
        self.spare.push(buffer.expect("nobody computes with it"));
    }

    /// Returns the memory of banks that no row has gone to for some time.
    fn give_up_idle(&mut self) {
        for bank in 0..self.banks.len() {
            if self.pass - self.banks[bank].last_pass <= IDLE_PASSES {
                continue;
            }
            for expert in 0..self.banks[bank].slots.len() {
                let key = Key { bank, expert };
                if matches!(&self.slot(key).place, Place::InMemory(r) if Arc::strong_count(r) == 1) {
                    self.give_up(key);
                    let buffer = self.spare.pop().expect("it was just given up");
                    self.held -= buffer.len() as u64;
                }
            }
        }
    }

    /// Bytes in memory and on their way that only a guess is for.
    fn guessed_bytes(&self) -> u64 {
        let banks = self.banks.iter();
        let slots = banks.flat_map(|bank| bank.slots.iter().zip(&bank.parts));
        let guessed = slots.filter(|(slot, _)| slot.guard == Guard::Foreseen);
        guessed.map(|(_, parts)| ranges(parts).1 as u64).sum()
    }

    fn slot(&mut self, key: Key) -> &mut Slot {
        &mut self.banks[key.bank].slots[key.expert]
    }
}
