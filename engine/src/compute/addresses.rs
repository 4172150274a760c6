//! What each address is: this node, another one, a pod, or outside the cluster.
//!
//! In the cluster, an address is the labels it carries: a pod's own, a node's with the entities it
//! belongs to, and what rules ask for beside them ([`policy::Wants`]). Addresses with the same
//! labels share an identity. Outside, an address is the longest prefix that some rule names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::{EndpointName, Identity, Label, Labels, NumberKind, Pod, Prefix, Source};
use policy::{Subject, Wants};

use super::Computation;
use crate::node::{Inventory, Node, Settings};
use crate::plan::{InventoryProblem, PlanError};

/// The service by which a cluster knows its own API servers.
const API_SERVICE: (&str, &str) = ("default", "kubernetes");

/// What an identity stands for.
#[derive(Debug)]
pub(super) enum Destination {
    Inside(Labels),
    Outside(Prefix, Labels),
}

impl Destination {
    pub(super) fn subject(&self) -> Subject<'_> {
        match self {
            Self::Inside(labels) => Subject::Labels(labels),
            Self::Outside(prefix, labels) => Subject::Outside { prefix: *prefix, labels },
        }
    }
}

/// The labels of addresses, in the cluster and out of it.
#[derive(Debug, Default)]
pub struct Addresses {
    /// Addresses in the cluster.
    pub inside: BTreeMap<IpAddr, Labels>,
    /// Prefixes out of it, with what they carry beside being outside.
    pub outside: BTreeMap<Prefix, Labels>,
    /// What is wrong with them.
    pub problems: Vec<InventoryProblem>,
}

impl Addresses {
    /// What the inventory says of addresses; `wants` are the labels that rules ask for, and
    /// `api_servers` the addresses that the configuration names.
    pub fn new(inventory: &Inventory, wants: &Wants, api_servers: &[IpAddr]) -> Self {
        let mut this = Self::default();
        this.add_pods(inventory, wants);
        this.add_nodes(inventory);
        this.add_health(inventory);
        this.add_api_servers(inventory, api_servers);
        this.add_backends(inventory, wants);
        this
    }

    fn add_pods(&mut self, inventory: &Inventory, wants: &Wants) {
        let mut owners: BTreeMap<IpAddr, &EndpointName> = BTreeMap::new();
        for pod in inventory.pods.values().filter(|pod| !pod.host_network) {
            for &address in &pod.addresses {
                if let Some(first) = owners.insert(address, &pod.name) {
                    self.inside.insert(address, reserved("unmanaged"));
                    self.problems.push(InventoryProblem::SharedAddress {
                        address,
                        first: first.clone(),
                        second: pod.name.clone(),
                    });
                    continue;
                }
                self.inside.insert(address, pod_labels(pod, wants));
            }
        }
    }

    /// A node's addresses are its own, whoever else claims them.
    fn add_nodes(&mut self, inventory: &Inventory) {
        let own = &inventory.host_addresses;
        let mut host = reserved("host");
        for node in inventory.nodes.values() {
            if node.addresses.iter().any(|address| own.contains(address)) {
                node.labels.iter().for_each(|label| host.insert(label.clone()));
                continue;
            }
            let mut labels = node.labels.clone();
            reserved("remote-node").iter().for_each(|label| labels.insert(label.clone()));
            let addresses = node.addresses.iter().filter(|address| !own.contains(address));
            self.inside.extend(addresses.map(|address| (*address, labels.clone())));
        }
        self.inside.extend(own.iter().map(|address| (*address, host.clone())));
    }

    /// Where nodes are probed, unless a pod or node is there.
    fn add_health(&mut self, inventory: &Inventory) {
        for &address in inventory.nodes.values().flat_map(|node| &node.health_addresses) {
            self.inside.entry(address).or_insert_with(|| reserved("health"));
        }
    }

    fn add_api_servers(&mut self, inventory: &Inventory, configured: &[IpAddr]) {
        let (namespace, name) = API_SERVICE;
        let service = EndpointName { namespace: namespace.into(), name: name.into() };
        let backends = inventory.services.get(&service).into_iter().flat_map(|own| &own.backends);
        let addresses: BTreeSet<IpAddr> = backends.chain(configured).copied().collect();
        for address in addresses {
            self.label(address, reserved_label("kube-apiserver"));
        }
    }

    fn add_backends(&mut self, inventory: &Inventory, wants: &Wants) {
        for name in &wants.services {
            let service = inventory.services.get(name);
            for &address in service.into_iter().flat_map(|own| &own.backends) {
                self.label(address, Wants::service_label(name));
            }
        }
    }

    fn label(&mut self, address: IpAddr, label: Label) {
        match self.inside.get_mut(&address) {
            Some(labels) => labels.insert(label),
            None => self.outside.entry(Prefix::host(address)).or_default().insert(label),
        }
    }
}

/// Ranges that the cluster's own addresses come from.
#[derive(Debug)]
pub(crate) struct Ranges {
    pub(crate) pods: BTreeSet<Prefix>,
    pub(crate) services: BTreeSet<Prefix>,
}

