//! One revision, computed whole from the inventory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::{
    Digest, DropReason, EndpointEntry, EndpointId, EndpointName, Enforcement, Frontend, Identity,
    Interface, Labels, NumberKind, Pod, Prefix, Protocol, Row, State, TableId, Verdict,
};
use policy::{Context, Rule, Subject, TableRow};
use rustc_hash::FxHashMap;

use crate::generations::{self, longest_match};
use crate::node::{CachedTable, Inventory, Node, select};
use crate::plan::{InventoryProblem, LocalEndpoint, PlanError};
use crate::snapshot::{Client, Snapshot, TableView};
use crate::table::{TableKey, VerdictTable};

/// The result, and what is found on the way to it.
#[derive(Default)]
pub(crate) struct Computation {
    pub(crate) desired: State,
    pub(crate) endpoints: BTreeMap<EndpointId, LocalEndpoint>,
    pub(crate) tables: BTreeSet<TableKey>,
    pub(crate) snapshot: Snapshot,
    pub(crate) problems: Vec<InventoryProblem>,
    /// Identities of pods and of prefixes outside, and what each stands for.
    subjects: BTreeMap<Identity, Destination>,
    /// Backends of each service identity, as identity and port.
    services: BTreeMap<Identity, Vec<(Identity, u16)>>,
    views: BTreeMap<TableId, Arc<TableView>>,
    /// Endpoints with a table, before their entries are known.
    judged: Vec<(EndpointName, TableKey)>,
}

/// What an identity stands for.
enum Destination {
    Pods(Labels),
    Outside(Prefix, Labels),
}

impl Destination {
    fn subject(&self) -> Subject<'_> {
        match self {
            Self::Pods(labels) => Subject::Labels(labels),
            Self::Outside(prefix, labels) => Subject::Outside { prefix: *prefix, labels },
        }
    }
}

impl Computation {
    pub(crate) fn run(node: &mut Node, inventory: &Inventory) -> Result<Self, PlanError> {
        let mut this = Self::default();
        this.choose_tables(node, inventory)?;
        this.place_outside(node)?;
        this.place_services(node, inventory)?;
        this.place_pods(node, inventory)?;
        this.place_host(inventory);
        this.resolve_backends(node, inventory)?;
        this.fill_tables(node)?;
        this.place_endpoints(node, inventory)?;
        this.settle_generations(&node.realised);
        Ok(this)
    }

    /// Finds the rules of each bound pod, and makes tables for rule sets not met before.
    fn choose_tables(&mut self, node: &mut Node, inventory: &Inventory) -> Result<(), PlanError> {
        let dns_pods = dns_pods(node, inventory);
        let services = inventory.services.iter().map(|(name, own)| (name.clone(), own.into()));
        let context = Context { dns_pods, services: services.collect(), ..Context::default() };
        let mut digests = RuleDigests::default();
        let mut contexts: BTreeMap<TableKey, Digest> = BTreeMap::new();
        for name in inventory.bindings.bound.keys() {
            let Some(pod) = inventory.pods.get(name) else { continue };
            let (rules, _) = select(&inventory.policies, &pod.labels);
            if rules.is_empty() {
                continue;
            }
            let mut key: TableKey = rules.iter().map(|rule| digests.of(rule)).collect();
            key.sort_unstable();
            key.dedup();
            let about = contexts.entry(key.clone());
            let digest = || identity::digest("context", [context.canonical_for(&rules)]);
            key.push(*about.or_insert_with(digest));
            if !node.tables.contains_key(&key) {
                let digest = || identity::digest("table", key.iter());
                let number = node.table_numbers.assign(&key, digest)?;
                let compiled = Arc::new(policy::Table::compile(&rules, &context));
                let numbers = Arc::clone(&node.set_numbers);
                let limit = node.settings.sets_per_table;
                let table = VerdictTable::new(TableId(number), compiled, numbers, limit);
                let cached = CachedTable { table: Arc::new(table), rows: FxHashMap::default() };
                node.tables.insert(key.clone(), cached);
            }
            self.tables.insert(key.clone());
            self.judged.push((name.clone(), key));
        }
        for key in &self.tables {
            let digest = || identity::digest("table", key.iter());
            let number = node.table_numbers.assign(key, digest)?;
            self.desired.numbers.insert((NumberKind::Table, number), digest());
        }
        Ok(())
    }

