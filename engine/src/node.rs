//! The cold half of the engine: pods, services, policies and bindings in, revisions out.
//!
//! A revision costs what has changed: whatever is derived from the inventory is kept, with what is
//! needed to find what a change concerns. An endpoint's generation counts up when a verdict that was
//! given to one of its flows may no longer be right.
//!
//! Where a revision cannot be decided, everything derived is dropped, and the next one begins from
//! what is in force.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use identity::Numbers;
use model::{
    Change, EndpointId, EndpointName, Identity, Interface, Labels, NumberKind, Objects, Prefix,
    Revision, Row, Ruling, Scope, State, TableId,
};
use policy::Asked;

use crate::difference::Leads;
use crate::inventory::Inventory;
use crate::ledger::Ledger;
use crate::plan::{LocalEndpoint, Plan, PlanError};
use crate::prefix_map::PrefixMap;
use crate::roster::Roster;
use crate::services::ServiceKey;
use crate::table::{LiveTable, TableKey, VerdictTable};
use crate::world::World;

/// What the engine is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster's DNS service.
    pub dns_service: EndpointName,
    /// Ranges that service addresses come from: an unknown address in them is denied.
    pub service_prefixes: Vec<Prefix>,
    /// Ranges that pods' addresses come from: an unknown address in them is nobody's.
    pub pod_prefixes: Vec<Prefix>,
    /// Addresses of API servers, beside those behind the service `default/kubernetes`.
    pub api_servers: Vec<IpAddr>,
    /// How many name sets a table may have.
    pub sets_per_table: usize,
    /// How many numbers each kind of identity may use.
    pub identities: u32,
}

/// An endpoint: its pod, the pod's uid, and its interface.
pub(crate) type EndpointKey = (EndpointName, String, Interface);

/// The cold half of the engine.
#[derive(Debug)]
pub struct Node {
    pub(crate) settings: Settings,
    pub(crate) rosters: Rosters,
    pub(crate) set_numbers: Arc<Mutex<Numbers>>,
    pub(crate) ledger: Ledger,
    /// The tables in use, and those that are in force until the next revision is.
    pub(crate) tables: BTreeMap<TableKey, LiveTable>,
    /// Tables that are not wanted any more and may be in force: what they ask of addresses stays.
    pub(crate) leaving: BTreeMap<TableKey, Arc<VerdictTable>>,
    /// What tables that stay ask for no more, and may be in force.
    pub(crate) withdrawn: Vec<Asked>,
    /// The prefixes in force.
    pub(crate) realised_prefixes: PrefixMap<Identity>,
    /// What packets can come to, where rows may be in force that nothing leads to.
    pub(crate) leads: Option<Leads>,
    /// What everything is derived from.
    known: Inventory,
    pub(crate) world: World,
    pub(crate) revision: Revision,
    /// Whether what the last plan desired is in force.
    pub(crate) in_force: bool,
}

/// The numbers of everything but name sets.
#[derive(Debug)]
pub(crate) struct Rosters {
    pub(crate) labels: Roster<Labels>,
    pub(crate) cidrs: Roster<(Prefix, Labels)>,
    pub(crate) services: Roster<ServiceKey>,
    pub(crate) tables: Roster<TableKey>,
    pub(crate) endpoints: Roster<EndpointKey>,
}

