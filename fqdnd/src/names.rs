//! The hot half: each endpoint's names and leases behind a lock of its own.
//!
//! A query and its answer stay on the worker that received them. Policy is read from a snapshot;
//! an answer's addresses are written to the kernel on the same thread, and only then is it
//! released. Locks are taken in one order: an endpoint's, then its table's sets.

mod alike;
mod answering;
mod slot;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bpf::Datapath;
use dashmap::DashMap;
use engine::leases::{Leases, Limits};
use engine::rebinding::Guard;
use engine::{L7Judgement, Snapshot, VerdictTable};
use model::{Change, EndpointId, Frontend, Identity, Name, NameRef, Prefix, Protocol};

use crate::metering::Metering;
use crate::recording::Flows;
use crate::teaching::Teaching;
use slot::{Slot, SlotSets};

/// All endpoints' names.
pub struct Names {
    datapath: Arc<Datapath>,
    snapshot: ArcSwap<Snapshot>,
    slots: DashMap<EndpointId, Slot>,
    guard: Guard,
    limits: Limits,
    /// What endpoints ask under patterns, where that is limited.
    metering: Option<Metering>,
    teaching: Teaching,
    counts: Counts,
    flows: Option<Arc<Flows>>,
}

/// What the hot half is told once.
pub struct Options {
    /// Which addresses a name may bring.
    pub guard: Guard,
    /// The bounds of every endpoint's names.
    pub limits: Limits,
    /// What endpoints may ask under patterns, where that is limited.
    pub metering: Option<Metering>,
    /// From whom addresses are learned.
    pub teaching: Teaching,
    /// Where it is noted what becomes of queries, if it is.
    pub flows: Option<Arc<Flows>>,
}

/// What the hot half counts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Addresses that the rebinding guard did not learn.
    pub rebinding: AtomicU64,
    /// Answers not released because a map could take no more.
    pub map_full: AtomicU64,
    /// Answers not released because the kernel refused a write otherwise.
    pub write_failed: AtomicU64,
    /// Answers not released because their table may have no further name set.
    pub sets_full: AtomicU64,
    /// Answers for endpoints that were gone before they came.
    pub endpoint_gone: AtomicU64,
}

impl Names {
    /// No endpoints yet.
    pub fn new(datapath: Arc<Datapath>, options: Options) -> Self {
        let Options { guard, limits, metering, teaching, flows } = options;
        Self {
            datapath,
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            slots: DashMap::new(),
            guard,
            limits,
            metering,
            teaching,
            counts: Counts::default(),
            flows,
        }
    }

    /// Where leases are written.
    pub fn datapath(&self) -> &Arc<Datapath> {
        &self.datapath
    }

    /// What has been counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Which addresses a name may bring.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// The limits of every endpoint.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What endpoints ask under patterns, where that is limited.
    pub fn metering(&self) -> Option<&Metering> {
        self.metering.as_ref()
    }

