//! The cluster's own DNS servers, and whose answers may teach addresses.
//!
//! Its own are the DNS service with what stands behind it, the pods of that service's namespace
//! that have the usual label of DNS pods, and the services there behind which are such pods alone.
//! What lies in other namespaces counts for nothing: whoever may make pods and services there
//! makes no resolver by it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::{EndpointName, Pod, Prefix, Service, Source, changes};

use crate::inventory::{Inventory, dns_backends};

/// The label of the cluster's DNS pods, whatever they run.
const DNS_LABEL: (&str, &str) = ("k8s-app", "kube-dns");

/// The addresses at which the cluster's own DNS servers are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolvers(BTreeSet<IpAddr>);

/// The servers whose answers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teachers {
    /// The trusted ones where the cluster's own are known, any elsewhere.
    Auto,
    /// Any that a rule lets be asked.
    Any,
    /// The cluster's own and those that the configuration names.
    Trusted,
}

/// From whom addresses are learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learning {
    /// Whose answers count.
    pub from: Teachers,
    /// Trusted servers beside the cluster's own.
    pub resolvers: Vec<Prefix>,
}

impl Learning {
    /// Whether an answer of this server may teach, where these are the cluster's own.
    pub fn admits(&self, server: IpAddr, own: &Resolvers) -> bool {
        match self.from {
            Teachers::Any => return true,
            Teachers::Auto if own.0.is_empty() => return true,
            Teachers::Auto | Teachers::Trusted => {}
        }
        own.0.contains(&server) || self.resolvers.iter().any(|own| own.covers(server))
    }
}

/// The pods and services that tell which servers are the cluster's own.
#[derive(Debug, Default)]
pub(crate) struct DnsServers {
    pods: BTreeMap<EndpointName, Arc<Pod>>,
    /// All services of the DNS service's namespace.
    services: BTreeMap<EndpointName, Arc<Service>>,
}

impl DnsServers {
    /// Takes in what differs between two inventories; the servers, where that concerns them.
    pub(crate) fn take(
        &mut self,
        old: &Inventory,
        new: &Inventory,
        dns: &EndpointName,
    ) -> Option<Resolvers> {
        let mut touched = false;
        for changed in changes(&old.pods, &new.pods) {
            if changed.key.namespace == dns.namespace {
                let pod = changed.new.filter(|pod| serves_dns(pod));
                touched |= replace(&mut self.pods, changed.key, pod);
            }
        }
        for changed in changes(&old.services, &new.services) {
            if changed.key.namespace == dns.namespace {
                touched |= replace(&mut self.services, changed.key, changed.new);
            }
        }
        touched.then(|| self.resolvers(dns))
    }

    fn resolvers(&self, dns: &EndpointName) -> Resolvers {
        let pods = self.pods.values().flat_map(|pod| &pod.addresses).copied();
        let pods: BTreeSet<IpAddr> = pods.collect();
        let mut all = pods.clone();
        for (name, service) in &self.services {
            let backends = dns_backends(service);
            if name == dns || !backends.is_empty() && backends.is_subset(&pods) {
                all.extend(&service.addresses);
                all.extend(backends);
            }
        }
        Resolvers(all)
    }
}

fn serves_dns(pod: &Pod) -> bool {
    let (key, value) = DNS_LABEL;
    pod.labels.values(&Source::Kubernetes, key).any(|own| own == value)
}

