//! The meters of what endpoints ask under patterns, where that is limited.
//!
//! What is over a limit is counted and told, at most once a minute for an endpoint and limit. In
//! audit it passes all the same.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use engine::querying::{Meter, QueryLimit, QueryLimits};
use model::{EndpointId, Moment, NameRef};
use tracing::{debug, warn};

use crate::clock;

/// How long one endpoint's being over a limit is not told again.
const QUIET: Duration = Duration::from_secs(60);

/// The meters of all endpoints.
pub struct Metering {
    limits: QueryLimits,
    /// Whether what is over a limit is refused.
    enforces: bool,
    meters: DashMap<EndpointId, Metered>,
    over: [AtomicU64; QueryLimit::ALL.len()],
}

/// One endpoint's.
struct Metered {
    meter: Meter,
    over: [Over; QueryLimit::ALL.len()],
}

/// One limit of one endpoint.
#[derive(Clone, Copy, Default)]
struct Over {
    count: u64,
    quiet_until: Moment,
}

impl Metering {
    /// No endpoints yet.
    pub fn new(limits: QueryLimits, enforces: bool) -> Self {
        Self { limits, enforces, meters: DashMap::new(), over: Default::default() }
    }

    /// Takes in an endpoint; one that is known goes on as it is.
    pub fn insert(&self, endpoint: EndpointId) {
        let fresh = || Metered { meter: Meter::new(&self.limits), over: Default::default() };
        self.meters.entry(endpoint).or_insert_with(fresh);
    }

    /// Lets go of an endpoint.
    pub fn remove(&self, endpoint: EndpointId) {
        self.meters.remove(&endpoint);
    }

    /// Counts an endpoint's query under a pattern; whether it is within its limits. One of an
    /// endpoint that is gone is not.
    pub fn admits(&self, endpoint: EndpointId, name: NameRef<'_>) -> bool {
        let now = clock::now();
        let Some(mut metered) = self.meters.get_mut(&endpoint) else { return false };
        let Err(limit) = metered.meter.handle_query(&self.limits, name, now) else { return true };
        let tell = metered.over[limit as usize].count(now);
        drop(metered);
        self.over[limit as usize].fetch_add(1, Ordering::Relaxed);
        let refused = self.enforces;
        debug!(%endpoint, %name, %limit, refused, "a query is over a limit");
        if tell {
            warn!(%endpoint, %limit, refused, "an endpoint asks too much under patterns");
        }
        false
    }

    /// Whether what is over a limit is refused.
    pub fn enforces(&self) -> bool {
        self.enforces
    }

    /// How often a limit was exceeded since the start.
    pub fn count(&self, limit: QueryLimit) -> u64 {
        self.over[limit as usize].load(Ordering::Relaxed)
    }

    /// The same of all limits, by the name that `fqdnctl status` shows.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.named(|limit| self.count(limit))
    }

    /// The same of one endpoint; nothing for limits that it kept.
    pub fn counts_of(&self, endpoint: EndpointId) -> BTreeMap<String, u64> {
        let Some(metered) = self.meters.get(&endpoint) else { return BTreeMap::new() };
        let mut counts = self.named(|limit| metered.over[limit as usize].count);
        counts.retain(|_, count| *count > 0);
        counts
    }

    fn named(&self, count: impl Fn(QueryLimit) -> u64) -> BTreeMap<String, u64> {
        let suffix = if self.enforces { "" } else { "-audited" };
        let named = |limit: QueryLimit| (format!("{limit}{suffix}"), count(limit));
        QueryLimit::ALL.map(named).into()
    }
}

impl Over {
    /// Counts; whether to tell of it.
    fn count(&mut self, now: Moment) -> bool {
        self.count += 1;
        let tell = now >= self.quiet_until;
        if tell {
            self.quiet_until = now + QUIET;
        }
        tell
    }
}
