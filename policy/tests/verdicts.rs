//! What Cilium's own code says of packets under policies, and what is said of them here.
//!
//! `cilium/verdicts.txt` holds policies that were made at random, each with a line for every
//! destination and in it a letter for every packet: what the code of Cilium 1.19 that selects by
//! labels, prefixes, names and ports made of it. `a` is allowed, `.` not allowed, `d` denied, `q`
//! judged by the DNS proxy, `p` by another one, and `r` of no concern to any rule.

use std::path::Path;
use std::sync::Arc;

use model::{Label, Labels, Name, Protocol, Source, Verdict};
use policy::{Context, DefaultDeny, Destination, Document, Packet, Policy, Rule, Wants, explain};

const CASES: &str = include_str!("cilium/verdicts.txt");

/// The packets of a line, in order.
const PACKETS: [(Protocol, u16); 18] = [
    (Protocol::TCP, 7),
    (Protocol::TCP, 53),
    (Protocol::TCP, 80),
    (Protocol::TCP, 443),
    (Protocol::TCP, 8080),
    (Protocol::TCP, 60000),
    (Protocol::UDP, 7),
    (Protocol::UDP, 53),
    (Protocol::UDP, 80),
    (Protocol::UDP, 443),
    (Protocol::UDP, 8080),
    (Protocol::UDP, 60000),
    (Protocol::SCTP, 80),
    (Protocol::SCTP, 443),
    (Protocol::ICMP, 8),
    (Protocol::ICMP, 13),
    (Protocol::ICMPV6, 128),
    (Protocol::ICMPV6, 129),
];

#[test]
fn packets_fare_as_by_ciliums_own_code() {
    let mut packets = 0;
    for case in CASES.split("=== ").skip(1) {
        let (number, case) = case.split_once('\n').unwrap();
        let (policies, lines) = case.split_once(">>>\n").unwrap();
        let rules: Vec<Arc<Rule>> = policies.split("---\n").flat_map(rules_of).collect();
        for line in lines.lines() {
            let (place, expected) = line.split_once(' ').unwrap();
            let found: String = PACKETS.iter().map(|own| letter(&rules, place, *own)).collect();
            assert_eq!(found, expected.trim(), "case {number}, {place}");
            packets += found.len();
        }
    }
    assert!(packets > 10_000, "{packets}");
}

/// The rules of a policy that select the pod which sends.
fn rules_of(text: &str) -> Vec<Arc<Rule>> {
    let text = format!("apiVersion: cilium.io/v2\n{text}");
    let (documents, problems) = Document::read_all(&Arc::from(Path::new("policy.yaml")), &text);
    assert_eq!(problems, []);
    let sender = pod("default", &[("app", "client"), ("tier", "front")]);
    let rules = Policy::read(&documents[0]).unwrap().rules;
    rules.into_iter().filter(|rule| rule.selects(&sender)).collect()
}

fn letter(rules: &[Arc<Rule>], place: &str, (protocol, port): (Protocol, u16)) -> char {
    let (labels, names) = (labels_of(place), names_of(place));
    let destination = match place {
        "api-out" => Some("192.0.2.13"),
        outside if outside.contains(['.', ':']) => Some(outside),
        _ => None,
    };
    let destination = match destination {
        Some(address) => Destination::Outside {
            address: address.parse().unwrap(),
            labels: &labels,
            names: &names,
        },
        None => Destination::Inside(&labels),
    };
    let packet = Packet { destination, protocol, port, asks: None };
    let found = explain(rules, &Context::default(), &packet);
    match found.verdict {
        Some(Verdict::Allow) => 'a',
        Some(Verdict::Deny) => 'd',
        Some(Verdict::Dns) => 'q',
        Some(Verdict::Proxy) if protocol == Protocol::TCP => 'p',
        // Nothing but TCP can be judged by such a proxy: it is as if no rule spoke of it.
        Some(Verdict::Proxy) if found.default_deny == DefaultDeny::None => 'r',
        Some(Verdict::Proxy) | None => '.',
        Some(Verdict::Unruled) => 'r',
    }
}

fn labels_of(place: &str) -> Labels {
    match place {
        "x" => with_ports(&pod("default", &[("a", "x")]), &[("TCP", 80), ("UDP", 53)]),
        "y" => with_ports(&pod("default", &[("a", "y"), ("b", "x")]), &[("TCP", 8080)]),
        "other" => {
            let key = format!("{}.team", Labels::NAMESPACE_LABELS);
            pod("other", &[("a", "x"), ("b", "y"), (&key, "z")])
        }
        "dns" => {
            let named = [(Protocol::UDP, 53), (Protocol::TCP, 53)];
            let named = named.map(|(protocol, port)| Wants::port_label("dns", protocol, port));
            let own = pod("kube-system", &[("k8s-app", "kube-dns")]);
            own.iter().cloned().chain(named).collect()
        }
        "host" => reserved(&["host"]),
        "node" => {
            let own = reserved(&["remote-node"]);
            own.iter().cloned().chain([Label::node("role", "gateway")]).collect()
        }
        "health" => reserved(&["health"]),
        "api-host" => reserved(&["host", "kube-apiserver"]),
        "api-node" => reserved(&["remote-node", "kube-apiserver"]),
        "unmanaged" => reserved(&["unmanaged"]),
        "api-out" => reserved(&["kube-apiserver"]),
        _ => Labels::default(),
    }
}

/// The names that were resolved to an address.
fn names_of(place: &str) -> Vec<Name> {
    let names: &[&str] = match place {
        "203.0.113.77" => &["a.example"],
        "192.0.2.9" => &["x.b.example", "other.test"],
        "2001:db8:1::5" => &["c.a.example"],
        _ => &[],
    };
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn pod(namespace: &str, own: &[(&str, &str)]) -> Labels {
    let name = format!("{}.kubernetes.io/metadata.name", Labels::NAMESPACE_LABELS);
    let derived = [
        (Labels::NAMESPACE, namespace),
        (&name, namespace),
        ("io.cilium.k8s.policy.serviceaccount", "default"),
        ("io.cilium.k8s.policy.cluster", "default"),
    ];
    derived.iter().chain(own).map(|(key, value)| Label::kubernetes(*key, *value)).collect()
}

fn with_ports(labels: &Labels, ports: &[(&str, u16)]) -> Labels {
    let named = ports.iter().map(|(protocol, port)| {
        let protocol = if *protocol == "TCP" { Protocol::TCP } else { Protocol::UDP };
        Wants::port_label("web", protocol, *port)
    });
    labels.iter().cloned().chain(named).collect()
}

fn reserved(keys: &[&str]) -> Labels {
    let label = |key: &&str| Label {
        key: (*key).to_owned(),
        source: Source::Reserved,
        value: String::new(),
    };
    keys.iter().map(label).collect()
}
