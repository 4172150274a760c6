//! What of the cluster changes the meaning of rules.
//!
//! Pods, nodes and backends are no part of it: they are label sets, which a compiled table is
//! asked about. What a table needs to be asked with beside an object's own labels, it tells by
//! [`Table::wants`](crate::Table::wants).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use model::{
    CidrGroup, EndpointName, Label, Labels, Objects, Pattern, Prefix, Protocol, Service, Source,
};

use crate::rule::{Application, Egress, NamedPort, Peers, PrefixBase, Rule, ServicePeer};

/// What of the cluster changes the meaning of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The labels of the cluster's DNS pods.
    pub dns_pods: BTreeSet<Labels>,
    /// All services.
    pub services: Objects<EndpointName, Service>,
    /// All CiliumCIDRGroup objects, by name.
    pub cidr_groups: Objects<String, CidrGroup>,
}

/// What of the cluster the meaning of a rule depends on: where none of it changes, neither does
/// the rule's part of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concerns {
    /// The labels of the cluster's DNS pods.
    pub dns_pods: bool,
    services: Vec<ServicePeer>,
    groups: Vec<PrefixBase>,
}

impl Concerns {
    /// Whether there is nothing that it depends on.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it depends on this service's being as it is.
    pub fn with_service(&self, service: &Service) -> bool {
        self.services.iter().any(|peer| peer.selects(&service.name, &service.labels))
    }

    /// Whether it depends on this group's being as it is.
    pub fn with_group(&self, group: &CidrGroup) -> bool {
        self.groups.iter().any(|base| match base {
            PrefixBase::Prefix(_) => false,
            PrefixBase::Group(name) => *name == group.name,
            PrefixBase::Groups(selector) => selector.matches(&group.labels),
        })
    }

    fn add(&mut self, entry: &Egress) {
        match &entry.peers {
            Peers::Endpoints(peers) => {
                let widened = peers.iter().any(|peer| peer.unscoped.is_some());
                self.dns_pods |= widened && asks(entry);
            }
            Peers::Services(peers) => self.services.extend(peers.iter().cloned()),
            Peers::Prefixes(peers) => {
                let grouped =
                    peers.iter().filter(|peer| !matches!(peer.base, PrefixBase::Prefix(_)));
                self.groups.extend(grouped.map(|peer| peer.base.clone()));
            }
            Peers::All | Peers::Entities(_) | Peers::Nodes(_) | Peers::Names(_) => {}
        }
    }
}

impl Rule {
    /// What of the cluster its meaning depends on.
    pub fn concerns(&self) -> Concerns {
        let mut concerns = Concerns::default();
        self.entries().for_each(|(_, entry)| concerns.add(entry));
        concerns
    }
}

/// Labels beside those of objects that a table's rules ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Services whose ready backends carry [`Wants::service_label`].
    pub services: BTreeSet<EndpointName>,
    /// Port names; a pod that has one carries [`Wants::port_label`] for each of its ports.
    pub ports: BTreeSet<String>,
}

impl Wants {
    /// The label that an address carries because it is a ready backend of a service.
    ///
    /// Its key is empty, as no key of a document can be, so no document's selector meets it.
    pub fn service_label(service: &EndpointName) -> Label {
        Label { key: String::new(), source: service_source(), value: service.to_string() }
    }

    /// The label that a pod carries because it names a port.
    pub fn port_label(name: &str, protocol: Protocol, port: u16) -> Label {
        let value = format!("{}={port}/{protocol}", name.to_ascii_lowercase());
        Label { key: String::new(), source: port_source(), value }
    }

    /// Adds what another table wants.
    pub fn extend(&mut self, other: &Self) {
        self.services.extend(other.services.iter().cloned());
        self.ports.extend(other.ports.iter().cloned());
    }
}

pub(crate) fn service_source() -> Source {
    Source::Other("service".to_owned())
}

fn port_source() -> Source {
    Source::Other("port".to_owned())
}

/// The ports that a pod's labels name.
pub(crate) fn named_ports(labels: &Labels) -> Vec<(NamedPort, u16)> {
    let source = port_source();
    labels.values(&source, "").filter_map(read_port).collect()
}

fn read_port(value: &str) -> Option<(NamedPort, u16)> {
    let (name, rest) = value.split_once('=')?;
    let (port, protocol) = rest.split_once('/')?;
    let known = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
    let protocol = known.into_iter().find(|known| known.to_string() == protocol)?;
    Some((NamedPort { protocol, name: name.to_owned() }, port.parse().ok()?))
}

/// A service that a rule selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SelectedService {
    /// Its backends are meant.
    Backends(EndpointName),
    /// The name it stands for is meant.
    External(Pattern),
}

