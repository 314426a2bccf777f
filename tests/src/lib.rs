//! Tests that span crates: recorded runs of the reference implementation, and laws that hold for any model.
//!
//! The recorded cases are data; `reference/README.md` says what one is and how they were made.

#![cfg(test)]

mod expert_memory;
mod gpu;
mod image_front;
mod invariants;
mod mtp;
mod mutations;
mod parity;
mod paths;
mod recorded;
mod rounded;
mod server;
