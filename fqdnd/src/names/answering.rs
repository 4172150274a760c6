//! What the DNS workers ask: whether a query may go on, and that an answer's addresses are learned.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use dnsproxy::{Address, Authority, Breach, Judgement, LearnError, Query, Settled};
use engine::Question;
use model::{Change, EndpointId, NameRef};
use tracing::{debug, warn};

use super::Names;
use super::slot::SlotSets;
use crate::clock;
use crate::metering::Metering;

/// The answer in hand: kept from one to the next for its memory.
#[derive(Default)]
struct Scratch {
    changes: Vec<Change>,
    admitted: Vec<(IpAddr, u32)>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Authority for Names {
    fn judge(&self, query: &Query<'_>) -> Judgement {
        let question = Question {
            client: query.client.ip(),
            server: query.server,
            transport: query.transport,
            name: query.name,
        };
        let resolved = |endpoint, address| {
            let slot = self.slots.get(&endpoint);
            slot.map_or([None, None], |slot| slot.leases.sets_of(address))
        };
        let snapshot = self.snapshot.load();
        match snapshot.judge(&question, resolved) {
            engine::Judgement::Allowed(endpoint) => {
                let over = |metering: &&Metering| {
                    !snapshot.is_spelled_out(&question, resolved)
                        && !metering.admits(endpoint, query.name)
                };
                match self.metering.as_ref().filter(over).map(Metering::enforces) {
                    None => Judgement::Forward(endpoint),
                    Some(true) => Judgement::OverLimit(endpoint),
                    Some(false) => Judgement::Audit(endpoint, Breach::Limit),
                }
            }
            engine::Judgement::Audited(endpoint) => Judgement::Audit(endpoint, Breach::Policy),
            engine::Judgement::Refused(endpoint) => Judgement::Refuse(endpoint),
            engine::Judgement::Unknown => Judgement::Unknown,
        }
    }

    fn may_teach(&self, endpoint: EndpointId, query: &Query<'_>) -> bool {
        let snapshot = self.snapshot.load();
        self.teaching.admits(endpoint, query.server.ip(), snapshot.resolvers())
    }

    fn learn(
        &self,
        endpoint: EndpointId,
        query: &Query<'_>,
        addresses: &[Address],
    ) -> Result<(), LearnError> {
        SCRATCH.with_borrow_mut(|Scratch { changes, admitted }| {
            changes.clear();
            admitted.clear();
            let fit = addresses.iter().filter(|own| self.admits(endpoint, query.name, own.ip));
            admitted.extend(fit.map(|own| (own.ip, own.ttl)));
            if admitted.is_empty() {
                return Ok(());
            }
            self.learn_addresses(endpoint, query.name, admitted, changes)
        })
    }

    fn note(&self, settled: &Settled<'_>) {
        if let Some(flows) = &self.flows {
            flows.exchanges().note(settled);
        }
    }
}

impl Names {
    fn learn_addresses(
        &self,
        endpoint: EndpointId,
        name: NameRef<'_>,
        addresses: &[(IpAddr, u32)],
        changes: &mut Vec<Change>,
    ) -> Result<(), LearnError> {
        let Some(mut slot) = self.slots.get_mut(&endpoint) else {
            self.counts.endpoint_gone.fetch_add(1, Ordering::Relaxed);
            return Err(LearnError::Gone);
        };
        let slot = &mut *slot;
        let Some(table) = slot.table.as_ref() else { return Ok(()) };
        let mut sets = SlotSets::of(Some(table));
        let learned = slot.leases.handle_answer(name, addresses, clock::now(), &mut sets, changes);
        if changes.is_empty() && learned.is_ok() {
            return Ok(());
        }
        // The table is let go of while the kernel writes, unless a set's rows are among it.
        let fresh = sets.has_fresh().then_some(sets);
        let written = self.datapath.apply(changes);
        if let Some(sets) = fresh {
            sets.finish(written.is_ok());
        }
        let Err(error) = written else {
            return learned.map(|_| ()).map_err(|error| {
                self.counts.sets_full.fetch_add(1, Ordering::Relaxed);
                warn!(%endpoint, table = %table.id(), %error, "an answer was held back");
                LearnError::Bound
            });
        };
        let counts = &self.counts;
        let count = if error.is_full() { &counts.map_full } else { &counts.write_failed };
        count.fetch_add(1, Ordering::Relaxed);
        warn!(%endpoint, %error, "an answer's addresses could not be written");
        // What was evicted for this answer is gone all the same.
        changes.retain(Change::is_removal);
        slot.leases.revoke(name, &mut SlotSets::of(Some(table)), changes);
        if let Err(error) = self.datapath.apply(changes) {
            warn!(%endpoint, %error, "what was half written could not be taken back");
        }
        Err(LearnError::Kernel(io::Error::other(error)))
    }

    /// Whether an address of an answer may be learned for this name.
    fn admits(&self, endpoint: EndpointId, name: NameRef<'_>, address: IpAddr) -> bool {
        let Err(rebinding) = self.guard.admits(name, address) else { return true };
        if self.allows_private(endpoint, name) {
            return true;
        }
        self.counts.rebinding.fetch_add(1, Ordering::Relaxed);
        debug!(%endpoint, %name, %address, %rebinding, "an outside name leads inside: not learned");
        false
    }

    fn allows_private(&self, endpoint: EndpointId, name: NameRef<'_>) -> bool {
        let Some(table) = self.slots.get(&endpoint).and_then(|slot| slot.table.clone()) else {
            return false;
        };
        let mut matching = Vec::new();
        table.rules().selectors_of(name, &mut matching);
        matching.into_iter().any(|selector| table.rules().allow_private(selector))
    }
}