impl Node {
    /// An engine that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        let scope = |scope: Scope| {
            let first = Identity::first(scope).0;
            Numbers::new(first..=first + settings.identities.min((1 << 24) - 257) - 1)
        };
        let identities = |own: Scope| (NumberKind::Identity, scope(own));
        let ((labels, in_cluster), (cidrs, outside), (services, at_services)) =
            (identities(Scope::Labels), identities(Scope::Cidr), identities(Scope::Service));
        let rosters = Rosters {
            labels: Roster::new(labels, in_cluster),
            cidrs: Roster::new(cidrs, outside),
            services: Roster::new(services, at_services),
            tables: Roster::new(NumberKind::Table, Numbers::new(1..=u32::MAX)),
            endpoints: Roster::new(NumberKind::Endpoint, Numbers::new(1..=u32::MAX)),
        };
        Self {
            rosters,
            set_numbers: Arc::new(Mutex::new(scope(Scope::Names))),
            ledger: Ledger::default(),
            tables: BTreeMap::new(),
            leaving: BTreeMap::new(),
            withdrawn: Vec::new(),
            realised_prefixes: PrefixMap::default(),
            leads: None,
            known: Inventory::default(),
            world: World::new(&settings),
            revision: Revision(0),
            in_force: false,
            settings,
        }
    }

    /// Takes up what an earlier daemon left in the kernel: the same meanings keep their numbers.
    pub fn restore(&mut self, dump: &State) {
        let rosters = &mut self.rosters;
        for (&(kind, number), &digest) in &dump.numbers {
            match kind {
                NumberKind::Table => rosters.tables.restore(number, digest),
                NumberKind::Endpoint => rosters.endpoints.restore(number, digest),
                NumberKind::Identity => match Identity(number).scope() {
                    Scope::Labels => rosters.labels.restore(number, digest),
                    Scope::Cidr => rosters.cidrs.restore(number, digest),
                    Scope::Service => rosters.services.restore(number, digest),
                    Scope::Names => {
                        // As in `Roster::restore`: a number that does not fit is not kept.
                        let _ = lock(&self.set_numbers).restore(number, digest);
                    }
                    Scope::Reserved => {}
                },
            }
        }
        self.resync(dump);
    }

    /// Takes `dump` for what is in force, after a write failed half way.
    pub fn resync(&mut self, dump: &State) {
        self.ledger.resync(dump);
        self.in_force = false;
        self.leads = Some(Leads::of(dump));
        self.realised_prefixes = PrefixMap::default();
        for (prefix, identity) in &dump.prefixes {
            self.realised_prefixes.insert(*prefix, *identity);
        }
    }

    /// Gives up restored numbers that nothing asked for. To be called once, when the first
    /// revision stands and the leases of its endpoints are restored.
    pub fn release_unclaimed(&mut self) {
        self.rosters.labels.release_unclaimed();
        self.rosters.cidrs.release_unclaimed();
        self.rosters.services.release_unclaimed();
        self.rosters.tables.release_unclaimed();
        self.rosters.endpoints.release_unclaimed();
        lock(&self.set_numbers).release_unclaimed();
    }

    /// Decides the next revision. Nothing counts as in force before [`applied`](Self::applied).
    pub fn plan(&mut self, inventory: &Inventory) -> Result<Plan, PlanError> {
        let known = std::mem::replace(&mut self.known, inventory.clone());
        let plan = self.advance(&known, inventory);
        self.in_force = false;
        if plan.is_err() {
            self.forget_derived();
        }
        plan
    }

    fn forget_derived(&mut self) {
        self.known = Inventory::default();
        self.world = World::new(&self.settings);
        self.ledger.clear();
        self.rosters.labels.release_all();
        self.rosters.cidrs.release_all();
        self.rosters.services.release_all();
        self.rosters.tables.release_all();
        self.rosters.endpoints.release_all();
        self.tables.values_mut().for_each(LiveTable::leave);
        self.leaving.clear();
        self.withdrawn.clear();
    }

    /// The plan is carried out: what it desired is in force, and the numbers of what it removed
    /// may be given out again.
    pub fn applied(&mut self, plan: &Plan) {
        debug_assert_eq!(plan.revision, self.revision, "the last plan is the one in force");
        self.ledger.settle();
        self.in_force = true;
        self.realised_prefixes = self.world.snapshot.prefixes.clone();
        self.leads = None;
        self.tables.retain(|_, table| table.is_used());
        self.tables.values_mut().for_each(LiveTable::settle);
        let left = std::mem::take(&mut self.leaving).into_values();
        let left = left.map(|table| table.rules().asked());
        for asked in left.chain(std::mem::take(&mut self.withdrawn)) {
            let world = &mut self.world;
            world.addresses.remove(&asked, &self.known, &mut world.unplaced);
        }
        self.rosters.labels.forget_idle();
        self.rosters.cidrs.forget_idle();
        self.rosters.services.forget_idle();
        self.rosters.tables.forget_idle();
        self.rosters.endpoints.forget_idle();
    }

    /// Whether there is nothing to do before the inventory changes. Where endpoints have changed
    /// tables, what the old ones asked for goes in a revision of its own: to be planned at once.
    pub fn is_settled(&self) -> bool {
        self.world.unplaced.is_empty()
    }

    /// What the engine was told once.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The endpoints of this node as the last plan has them, closed ones too.
    pub fn endpoints(&self) -> &Objects<EndpointId, LocalEndpoint> {
        &self.world.locals
    }

    /// Everything that should stand in the maps, but for what the leases own.
    pub fn desired(&self) -> State {
        self.ledger.desired()
    }

    /// Has the kernel judge an endpoint's flows again, because of something that the leases tell.
    /// The change is to be carried out at once.
    pub fn bump(&mut self, endpoint: EndpointId) -> Option<Change> {
        let local = self.world.locals.get(&endpoint)?;
        let mut entry = *self.ledger.endpoints.get(&local.interface)?;
        entry.generation = entry.generation.wrapping_add(1);
        let mut local = (**local).clone();
        local.entry = entry;
        let change = Change::PutEndpoint(local.interface, entry);
        self.ledger.endpoints.amend(local.interface, entry);
        self.world.locals.insert(endpoint, Arc::new(local));
        Some(change)
    }

    /// The rows, but for those of name sets, that were in force of tables that go on to other rules
    /// by the last plan: what to go back to where that cannot be written.
    pub fn rows_in_force(&self) -> BTreeMap<TableId, BTreeMap<Row, Ruling>> {
        let altered = self.tables.values().filter(|table| table.is_in_use() && table.is_altered());
        let tables = altered.map(|table| table.table().id());
        tables.map(|table| (table, self.ledger.rows_in_force(table))).collect()
    }

    /// The identity that stands for these labels, if a pod has them.
    pub fn identity_of(&self, labels: &Labels) -> Option<Identity> {
        self.rosters.labels.number(labels).map(Identity)
    }
}

pub(crate) fn lock(numbers: &Mutex<Numbers>) -> MutexGuard<'_, Numbers> {
    numbers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