    /// From now on, workers judge by this snapshot.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.snapshot.store(snapshot);
        if let Some(flows) = &self.flows {
            flows.changed();
        }
    }

    /// Takes in an endpoint, with what is known of its names.
    pub fn insert(&self, endpoint: EndpointId, leases: Leases, table: Option<Arc<VerdictTable>>) {
        if let Some(metering) = &self.metering {
            metering.insert(endpoint);
        }
        self.slots.insert(endpoint, Slot { leases, table });
    }

    /// Whether an endpoint is known.
    pub fn contains(&self, endpoint: EndpointId) -> bool {
        self.slots.contains_key(&endpoint)
    }

    /// The endpoints known.
    pub fn endpoints(&self) -> Vec<EndpointId> {
        self.slots.iter().map(|slot| *slot.key()).collect()
    }

    /// Lets go of an endpoint; what must leave the maps is added to `changes`.
    pub fn remove(&self, endpoint: EndpointId, changes: &mut Vec<Change>) {
        if let Some(metering) = &self.metering {
            metering.remove(endpoint);
        }
        self.teaching.forget(endpoint);
        if let Some((_, mut slot)) = self.slots.remove(&endpoint) {
            slot.leases.forget(|_| true, &mut SlotSets::of(None), changes);
        }
    }

    /// Has an endpoint judged by `table`, if that says the same of names as what it is judged by
    /// already; whether that is so. Otherwise it has to [switch](Self::switch).
    pub fn goes_on_under(&self, endpoint: EndpointId, table: Option<&Arc<VerdictTable>>) -> bool {
        let Some(mut slot) = self.slots.get_mut(&endpoint) else { return false };
        let same = match (&slot.table, table) {
            (Some(own), Some(other)) => own.shares_sets(other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if same {
            slot.table = table.cloned();
        }
        same
    }

    /// Puts an endpoint under another table: its leases count under both while `entry`, the
    /// endpoint's own change, is written, and under the new one alone from then on.
    pub fn switch(
        &self,
        endpoint: EndpointId,
        table: Option<&Arc<VerdictTable>>,
        entry: &Change,
    ) -> Result<(), bpf::ApplyError> {
        let Some(mut slot) = self.slots.get_mut(&endpoint) else {
            return self.datapath.apply(std::slice::from_ref(entry));
        };
        let mut changes = Vec::new();
        slot.rejudge(table, &mut changes);
        changes.push(entry.clone());
        let written = self.datapath.apply(&changes);
        SlotSets::of(table).finish(written.is_ok());
        written?;
        changes.clear();
        slot.leases.settle(&mut changes);
        slot.table = table.cloned();
        self.datapath.apply(&changes)
    }

    /// The changes that bring a restored endpoint's leases under its table.
    pub fn adopt(&self, endpoint: EndpointId, changes: &mut Vec<Change>) {
        if let Some(mut slot) = self.slots.get_mut(&endpoint) {
            let table = slot.table.clone();
            changes.extend(slot.leases.rows());
            slot.rejudge(table.as_ref(), changes);
            SlotSets::of(table.as_ref()).finish(true);
            slot.leases.settle(changes);
        }
    }

    /// The names that an endpoint has resolved to an address.
    pub fn names_of(&self, endpoint: EndpointId, address: IpAddr) -> Arc<[Name]> {
        let Some(slot) = self.slots.get(&endpoint) else { return Arc::default() };
        slot.leases.names_of(address).map(NameRef::to_name).collect()
    }

    /// What may be said on a pod's connection.
    pub fn converse(&self, client: IpAddr, destination: SocketAddr) -> L7Judgement {
        self.snapshot.load().converse(client, destination, |endpoint, address| {
            let slot = self.slots.get(&endpoint);
            slot.map_or([None, None], |slot| slot.leases.sets_of(address))
        })
    }

    /// Whether a place is outside the cluster, as far as rules know.
    pub fn is_outside(&self, place: SocketAddr) -> bool {
        let snapshot = self.snapshot.load();
        let (address, port) = (place.ip(), place.port());
        let frontend = Frontend { address, protocol: Protocol::TCP, port };
        snapshot.frontend(frontend).is_none()
            && snapshot.identity(address).is_some_and(Identity::is_outside)
    }

    /// What a service's port is to rules, if there is one at this place.
    pub fn frontend_at(&self, frontend: Frontend) -> Option<Identity> {
        self.snapshot.load().frontend(frontend)
    }

    /// Runs `visit` on each endpoint's leases.
    pub fn visit(&self, mut visit: impl FnMut(EndpointId, &Leases)) {
        for slot in &self.slots {
            visit(*slot.key(), &slot.leases);
        }
    }

    /// Runs `change` on one endpoint's leases and writes what it emits; `None` if the endpoint is
    /// unknown.
    pub fn update<T>(
        &self,
        endpoint: EndpointId,
        change: impl FnOnce(&mut Leases, &mut SlotSets<'_>, &mut Vec<Change>) -> T,
    ) -> Option<Result<(T, bool), bpf::ApplyError>> {
        let mut slot = self.slots.get_mut(&endpoint)?;
        let slot = &mut *slot;
        let mut changes = Vec::new();
        let mut sets = SlotSets::of(slot.table.as_ref());
        let result = change(&mut slot.leases, &mut sets, &mut changes);
        let revoked = changes.iter().any(|change| matches!(change, Change::DeleteLease(..)));
        let written = self.datapath.apply(&changes);
        sets.finish(written.is_ok());
        Some(written.map(|()| (result, revoked)))
    }

    /// The endpoints with flows that may live by leases under one of these prefixes.
    pub fn holders(&self, prefixes: &BTreeSet<Prefix>) -> Vec<EndpointId> {
        let mut holders = Vec::new();
        if !prefixes.is_empty() {
            self.visit(|endpoint, leases| {
                if prefixes.iter().any(|prefix| leases.may_hold(*prefix)) {
                    holders.push(endpoint);
                }
            });
        }
        holders
    }

    /// The name sets in use by endpoints under `table`.
    pub fn sets_in_use(&self, table: &Arc<VerdictTable>) -> rustc_hash::FxHashSet<Identity> {
        let judged = |slot: &Slot| slot.table.as_ref().is_some_and(|own| own.shares_sets(table));
        let mut used = rustc_hash::FxHashSet::default();
        for slot in self.slots.iter().filter(|slot| judged(slot)) {
            used.extend(slot.leases.sets());
        }
        used
    }
}

/// The counts, by the name that `fqdnctl status` shows.
impl Counts {
    /// All counts.
    pub fn read(&self) -> BTreeMap<String, u64> {
        [
            ("rebinding-not-learned", &self.rebinding),
            ("map-full", &self.map_full),
            ("map-write-failed", &self.write_failed),
            ("name-sets-full", &self.sets_full),
            ("endpoint-gone", &self.endpoint_gone),
        ]
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count.load(Ordering::Relaxed)))
        .collect()
    }
}
