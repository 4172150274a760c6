//! Rules that mean nothing in the cluster as it is, or not what Cilium makes of them there.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::Labels;

use crate::context::{Context, SelectedService, asks};
use crate::problem::Problem;
use crate::rule::{Egress, EndpointPeer, Origin, Peers, Policy, PrefixBase, Rule, Spot};
use crate::selector::{LabelSelector, SelectorIndex};

/// The most that is told of all policies together.
const MAX_TOLD: usize = 1000;

/// What there is for rules to select.
#[derive(Clone, Copy, Debug)]
pub struct Population<'a> {
    /// Services and groups of prefixes.
    pub context: &'a Context,
    /// The label sets of pods and nodes; it does no harm if one comes twice.
    pub labels: &'a [&'a Labels],
    /// The names that pods give to their ports.
    pub port_names: &'a BTreeSet<String>,
}

/// Warnings about policies, in the order of files and lines: selectors that select nothing,
/// services and groups that are not there, services that stand for a name.
pub fn audit(policies: &[Arc<Policy>], population: &Population<'_>) -> Vec<Problem> {
    let mut audit = Audit {
        population,
        index: SelectorIndex::default(),
        selectors: Vec::new(),
        found: Vec::new(),
    };
    for rule in policies.iter().flat_map(|policy| &policy.rules) {
        audit.rule(rule);
    }
    audit.finish()
}

struct Audit<'a> {
    population: &'a Population<'a>,
    index: SelectorIndex<usize>,
    /// What to say of each selector in `index` if nothing matches it.
    selectors: Vec<Problem>,
    found: Vec<Problem>,
}

impl Audit<'_> {
    fn rule(&mut self, rule: &Rule) {
        let spot = Spot { line: rule.origin.line, column: 1, field: "endpointSelector".into() };
        let message = "selects no pod that is there, so the rule does nothing".to_owned();
        self.selector(&rule.origin, &spot, &rule.subject, message);
        for (_, entry) in rule.entries() {
            self.peers(&rule.origin, entry);
            self.ports(&rule.origin, entry);
        }
    }

    fn peers(&mut self, origin: &Origin, entry: &Egress) {
        let at = &entry.peers_at;
        match &entry.peers {
            Peers::Endpoints(peers) => {
                for peer in peers {
                    if self.is_dns(entry, peer) {
                        continue;
                    }
                    let selector = peer.unscoped.as_ref().unwrap_or(&peer.selector);
                    let message = format!("`{selector}` selects nothing that is there");
                    self.selector(origin, at, &peer.selector, message);
                }
            }
            Peers::Nodes(selectors) => {
                for selector in selectors {
                    let message = format!("`{selector}` selects no node that is there");
                    self.selector(origin, at, selector, message);
                }
            }
            Peers::Services(peers) => {
                for peer in peers {
                    let selected = self.population.context.services_of(peer);
                    let exists = |service: &SelectedService| match service {
                        SelectedService::Backends(name) => {
                            self.population.context.services.contains_key(name)
                        }
                        SelectedService::External(_) => true,
                    };
                    if !selected.iter().any(exists) {
                        self.tell(origin, at, format!("`{peer}` selects no service that is there"));
                    }
                    self.external(origin, at, &selected);
                }
            }
            Peers::Prefixes(peers) => {
                let groups =
                    peers.iter().filter(|peer| !matches!(peer.base, PrefixBase::Prefix(_)));
                for peer in groups {
                    if self.population.context.prefixes_of(&peer.base).is_empty() {
                        self.tell(
                            origin,
                            at,
                            format!("`{peer}` has no prefix, so it means nothing"),
                        );
                    }
                }
            }
            Peers::All | Peers::Entities(_) | Peers::Names(_) => {}
        }
    }

    /// Whether a rule for DNS means the cluster's DNS pods, in whatever namespace they are.
    fn is_dns(&self, entry: &Egress, peer: &EndpointPeer) -> bool {
        let matches = |selector: &LabelSelector| {
            self.population.context.dns_pods.iter().any(|labels| selector.matches(labels))
        };
        asks(entry) && peer.unscoped.as_ref().is_some_and(matches)
    }

    fn external(&mut self, origin: &Origin, at: &Spot, selected: &[SelectedService]) {
        for service in selected {
            let SelectedService::External(name) = service else { continue };
            let message = format!(
                "selects an ExternalName service, which stands for the name `{name}` as in \
                 toFQDNs; in Cilium it selects nothing"
            );
            self.tell(origin, at, message);
        }
    }

    fn ports(&mut self, origin: &Origin, entry: &Egress) {
        for rule in entry.ports.iter().flatten() {
            let unknown = |name: &&str| !self.population.port_names.contains(*name);
            let names: BTreeSet<&str> = rule.named.iter().map(|port| &*port.name).collect();
            for name in names.into_iter().filter(unknown).collect::<Vec<_>>() {
                self.tell(origin, &rule.at, format!("no pod that is there names a port `{name}`"));
            }
        }
    }

    fn selector(&mut self, origin: &Origin, at: &Spot, selector: &LabelSelector, message: String) {
        self.index.insert(selector, self.selectors.len());
        self.selectors.push(at.problem(&origin.file, message));
    }

    fn tell(&mut self, origin: &Origin, at: &Spot, message: String) {
        self.found.push(at.problem(&origin.file, message));
    }

    fn finish(self) -> Vec<Problem> {
        let mut matched = vec![false; self.selectors.len()];
        for labels in self.population.labels {
            self.index.matching(labels).for_each(|selector| matched[*selector] = true);
        }
        let unmatched = self.selectors.into_iter().zip(matched).filter(|(_, matched)| !matched);
        let mut found: BTreeSet<Problem> = unmatched.map(|(problem, _)| problem).collect();
        found.extend(self.found);
        found.into_iter().take(MAX_TOLD).collect()
    }
}

#[cfg(test)]
mod tests;