    /// The world, and every prefix that a rule names.
    fn place_outside(&mut self, node: &mut Node) -> Result<(), PlanError> {
        let roots = [
            (Prefix::all_ipv4(), Identity::WORLD_IPV4),
            (Prefix::all_ipv6(), Identity::WORLD_IPV6),
        ];
        let named = self.tables.iter().filter_map(|key| node.tables.get(key));
        let named: BTreeSet<Prefix> =
            named.flat_map(|cached| cached.table.rules().prefixes()).collect();
        for (root, identity) in roots {
            self.desired.prefixes.insert(root, identity);
            self.subjects.insert(identity, Destination::Outside(root, Labels::default()));
        }
        for prefix in named {
            if prefix.is_v4_mapped() || roots.iter().any(|(root, _)| *root == prefix) {
                continue;
            }
            let digest = || identity::digest("cidr", [prefix.to_string()]);
            let identity = Identity(node.cidrs.assign(&prefix, digest)?);
            self.desired.numbers.insert((NumberKind::Identity, identity.0), digest());
            self.desired.prefixes.insert(prefix, identity);
            self.subjects.insert(identity, Destination::Outside(prefix, Labels::default()));
        }
        Ok(())
    }

    /// Service ranges, service addresses, and frontends.
    fn place_services(&mut self, node: &mut Node, inventory: &Inventory) -> Result<(), PlanError> {
        for prefix in &node.settings.service_prefixes {
            self.desired.prefixes.insert(*prefix, Identity::NO_SERVICE);
        }
        for service in inventory.services.values() {
            for &address in &service.addresses {
                self.desired.prefixes.insert(Prefix::host(address), Identity::NO_SERVICE);
                for port in &service.ports {
                    let key = (service.name.clone(), port.protocol, port.port, address.is_ipv6());
                    let digest = || {
                        let (protocol, number) =
                            (port.protocol.0.to_string(), port.port.to_string());
                        let family = if address.is_ipv6() { "6" } else { "4" };
                        let name = service.name.to_string();
                        identity::digest("service", [name.as_str(), &protocol, &number, family])
                    };
                    let identity = Identity(node.services.assign(&key, digest)?);
                    self.desired.numbers.insert((NumberKind::Identity, identity.0), digest());
                    let frontend = Frontend { address, protocol: port.protocol, port: port.port };
                    self.desired.frontends.insert(frontend, identity);
                }
            }
        }
        Ok(())
    }

    fn place_pods(&mut self, node: &mut Node, inventory: &Inventory) -> Result<(), PlanError> {
        let mut owners: BTreeMap<IpAddr, &Pod> = BTreeMap::new();
        for pod in inventory.pods.values().filter(|pod| !pod.host_network) {
            for &address in &pod.addresses {
                if let Some(first) = owners.get(&address) {
                    self.problems.push(InventoryProblem::SharedAddress {
                        address,
                        first: first.name.clone(),
                        second: pod.name.clone(),
                    });
                    self.desired.prefixes.insert(Prefix::host(address), Identity::UNMANAGED);
                    continue;
                }
                owners.insert(address, pod);
                let identity = self.identify(node, &pod.labels)?;
                self.desired.prefixes.insert(Prefix::host(address), identity);
            }
        }
        Ok(())
    }

    fn identify(&mut self, node: &mut Node, labels: &Labels) -> Result<Identity, PlanError> {
        let digest = || identity::digest("labels", [text_of(labels)]);
        let identity = Identity(node.labels.assign(labels, digest)?);
        if self.desired.numbers.insert((NumberKind::Identity, identity.0), digest()).is_none() {
            self.subjects.insert(identity, Destination::Pods(labels.clone()));
        }
        Ok(identity)
    }

    /// The node's own addresses are its own, whoever else claims them.
    fn place_host(&mut self, inventory: &Inventory) {
        for &address in &inventory.host_addresses {
            self.desired.prefixes.insert(Prefix::host(address), Identity::HOST);
        }
    }

    /// Which identities stand behind each frontend.
    fn resolve_backends(&mut self, node: &Node, inventory: &Inventory) -> Result<(), PlanError> {
        let map = longest_match(&self.desired.prefixes);
        for service in inventory.services.values() {
            for port in &service.ports {
                for ipv6 in [false, true] {
                    let key = (service.name.clone(), port.protocol, port.port, ipv6);
                    let Some(number) = node.services.number(&key) else { continue };
                    let family = port.backends.iter().filter(|b| b.is_ipv6() == ipv6);
                    let mut backends: Vec<(Identity, u16)> = family
                        .map(|backend| {
                            let found = map.get_lpm(&IpNet::from(backend.ip()));
                            let identity = found.map_or(Identity::NO_SERVICE, |(_, own)| *own);
                            (identity, backend.port())
                        })
                        .collect();
                    backends.sort_unstable();
                    backends.dedup();
                    self.services.insert(Identity(number), backends);
                }
            }
        }
        self.snapshot.prefixes = map;
        self.snapshot.frontends =
            self.desired.frontends.iter().map(|(frontend, own)| (*frontend, *own)).collect();
        Ok(())
    }