/// Puts an object in its place, or takes it away; whether that changed anything.
fn replace<T>(
    objects: &mut BTreeMap<EndpointName, Arc<T>>,
    name: &EndpointName,
    object: Option<&Arc<T>>,
) -> bool {
    match object {
        Some(object) => {
            objects.insert(name.clone(), Arc::clone(object));
            true
        }
        None => objects.remove(name).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use model::{Label, Labels, Protocol, ServicePort};

    use super::*;

    fn name(path: &str) -> EndpointName {
        let (namespace, name) = path.split_once('/').unwrap();
        EndpointName { namespace: namespace.into(), name: name.into() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn pod(inventory: &mut Inventory, path: &str, app: &str, address: &str) {
        let pod = Pod {
            name: name(path),
            uid: String::new(),
            labels: Labels::from_iter([Label::kubernetes("k8s-app", app)]),
            addresses: vec![ip(address)],
            extra_sources: Vec::new(),
            attachment: None,
            host_network: false,
            ports: Default::default(),
        };
        inventory.pods.insert(name(path), Arc::new(pod));
    }

    fn service(inventory: &mut Inventory, path: &str, address: &str, backends: &[&str]) {
        let mut service = Service::new(name(path));
        service.addresses.push(ip(address));
        service.ports.push(ServicePort {
            name: String::new(),
            protocol: Protocol::UDP,
            port: 53,
            node_port: None,
            backends: backends.iter().map(|own| (ip(own), 5353).into()).collect(),
        });
        inventory.services.insert(name(path), Arc::new(service));
    }

    /// Follows inventories as the engine does.
    #[derive(Default)]
    struct Bench {
        old: Inventory,
        servers: DnsServers,
    }

    impl Bench {
        fn take(&mut self, new: &Inventory) -> Option<Vec<String>> {
            let taken = self.servers.take(&self.old, new, &name("kube-system/kube-dns"));
            self.old = new.clone();
            taken.map(|own| own.0.iter().map(ToString::to_string).collect())
        }
    }

    #[test]
    fn the_clusters_own_are_its_dns_pods_and_the_services_that_lead_to_them_alone() {
        let (mut inventory, mut bench) = (Inventory::default(), Bench::default());
        pod(&mut inventory, "kube-system/dns-1", "kube-dns", "10.0.0.53");
        pod(&mut inventory, "kube-system/proxy", "kube-proxy", "10.0.0.54");
        pod(&mut inventory, "evil/dns", "kube-dns", "10.0.0.66");
        assert_eq!(bench.take(&inventory), Some(vec!["10.0.0.53".into()]));
        service(&mut inventory, "kube-system/upstream", "10.96.0.11", &["10.0.0.53"]);
        service(&mut inventory, "kube-system/mixed", "10.96.0.12", &["10.0.0.53", "10.0.0.54"]);
        service(&mut inventory, "kube-system/empty", "10.96.0.13", &[]);
        service(&mut inventory, "evil/kube-dns", "10.96.0.66", &["10.0.0.53"]);
        assert_eq!(bench.take(&inventory), Some(vec!["10.0.0.53".into(), "10.96.0.11".into()]));
        pod(&mut inventory, "evil/other", "kube-dns", "10.0.0.67");
        assert_eq!(bench.take(&inventory), None, "what concerns no server decides nothing");
        inventory.pods.remove(&name("kube-system/dns-1"));
        assert_eq!(bench.take(&inventory), Some(Vec::new()));
    }

    #[test]
    fn the_dns_service_counts_with_all_that_stands_behind_it() {
        let (mut inventory, mut bench) = (Inventory::default(), Bench::default());
        service(&mut inventory, "kube-system/kube-dns", "10.96.0.10", &["9.9.9.9"]);
        assert_eq!(bench.take(&inventory), Some(vec!["9.9.9.9".into(), "10.96.0.10".into()]));
        service(&mut inventory, "kube-system/kube-dns", "10.96.0.10", &[]);
        assert_eq!(bench.take(&inventory), Some(vec!["10.96.0.10".into()]));
    }

    #[test]
    fn a_stranger_teaches_only_where_anybody_may_or_the_clusters_own_are_not_known() {
        let own = Resolvers(BTreeSet::from([ip("10.96.0.10")]));
        let unknown = Resolvers::default();
        let admits = |from, server: &str, known: &Resolvers| {
            let resolvers = vec!["169.254.20.10/32".parse().unwrap()];
            Learning { from, resolvers }.admits(ip(server), known)
        };
        for from in [Teachers::Auto, Teachers::Any, Teachers::Trusted] {
            assert!(admits(from, "10.96.0.10", &own));
            assert!(admits(from, "169.254.20.10", &own) && admits(from, "169.254.20.10", &unknown));
        }
        assert!(!admits(Teachers::Auto, "9.9.9.9", &own));
        assert!(admits(Teachers::Auto, "9.9.9.9", &unknown));
        assert!(admits(Teachers::Any, "9.9.9.9", &own));
        assert!(!admits(Teachers::Trusted, "9.9.9.9", &unknown));
    }
}
