//! Ctrl-C: the first one during an answer ends the answer, any other one ends the program.

use std::io::{self, IsTerminal, Write};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::Context;

const WAITING: u8 = 0;
const ANSWERING: u8 = 1;
const CANCELLED: u8 = 2;

/// The exit code of a program that was interrupted, as shells count it.
pub(crate) const INTERRUPTED: i32 = 130;

/// Notices Ctrl-C. There is at most one in a process.
pub(crate) struct Interrupt {
    state: Arc<AtomicU8>,
}

impl Interrupt {
    /// Starts to listen.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let state = Arc::new(AtomicU8::new(WAITING));
        let seen = Arc::clone(&state);
        ctrlc::set_handler(move || {
            let is_first =
                seen.compare_exchange(ANSWERING, CANCELLED, Ordering::SeqCst, Ordering::SeqCst).is_ok();
            if !is_first {
                // The shell's prompt begins on a line of its own.
                if io::stderr().is_terminal() {
                    let _ = writeln!(io::stderr());
                }
                process::exit(INTERRUPTED);
            }
        })
        .context("cannot listen for Ctrl-C")?;
        Ok(Interrupt { state })
    }

    /// An answer begins, which the next Ctrl-C ends.
    pub(crate) fn begin(&self) {
        self.state.store(ANSWERING, Ordering::SeqCst);
    }

    /// Whether the answer is to end.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.state.load(Ordering::SeqCst) == CANCELLED
    }

    /// The answer is over.
    pub(crate) fn end(&self) {
        self.state.store(WAITING, Ordering::SeqCst);
    }
}
