//! What the numeric identities of a node stand for, for people.

use model::{EndpointName, Identity, Label, Labels, Prefix, Protocol, Source};

use crate::node::Node;
use crate::table::LiveTable;

/// What an identity stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Everything with one of the fixed meanings, as the reserved label says it.
    Reserved(Labels),
    /// What carries these labels in the cluster.
    Labels(Labels),
    /// Addresses outside under a prefix, and what they carry beside being outside.
    Prefix(Prefix, Labels),
    /// A port of a service, by family.
    Service {
        /// The service.
        name: EndpointName,
        /// The protocol.
        protocol: Protocol,
        /// The port at the service's addresses.
        port: u16,
        /// Whether over IPv6.
        ipv6: bool,
    },
    /// Addresses of names that these selectors, and no others of a table, match.
    Names(Vec<String>),
}

/// The identities whose meaning is fixed, and the labels that say it.
const RESERVED: [(Identity, &str); 10] = [
    (Identity::HOST, "host"),
    (Identity::WORLD, "world"),
    (Identity::UNMANAGED, "unmanaged"),
    (Identity::HEALTH, "health"),
    (Identity::INIT, "init"),
    (Identity::REMOTE_NODE, "remote-node"),
    (Identity::KUBE_APISERVER, "kube-apiserver"),
    (Identity::INGRESS, "ingress"),
    (Identity::WORLD_IPV4, "world-ipv4"),
    (Identity::WORLD_IPV6, "world-ipv6"),
];

impl Node {
    /// All identities in use and those with fixed meanings, in order. Several tables may share a
    /// set of names.
    pub fn identities(&self) -> Vec<(Identity, Meaning)> {
        let mut all: Vec<(Identity, Meaning)> = RESERVED
            .iter()
            .map(|(identity, name)| (*identity, Meaning::Reserved(reserved(name))))
            .collect();
        let rosters = &self.rosters;
        let labels = rosters.labels.iter();
        all.extend(labels.map(|(own, number)| (Identity(number), Meaning::Labels(own.clone()))));
        all.extend(rosters.cidrs.iter().map(|((prefix, labels), number)| {
            (Identity(number), Meaning::Prefix(*prefix, labels.clone()))
        }));
        all.extend(rosters.services.iter().map(|((name, protocol, port, ipv6), number)| {
            let (name, protocol, port, ipv6) = (name.clone(), *protocol, *port, *ipv6);
            (Identity(number), Meaning::Service { name, protocol, port, ipv6 })
        }));
        for table in self.tables.values().map(LiveTable::table) {
            let sets = table.sets();
            all.extend(
                sets.iter()
                    .map(|(identity, _)| (identity, Meaning::Names(sets.patterns(identity)))),
            );
        }
        all.sort_by_key(|(identity, _)| *identity);
        all.dedup();
        all
    }
}

fn reserved(name: &str) -> Labels {
    let label = Label { key: name.to_owned(), source: Source::Reserved, value: String::new() };
    std::iter::once(label).collect()
}
