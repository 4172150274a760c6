//! What a lab is to be: its topology, its pods and its outside hosts, with every address decided.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// How the node connects its pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Topology {
    /// A /32 and a /128 route to each pod's veth, and a gateway that answers ARP for anything, as
    /// Calico does.
    #[default]
    Routed,
    /// A bridge `cni0` that is the pods' gateway, as flannel and the bridge plugin do.
    Bridged,
}

/// How a pod's manifest says which interface is the pod's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Binding {
    /// By the name of its host-side interface.
    #[default]
    Interface,
    /// By the path of its network namespace.
    Namespace,
    /// Not at all: a pod of some other source.
    None,
}

/// A pod to be made.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// Its name there.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The names of its container's ports, each with protocol and number.
    pub ports: Vec<(String, String, u16)>,
    /// How its manifest names its interface.
    pub binding: Binding,
}

impl PodSpec {
    /// A pod `namespace/name` with the label `app: name`. A name without a namespace is in
    /// `default`.
    pub fn new(path: &str) -> PodSpec {
        let (namespace, name) = path.split_once('/').unwrap_or(("default", path));
        PodSpec {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
            ports: Vec::new(),
            binding: Binding::default(),
        }
    }

    /// The same with one label more, or another value for it.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> PodSpec {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The same with a name for one more of its ports.
    #[must_use]
    pub fn port(mut self, name: &str, protocol: &str, number: u16) -> PodSpec {
        self.ports.push((name.to_owned(), protocol.to_owned(), number));
        self
    }

    /// The same, bound in another way.
    #[must_use]
    pub fn bound_by(self, binding: Binding) -> PodSpec {
        PodSpec { binding, ..self }
    }

    /// `namespace/name`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// A host outside the node, which answers at every address of its prefixes.
#[derive(Clone, Debug)]
pub struct OutsideSpec {
    /// Its name in the lab.
    pub name: String,
    /// Its prefixes, as address and length.
    pub prefixes: Vec<(IpAddr, u8)>,
    /// The addresses on which it is a DNS server.
    pub dns: Vec<IpAddr>,
}

impl OutsideSpec {
    fn new(name: &str, prefixes: &[(&str, u8)], dns: &[&str]) -> OutsideSpec {
        OutsideSpec {
            name: name.to_owned(),
            prefixes: prefixes.iter().map(|&(text, length)| (known(text), length)).collect(),
            dns: dns.iter().copied().map(known).collect(),
        }
    }
}

/// What to build.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// How pods are connected.
    pub topology: Topology,
    /// Whether bridged packets pass the IP hooks, as Kubernetes asks nodes to have it.
    pub br_netfilter: bool,
    /// The pods beside the cluster DNS pod.
    pub pods: Vec<PodSpec>,
    /// The outside.
    pub outside: Vec<OutsideSpec>,
}

impl Default for LabOptions {
    fn default() -> LabOptions {
        LabOptions {
            topology: Topology::Routed,
            br_netfilter: true,
            pods: vec![
                PodSpec::new("default/client"),
                PodSpec::new("default/other").bound_by(Binding::Namespace),
                PodSpec::new("prod/backend"),
            ],
            outside: vec![
                OutsideSpec::new(
                    "web",
                    &[
                        ("203.0.113.0", 24),
                        ("93.184.216.0", 24),
                        ("2001:db8:1::", 64),
                        ("2606:2800:220:1::", 64),
                    ],
                    &[],
                ),
                OutsideSpec::new("cdn", &[("198.51.100.0", 24), ("2001:db8:2::", 64)], &[]),
                OutsideSpec::new("elsewhere", &[("192.0.2.0", 24), ("2001:db8:bad::", 64)], &[]),
                OutsideSpec::new("fresh", &[("198.18.0.0", 15), ("2001:db8:f::", 48)], &[]),
                OutsideSpec::new(
                    "resolver",
                    &[("9.9.9.0", 24), ("2620:fe::", 48)],
                    &["9.9.9.9", "2620:fe::9"],
                ),
            ],
        }
    }
}

impl LabOptions {
    /// The usual lab with this topology.
    pub fn with_topology(topology: Topology) -> LabOptions {
        LabOptions { topology, ..LabOptions::default() }
    }

    /// The same with one pod more.
    #[must_use]
    pub fn pod(mut self, pod: PodSpec) -> LabOptions {
        self.pods.push(pod);
        self
    }
}

/// The namespace and name of the pod that serves the cluster's DNS.
pub(crate) const DNS_POD: &str = "kube-system/coredns";

/// The addresses of the DNS service, which nothing in the lab owns.
pub(crate) const DNS_SERVICE: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 96, 0, 10), Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0xa));

/// The pods' ranges.
pub(crate) const POD_RANGES: (&str, &str) = ("10.244.0.0/16", "fd00:244::/48");

/// The gateway on a bridge.
pub(crate) const BRIDGE: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 244, 0, 1), Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, 1));

/// The node's own addresses, and the router's beside them.
pub(crate) const NODE: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(172, 20, 0, 2), Ipv6Addr::new(0xfd00, 0x172, 0, 0, 0, 0, 0, 2));
pub(crate) const ROUTER: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(172, 20, 0, 1), Ipv6Addr::new(0xfd00, 0x172, 0, 0, 0, 0, 0, 1));

/// The addresses of the pod with this place in the plan: host numbers 2 and up.
pub(crate) fn pod_addresses(place: u8) -> (Ipv4Addr, Ipv6Addr) {
    let host = place.saturating_add(2);
    let v6 = Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, u16::from(host));
    (Ipv4Addr::new(10, 244, 0, host), v6)
}

/// The host-side interface's name: at most 15 octets, unique by its number.
pub(crate) fn veth_name(place: u8, pod: &str) -> String {
    let mut name = format!("v{place}-{pod}");
    name.truncate(15);
    name
}

fn known(text: &str) -> IpAddr {
    text.parse().expect("an address written in this file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_fit_and_differ() {
        assert_eq!(veth_name(3, "client"), "v3-client");
        assert_eq!(veth_name(12, "a-very-long-pod-name"), "v12-a-very-long");
    }

    #[test]
    fn pods_begin_after_the_gateway() {
        assert_eq!(pod_addresses(0).0.to_string(), "10.244.0.2");
        assert_eq!(pod_addresses(0).1.to_string(), "fd00:244::2");
    }
}
