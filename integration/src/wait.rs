//! Waiting for what should happen soon: polls up to a bound and says how long it took.

use std::{
    thread,
    time::{Duration, Instant},
};

const PAUSE: Duration = Duration::from_millis(20);

/// Something did not happen in time.
#[derive(Debug, thiserror::Error)]
#[error("{what}: not within {limit:?}")]
pub struct TimedOut {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub limit: Duration,
}

/// Polls `condition` until it holds; returns how long that took.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> bool,
) -> Result<Duration, TimedOut> {
    let start = Instant::now();
    loop {
        if condition() {
            return Ok(start.elapsed());
        }
        if start.elapsed() >= limit {
            return Err(TimedOut { what: what.to_owned(), limit });
        }
        thread::sleep(PAUSE);
    }
}
