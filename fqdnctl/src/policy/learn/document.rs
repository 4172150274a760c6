//! Entries as a CiliumNetworkPolicy.

use std::collections::{BTreeMap, BTreeSet};

use super::kind::Kind;
use super::lessons::Entries;
use super::peer::{Peer, pattern};
use super::seen::Port;
use super::tree::{Item, Tree};

/// How many ports, or fields of ICMP, one item may have.
const MOST_PORTS: usize = 40;

/// Peers, each with how often it was seen.
type Counted<'a> = Vec<(&'a Peer, u64)>;

/// A policy's name, and whom it selects.
#[derive(Clone, Debug)]
pub(super) struct Head<'a> {
    pub name: &'a str,
    pub kind: &'a Kind,
}

impl Head<'_> {
    /// The policy that allows these entries and nothing else.
    pub fn policy(&self, entries: &Entries) -> Tree {
        let lookups = self.lookups(entries);
        let egress = lookups.chain(self.connections(entries)).collect::<Vec<_>>();
        self.document([("egress", Tree::list(egress))])
    }

    /// The policy that makes lookups seen, and denies nothing.
    pub fn preparation(&self) -> Tree {
        let every = BTreeMap::from([("*".to_owned(), 0)]);
        let off = [("egress", Tree::Flag(false)), ("ingress", Tree::Flag(false))];
        self.document([
            ("enableDefaultDeny", Tree::map(off)),
            ("egress", Tree::list([Tree::map([lookup_ports(53, &every)])])),
        ])
    }

    fn document<const N: usize>(&self, rules: [(&str, Tree); N]) -> Tree {
        let subject = self.kind.selector(&self.kind.namespace);
        let subject = ("endpointSelector".to_owned(), subject);
        let rules = rules.map(|(key, value)| (key.to_owned(), value));
        Tree::map([
            ("apiVersion", Tree::text("cilium.io/v2")),
            ("kind", Tree::text("CiliumNetworkPolicy")),
            (
                "metadata",
                Tree::map([
                    ("name", Tree::text(self.name)),
                    ("namespace", Tree::text(&self.kind.namespace)),
                ]),
            ),
            ("spec", Tree::Map(std::iter::once(subject).chain(rules).collect())),
        ])
    }

    fn lookups(&self, entries: &Entries) -> impl Iterator<Item = Tree> {
        entries.lookups.iter().map(|((server, port), names)| {
            let count = names.values().sum();
            self.entry(&[(server, count)], "lookup", [lookup_ports(*port, names)])
        })
    }

    /// Peers of one field with the same ports share an entry.
    fn connections(&self, entries: &Entries) -> impl Iterator<Item = Tree> {
        let mut alike: BTreeMap<(usize, BTreeSet<Port>), Counted<'_>> = BTreeMap::new();
        for (peer, ports) in &entries.connections {
            let (icmp, transport): (Vec<_>, Vec<_>) =
                ports.iter().partition(|(port, _)| port.is_icmp());
            for ports in [transport, icmp].into_iter().filter(|ports| !ports.is_empty()) {
                let count = ports.iter().map(|(_, count)| **count).sum();
                let ports = ports.into_iter().map(|(port, _)| *port).collect();
                alike.entry((place(peer), ports)).or_default().push((peer, count));
            }
        }
        alike.into_iter().map(|((_, ports), peers)| self.entry(&peers, "flow", [to_ports(&ports)]))
    }

    fn entry<const N: usize>(
        &self,
        peers: &[(&Peer, u64)],
        unit: &str,
        ports: [(&str, Tree); N],
    ) -> Tree {
        let field = peers.first().and_then(|(peer, _)| peer.field());
        let items = peers.iter().map(|(peer, count)| Item {
            value: peer.item(&self.kind.namespace),
            remark: Some(counted(*count, unit)),
        });
        let whom = field.map(|field| (field.to_owned(), Tree::List(items.collect())));
        let ports = ports.map(|(key, value)| (key.to_owned(), value));
        Tree::Map(whom.into_iter().chain(ports).collect())
    }
}

/// Where a peer's entry stands among the others.
const fn place(peer: &Peer) -> usize {
    match peer {
        Peer::Anybody => 0,
        Peer::Pods(_) => 1,
        Peer::Service { .. } => 2,
        Peer::Entity(_) => 3,
        Peer::Name(_) => 4,
        Peer::Address(_) => 5,
    }
}

/// Any protocol: an answer that is cut is asked for again by TCP.
fn lookup_ports(port: u16, names: &BTreeMap<String, u64>) -> (&'static str, Tree) {
    let names = names.iter().map(|(name, count)| Item {
        value: pattern(name),
        remark: (*count > 0).then(|| count.to_string()),
    });
    let rules = Tree::map([("dns", Tree::List(names.collect()))]);
    let item = Tree::map([("ports", Tree::list([to_port(port, "ANY")])), ("rules", rules)]);
    ("toPorts", Tree::list([item]))
}

fn to_ports(ports: &BTreeSet<Port>) -> (&'static str, Tree) {
    let ports: Vec<Port> = ports.iter().copied().collect();
    let is_icmp = ports.first().is_some_and(|port| port.is_icmp());
    let (field, items) = if is_icmp { ("icmps", "fields") } else { ("toPorts", "ports") };
    let item = |ports: &[Port]| {
        let ports = ports.iter().map(|port| match is_icmp {
            true => to_type(*port),
            false => to_port(port.number, &port.protocol.to_string()),
        });
        Tree::map([(items, Tree::list(ports))])
    };
    (field, Tree::list(ports.chunks(MOST_PORTS).map(item)))
}

fn to_port(number: u16, protocol: &str) -> Tree {
    Tree::map([("port", Tree::text(number.to_string())), ("protocol", Tree::text(protocol))])
}

fn to_type(port: Port) -> Tree {
    let family = if port.protocol == model::Protocol::ICMP { "IPv4" } else { "IPv6" };
    Tree::map([("family", Tree::text(family)), ("type", Tree::Number(port.number.into()))])
}

/// A number of things, as people say it.
pub(super) fn counted(count: u64, unit: &str) -> String {
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
