//! The verdicts of endpoints that the same rules select.
//!
//! A table answers for a level at a time: for every destination, for a pod with certain labels,
//! for the addresses under a prefix, for a set of names. Whoever judges a packet reads all levels
//! that its destination is on and unites them ([`Verdict::union`]). The rows of one level never
//! hide each other: a row has already taken in what the wider rows say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use model::{Labels, NameRef, Pattern, PortPrefix, Prefix, Protocol, Verdict};
use prefix_trie::joint::JointPrefixMap;
use rustc_hash::FxHashMap;

use crate::pattern_index::{PatternIndex, SelectorId};
use crate::rule::{Application, Egress, Peers, PortRule, Rule};
use crate::selector::SelectorIndex;

mod filter;
mod fold;

use filter::Filters;
pub use filter::NameFilter;
use fold::{Effect, Fold};

/// The verdicts of endpoints that the same rules select.
#[derive(Debug)]
pub struct Table {
    enforces: bool,
    grants: Vec<Grant>,
    any: Vec<GrantId>,
    pods: SelectorIndex<GrantId>,
    dns_pods: BTreeSet<Labels>,
    /// Rules for DNS by selectors that hold whatever the namespace, for DNS pods only.
    dns_by_pod: SelectorIndex<GrantId>,
    prefixes: JointPrefixMap<IpNet, Vec<GrantId>>,
    selectors: Vec<Pattern>,
    by_selector: Vec<Selected>,
    index: PatternIndex,
    filters: Filters,
}

/// Destinations that a level of a table is about.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// Every destination: what rules without a destination say, and what holds where no rule
    /// asks for default deny.
    Any,
    /// A pod with these labels.
    Labels(&'a Labels),
    /// Addresses outside the cluster under this prefix, and under no longer one of the table's.
    Prefix(Prefix),
    /// Addresses outside the cluster of names that exactly these selectors match.
    Names(&'a [SelectorId]),
}

/// One row of a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRow {
    /// The protocols and ports.
    pub ports: PortPrefix,
    /// What happens to their packets.
    pub verdict: Verdict,
    /// The names that may be asked for, where the verdict is [`Verdict::Dns`], as far as this
    /// level alone says. [`Table::name_filter`] asks several levels.
    pub filter: Option<Arc<NameFilter>>,
}

/// Ports that are allowed together, in the same way. Rules share them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Grant {
    ports: Vec<PortPrefix>,
    effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct GrantId(usize);

/// What the rules say of a selector of names.
#[derive(Clone, Debug, Default)]
struct Selected {
    grants: BTreeSet<GrantId>,
    allow_private: bool,
}

impl Table {
    /// The table of endpoints that these rules select, in a cluster whose DNS pods have these
    /// labels.
    pub fn compile(rules: &[Arc<Rule>], dns_pods: &[Labels]) -> Self {
        let mut build = Build::default();
        for rule in rules {
            for egress in &rule.egress {
                build.add(egress, rule.allow_private);
            }
        }
        let enforces = rules.iter().any(|rule| rule.default_deny);
        build.finish(enforces, dns_pods.iter().cloned().collect())
    }

    /// Whether what no row allows is denied. Where it is not, [`Subject::Any`] has a row that
    /// allows the rest.
    pub fn enforces(&self) -> bool {
        self.enforces
    }

    /// The rows of one level, in the order of their ports. The longest one that covers a packet
    /// is the level's verdict; none: the level says nothing.
    pub fn rows(&self, subject: Subject<'_>) -> Vec<TableRow> {
        let mut fold = Fold::default();
        for grant in self.grants(subject) {
            let grant = &self.grants[grant.0];
            grant.ports.iter().for_each(|ports| fold.add(*ports, &grant.effect));
        }
        if matches!(subject, Subject::Any) && !self.enforces {
            fold.allow_the_rest();
        }
        fold.rows(&self.filters)
    }

