//! How many TCP connections there may be: in all, for each client address, for each endpoint.
//!
//! A connection's endpoint is known with its first query; its address at once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::EndpointId;

use crate::options::TcpOptions;

/// The connections that there are.
pub(crate) struct Admission {
    options: TcpOptions,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    total: usize,
    by_holder: HashMap<Holder, usize>,
}

/// Whom connections are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    Client(IpAddr),
    Endpoint(EndpointId),
}

/// One connection, as long as this lives.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    /// None: one of all.
    holder: Option<Holder>,
}

impl Admission {
    pub fn new(options: TcpOptions) -> Arc<Self> {
        Arc::new(Self { options, counts: Mutex::default() })
    }

    /// Takes one of all the connections that there may be.
    pub fn enter(self: &Arc<Self>) -> Option<Permit> {
        let mut counts = self.counts();
        if counts.total >= self.options.connections {
            return None;
        }
        counts.total += 1;
        Some(Permit { admission: Arc::clone(self), holder: None })
    }

    /// Takes one of the connections that `holder` may have.
    pub fn hold(self: &Arc<Self>, holder: Holder) -> Option<Permit> {
        let mut counts = self.counts();
        let held = counts.by_holder.get(&holder).copied().unwrap_or(0);
        if held >= self.options.connections_per_endpoint {
            return None;
        }
        counts.by_holder.insert(holder, held + 1);
        Some(Permit { admission: Arc::clone(self), holder: Some(holder) })
    }

    /// The counts are whole between any two statements, so a panic elsewhere has not spoilt them.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.admission.counts();
        let Some(holder) = self.holder else {
            counts.total -= 1;
            return;
        };
        match counts.by_holder.get_mut(&holder) {
            Some(held) if *held > 1 => *held -= 1,
            _ => {
                counts.by_holder.remove(&holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_counts_as_long_as_it_lives() {
        let options =
            TcpOptions { connections: 2, connections_per_endpoint: 1, ..TcpOptions::default() };
        let admission = Admission::new(options);
        let first = admission.enter();
        let second = admission.enter();
        assert!(first.is_some() && second.is_some() && admission.enter().is_none());
        drop(first);
        assert!(admission.enter().is_some());
        let holder = Holder::Endpoint(EndpointId(1));
        let held = admission.hold(holder);
        assert!(held.is_some() && admission.hold(holder).is_none());
        assert!(admission.hold(Holder::Endpoint(EndpointId(2))).is_some());
        drop(held);
        assert!(admission.counts().by_holder.is_empty());
        assert!(admission.hold(holder).is_some());
    }
}