    /// The rows of every table in use, for every destination there is.
    fn fill_tables(&mut self, node: &mut Node) -> Result<(), PlanError> {
        for key in &self.tables {
            let Some(cached) = node.tables.get_mut(key) else { continue };
            let id = cached.table.id();
            let mut view = TableView::new(Arc::clone(&cached.table));
            let any = cached.rows_for(Identity::ANY, &Subject::Any);
            put_rows(&mut self.desired, &mut view, id, Identity::ANY, any);
            view.add_filters(Identity::ANY, Subject::Any);
            for (identity, destination) in &self.subjects {
                let rows = cached.rows_for(*identity, &destination.subject());
                if put_rows(&mut self.desired, &mut view, id, *identity, rows) {
                    view.add_filters(*identity, destination.subject());
                }
            }
            for (frontend, identity) in &self.desired.frontends {
                let Some(backends) = self.services.get(identity) else { continue };
                let Some(verdict) = service_verdict(&view, backends, frontend.protocol) else {
                    continue;
                };
                let ports = model::PortPrefix::port(frontend.protocol, frontend.port);
                let row = Row { table: id, identity: *identity, ports };
                self.desired.rows.insert(row, verdict);
                view.services.insert(*identity, backends.clone());
            }
            self.views.insert(id, Arc::new(view));
        }
        Ok(())
    }

    fn place_endpoints(&mut self, node: &mut Node, inventory: &Inventory) -> Result<(), PlanError> {
        let judged = std::mem::take(&mut self.judged);
        let tables: BTreeMap<&EndpointName, &TableKey> =
            judged.iter().map(|(name, key)| (name, key)).collect();
        for (name, &interface) in &inventory.bindings.bound {
            let Some(pod) = inventory.pods.get(name) else { continue };
            let table = tables.get(name).and_then(|key| node.tables.get(*key));
            let mut table = table.map(|cached| Arc::clone(&cached.table));
            let mut enforcement =
                table.as_ref().map_or(Enforcement::Open, |table| Enforcement::Table(table.id()));
            if inventory.closes(interface, table.as_ref().map(|table| table.id())) {
                self.problems.push(InventoryProblem::Pending(name.clone()));
                enforcement = Enforcement::Closed(DropReason::EndpointPending);
                table = None;
            }
            self.place_endpoint(node, inventory, pod, interface, enforcement, table)?;
        }
        for &interface in &inventory.bindings.closed {
            self.close(node, inventory, interface, DropReason::EndpointConflict)?;
        }
        for &interface in inventory.pending.keys() {
            if !self.desired.endpoints.contains_key(&interface) {
                self.problems.push(InventoryProblem::PendingInterface(interface));
                self.close(node, inventory, interface, DropReason::EndpointPending)?;
            }
        }
        for (name, error) in &inventory.bindings.problems {
            self.problems.push(InventoryProblem::Binding(name.clone(), error.clone()));
        }
        self.drop_shared_clients();
        Ok(())
    }

    fn place_endpoint(
        &mut self,
        node: &mut Node,
        inventory: &Inventory,
        pod: &Pod,
        interface: Interface,
        enforcement: Enforcement,
        table: Option<Arc<VerdictTable>>,
    ) -> Result<(), PlanError> {
        let endpoint = self.number(node, &pod.name, &pod.uid, interface)?;
        if pod.addresses.is_empty() {
            self.problems.push(InventoryProblem::NoAddress(pod.name.clone()));
        }
        let own = pod.addresses.iter().map(|address| Prefix::host(*address));
        for source in own.chain(pod.extra_sources.iter().copied()) {
            self.desired.sources.insert((endpoint, source), ());
        }
        let view = table.as_ref().and_then(|table| self.views.get(&table.id())).cloned();
        let asks = !matches!(enforcement, Enforcement::Closed(_));
        for &address in pod.addresses.iter().filter(|_| asks) {
            self.snapshot.clients.insert(address, Client { endpoint, view: view.clone() });
        }
        let bridge = inventory.bridges.get(&interface).copied();
        let entry = EndpointEntry { endpoint, enforcement, generation: 1, bridge };
        self.desired.endpoints.insert(interface, entry);
        let (_, selecting) = select(&inventory.policies, &pod.labels);
        let identity = node.labels.number(&pod.labels).map(Identity);
        self.endpoints.insert(
            endpoint,
            LocalEndpoint {
                name: pod.name.clone(),
                interface,
                entry,
                table,
                addresses: pod.addresses.clone(),
                identity,
                policies: selecting.iter().map(|policy| policy.key.to_string()).collect(),
            },
        );
        Ok(())
    }

