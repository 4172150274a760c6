//! The records of what was asked, and the tally of it.

use std::sync::atomic::{AtomicU64, Ordering};

use l7proxy_core::control::{Access, FromProxy, Tally};
use l7proxy_core::{Fate, Reason};
use tokio::sync::mpsc;

/// Where records go. A daemon that does not keep up loses some, which is counted, and holds nobody.
#[derive(Debug)]
pub(crate) struct Journal {
    records: mpsc::Sender<FromProxy>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    open: AtomicU64,
    forwarded: AtomicU64,
    audited: AtomicU64,
    refused: AtomicU64,
    over_connections: AtomicU64,
    over_requests: AtomicU64,
    slow_clients: AtomicU64,
    lost_records: AtomicU64,
    broken_rules: AtomicU64,
}

impl Journal {
    pub fn new(records: mpsc::Sender<FromProxy>) -> Self {
        Self { records, counters: Counters::default() }
    }

    /// A connection came in.
    pub fn opened(&self) {
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        self.counters.open.fetch_add(1, Ordering::Relaxed);
    }

    /// It is gone.
    pub fn closed(&self) {
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// So many rules cannot be compiled.
    pub fn broken_rules(&self, count: usize) {
        self.counters.broken_rules.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Takes a record in.
    pub fn write(&self, access: Access) {
        let counters = &self.counters;
        let counter = match access.fate {
            Fate::Passed => &counters.forwarded,
            Fate::Audited(_) => &counters.audited,
            Fate::Refused(reason) => {
                match reason {
                    Reason::OverConnections | Reason::OverEndpointConnections => {
                        counters.over_connections.fetch_add(1, Ordering::Relaxed);
                    }
                    Reason::OverRequests => {
                        counters.over_requests.fetch_add(1, Ordering::Relaxed);
                    }
                    Reason::SlowClient => {
                        counters.slow_clients.fetch_add(1, Ordering::Relaxed);
                    }
                    _ => {}
                }
                &counters.refused
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if self.records.try_send(FromProxy::Access(access)).is_err() {
            counters.lost_records.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was done so far.
    pub fn tally(&self) -> Tally {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        Tally {
            accepted: read(&counters.accepted),
            open: read(&counters.open),
            forwarded: read(&counters.forwarded),
            audited: read(&counters.audited),
            refused: read(&counters.refused),
            over_connections: read(&counters.over_connections),
            over_requests: read(&counters.over_requests),
            slow_clients: read(&counters.slow_clients),
            lost_records: read(&counters.lost_records),
            broken_rules: read(&counters.broken_rules),
        }
    }
}
