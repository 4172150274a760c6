//! What each address is: this node, another one, a pod, or outside the cluster.
//!
//! In the cluster, an address is the labels it carries: a pod's own, a node's with the entities it
//! belongs to, and what rules ask for beside them ([`policy::Wants`]). Outside, an address is the
//! longest prefix that some rule names.
//!
//! Everything here is found by address, so that one pod more costs what one pod costs. Whatever
//! may have become something else is added to `touched`, to be asked for its meaning anew.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::{
    Changed, ClusterNode, EndpointName, Label, Labels, Pod, Prefix, Service, Source, changes,
};
use policy::{Asked, Table, Wants};

use crate::inventory::Inventory;
use crate::node::Settings;
use crate::prefix_map::PrefixMap;

/// The service by which a cluster knows its own API servers.
const API_SERVICE: (&str, &str) = ("default", "kubernetes");

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

    /// What the settings say, and nothing else yet.
    pub(crate) fn new(settings: &Settings, touched: &mut Touched) -> Self {
        let mut this = Self::default();
        touched.extend([Prefix::all_ipv4(), Prefix::all_ipv6()]);
        for &range in &settings.pod_prefixes {
            this.add_pod_range(range, touched);
        }
        for &range in &settings.service_prefixes {
            let count = this.service_ranges.get(range).map_or(0, |count| *count);
            this.service_ranges.insert(range, count + 1);
            this.touch_range(range, touched);
        }
        for &address in &settings.api_servers {
            count(&mut this.api_servers, address, touched);
        }
        this
    }

    /// Takes in what differs between two inventories.
    pub(crate) fn take(&mut self, old: &Inventory, new: &Inventory, touched: &mut Touched) {
        if old.host_addresses != new.host_addresses {
            self.take_host(old, new, touched);
        }
        for changed in changes(&old.nodes, &new.nodes) {
            self.take_node(&changed, touched);
        }
        for changed in changes(&old.pods, &new.pods) {
            self.take_pod(&changed, touched);
        }
        for changed in changes(&old.services, &new.services) {
            self.take_service(&changed, touched);
        }
    }

    fn take_pod(&mut self, changed: &Changed<'_, EndpointName, Pod>, touched: &mut Touched) {
        if let Some(old) = changed.old {
            old.addresses
                .iter()
                .for_each(|own| remove(&mut self.pods, *own, |pod| pod.name == old.name));
            touch(touched, &old.addresses);
        }
        if let Some(new) = changed.new {
            new.addresses.iter().for_each(|own| insert(&mut self.pods, *own, new, |pod| &pod.name));
            touch(touched, &new.addresses);
        }
    }

    /// Which nodes are this one depends on its addresses.
    fn take_host(&mut self, old: &Inventory, new: &Inventory, touched: &mut Touched) {
        let all = |node| Changed { key: new_key(node), old: Some(node), new: None };
        old.nodes.values().for_each(|node| self.take_node(&all(node), touched));
        touch(touched, old.host_addresses.union(&new.host_addresses));
        self.host.clone_from(&new.host_addresses);
        let all = |node| Changed { key: new_key(node), old: None, new: Some(node) };
        old.nodes.values().for_each(|node| self.take_node(&all(node), touched));
    }

    fn take_node(&mut self, changed: &Changed<'_, String, ClusterNode>, touched: &mut Touched) {
        if let Some(old) = changed.old {
            if self.own.remove(&old.name).is_some() {
                touch(touched, &self.host);
            }
            old.addresses
                .iter()
                .for_each(|own| remove(&mut self.nodes, *own, |node| node.name == old.name));
            touch(touched, &old.addresses);
            old.health_addresses.iter().for_each(|own| discount(&mut self.health, *own, touched));
            old.pod_prefixes.iter().for_each(|own| self.remove_pod_range(*own, touched));
        }
        let Some(new) = changed.new else { return };
        if new.addresses.iter().any(|own| self.host.contains(own)) {
            self.own.insert(new.name.clone(), Arc::clone(new));
            touch(touched, &self.host);
        } else {
            new.addresses
                .iter()
                .for_each(|own| insert(&mut self.nodes, *own, new, |node| &node.name));
        }
        touch(touched, &new.addresses);
        new.health_addresses.iter().for_each(|own| count(&mut self.health, *own, touched));
        new.pod_prefixes.iter().for_each(|own| self.add_pod_range(*own, touched));
    }

    fn take_service(
        &mut self,
        changed: &Changed<'_, EndpointName, Service>,
        touched: &mut Touched,
    ) {
        let (namespace, name) = API_SERVICE;
        let is_api = changed.key.namespace == namespace && changed.key.name == name;
        let wanted = self.wanted_services.contains_key(changed.key);
        if let Some(old) = changed.old {
            old.addresses.iter().for_each(|own| discount(&mut self.services, *own, touched));
            for &backend in &old.backends {
                if is_api {
                    discount(&mut self.api_servers, backend, touched);
                }
                if wanted {
                    self.remove_backend(backend, changed.key, touched);
                }
            }
        }
        let Some(new) = changed.new else { return };
        new.addresses.iter().for_each(|own| count(&mut self.services, *own, touched));
        for &backend in &new.backends {
            if is_api {
                count(&mut self.api_servers, backend, touched);
            }
            if wanted {
                self.add_backend(backend, changed.key, touched);
            }
        }
    }

    fn add_backend(&mut self, backend: IpAddr, service: &EndpointName, touched: &mut Touched) {
        self.backends.entry(backend).or_default().insert(service.clone());
        touched.insert(Prefix::host(backend));
    }

    fn remove_backend(&mut self, backend: IpAddr, service: &EndpointName, touched: &mut Touched) {
        if let Some(services) = self.backends.get_mut(&backend) {
            services.remove(service);
            if services.is_empty() {
                self.backends.remove(&backend);
            }
        }
        touched.insert(Prefix::host(backend));
    }

    fn add_pod_range(&mut self, range: Prefix, touched: &mut Touched) {
        let count = self.pod_ranges.get(range).map_or(0, |count| *count);
        self.pod_ranges.insert(range, count + 1);
        if count == 0 {
            self.touch_range(range, touched);
        }
    }

    fn remove_pod_range(&mut self, range: Prefix, touched: &mut Touched) {
        match self.pod_ranges.get(range) {
            Some(count) if *count > 1 => {
                let count = count - 1;
                self.pod_ranges.insert(range, count);
            }
            Some(_) | None => {
                self.pod_ranges.remove(range);
                self.touch_range(range, touched);
            }
        }
    }

    /// Prefixes that rules name within a range of the cluster's mean nothing of their own, and
    /// marked addresses there are of the cluster.
    fn touch_range(&self, range: Prefix, touched: &mut Touched) {
        touched.insert(range);
        let marked = self.api_servers.keys().chain(self.backends.keys());
        touch(touched, marked.filter(|address| range.covers(**address)));
        let named = self.named.range(range..).map(|(prefix, _)| *prefix);
        touched.extend(named.take_while(|prefix| range.contains(*prefix)));
    }

    /// Takes in what a table asks for from now on.
    pub(crate) fn add(&mut self, asked: &Asked, known: &Inventory, touched: &mut Touched) {
        for prefix in &asked.prefixes {
            *self.named.entry(*prefix).or_default() += 1;
            touched.insert(*prefix);
        }
        for service in &asked.wants.services {
            *self.wanted_services.entry(service.clone()).or_default() += 1;
            let own = known.services.get(service).into_iter().flat_map(|own| &own.backends);
            own.for_each(|backend| self.add_backend(*backend, service, touched));
        }
        for port in &asked.wants.ports {
            *self.wanted_ports.entry(port.clone()).or_default() += 1;
            touch_with_port(known, port, touched);
        }
    }

    /// Takes back what a table does not ask for any more.
    pub(crate) fn remove(&mut self, asked: &Asked, known: &Inventory, touched: &mut Touched) {
        for prefix in &asked.prefixes {
            if take_one(&mut self.named, prefix) {
                touched.insert(*prefix);
            }
        }
        for service in &asked.wants.services {
            if take_one(&mut self.wanted_services, service) {
                let own = known.services.get(service).into_iter().flat_map(|own| &own.backends);
                own.for_each(|backend| self.remove_backend(*backend, service, touched));
            }
        }
        for port in &asked.wants.ports {
            if take_one(&mut self.wanted_ports, port) {
                touch_with_port(known, port, touched);
            }
        }
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

fn new_key(node: &Arc<ClusterNode>) -> &String {
    &node.name
}

/// Which pods name a port is not indexed: that a rule asks for a new name is rare, and may be
/// about each of them.
fn touch_with_port(known: &Inventory, port: &String, touched: &mut Touched) {
    let named = known.pods.values().filter(|pod| pod.ports.contains_key(port));
    named.for_each(|pod| touch(touched, &pod.addresses));
}

fn touch<'a>(touched: &mut Touched, addresses: impl IntoIterator<Item = &'a IpAddr>) {
    touched.extend(addresses.into_iter().map(|address| Prefix::host(*address)));
}

