//! How the proxy fares, and what it has counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use l7proxy_core::control::{Access, Tally};

use super::counts::Counts;

/// What is known of the proxy.
#[derive(Debug)]
pub struct Status {
    state: Mutex<State>,
    starts: AtomicU64,
    counts: Counts,
}

/// How the proxy fares.
#[derive(Clone, Debug, Default)]
pub enum Health {
    /// It has not been heard of yet.
    #[default]
    Starting,
    /// It is well, and this is its process.
    Running(u32),
    /// It does not run, for this reason: connections to be judged are refused.
    Failed(String),
}

#[derive(Debug, Default)]
struct State {
    health: Health,
    /// What processes that are no more have counted.
    before: Tally,
    tally: Tally,
}

impl Status {
    /// Nothing is known yet.
    pub fn new() -> Self {
        let (state, starts) = Default::default();
        Self { state, starts, counts: Counts::new() }
    }

    /// How it fares.
    pub fn health(&self) -> Health {
        self.lock().health.clone()
    }

    /// How often it was started again.
    pub fn restarts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// What it has counted, all its lives together; what is open is of this one.
    pub fn tally(&self) -> Tally {
        let state = self.lock();
        sum(&state.before, &state.tally)
    }

    /// What its records came to.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(super) fn count(&self, access: &Access) {
        self.counts.add(access);
    }

    pub(super) fn starts(&self) {
        self.starts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn runs(&self, pid: u32) {
        self.lock().health = Health::Running(pid);
    }

    pub(super) fn failed(&self, reason: String) {
        let mut state = self.lock();
        state.health = Health::Failed(reason);
        state.before = Tally { open: 0, ..sum(&state.before, &state.tally) };
        state.tally = Tally::default();
    }

    pub(super) fn tell(&self, tally: Tally) {
        self.lock().tally = tally;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sum(a: &Tally, b: &Tally) -> Tally {
    Tally {
        accepted: a.accepted + b.accepted,
        open: a.open + b.open,
        forwarded: a.forwarded + b.forwarded,
        audited: a.audited + b.audited,
        refused: a.refused + b.refused,
        over_connections: a.over_connections + b.over_connections,
        over_requests: a.over_requests + b.over_requests,
        slow_clients: a.slow_clients + b.slow_clients,
        lost_records: a.lost_records + b.lost_records,
        broken_rules: a.broken_rules + b.broken_rules,
    }
}
