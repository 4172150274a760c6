//! The cold half of the engine: pods, services, policies and bindings in, revisions out.
//!
//! Each revision is computed whole from what is known, then compared with what is in force: only
//! the difference is written. An endpoint's generation counts up when a verdict that was given to
//! one of its flows may no longer be right.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use identity::Numbers;
use model::{
    Change, CidrGroup, ClusterNode, EndpointId, EndpointName, Identity, Interface, Labels,
    NumberKind, Pod, Prefix, Protocol, Revision, Scope, Service, State, TableId,
};
use policy::{Policy, Rule};
use rustc_hash::FxHashMap;

use crate::bindings::Bindings;
use crate::compute::{Computation, RuleDigests};
use crate::difference::difference;
use crate::plan::{Plan, PlanError};
use crate::roster::Roster;
use crate::table::{TableKey, VerdictTable};

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

/// What the engine is told whenever it changes.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// All pods, this node's and others'.
    pub pods: BTreeMap<EndpointName, Pod>,
    /// Services with their ready backends.
    pub services: BTreeMap<EndpointName, Service>,
    /// Nodes, this one too, by name.
    pub nodes: BTreeMap<String, ClusterNode>,
    /// Groups of prefixes, by name.
    pub cidr_groups: BTreeMap<String, CidrGroup>,
    /// Checked policies.
    pub policies: Vec<Arc<Policy>>,
    /// The node's own addresses.
    pub host_addresses: BTreeSet<IpAddr>,
    /// Which interface is whose.
    pub bindings: Bindings,
    /// The bridge of each interface that is a port of one.
    pub bridges: BTreeMap<Interface, Interface>,
    /// Interfaces on which something was enforced that may be missing here: they are closed, but
    /// for one that comes under the very table it was under, if that is known.
    pub pending: BTreeMap<Interface, Option<TableId>>,
}

impl Inventory {
    /// Whether an interface has to be closed rather than put under this table, or opened.
    pub(crate) fn closes(&self, interface: Interface, table: Option<TableId>) -> bool {
        let known = self.pending.get(&interface);
        known.is_some_and(|known| known.is_none() || *known != table)
    }
}

/// A service port and family: what a frontend's identity stands for.
pub(crate) type ServiceKey = (EndpointName, Protocol, u16, bool);

/// An endpoint: its pod, the pod's uid, and its interface.
pub(crate) type EndpointKey = (EndpointName, String, Interface);

/// The cold half of the engine.
#[derive(Debug)]
pub struct Node {
    pub(crate) settings: Settings,
    pub(crate) labels: Roster<Labels>,
    pub(crate) cidrs: Roster<(Prefix, Labels)>,
    pub(crate) services: Roster<ServiceKey>,
    pub(crate) table_numbers: Roster<TableKey>,
    pub(crate) endpoints: Roster<EndpointKey>,
    pub(crate) set_numbers: Arc<Mutex<Numbers>>,
    pub(crate) tables: BTreeMap<TableKey, CachedTable>,
    pub(crate) rule_digests: RuleDigests,
    /// What is in force, but for what the leases own.
    pub(crate) realised: State,
    revision: Revision,
}

/// A table with the rows that it has for identities met so far.
#[derive(Debug)]
pub(crate) struct CachedTable {
    pub(crate) table: Arc<VerdictTable>,
    pub(crate) rows: FxHashMap<Identity, Arc<[policy::TableRow]>>,
}

