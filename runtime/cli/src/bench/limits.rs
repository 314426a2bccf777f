//! What this machine can do at most: reading memory, and multiplying and adding.

use std::thread;
use std::time::{Duration, Instant};

use kernels::peak;

use crate::memory;

/// For each figure; other programs can only make a round slower, so the best one counts.
const TIME: Duration = Duration::from_millis(200);

/// Of all threads together, a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes read.
    pub(super) bandwidth: f64,
    /// Operations on `f32`, two a product.
    pub(super) f32_operations: f64,
    /// Operations on signed bytes, two a product.
    pub(super) i8_operations: f64,
}

impl Limits {
    pub(super) fn measure(n_threads: usize) -> Self {
        Self {
            bandwidth: memory::read_bandwidth(n_threads),
            f32_operations: rate(n_threads, peak::multiply_add_f32),
            i8_operations: rate(n_threads, peak::multiply_add_i8),
        }
    }
}

/// What `work` does a second on `n_threads` threads, each at its best.
fn rate(n_threads: usize, work: fn() -> u64) -> f64 {
    let best = move || {
        let begin = Instant::now();
        let mut best = 0.0f64;
        while begin.elapsed() < TIME {
            let round = Instant::now();
            let n = work();
            best = best.max(n as f64 / round.elapsed().as_secs_f64());
        }
        best
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..n_threads.max(1)).map(|_| scope.spawn(best)).collect();
        running.into_iter().map(|thread| thread.join().expect("multiplying cannot panic")).sum()
    })
}
