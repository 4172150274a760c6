//! How many records each endpoint may cause, so that one that floods leaves the others' in the
//! ring, and costs no more than its budget.
//!
//! Any number of threads spend from one endpoint's budget at once, and none waits for another.

use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use model::{EndpointId, Moment};
use rustc_hash::FxBuildHasher;

/// How many endpoints are remembered. Over it all begin anew with their whole burst.
const ENDPOINTS: usize = 8192;

/// Token buckets, one for each endpoint.
pub struct Budget {
    /// The time that one record takes.
    interval: u64,
    /// How far ahead of now an endpoint may run, in nanoseconds.
    burst: u64,
    /// When each endpoint will have its whole burst again.
    full_at: DashMap<Option<EndpointId>, AtomicU64, FxBuildHasher>,
}

impl Budget {
    /// So many records a second, and twice as many at once.
    pub fn per_second(records: u32) -> Self {
        let interval = 1_000_000_000 / u64::from(records.max(1));
        Self { interval, burst: 2_000_000_000, full_at: DashMap::default() }
    }

    /// Whether an endpoint may have another record; if so it is spent.
    pub fn take(&self, endpoint: Option<EndpointId>, now: Moment) -> bool {
        let now = now.as_nanos();
        if let Some(full_at) = self.full_at.get(&endpoint) {
            return self.spend(&full_at, now);
        }
        if self.full_at.len() >= ENDPOINTS {
            self.full_at.clear();
        }
        self.spend(&self.full_at.entry(endpoint).or_default(), now)
    }

    fn spend(&self, full_at: &AtomicU64, now: u64) -> bool {
        let seen = full_at.load(Ordering::Relaxed);
        let next = seen.max(now) + self.interval;
        // Whoever loses the race gives its record up.
        next <= now + self.burst
            && full_at.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &Budget, endpoint: u32, at: u64) -> usize {
        let take = |_: &i32| budget.take(Some(EndpointId(endpoint)), Moment::from_secs(at));
        (0..1000).filter(take).count()
    }

    #[test]
    fn an_endpoint_has_its_burst_then_its_rate_and_leaves_others_theirs() {
        let budget = Budget::per_second(10);
        assert_eq!(taken(&budget, 1, 100), 20);
        assert_eq!(taken(&budget, 1, 101), 10);
        assert_eq!(taken(&budget, 2, 101), 20);
        assert_eq!(taken(&budget, 1, 200), 20);
    }

    #[test]
    fn endpoints_without_number_do_not_take_room_for_ever() {
        let budget = Budget::per_second(10);
        for endpoint in 0..2 * ENDPOINTS as u32 {
            assert!(budget.take(Some(EndpointId(endpoint)), Moment::from_secs(100)));
        }
        assert!(budget.full_at.len() <= ENDPOINTS);
    }
}