impl Context {
    /// The services that an item of `toServices` selects, in order. One that is named whole need
    /// not exist yet.
    pub(crate) fn services_of(&self, peer: &ServicePeer) -> Vec<SelectedService> {
        if let (Some(name), Some(namespace), None) = (&peer.name, &peer.namespace, &peer.selector) {
            let name = EndpointName { namespace: namespace.clone(), name: name.clone() };
            return vec![self.selected(&name)];
        }
        let services = self.services.iter();
        let selected = services.filter(|(name, own)| peer.selects(name, &own.labels));
        selected.map(|(name, _)| self.selected(name)).collect()
    }

    fn selected(&self, name: &EndpointName) -> SelectedService {
        let external = self.services.get(name).and_then(|own| own.external_name.as_ref());
        let pattern = external.and_then(|name| Pattern::match_name(&name.to_string()).ok());
        pattern.map_or_else(|| SelectedService::Backends(name.clone()), SelectedService::External)
    }

    /// The prefixes that an item of `toCIDRSet` names, before its exceptions.
    pub(crate) fn prefixes_of(&self, base: &PrefixBase) -> BTreeSet<Prefix> {
        match base {
            PrefixBase::Prefix(prefix) => [*prefix].into(),
            PrefixBase::Group(name) => self
                .cidr_groups
                .get(name)
                .into_iter()
                .flat_map(|own| &own.prefixes)
                .copied()
                .collect(),
            PrefixBase::Groups(selector) => {
                let groups = self.cidr_groups.values();
                let selected = groups.filter(|group| selector.matches(&group.labels));
                selected.flat_map(|group| &group.prefixes).copied().collect()
            }
        }
    }

    /// As text, everything of the cluster that changes the meaning of these rules: where the rules
    /// and this text are the same, so is the compiled table.
    pub fn canonical_for(&self, rules: &[Arc<Rule>]) -> String {
        let mut lines = BTreeSet::new();
        for (_, entry) in rules.iter().flat_map(|rule| rule.entries()) {
            self.describe(entry, &mut lines);
        }
        lines.into_iter().collect::<Vec<_>>().join("\n")
    }

    fn describe(&self, entry: &Egress, lines: &mut BTreeSet<String>) {
        match &entry.peers {
            Peers::Endpoints(peers) => {
                let widened = peers.iter().any(|peer| peer.unscoped.is_some());
                if widened && asks(entry) {
                    lines
                        .extend(self.dns_pods.iter().map(|labels| format!("dns {}", text(labels))));
                }
            }
            Peers::Services(services) => {
                lines.extend(services.iter().map(|peer| {
                    let selected = self.services_of(peer);
                    let mut line = format!("services {peer}:");
                    for service in selected {
                        // Writing to a String cannot fail.
                        let _ = match service {
                            SelectedService::Backends(name) => write!(line, " {name}"),
                            SelectedService::External(name) => write!(line, " name {name}"),
                        };
                    }
                    line
                }));
            }
            Peers::Prefixes(peers) => {
                let grouped =
                    peers.iter().filter(|peer| !matches!(peer.base, PrefixBase::Prefix(_)));
                lines.extend(grouped.map(|peer| {
                    let prefixes = self.prefixes_of(&peer.base);
                    let shown: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
                    format!("{peer}: {}", shown.join(" "))
                }));
            }
            Peers::All | Peers::Entities(_) | Peers::Nodes(_) | Peers::Names(_) => {}
        }
    }
}

impl ServicePeer {
    /// Whether it selects a service. Where nothing is set, it selects none.
    fn selects(&self, name: &EndpointName, labels: &Labels) -> bool {
        *self != Self::default()
            && self.name.as_ref().is_none_or(|own| *own == name.name)
            && self.namespace.as_ref().is_none_or(|own| *own == name.namespace)
            && self.selector.as_ref().is_none_or(|own| own.matches(labels))
    }
}

/// Whether the entry has a rule for DNS.
pub(crate) fn asks(entry: &Egress) -> bool {
    let rules = entry.ports.iter().flatten();
    rules.map(|rule| &rule.application).any(|own| matches!(own, Some(Application::Dns(_))))
}

fn text(labels: &Labels) -> String {
    labels.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_port_is_read_back_from_its_label() {
        let labels: Labels = [
            Wants::port_label("HTTP", Protocol::TCP, 8080),
            Wants::port_label("dns", Protocol::UDP, 53),
            Wants::service_label(&EndpointName { namespace: "a".into(), name: "b".into() }),
        ]
        .into_iter()
        .collect();
        let named = |name: &str, protocol| NamedPort { protocol, name: name.to_owned() };
        let expected = [(named("dns", Protocol::UDP), 53), (named("http", Protocol::TCP), 8080)];
        assert_eq!(named_ports(&labels), expected);
    }
}
