//! A lab with the rest of a cluster around its node: peers for every field of a policy, all of them
//! serving the same ports, so that only the policy tells them apart.
//!
//! What would be on other machines of the cluster lies with the outside host `elsewhere`.

use std::{net::IpAddr, thread};

use crate::{
    lab::{Lab, LabError, Pod},
    plan::{LabOptions, NODE, OutsideSpec, PodSpec},
    probe::Reach,
    service::ServiceSpec,
};

/// Somewhere to connect to: its name, its addresses of both families, its port.
pub type Place = (&'static str, [IpAddr; 2], u16);

/// The client of a cluster's policies.
pub const BACKEND: &str = "prod/backend";

const REMOTE_NODE: [&str; 2] = ["192.0.2.11", "2001:db8:bad::11"];
const HEALTH: [&str; 2] = ["192.0.2.12", "2001:db8:bad::12"];
const API_SERVER: [&str; 2] = ["192.0.2.13", "2001:db8:bad::13"];
const API_SERVICE: [&str; 2] = ["10.96.0.1", "fd00:96::1"];
const UNMANAGED: [&str; 2] = ["10.244.0.250", "fd00:244::250"];
const WORLD: [&str; 2] = ["203.0.113.10", "2001:db8:1::10"];

impl Lab {
    /// A lab with two nodes, an API server, databases, and a cache in each of two namespaces.
    pub fn cluster() -> Result<Lab, LabError> {
        let pod = PodSpec::new;
        let pods = vec![
            pod(BACKEND),
            pod("prod/cache").label("role", "cache"),
            pod("staging/cache").label("role", "cache"),
            pod("prod/db").port("postgres", "TCP", 5432).port("echo", "UDP", 7),
            pod("prod/redis").label("tier", "data"),
            pod("prod/kafka"),
        ];
        let mut outside = LabOptions::default().outside;
        let range = [(known("172.31.0.0"), 16), (known("2001:db8:31::"), 64)];
        outside.push(OutsideSpec { name: "range".into(), prefixes: range.into(), dns: Vec::new() });
        let mut lab = Lab::new(LabOptions { pods, outside, ..LabOptions::default() })?;
        lab.serve_on_node()?;
        lab.manifests().write("nodes", &nodes())?;
        let api = ServiceSpec::new("default/kubernetes", &API_SERVICE).port("TCP", 443, 6443);
        lab.service(&api.backends(&API_SERVER.map(known)))?;
        Ok(lab)
    }

    /// Places of such a cluster, one for each entity that has any, and pods of two namespaces.
    pub fn places(&self) -> Vec<Place> {
        let (node4, node6) = NODE;
        vec![
            ("pod", self.pod("prod/cache").addresses(), 443),
            ("pod elsewhere", self.pod("staging/cache").addresses(), 443),
            ("host", [node4.into(), node6.into()], 443),
            ("remote-node", REMOTE_NODE.map(known), 443),
            ("kube-apiserver", API_SERVER.map(known), 6443),
            ("API service", API_SERVICE.map(known), 443),
            ("health", HEALTH.map(known), 443),
            ("unmanaged", UNMANAGED.map(known), 443),
            ("world", WORLD.map(known), 443),
        ]
    }
}

impl Pod {
    /// The names of those of `places` that the pod's TCP connections get through to, be it that
    /// nothing listens there; all are tried at the same time.
    ///
    /// # Panics
    /// The two families of a place fare differently.
    pub fn reaches<'a>(&self, places: &[(&'a str, [IpAddr; 2], u16)]) -> Vec<&'a str> {
        let gets_through = |address, port| match self.connect(address, port) {
            Reach::Open | Reach::Refused => true,
            Reach::Unreachable | Reach::Silent => false,
        };
        thread::scope(|scope| {
            let begun: Vec<_> = places
                .iter()
                .map(|&(name, addresses, port)| {
                    let own =
                        addresses.map(|address| scope.spawn(move || gets_through(address, port)));
                    (name, own)
                })
                .collect();
            let ended = begun.into_iter().filter_map(|(name, own)| {
                let [v4, v6] = own.map(|thread| thread.join().expect("a probe's thread"));
                assert_eq!(v4, v6, "{name}: IPv4 and IPv6");
                v4.then_some(name)
            });
            ended.collect()
        })
    }
}

fn nodes() -> String {
    let (node4, node6) = NODE;
    let [remote4, remote6] = REMOTE_NODE;
    let [health4, health6] = HEALTH;
    format!(
        "apiVersion: v1
kind: Node
metadata:
  name: here
  labels: {{role: worker}}
spec:
  podCIDRs: [10.244.0.0/24, 'fd00:244::/64']
status:
  addresses:
  - {{type: InternalIP, address: {node4}}}
  - {{type: InternalIP, address: '{node6}'}}
---
apiVersion: v1
kind: Node
metadata:
  name: there
  labels: {{role: gateway}}
  annotations:
    network.cilium.io/ipv4-health-ip: {health4}
    network.cilium.io/ipv6-health-ip: '{health6}'
status:
  addresses:
  - {{type: InternalIP, address: {remote4}}}
  - {{type: InternalIP, address: '{remote6}'}}
"
    )
}

fn known(text: &str) -> IpAddr {
    text.parse().expect("an address written in this file")
}
