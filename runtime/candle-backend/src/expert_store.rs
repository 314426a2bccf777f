//! Routed experts in less memory than all of them take.
//!
//! Most of a model with experts is experts, and a token needs few of them. A store keeps those in memory that are
//! worth most and reads the others when a layer chooses them, into buffers of its own: what it holds is what was
//! allowed, whatever the system does with the pages of a file. Two threads read; while they do, the experts that
//! are there are computed, and when they have nothing else to do they bring what the next layer is likely to
//! choose. Nothing of this changes a bit of any result.

mod forecast;
mod ledger;
mod reader;

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Instant;

use tensor::{Error, ExpertUse, Experts, Result};

use crate::{Candle, Stored, Weight};
use ledger::{Key, Ledger, Resident};

/// Threads that read: one keeps the disk busy while the other waits for its next order.
const N_READERS: usize = 2;

/// A budget of memory for the routed experts of one model, and the experts that are in it.
pub struct ExpertStore {
    shared: Arc<Shared>,
    readers: Vec<JoinHandle<()>>,
}

/// What leases and readers share.
struct Shared {
    ledger: Mutex<Ledger>,
    /// There is something to read, or room to read it into.
    work: Condvar,
    /// Something was read.
    change: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // A reader that panicked has left the ledger between two of its own operations, each of which is whole.
        self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl ExpertStore {
    /// A store that never holds more than `budget_bytes`. If it `packs`, products read what it holds straight through.
    ///
    /// # Errors
    /// If the system gives no threads to read with.
    pub fn new(budget_bytes: u64, packs: bool) -> Result<Self> {
        let shared = Arc::new(Shared {
            ledger: Mutex::new(Ledger::new(budget_bytes, packs)),
            work: Condvar::new(),
            change: Condvar::new(),
        });
        let spawn = |i: usize| {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("experts-{i}"));
            thread
                .spawn(move || reader::run(&shared))
                .map_err(|e| Error::Device { op: "expert store", message: e.to_string() })
        };
        let readers = (0..N_READERS).map(spawn).collect::<Result<_>>()?;
        Ok(Self { shared, readers })
    }

    /// What the store has done so far.
    #[must_use]
    pub fn usage(&self) -> ExpertUse {
        self.shared.lock().usage()
    }

    /// Asks for the experts `chosen` of a bank, given with the rows that each of them gets, of `n_rows`.
    ///
    /// `None` if this bank does not lie in a file, so that there is nothing to save.
    pub(crate) fn lease(
        &self,
        experts: &Experts<Candle>,
        chosen: &[(usize, usize)],
        n_rows: usize,
    ) -> Option<Lease<'_>> {
        let mut ledger = self.shared.lock();
        let bank = ledger.bank(experts)?;
        ledger.begin(bank, chosen, n_rows);
        drop(ledger);
        self.shared.work.notify_all();
        let remaining = chosen.iter().enumerate().map(|(i, &(e, _))| (i, e)).collect();
        Some(Lease { shared: &self.shared, bank, remaining })
    }
}

impl Drop for ExpertStore {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.work.notify_all();
        for reader in self.readers.drain(..) {
            // It has nothing to tell if it panicked: a lease that waited for it would have told.
            let _ = reader.join();
        }
    }
}

impl std::fmt::Debug for ExpertStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExpertStore").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

/// Chosen experts on their way to memory.
pub(crate) struct Lease<'a> {
    shared: &'a Shared,
    bank: usize,
    /// Place among those chosen, and expert.
    remaining: Vec<(usize, usize)>,
}

impl Lease<'_> {
    /// Those that are in memory and were not returned before, waiting for at least one; empty when all were.
    ///
    /// What was returned before must be dropped by now, since its memory may be needed.
    ///
    /// # Errors
    /// If an expert cannot be read.
    pub(crate) fn ready(&mut self) -> Result<Vec<(usize, Arc<Resident>)>> {
        let mut ledger = self.shared.lock();
        let mut waiting_since = None;
        loop {
            let mut ready = Vec::new();
            let mut failure = None;
            self.remaining.retain(|&(i, expert)| match ledger.take(Key { bank: self.bank, expert }) {
                Ok(Some(resident)) => {
                    ready.push((i, resident));
                    false
                }
                Ok(None) => true,
                Err(error) => {
                    failure = Some(error);
                    true
                }
            });
            if let Some(error) = failure {
                return Err(error);
            }
            if !ready.is_empty() || self.remaining.is_empty() {
                ledger.count_wait(waiting_since.map(|since: Instant| since.elapsed()));
                return Ok(ready);
            }
            waiting_since.get_or_insert_with(Instant::now);
            self.shared.work.notify_all();
            ledger = self.shared.change.wait(ledger).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if !self.remaining.is_empty() {
            let mut ledger = self.shared.lock();
            let bank = self.bank;
            self.remaining.iter().for_each(|&(_, expert)| ledger.give_back(Key { bank, expert }));
        }
    }
}

/// The stored form of a weight, if it is one that lies in a file.
fn in_file(weight: &Weight) -> Option<&Arc<Stored>> {
    match weight {
        Weight::Mapped(raw) if raw.bytes.is_in_file() => Some(raw),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
