//! Waiting for others, by somebody who may want to stop.

use std::ops::ControlFlow;
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::time::timeout;

/// How often whoever waits is asked whether to go on.
const TICK: Duration = Duration::from_millis(100);

/// Why something is not waited for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Impatient {
    /// Whoever waited gave it up.
    GivenUp,
    /// It took longer than it may.
    TooLong,
}

/// What the future gives within `most`; `wait` is asked now and then whether to go on. Runs inside of tokio.
///
/// # Errors
/// If it is not waited for to its end.
pub async fn patiently<F: Future>(
    future: F,
    most: Duration,
    mut wait: impl FnMut() -> ControlFlow<()>,
) -> Result<F::Output, Impatient> {
    let mut future = pin!(future);
    let start = Instant::now();
    loop {
        if let Ok(output) = timeout(TICK, &mut future).await {
            return Ok(output);
        }
        if wait().is_break() {
            return Err(Impatient::GivenUp);
        }
        if start.elapsed() > most {
            return Err(Impatient::TooLong);
        }
    }
}