    /// An interface whose owner is in doubt or not known: everything on it is dropped.
    fn close(
        &mut self,
        node: &mut Node,
        inventory: &Inventory,
        interface: Interface,
        reason: DropReason,
    ) -> Result<(), PlanError> {
        let name =
            EndpointName { namespace: String::new(), name: format!("interface-{interface}") };
        let endpoint = self.number(node, &name, "", interface)?;
        let enforcement = Enforcement::Closed(reason);
        let bridge = inventory.bridges.get(&interface).copied();
        let entry = EndpointEntry { endpoint, enforcement, generation: 1, bridge };
        self.desired.endpoints.insert(interface, entry);
        self.endpoints.insert(
            endpoint,
            LocalEndpoint {
                name,
                interface,
                entry,
                table: None,
                addresses: Vec::new(),
                identity: None,
                policies: Vec::new(),
            },
        );
        Ok(())
    }

    fn number(
        &mut self,
        node: &mut Node,
        name: &EndpointName,
        uid: &str,
        interface: Interface,
    ) -> Result<EndpointId, PlanError> {
        let key = (name.clone(), uid.to_owned(), interface);
        let digest = || {
            let (name, interface) = (name.to_string(), interface.to_string());
            identity::digest("endpoint", [name.as_str(), uid, &interface])
        };
        let number = node.endpoints.assign(&key, digest)?;
        self.desired.numbers.insert((NumberKind::Endpoint, number), digest());
        Ok(EndpointId(number))
    }

    /// An address that two pods claim leads to neither's names.
    fn drop_shared_clients(&mut self) {
        for problem in &self.problems {
            if let InventoryProblem::SharedAddress { address, .. } = problem {
                self.snapshot.clients.remove(address);
            }
        }
    }

    fn settle_generations(&mut self, realised: &State) {
        let by_name = self.views.iter();
        let by_name = by_name.filter(|(_, view)| !view.table.rules().selectors().is_empty());
        let by_name = by_name.map(|(id, _)| *id).collect();
        generations::carry_on(realised, &mut self.desired, &by_name);
        for entry in self.desired.endpoints.values() {
            if let Some(local) = self.endpoints.get_mut(&entry.endpoint) {
                local.entry = *entry;
            }
        }
    }
}

/// The digests of rules, each made once.
#[derive(Default)]
struct RuleDigests(FxHashMap<*const Rule, Digest>);

impl RuleDigests {
    fn of(&mut self, rule: &Arc<Rule>) -> Digest {
        let digest = || identity::digest("rule", [rule.canonical()]);
        *self.0.entry(Arc::as_ptr(rule)).or_insert_with(digest)
    }
}

impl CachedTable {
    fn rows_for(&mut self, identity: Identity, subject: &Subject<'_>) -> Arc<[TableRow]> {
        let compile = || self.table.rules().rows(*subject).into();
        Arc::clone(self.rows.entry(identity).or_insert_with(compile))
    }
}

fn put_rows(
    desired: &mut State,
    view: &mut TableView,
    table: TableId,
    identity: Identity,
    rows: Arc<[TableRow]>,
) -> bool {
    if rows.is_empty() {
        return false;
    }
    for row in rows.iter() {
        desired.rows.insert(Row { table, identity, ports: row.ports }, row.verdict);
    }
    view.rows.insert(identity, rows);
    true
}

/// What a frontend's traffic may do: what all of its backends' may.
fn service_verdict(
    view: &TableView,
    backends: &[(Identity, u16)],
    protocol: Protocol,
) -> Option<Verdict> {
    let mut whole = None;
    for &(identity, port) in backends {
        let verdict = view.verdict(identity, protocol, port)?;
        whole = Some(whole.map_or(verdict, |own: Verdict| own.union(verdict)));
    }
    whole
}

/// The labels of the pods behind the cluster's DNS service.
fn dns_pods(node: &Node, inventory: &Inventory) -> BTreeSet<Labels> {
    let Some(service) = inventory.services.get(&node.settings.dns_service) else {
        return BTreeSet::new();
    };
    let ports = service.ports.iter().flat_map(|port| &port.backends);
    let backends: BTreeSet<IpAddr> = ports.map(std::net::SocketAddr::ip).collect();
    let serves = |pod: &&Pod| pod.addresses.iter().any(|address| backends.contains(address));
    inventory.pods.values().filter(serves).map(|pod| pod.labels.clone()).collect()
}

fn text_of(labels: &Labels) -> String {
    labels.iter().map(|label| format!("{label}\n")).collect()
}
