//! What is known of addresses follows inventories, and what tables ask for.
//!
//! Whatever may have become something else is added to `touched`, to be asked for its meaning anew.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use model::{Changed, ClusterNode, EndpointName, Pod, Prefix, Service, changes};
use policy::Asked;

use super::{Addresses, Touched};
use crate::inventory::Inventory;
use crate::node::Settings;

/// The service by which a cluster knows its own API servers.
const API_SERVICE: (&str, &str) = ("default", "kubernetes");

impl Addresses {
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