    /// The names that may be asked for at a port of a destination that is on all these levels;
    /// none if no rule for DNS covers it.
    ///
    /// Rules without a destination count too. A plain allow beside a rule for DNS lets every name
    /// be asked for, save the one that stands for absent default deny.
    pub fn name_filter(
        &self,
        levels: &[Subject<'_>],
        protocol: Protocol,
        port: u16,
    ) -> Option<Arc<NameFilter>> {
        let mut lists = BTreeSet::new();
        let mut allowed = false;
        for subject in levels.iter().copied().chain([Subject::Any]) {
            for grant in self.grants(subject) {
                let grant = &self.grants[grant.0];
                if !grant.ports.iter().any(|ports| ports.covers(protocol, port)) {
                    continue;
                }
                match grant.effect {
                    Effect::Allow => allowed = true,
                    Effect::Dns(list) => {
                        lists.insert(list);
                    }
                }
            }
        }
        (!lists.is_empty()).then(|| self.filters.filter(allowed, &lists))
    }

    /// The prefixes that rules name, in order.
    pub fn prefixes(&self) -> impl Iterator<Item = Prefix> {
        self.prefixes.keys().filter_map(|net| Prefix::new(net.addr(), net.prefix_len()))
    }

    /// The patterns of all toFQDNs rules, in order and no two the same. A [`SelectorId`] is an
    /// index of this.
    pub fn selectors(&self) -> &[Pattern] {
        &self.selectors
    }

    /// Adds the selectors that match a name, in order.
    pub fn selectors_of(&self, name: NameRef<'_>, into: &mut Vec<SelectorId>) {
        self.index.collect(name, into);
    }

    /// Whether a policy that has this selector lets private addresses of outside names be learned.
    pub fn allow_private(&self, selector: SelectorId) -> bool {
        self.selected(selector).is_some_and(|selected| selected.allow_private)
    }

    fn selected(&self, selector: SelectorId) -> Option<&Selected> {
        self.by_selector.get(usize::try_from(selector.0).ok()?)
    }

    /// What rules grant at one level, in order.
    fn grants(&self, subject: Subject<'_>) -> BTreeSet<GrantId> {
        match subject {
            Subject::Any => self.any.iter().copied().collect(),
            Subject::Labels(labels) => {
                let widened = self
                    .dns_pods
                    .contains(labels)
                    .then(|| self.dns_by_pod.matching(labels).copied());
                self.pods.matching(labels).copied().chain(widened.into_iter().flatten()).collect()
            }
            Subject::Prefix(prefix) => {
                self.prefixes.cover_values(&prefix.net()).flatten().copied().collect()
            }
            Subject::Names(selectors) => selectors
                .iter()
                .filter_map(|selector| self.selected(*selector))
                .flat_map(|selected| selected.grants.iter().copied())
                .collect(),
        }
    }
}

/// A table being compiled.
#[derive(Default)]
struct Build {
    grants: Vec<Grant>,
    grant_ids: FxHashMap<Grant, GrantId>,
    any: BTreeSet<GrantId>,
    pods: SelectorIndex<GrantId>,
    dns_by_pod: SelectorIndex<GrantId>,
    prefixes: BTreeMap<Prefix, BTreeSet<GrantId>>,
    names: FxHashMap<Pattern, Selected>,
    filters: Filters,
}

impl Build {
    fn add(&mut self, egress: &Egress, allow_private: bool) {
        let all = [PortRule { ports: vec![PortPrefix::Any], application: None }];
        for rule in egress.ports.as_deref().unwrap_or(&all) {
            let grant = self.grant(rule);
            self.allow(&egress.peers, grant);
        }
        // Names that are granted no port are still selectors, so that their addresses are known.
        if let Peers::Names(patterns) = &egress.peers {
            for pattern in patterns {
                self.names.entry(pattern.clone()).or_default().allow_private |= allow_private;
            }
        }
    }

    fn grant(&mut self, rule: &PortRule) -> GrantId {
        let effect = match &rule.application {
            None => Effect::Allow,
            Some(Application::Dns(patterns)) => Effect::Dns(self.filters.list(patterns)),
        };
        let mut ports = rule.ports.clone();
        ports.sort_unstable();
        ports.dedup();
        let grant = Grant { ports, effect };
        if let Some(id) = self.grant_ids.get(&grant) {
            return *id;
        }
        let id = GrantId(self.grants.len());
        self.grants.push(grant.clone());
        self.grant_ids.insert(grant, id);
        id
    }

    fn allow(&mut self, peers: &Peers, grant: GrantId) {
        let is_dns = matches!(self.grants[grant.0].effect, Effect::Dns(_));
        match peers {
            Peers::All => {
                self.any.insert(grant);
            }
            Peers::Endpoints(peers) => {
                for peer in peers {
                    self.pods.insert(&peer.selector, grant);
                    if let Some(unscoped) = peer.unscoped.as_ref().filter(|_| is_dns) {
                        self.dns_by_pod.insert(unscoped, grant);
                    }
                }
            }
            Peers::Prefixes(prefixes) => {
                for prefix in prefixes {
                    self.prefixes.entry(*prefix).or_default().insert(grant);
                }
            }
            Peers::Names(patterns) => {
                for pattern in patterns {
                    self.names.entry(pattern.clone()).or_default().grants.insert(grant);
                }
            }
        }
    }

    fn finish(self, enforces: bool, dns_pods: BTreeSet<Labels>) -> Table {
        let mut names: Vec<(Pattern, Selected)> = self.names.into_iter().collect();
        names.sort_by(|a, b| a.0.cmp(&b.0));
        let (selectors, by_selector): (Vec<_>, Vec<_>) = names.into_iter().unzip();
        let mut prefixes = JointPrefixMap::new();
        for (prefix, grants) in self.prefixes {
            prefixes.insert(prefix.net(), grants.into_iter().collect());
        }
        Table {
            enforces,
            grants: self.grants,
            any: self.any.into_iter().collect(),
            pods: self.pods,
            dns_pods,
            dns_by_pod: self.dns_by_pod,
            prefixes,
            index: PatternIndex::new(&selectors),
            selectors,
            by_selector,
            filters: self.filters,
        }
    }
}

#[cfg(test)]
mod tests;
