//! What each address is: this node, another one, a pod, or outside the cluster.
//!
//! In the cluster, an address is the labels it carries: a pod's own, a node's with the entities it
//! belongs to, and what rules ask for beside them ([`policy::Wants`]). Outside, an address is the
//! longest prefix that some rule names.
//!
//! Everything here is found by address, so that one pod more costs what one pod costs.

mod taking;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::{ClusterNode, EndpointName, Label, Labels, Pod, Prefix, Source};
use policy::{Table, Wants};

use crate::inventory::Inventory;
use crate::node::Settings;
use crate::prefix_map::PrefixMap;

/// What is known of addresses, in the cluster and out of it.
#[derive(Debug, Default)]
pub struct Addresses {
    /// Pods in the order of their names; those on their node's network too.
    pods: BTreeMap<IpAddr, Vec<Arc<Pod>>>,
    /// Other nodes, in the order of their names.
    nodes: BTreeMap<IpAddr, Vec<Arc<ClusterNode>>>,
    /// What the cluster knows this node as, by name.
    own: BTreeMap<String, Arc<ClusterNode>>,
    host: BTreeSet<IpAddr>,
    health: BTreeMap<IpAddr, usize>,
    api_servers: BTreeMap<IpAddr, usize>,
    /// The services that rules ask for, by the addresses of what stands behind them.
    backends: BTreeMap<IpAddr, BTreeSet<EndpointName>>,
    /// The addresses where clients meet services.
    services: BTreeMap<IpAddr, usize>,
    pod_ranges: PrefixMap<usize>,
    service_ranges: PrefixMap<usize>,
    /// The prefixes that tables name, and how many tables do.
    named: BTreeMap<Prefix, usize>,
    wanted_ports: BTreeMap<String, usize>,
    wanted_services: BTreeMap<EndpointName, usize>,
}

/// Prefixes that may mean something else than before.
pub(crate) type Touched = BTreeSet<Prefix>;

/// What the addresses under a prefix are, where no longer one says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Something in the cluster that carries these labels.
    Inside(Labels),
    /// Outside of it; what they carry beside that.
    Outside(Labels),
    /// Of the services' range, or a service's, and met at no port.
    NoService,
}

impl Addresses {
    /// What an inventory says of addresses under one table.
    pub(crate) fn of(inventory: &Inventory, settings: &Settings, table: &Table) -> Self {
        let (mut this, mut touched) = (Self::new(settings, &mut Touched::new()), Touched::new());
        this.take(&Inventory::default(), inventory, &mut touched);
        this.add(&table.asked(), inventory, &mut touched);
        this
    }

    /// The labels of everything in the cluster that has an address, whatever rules ask for.
    pub fn all_labels(inventory: &Inventory, settings: &Settings) -> BTreeSet<Labels> {
        let mut this = Self::new(settings, &mut Touched::new());
        this.take(&Inventory::default(), inventory, &mut Touched::new());
        this.inside().map(|(_, labels)| labels).collect()
    }

    /// What the addresses under a prefix are, where no longer one says otherwise; none if this one
    /// says nothing.
    pub(crate) fn meaning(&self, prefix: Prefix) -> Option<Meaning> {
        let host = prefix.is_host().then(|| prefix.address());
        if let Some(labels) = host.and_then(|address| self.labels_inside(address)) {
            return Some(Meaning::Inside(labels));
        }
        if self.service_ranges.get(prefix).is_some() {
            return Some(Meaning::NoService);
        }
        if self.pod_ranges.get(prefix).is_some() {
            return Some(Meaning::Inside(reserved("unmanaged")));
        }
        let marks: Labels = host.map(|own| self.marks(own).collect()).unwrap_or_default();
        if marks != Labels::default() && self.is_of_the_cluster(prefix) {
            return self.meaning_in_range(prefix, marks);
        }
        let is_named = || self.named.contains_key(&prefix) && self.leaves_open(prefix);
        if marks != Labels::default() || prefix.length() == 0 || is_named() {
            return Some(Meaning::Outside(marks));
        }
        host.filter(|own| self.services.contains_key(own)).map(|_| Meaning::NoService)
    }

    /// What a marked address of one of the cluster's ranges is, that nobody is known to have.
    fn meaning_in_range(&self, prefix: Prefix, mut marks: Labels) -> Option<Meaning> {
        if self.service_ranges.longest(prefix).is_some() {
            return Some(Meaning::NoService);
        }
        marks.insert(reserved_label("unmanaged"));
        Some(Meaning::Inside(marks))
    }

