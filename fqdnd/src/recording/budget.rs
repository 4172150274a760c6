//! How many records each endpoint may cause, so that one that floods leaves the others' in the
//! ring.

use std::collections::HashMap;

use model::{EndpointId, Moment};

/// How many endpoints are remembered. Over it all begin anew with their whole burst.
const ENDPOINTS: usize = 8192;

/// Token buckets, one for each endpoint.
pub struct Budget {
    /// The time that one record takes.
    interval: u64,
    /// How far ahead of now an endpoint may run, in nanoseconds.
    burst: u64,
    /// When each endpoint will have its whole burst again.
    full_at: HashMap<Option<EndpointId>, u64>,
}

impl Budget {
    /// So many records a second, and twice as many at once.
    pub fn per_second(records: u32) -> Self {
        let interval = 1_000_000_000 / u64::from(records.max(1));
        Self { interval, burst: 2_000_000_000, full_at: HashMap::new() }
    }

    /// Whether an endpoint may have another record; if so it is spent.
    pub fn take(&mut self, endpoint: Option<EndpointId>, now: Moment) -> bool {
        if self.full_at.len() >= ENDPOINTS && !self.full_at.contains_key(&endpoint) {
            self.full_at.clear();
        }
        let now = now.as_nanos();
        let full_at = self.full_at.entry(endpoint).or_default();
        let next = (*full_at).max(now) + self.interval;
        if next > now + self.burst {
            return false;
        }
        *full_at = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &mut Budget, endpoint: u32, at: u64) -> usize {
        let take = |_: &i32| budget.take(Some(EndpointId(endpoint)), Moment::from_secs(at));
        (0..1000).filter(take).count()
    }

    #[test]
    fn an_endpoint_has_its_burst_then_its_rate_and_leaves_others_theirs() {
        let mut budget = Budget::per_second(10);
        assert_eq!(taken(&mut budget, 1, 100), 20);
        assert_eq!(taken(&mut budget, 1, 101), 10);
        assert_eq!(taken(&mut budget, 2, 101), 20);
        assert_eq!(taken(&mut budget, 1, 200), 20);
    }
}
