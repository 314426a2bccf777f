//! The threads that bring experts.

use std::io;

use memmap2::MmapMut;

use super::Shared;
use super::ledger::{Job, Parts, ranges};

/// Reads what the ledger asks for until it says stop.
pub(super) fn run(shared: &Shared) {
    let mut ledger = shared.lock();
    while !ledger.stop {
        let Some(Job { key, parts, mut buffer }) = ledger.next_job() else {
            shared.change.notify_all(); // an order may have failed for want of memory
            ledger = shared.work.wait(ledger).unwrap_or_else(std::sync::PoisonError::into_inner);
            continue;
        };
        drop(ledger);
        let read = fill(&parts, &mut buffer);
        ledger = shared.lock();
        ledger.finish(key, buffer, read);
        shared.change.notify_all();
    }
}

/// Reads the three projections of an expert behind one another.
pub(super) fn fill(parts: &Parts, buffer: &mut MmapMut) -> io::Result<()> {
    let (ranges, _) = ranges(parts);
    parts.iter().zip(ranges).try_for_each(|(raw, range)| raw.bytes.read_into(&mut buffer[range]))
}