    /// What one address is.
    pub(crate) fn at(&self, address: IpAddr) -> Meaning {
        let lengths = (0..=Prefix::host(address).length()).rev();
        let mut prefixes = lengths.filter_map(|length| Prefix::new(address, length));
        let found = prefixes.find_map(|prefix| self.meaning(prefix));
        found.unwrap_or(Meaning::Outside(Labels::default()))
    }

    /// Whether a prefix that a rule names means addresses outside: none within a range of the
    /// cluster's does, nor one that no packet has.
    fn leaves_open(&self, prefix: Prefix) -> bool {
        !prefix.is_v4_mapped() && !self.is_of_the_cluster(prefix)
    }

    /// Whether a prefix lies in one of the cluster's own ranges.
    fn is_of_the_cluster(&self, prefix: Prefix) -> bool {
        let ranges = [&self.pod_ranges, &self.service_ranges];
        ranges.into_iter().any(|ranges| ranges.longest(prefix).is_some())
    }

    /// The labels that an address in the cluster carries.
    pub(crate) fn labels_inside(&self, address: IpAddr) -> Option<Labels> {
        let mut labels = self.labels_of_owner(address)?;
        self.marks(address).for_each(|label| labels.insert(label));
        Some(labels)
    }

    /// A node's addresses are its own, whoever else claims them. Nodes are probed at addresses
    /// where no pod and no node is.
    fn labels_of_owner(&self, address: IpAddr) -> Option<Labels> {
        if self.host.contains(&address) {
            let of_nodes = self.own.values().flat_map(|node| node.labels.iter());
            return Some(of_nodes.cloned().chain([reserved_label("host")]).collect());
        }
        if let Some(node) = self.nodes.get(&address).and_then(|nodes| nodes.last()) {
            let own = node.labels.iter().cloned();
            return Some(own.chain([reserved_label("remote-node")]).collect());
        }
        let mut owners = self.owners(address);
        match (owners.next(), owners.next()) {
            (Some(pod), None) => Some(self.pod_labels(pod)),
            (Some(_), Some(_)) => Some(reserved("unmanaged")),
            (None, _) => self.health.contains_key(&address).then(|| reserved("health")),
        }
    }

    /// What an address carries wherever it is, because something stands there.
    fn marks(&self, address: IpAddr) -> impl Iterator<Item = Label> {
        let is_api = self.api_servers.contains_key(&address);
        let api = is_api.then(|| reserved_label("kube-apiserver"));
        let services = self.backends.get(&address).into_iter().flatten();
        api.into_iter().chain(services.map(Wants::service_label))
    }

    /// A pod's own labels, and the ports it names that rules ask for.
    pub(crate) fn pod_labels(&self, pod: &Pod) -> Labels {
        let mut labels = pod.labels.clone();
        let wanted = |name: &String| self.wanted_ports.contains_key(name);
        for (name, ports) in pod.ports.iter().filter(|(name, _)| wanted(name)) {
            for &(protocol, port) in ports {
                labels.insert(Wants::port_label(name, protocol, port));
            }
        }
        labels
    }

    /// The pods that claim an address as theirs alone, in the order of their names.
    pub(crate) fn owners(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods_at(address).filter(|pod| !pod.host_network)
    }

    /// The pods at an address, those on their node's network too.
    pub(crate) fn pods_at(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.get(&address).into_iter().flatten()
    }

    /// Whether several pods claim an address as theirs alone.
    pub(crate) fn is_shared(&self, address: IpAddr) -> bool {
        self.owners(address).nth(1).is_some()
    }

    /// Every address in the cluster that is somebody's, with what it carries.
    pub(crate) fn inside(&self) -> impl Iterator<Item = (IpAddr, Labels)> {
        let known = self.pods.keys().chain(self.nodes.keys()).chain(&self.host);
        let all: BTreeSet<IpAddr> = known.chain(self.health.keys()).copied().collect();
        all.into_iter().filter_map(|own| Some((own, self.labels_inside(own)?)))
    }

    /// Every address out of it that carries something.
    pub(crate) fn marked_outside(&self) -> impl Iterator<Item = IpAddr> {
        let known = self.api_servers.keys().chain(self.backends.keys());
        let all: BTreeSet<IpAddr> = known.copied().collect();
        all.into_iter().filter(|own| matches!(self.at(*own), Meaning::Outside(_)))
    }
}

pub(crate) fn reserved(name: &str) -> Labels {
    std::iter::once(reserved_label(name)).collect()
}

fn reserved_label(name: &str) -> Label {
    Label { key: name.to_owned(), source: Source::Reserved, value: String::new() }
}