/// Adds an object to those at an address, in the order of their names.
fn insert<T, K: Ord>(
    all: &mut BTreeMap<IpAddr, Vec<Arc<T>>>,
    address: IpAddr,
    object: &Arc<T>,
    key: impl Fn(&T) -> &K,
) {
    let own = all.entry(address).or_insert_with(|| Vec::with_capacity(1));
    let place = own.partition_point(|other| key(other) < key(object));
    own.insert(place, Arc::clone(object));
}

fn remove<T>(all: &mut BTreeMap<IpAddr, Vec<Arc<T>>>, address: IpAddr, is_it: impl Fn(&T) -> bool) {
    if let Some(own) = all.get_mut(&address) {
        own.retain(|other| !is_it(other));
        if own.is_empty() {
            all.remove(&address);
        }
    }
}

fn count(counts: &mut BTreeMap<IpAddr, usize>, address: IpAddr, touched: &mut Touched) {
    *counts.entry(address).or_default() += 1;
    touched.insert(Prefix::host(address));
}

fn discount(counts: &mut BTreeMap<IpAddr, usize>, address: IpAddr, touched: &mut Touched) {
    take_one(counts, &address);
    touched.insert(Prefix::host(address));
}

/// Counts one less; whether that was the last.
fn take_one<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) -> bool {
    match counts.get_mut(key) {
        Some(count) if *count > 1 => {
            *count -= 1;
            false
        }
        Some(_) | None => counts.remove(key).is_some(),
    }
}

pub(crate) fn reserved(name: &str) -> Labels {
    std::iter::once(reserved_label(name)).collect()
}

fn reserved_label(name: &str) -> Label {
    Label { key: name.to_owned(), source: Source::Reserved, value: String::new() }
}