impl Ranges {
    /// Whether a prefix that a rule names means addresses outside: none within a range of the
    /// cluster's does, nor one that no packet has.
    pub(crate) fn leave_open(&self, prefix: Prefix) -> bool {
        let mut ranges = self.pods.iter().chain(&self.services);
        !prefix.is_v4_mapped() && !ranges.any(|range| range.contains(prefix))
    }
}

impl Inventory {
    /// The ranges that the settings and the nodes tell.
    pub(crate) fn ranges(&self, settings: &Settings) -> Ranges {
        let of_nodes = self.nodes.values().flat_map(|own| &own.pod_prefixes);
        Ranges {
            pods: settings.pod_prefixes.iter().chain(of_nodes).copied().collect(),
            services: settings.service_prefixes.iter().copied().collect(),
        }
    }
}

fn pod_labels(pod: &Pod, wants: &Wants) -> Labels {
    let mut labels = pod.labels.clone();
    let wanted = pod.ports.iter().filter(|(name, _)| wants.ports.contains(*name));
    for (name, ports) in wanted {
        for &(protocol, port) in ports {
            labels.insert(Wants::port_label(name, protocol, port));
        }
    }
    labels
}

fn reserved(name: &str) -> Labels {
    std::iter::once(reserved_label(name)).collect()
}

fn reserved_label(name: &str) -> Label {
    Label { key: name.to_owned(), source: Source::Reserved, value: String::new() }
}

impl Computation {
    /// Gives every address and prefix its identity.
    pub(super) fn place_addresses(
        &mut self,
        node: &mut Node,
        inventory: &Inventory,
    ) -> Result<(), PlanError> {
        let mut addresses = Addresses::new(inventory, &self.wants, &node.settings.api_servers);
        for root in [Prefix::all_ipv4(), Prefix::all_ipv6()] {
            addresses.outside.entry(root).or_default();
        }
        let ranges = inventory.ranges(&node.settings);
        for cached in self.tables.iter().filter_map(|key| node.tables.get(key)) {
            for prefix in cached.table.rules().prefixes().filter(|own| ranges.leave_open(*own)) {
                addresses.outside.entry(prefix).or_default();
            }
        }
        for (prefix, labels) in addresses.outside {
            let identity = self.identify_outside(node, prefix, labels)?;
            self.desired.prefixes.insert(prefix, identity);
        }
        self.place_unknown(node, inventory)?;
        for (address, labels) in addresses.inside {
            let identity = self.identify(node, labels)?;
            self.desired.prefixes.insert(Prefix::host(address), identity);
            self.identities.insert(address, identity);
        }
        self.problems.append(&mut addresses.problems);
        Ok(())
    }

    /// Addresses that are the cluster's, by their range, and that nobody is known to have: no rule
    /// for the outside selects them.
    fn place_unknown(&mut self, node: &mut Node, inventory: &Inventory) -> Result<(), PlanError> {
        let ranges = inventory.ranges(&node.settings);
        for prefix in ranges.pods {
            let identity = self.identify(node, reserved("unmanaged"))?;
            self.desired.prefixes.insert(prefix, identity);
        }
        for prefix in ranges.services {
            self.desired.prefixes.insert(prefix, Identity::NO_SERVICE);
        }
        Ok(())
    }

    fn identify(&mut self, node: &mut Node, labels: Labels) -> Result<Identity, PlanError> {
        let fixed = fixed_identity(&labels);
        let identity = match fixed {
            Some(identity) => identity,
            None => {
                let digest = || identity::digest("labels", [text_of(&labels)]);
                let (number, digest) = node.labels.assign(&labels, digest)?;
                self.desired.numbers.insert((NumberKind::Identity, number), digest);
                Identity(number)
            }
        };
        self.subjects.entry(identity).or_insert(Destination::Inside(labels));
        Ok(identity)
    }

    fn identify_outside(
        &mut self,
        node: &mut Node,
        prefix: Prefix,
        labels: Labels,
    ) -> Result<Identity, PlanError> {
        let identity = if prefix == Prefix::all_ipv4() && labels.is_empty() {
            Identity::WORLD_IPV4
        } else if prefix == Prefix::all_ipv6() && labels.is_empty() {
            Identity::WORLD_IPV6
        } else {
            let key = (prefix, labels.clone());
            let digest = || identity::digest("cidr", [prefix.to_string(), text_of(&labels)]);
            let (number, digest) = node.cidrs.assign(&key, digest)?;
            self.desired.numbers.insert((NumberKind::Identity, number), digest);
            Identity(number)
        };
        self.subjects.insert(identity, Destination::Outside(prefix, labels));
        Ok(identity)
    }
}

/// The identity that label sets of one reserved label have in every cluster.
fn fixed_identity(labels: &Labels) -> Option<Identity> {
    let mut all = labels.iter();
    let (label, None) = (all.next()?, all.next()) else { return None };
    if label.source != Source::Reserved {
        return None;
    }
    match label.key.as_str() {
        "health" => Some(Identity::HEALTH),
        "host" => Some(Identity::HOST),
        "remote-node" => Some(Identity::REMOTE_NODE),
        "kube-apiserver" => Some(Identity::KUBE_APISERVER),
        "unmanaged" => Some(Identity::UNMANAGED),
        _ => None,
    }
}

pub(super) fn text_of(labels: &Labels) -> String {
    labels.iter().map(|label| format!("{label}\n")).collect()
}