impl Node {
    /// An engine that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        let scope = |scope: Scope, settings: &Settings| {
            let first = Identity::first(scope).0;
            Numbers::new(first..=first + settings.identities.min((1 << 24) - 257) - 1)
        };
        Self {
            labels: Roster::new(scope(Scope::Labels, &settings)),
            cidrs: Roster::new(scope(Scope::Cidr, &settings)),
            services: Roster::new(scope(Scope::Service, &settings)),
            set_numbers: Arc::new(Mutex::new(scope(Scope::Names, &settings))),
            table_numbers: Roster::new(Numbers::new(1..=u32::MAX)),
            endpoints: Roster::new(Numbers::new(1..=u32::MAX)),
            tables: BTreeMap::new(),
            rule_digests: RuleDigests::default(),
            realised: State::default(),
            revision: Revision(0),
            settings,
        }
    }

    /// Takes up what an earlier daemon left in the kernel: the same meanings keep their numbers.
    pub fn restore(&mut self, dump: &State) {
        for (&(kind, number), &digest) in &dump.numbers {
            match kind {
                NumberKind::Table => self.table_numbers.restore(number, digest),
                NumberKind::Endpoint => self.endpoints.restore(number, digest),
                NumberKind::Identity => match Identity(number).scope() {
                    Scope::Labels => self.labels.restore(number, digest),
                    Scope::Cidr => self.cidrs.restore(number, digest),
                    Scope::Service => self.services.restore(number, digest),
                    Scope::Names => {
                        // As in `Roster::restore`: a number that does not fit is not kept.
                        let _ = self.lock_sets().restore(number, digest);
                    }
                    Scope::Reserved => {}
                },
            }
        }
        self.resync(dump);
    }

    /// Takes `dump` for what is in force, after a write failed half way.
    pub fn resync(&mut self, dump: &State) {
        self.realised = cold_part(dump);
    }

    /// Gives up restored numbers that nothing asked for. To be called once, when the first
    /// revision stands and the leases of its endpoints are restored.
    pub fn release_unclaimed(&mut self) {
        self.labels.release_unclaimed();
        self.cidrs.release_unclaimed();
        self.services.release_unclaimed();
        self.table_numbers.release_unclaimed();
        self.endpoints.release_unclaimed();
        self.lock_sets().release_unclaimed();
    }

    fn lock_sets(&self) -> std::sync::MutexGuard<'_, Numbers> {
        self.set_numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides the next revision. Nothing counts as in force before [`applied`](Self::applied).
    pub fn plan(&mut self, inventory: &Inventory) -> Result<Plan, PlanError> {
        let computed = Computation::run(self, inventory)?;
        let difference = difference(&self.realised, &computed.desired);
        let gone = self
            .realised
            .endpoints
            .iter()
            .filter(|(_, entry)| !computed.endpoints.contains_key(&entry.endpoint));
        let gone = gone.map(|(interface, entry)| (entry.endpoint, *interface)).collect();
        let retired = self.tables.iter().filter(|(key, _)| !computed.tables.contains(*key));
        let retired = retired.map(|(_, cached)| Arc::clone(&cached.table)).collect();
        self.revision.0 += 1;
        Ok(Plan {
            revision: self.revision,
            difference,
            gone,
            retired,
            desired: computed.desired,
            endpoints: computed.endpoints,
            snapshot: Arc::new(computed.snapshot),
            problems: computed.problems,
        })
    }

    /// The plan is carried out: what it desired is in force, and the numbers of what it removed
    /// may be given out again.
    pub fn applied(&mut self, plan: &Plan) {
        self.realised = plan.desired.clone();
        let numbers = |kind: NumberKind| -> BTreeSet<u32> {
            let of_kind = plan.desired.numbers.keys().filter(|(own, _)| *own == kind);
            of_kind.map(|(_, number)| *number).collect()
        };
        let identities = numbers(NumberKind::Identity);
        self.labels.retain_numbers(&identities);
        self.cidrs.retain_numbers(&identities);
        self.services.retain_numbers(&identities);
        let tables = numbers(NumberKind::Table);
        self.table_numbers.retain_numbers(&tables);
        self.endpoints.retain_numbers(&numbers(NumberKind::Endpoint));
        self.tables.retain(|_, cached| tables.contains(&cached.table.id().0));
        for cached in self.tables.values_mut() {
            cached.rows.retain(|identity, _| {
                identity.scope() == Scope::Reserved || identities.contains(&identity.0)
            });
        }
    }

    /// What the engine was told once.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Has the kernel judge an endpoint's flows again, because a lease was taken from it.
    pub fn bump(&mut self, endpoint: EndpointId) -> Option<Change> {
        let mut entries = self.realised.endpoints.iter_mut();
        let (interface, entry) = entries.find(|(_, entry)| entry.endpoint == endpoint)?;
        entry.generation = entry.generation.wrapping_add(1);
        Some(Change::PutEndpoint(*interface, *entry))
    }

    /// The identity that stands for these labels, if a pod has them.
    pub fn identity_of(&self, labels: &Labels) -> Option<Identity> {
        self.labels.number(labels).map(Identity)
    }

    /// The labels that an identity stands for.
    pub fn labels_of(&self, identity: Identity) -> Option<&Labels> {
        self.labels.iter().find(|(_, number, _)| *number == identity.0).map(|(labels, ..)| labels)
    }
}

/// The policies' rules that select pods with these labels, in the order of their digests.
pub(crate) fn select<'a>(
    policies: &'a [Arc<Policy>],
    labels: &Labels,
) -> (Vec<Arc<Rule>>, Vec<&'a Policy>) {
    let mut rules = Vec::new();
    let mut selecting = Vec::new();
    for policy in policies {
        let before = rules.len();
        rules.extend(policy.rules.iter().filter(|rule| rule.selects(labels)).cloned());
        if rules.len() > before {
            selecting.push(&**policy);
        }
    }
    (rules, selecting)
}

/// What of a dump the engine's cold half owns: all but names, leases, and the name sets' rows and
/// numbers.
fn cold_part(dump: &State) -> State {
    let mut cold = State {
        endpoints: dump.endpoints.clone(),
        sources: dump.sources.clone(),
        prefixes: dump.prefixes.clone(),
        frontends: dump.frontends.clone(),
        ..State::default()
    };
    let rows = dump.rows.iter().filter(|(row, _)| row.identity.scope() != Scope::Names);
    rows.for_each(|(row, verdict)| cold.apply(&Change::PutRow(*row, *verdict)));
    let is_set = |kind: NumberKind, number: u32| {
        kind == NumberKind::Identity && Identity(number).scope() == Scope::Names
    };
    let numbers = dump.numbers.iter().filter(|((kind, number), _)| !is_set(*kind, *number));
    numbers.for_each(|((kind, number), digest)| {
        cold.apply(&Change::PutNumber(*kind, *number, *digest));
    });
    cold
}

#[cfg(test)]
mod tests;
