//! Explanations beside what the programs do by the maps that the engine writes.

use model::{Audited, Frontend, Identity, Row, Ruling, State, Verdict, Way};

use super::*;
use crate::Node;

/// Policies of every kind, for a comparison with what the kernel is told.
const LANGUAGE: &[&str] = &[
    "egress: [{}]",
    "egress: [{toEndpoints: [{}]}]",
    "egress: [{toEndpoints: [{matchLabels: {app: db}}], toPorts: [{ports: [{port: '15432', protocol: TCP}]}]}]",
    "egress: [{toEntities: [cluster]}]\negressDeny: [{toEndpoints: [{matchLabels: {app: db}}]}]",
    "egress: [{toEntities: [host, kube-apiserver]}]",
    "egress: [{toEntities: [world]}]\negressDeny: [{toCIDR: [203.0.113.0/24]}]",
    "egress: [{toEntities: [all]}]\negressDeny: [{toPorts: [{ports: [{port: '80'}]}]}]",
    "egress: [{toServices: [{k8sService: {serviceName: db, namespace: prod}}]}]",
    "egress: [{toServices: [{k8sService: {serviceName: empty, namespace: prod}}]}]",
    "egress: [{toCIDRSet: [{cidr: 0.0.0.0/0, except: [203.0.113.0/24]}]}]",
    "egress: [{toCIDR: [10.0.0.0/8]}, {toCIDR: [10.0.7.0/24]}]",
    "egress: [{toPorts: [{ports: [{port: sql, protocol: TCP}]}]}]",
    "egress: [{toPorts: [{ports: [{port: '53', protocol: ANY}], rules: {dns: [{matchName: a.com}]}}]}]",
    "egress: [{toEndpoints: [{matchLabels: {k8s-app: kube-dns}}], toPorts: [{ports: [{port: '1053', protocol: ANY}], rules: {dns: [{matchPattern: '*'}]}}]}]",
    "egress: [{toCIDR: [203.0.113.0/24]}]\nenableDefaultDeny: {egress: false}",
    "egressDeny: [{toCIDR: [203.0.113.0/24]}]\nenableDefaultDeny: {egress: false}",
    "egress: [{toEndpoints: [{matchLabels: {app: db}}], toPorts: [{ports: [{port: '15432', protocol: TCP}], rules: {kafka: [{}]}}]}, {toEntities: [world]}]",
    "egress: [{toEndpoints: [{}], toPorts: [{ports: [{port: '0', protocol: ANY}], serverNames: [a.com]}]}, {toEndpoints: [{matchLabels: {app: db}}]}]",
    "egress: [{toEntities: [world], toPorts: [{ports: [{port: '443', protocol: TCP}], rules: {http: [{}]}}]}]\nenableDefaultDeny: {egress: false}",
    "egress: [{toPorts: [{ports: [{port: sql, protocol: TCP}], rules: {http: [{}]}}]}]",
];

#[test]
fn explanations_say_what_the_kernel_does() {
    let addresses = [
        "10.0.0.2",
        "10.0.0.3",
        "10.0.0.9",
        "10.0.0.77",
        "10.0.7.7",
        "10.5.0.1",
        "10.96.0.1",
        "10.96.0.2",
        "10.96.0.3",
        "10.96.0.10",
        "10.96.9.9",
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.200",
        "203.0.113.1",
        "198.51.100.1",
        "fd00::2",
        "fd96::2",
        "2001:db8::1",
    ];
    let ports = [
        "80/TCP",
        "53/UDP",
        "1053/UDP",
        "443/TCP",
        "443/UDP",
        "5432/TCP",
        "15432/TCP",
        "30443/TCP",
    ];
    let mut compared = 0;
    let beside = document("name: more", "egress: [{toCIDR: [203.0.113.0/24]}]");
    let clusters = |spec: &&'static str| {
        let audited = document(AUDITED, spec);
        let both = Cluster::with(&format!("{audited}---\n{beside}"));
        [Cluster::new(spec), Cluster::with(&audited), both].map(|cluster| (*spec, cluster))
    };
    for (spec, cluster) in LANGUAGE.iter().flat_map(clusters) {
        let mut node = Node::new(cluster.settings.clone());
        node.plan(&cluster.inventory).unwrap();
        let kernel = node.desired();
        for address in addresses {
            for port in ports.iter().chain(&["8/ICMP"]) {
                let said = cluster.ask(address, port, &[]);
                let told = judged(&kernel, &question(address, port, &[]));
                // What passes for want of default deny passes like all else.
                let reason = match said.reason {
                    Reason::NotEnforced => Reason::AllowRule,
                    other => other,
                };
                assert_eq!((said.outcome, reason), told, "{spec}: {address} {port}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 3 * LANGUAGE.len() * addresses.len() * (ports.len() + 1));
}

/// What the programs do by these maps.
fn judged(kernel: &State, question: &Question) -> (Outcome, Reason) {
    let Target::Address(address) = question.to else { panic!("{question:?}") };
    let (protocol, port) = (question.protocol, question.port);
    let enforcement = kernel.endpoints[&Interface(7)].enforcement;
    let model::Enforcement::Table(table) = enforcement else { panic!("{enforcement:?}") };
    let row = |identity: Identity| {
        let rows = kernel.rows.iter().filter(|(row, _)| {
            row.table == table && row.identity == identity && row.ports.covers(protocol, port)
        });
        let longest = rows.max_by_key(|(Row { ports, .. }, _)| ports.len());
        longest.map(|(_, ruling)| *ruling).unwrap_or_default()
    };
    let any = row(Identity::ANY);
    let (ruling, unspoken) = match kernel.frontends.get(&Frontend { address, protocol, port }) {
        Some(service) => (row(*service).union(default_deny_of(any)), DropReason::PolicyDenied),
        None => {
            let covering = kernel.prefixes.iter().filter(|(prefix, _)| prefix.covers(address));
            let (_, identity) = covering.max_by_key(|(prefix, _)| prefix.length()).unwrap();
            match *identity {
                Identity::NO_SERVICE if any.verdict == Some(Verdict::Deny) => {
                    (Ruling::default(), DropReason::NoService)
                }
                Identity::NO_SERVICE => (default_deny_of(any), DropReason::NoService),
                identity => (row(identity).union(any), DropReason::PolicyDenied),
            }
        }
    };
    let fate = ruling.fate(protocol, unspoken);
    match (fate.way, fate.reason.map(Reason::Dropped)) {
        (Way::Direct, None) => (Outcome::Allow, Reason::AllowRule),
        (Way::DnsProxy, None) => (Outcome::Redirect, Reason::DnsRule),
        (Way::L7Proxy, None) => (Outcome::Redirect, Reason::L7Rule),
        (Way::Direct | Way::DnsProxy | Way::L7Proxy, Some(reason)) => (Outcome::Audit, reason),
        (Way::Dropped, reason) => (Outcome::Deny, reason.expect("what is dropped has a reason")),
    }
}

/// Whether default deny is audited, alone of what is said of every destination.
fn default_deny_of(any: Ruling) -> Ruling {
    let audited = Audited { deny_rule: false, ..any.audited };
    Ruling { verdict: None, audited }
}
