//! The hot half: each endpoint's names and leases behind a lock of its own, and the judge that the
//! DNS workers ask.
//!
//! A query and its answer stay on the worker that received them. Policy is read from a snapshot;
//! an answer's addresses are written to the kernel on the same thread, and only then is it
//! released. Locks are taken in one order: an endpoint's, then its table's sets.

mod alike;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};

use arc_swap::ArcSwap;
use bpf::Datapath;
use dashmap::DashMap;
use dnsproxy::{Address, Authority, Breach, Judgement, LearnError, Query, Settled};
use engine::leases::{Leases, Limits, NameSets, SetsFull};
use engine::rebinding::Guard;
use engine::{L7Judgement, Question, Snapshot, TableSets, VerdictTable};
use model::{Change, EndpointId, Frontend, Identity, Name, NameRef, Prefix, Protocol};
use tracing::{debug, warn};

use crate::clock;
use crate::metering::Metering;
use crate::recording::Flows;
use crate::teaching::Teaching;

/// One endpoint's names, and the table that judges it.
struct Slot {
    leases: Leases,
    table: Option<Arc<VerdictTable>>,
}

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

/// The answer in hand: kept from one to the next for its memory.
#[derive(Default)]
struct Scratch {
    changes: Vec<Change>,
    admitted: Vec<(IpAddr, u32)>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
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

impl Slot {
    fn rejudge(&mut self, table: Option<&Arc<VerdictTable>>, changes: &mut Vec<Change>) {
        if let Err(error) = self.leases.rejudge(&mut SlotSets::of(table), changes) {
            let endpoint = self.leases.endpoint();
            warn!(%endpoint, %error, "some resolved addresses are closed under the new policy");
        }
    }
}

/// The name sets of an endpoint's table, locked when they are first asked for; where no policy
/// selects it, no selector matches anything.
pub struct SlotSets<'a> {
    table: Option<&'a VerdictTable>,
    locked: Option<MutexGuard<'a, TableSets>>,
}

impl<'a> SlotSets<'a> {
    fn of(table: Option<&'a Arc<VerdictTable>>) -> Self {
        Self { table: table.map(|table| &**table), locked: None }
    }

    fn lock(&mut self) -> Option<&mut TableSets> {
        let table = self.table?;
        Some(self.locked.get_or_insert_with(|| table.sets()))
    }

    fn has_fresh(&self) -> bool {
        self.locked.as_ref().is_some_and(|sets| sets.has_fresh())
    }

    /// Settles what becomes of sets first seen, once their rows are written or could not be.
    fn finish(mut self, written: bool) {
        match self.lock() {
            Some(sets) if written => sets.confirm(),
            Some(sets) => sets.abandon(),
            None => {}
        }
    }
}

impl NameSets for SlotSets<'_> {
    fn set_of(
        &mut self,
        name: NameRef<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<Option<Identity>, SetsFull> {
        self.lock().map_or(Ok(None), |sets| sets.set_of(name, changes))
    }

    fn union(
        &mut self,
        a: Identity,
        b: Identity,
        changes: &mut Vec<Change>,
    ) -> Result<Identity, SetsFull> {
        self.lock().map_or(Ok(a), |sets| sets.union(a, b, changes))
    }
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
