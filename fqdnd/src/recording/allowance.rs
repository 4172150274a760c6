//! How much time explaining may take: a share of one core's.

use std::time::{Duration, Instant};

/// The share of one core's time that may be taken: one part of this many.
const SHARE: u32 = 50;
/// How much of it may be taken at once.
const BURST: Duration = Duration::from_millis(200);

/// Time to spend, which comes back as time passes. What is spent over it is owed.
pub struct Allowance {
    /// When there will be as much as can be spent at once.
    full_at: Instant,
    /// How much that is.
    burst: Duration,
}

impl Allowance {
    /// All of it can be spent.
    pub const fn new(now: Instant) -> Self {
        Self { full_at: now, burst: BURST }
    }

    /// As much can be spent as a test may ever need.
    #[cfg(test)]
    pub const fn ample(now: Instant) -> Self {
        Self { full_at: now, burst: Duration::from_secs(1 << 20) }
    }

    /// Whether there is any.
    pub fn has_any(&self, now: Instant) -> bool {
        self.full_at.saturating_duration_since(now) < self.burst * SHARE
    }

    /// Takes what was spent off it.
    pub fn spend(&mut self, time: Duration, now: Instant) {
        self.full_at = self.full_at.max(now) + time * SHARE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_was_spent_comes_back_slowly_and_what_was_too_much_is_owed() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut allowance = Allowance::new(start);
        assert!(allowance.has_any(start));
        allowance.spend(BURST * 2, start);
        assert!(!allowance.has_any(after(9)));
        assert!(allowance.has_any(after(11)));
        allowance.spend(Duration::from_millis(30), after(11));
        assert!(!allowance.has_any(after(11)));
        assert!(allowance.has_any(after(12)));
    }

    #[test]
    fn no_more_than_the_burst_is_saved() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1000);
        let mut allowance = Allowance::new(start);
        allowance.spend(BURST, later);
        assert!(!allowance.has_any(later));
    }
}
