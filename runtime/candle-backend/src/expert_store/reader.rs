//! The threads that bring experts.

use std::io;

use memmap2::MmapMut;

use super::Shared;
use super::ledger::{Job, Part, Parts, ranges};
use crate::packing::pack_in_place;

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

/// Reads the three projections of an expert behind one another, and packs those that are to be.
pub(super) fn fill(parts: &Parts, buffer: &mut MmapMut) -> io::Result<()> {
    let (ranges, _) = ranges(parts);
    for (Part { stored, is_packed }, range) in parts.iter().zip(ranges) {
        let bytes = &mut buffer[range];
        stored.bytes.read_into(bytes)?;
        if *is_packed {
            pack_in_place(stored, bytes);
        }
    }
    Ok(())
}
