//! The verdicts of endpoints that the same rules select.
//!
//! A table answers for a level at a time: for every destination, for what carries certain labels
//! in the cluster, for the addresses under a prefix outside of it, for a set of names. Whoever
//! judges a packet reads all levels that its destination is on and unites them
//! ([`Verdict::union`]). The rows of one level never hide each other: a row has already taken in
//! what the wider rows say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use model::{
    EndpointName, Label, Labels, NameRef, Pattern, PortPrefix, Prefix, Protocol, Source, Verdict,
};
use prefix_trie::joint::JointPrefixMap;

use crate::context::{Context, Wants, named_ports};
use crate::pattern_index::{PatternIndex, SelectorId};
use crate::rule::{L7, NamedPort, Rule};
use crate::selector::{LabelSelector, SelectorIndex};

mod build;
mod conversation;
mod filter;
pub(crate) mod fold;

use build::Build;
use conversation::Conversations;
use filter::Filters;
pub use filter::NameFilter;
use fold::{Effect, Effects, Fold, Numbered};

/// The verdicts of endpoints that the same rules select.
#[derive(Debug)]
pub struct Table {
    enforces: bool,
    grants: Vec<Grant>,
    any: Vec<GrantId>,
    /// Those of `any` with ports that each pod names itself.
    any_named: Vec<GrantId>,
    /// What `cluster` means: every label set in the cluster.
    cluster: Vec<GrantId>,
    labelled: SelectorIndex<GrantId>,
    /// Those of `labelled` that are for the backends of a service.
    services: BTreeMap<EndpointName, BTreeSet<GrantId>>,
    dns_pods: BTreeSet<Labels>,
    /// Rules for DNS by selectors that hold whatever the namespace, for DNS pods only.
    dns_by_pod: SelectorIndex<GrantId>,
    prefixes: JointPrefixMap<IpNet, Vec<PrefixGrant>>,
    excepts: Vec<Vec<Prefix>>,
    selectors: Vec<Pattern>,
    by_selector: Vec<Selected>,
    index: PatternIndex,
    filters: Filters,
    conversations: Conversations,
    wants: Wants,
}

/// Destinations that a level of a table is about.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// Every destination: what rules without a destination say, and what holds where no rule
    /// asks for default deny.
    Any,
    /// What carries these labels in the cluster: pods, nodes, anything reserved.
    Labels(&'a Labels),
    /// A service that no backend stands behind.
    Service(&'a EndpointName),
    /// Addresses outside the cluster.
    Outside {
        /// They lie under this prefix, and under no longer one of the table's.
        prefix: Prefix,
        /// What they carry beside `reserved:world`, such as `reserved:kube-apiserver`.
        labels: &'a Labels,
    },
    /// Addresses outside the cluster of names that exactly these selectors match.
    Names(&'a [SelectorId]),
}

/// One row of a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRow {
    /// The protocols and ports; types in the place of ports for ICMP.
    pub ports: PortPrefix,
    /// What happens to their packets.
    pub verdict: Verdict,
    /// The names that may be asked for, where the verdict is [`Verdict::Dns`], as far as this
    /// level alone says. [`Table::name_filter`] asks several levels.
    pub filter: Option<Arc<NameFilter>>,
    /// What may be said, where the verdict is [`Verdict::Proxy`], as far as this level alone says:
    /// the rows of several levels are alternatives.
    pub conversations: Vec<Arc<L7>>,
}

/// Ports that are allowed or denied together, in the same way. Rules share them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Grant {
    ports: Vec<PortPrefix>,
    named: Vec<NamedPort>,
    effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct GrantId(usize);

/// What the rules say of a prefix, unless an address lies in one of the exceptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PrefixGrant {
    grant: GrantId,
    except: Option<ExceptId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ExceptId(usize);

/// What the rules say of a selector of names.
#[derive(Clone, Debug, Default)]
struct Selected {
    grants: BTreeSet<GrantId>,
    allow_private: bool,
}

impl Table {
    /// The table of endpoints that these rules select, in such a cluster.
    pub fn compile(rules: &[Arc<Rule>], context: &Context) -> Self {
        let mut build = Build::new(context);
        for rule in rules {
            build.add(rule);
        }
        build.finish(rules.iter().any(|rule| rule.default_deny))
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
        self.visit(subject, |ports, effect| fold.add(ports, effect));
        if matches!(subject, Subject::Any) && !self.enforces {
            fold.allow_the_rest();
        }
        fold.rows(self.numbered())
    }

    /// What one level says of one port; none: nothing.
    pub fn row_at(&self, subject: Subject<'_>, protocol: Protocol, port: u16) -> Option<TableRow> {
        let mut effects = Effects::default();
        if matches!(subject, Subject::Any) && !self.enforces {
            effects.allow_the_rest();
        }
        self.visit(subject, |ports, effect| {
            if ports.covers(protocol, port) {
                effects.add(effect);
            }
        });
        let says_something = effects != Effects::default();
        says_something.then(|| effects.row(PortPrefix::port(protocol, port), self.numbered()))
    }

    fn numbered(&self) -> Numbered<'_> {
        Numbered { filters: &self.filters, conversations: &self.conversations }
    }

    /// The names that may be asked for at a port of a destination that is on all these levels;
    /// none if no rule for DNS covers it, or if the port is denied there.
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
        let (mut allowed, mut denied) = (false, false);
        for subject in levels.iter().copied().chain([Subject::Any]) {
            self.visit(subject, |ports, effect| {
                if !ports.covers(protocol, port) {
                    return;
                }
                match effect {
                    Effect::Allow => allowed = true,
                    Effect::Deny => denied = true,
                    Effect::Dns(list) => drop(lists.insert(*list)),
                    Effect::L7(_) => {}
                }
            });
        }
        (!denied && !lists.is_empty()).then(|| self.filters.filter(allowed, &lists))
    }

    /// The prefixes that rules name, their exceptions too, in order.
    pub fn prefixes(&self) -> impl Iterator<Item = Prefix> {
        self.prefixes.keys().filter_map(|net| Prefix::new(net.addr(), net.prefix_len()))
    }

    /// The selectors of labels: what none of them matches has no rows of its own, unless
    /// [`Self::is_about_all_inside`].
    pub fn label_selectors(&self) -> impl Iterator<Item = &LabelSelector> {
        self.labelled.selectors().chain(self.dns_by_pod.selectors())
    }

    /// Whether anything in the cluster may have rows, whatever its labels are.
    pub fn is_about_all_inside(&self) -> bool {
        !self.cluster.is_empty() || !self.any_named.is_empty()
    }

    /// Whether anything outside the cluster may have rows, whatever its prefix is.
    pub fn is_about_all_outside(&self) -> bool {
        let matched =
            |prefix| self.labelled.matching(&outside(prefix, &Labels::default())).next().is_some();
        matched(Prefix::all_ipv4()) || matched(Prefix::all_ipv6())
    }

    /// The labels beside those of objects that must be given to [`Self::rows`] where they apply.
    pub fn wants(&self) -> &Wants {
        &self.wants
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

    /// Calls `found` with the ports and effects of everything that is said at one level.
    fn visit(&self, subject: Subject<'_>, mut found: impl FnMut(PortPrefix, &Effect)) {
        let mut found = |ports: PortPrefix, effect: &Effect| match effect {
            Effect::L7(id) => {
                let carriers = self.conversations.get(*id).carriers(ports);
                carriers.for_each(|ports| found(ports, effect));
            }
            Effect::Allow | Effect::Dns(_) | Effect::Deny => found(ports, effect),
        };
        let grants = self.grants(subject);
        for grant in grants.iter().map(|id| &self.grants[id.0]) {
            grant.ports.iter().for_each(|ports| found(*ports, &grant.effect));
        }
        let Subject::Labels(labels) = subject else { return };
        let named = named_ports(labels);
        if named.is_empty() {
            return;
        }
        let everywhere = self.any_named.iter().copied();
        for id in grants.into_iter().chain(everywhere).collect::<BTreeSet<_>>() {
            let grant = &self.grants[id.0];
            for (own, port) in named.iter().filter(|(own, _)| grant.named.contains(own)) {
                found(PortPrefix::port(own.protocol, *port), &grant.effect);
            }
        }
    }

    /// What rules grant at one level, in order.
    fn grants(&self, subject: Subject<'_>) -> BTreeSet<GrantId> {
        match subject {
            Subject::Any => self.any.iter().copied().collect(),
            Subject::Labels(labels) => {
                let is_dns = !self.dns_by_pod.is_empty() && self.dns_pods.contains(&own(labels));
                let widened = is_dns.then(|| self.dns_by_pod.matching(labels).copied());
                let selected = self.labelled.matching(labels).chain(&self.cluster).copied();
                selected.chain(widened.into_iter().flatten()).collect()
            }
            Subject::Service(name) => self.services.get(name).cloned().unwrap_or_default(),
            Subject::Outside { prefix, labels } => {
                let covering = self.prefixes.cover_values(&prefix.net()).flatten();
                let own = covering.filter(|own| !self.is_excepted(own.except, prefix));
                let labelled = self.labelled.matching(&outside(prefix, labels)).copied();
                let is_cluster = labels.values(&Source::Reserved, API_SERVER).next().is_some();
                let cluster = self.cluster.iter().copied().filter(|_| is_cluster);
                own.map(|own| own.grant).chain(labelled).chain(cluster).collect()
            }
            Subject::Names(selectors) => selectors
                .iter()
                .filter_map(|selector| self.selected(*selector))
                .flat_map(|selected| selected.grants.iter().copied())
                .collect(),
        }
    }

    fn is_excepted(&self, except: Option<ExceptId>, prefix: Prefix) -> bool {
        let excepts = except.map_or(&[][..], |id| &self.excepts[id.0]);
        excepts.iter().any(|own| own.contains(prefix))
    }
}

/// The labels of an object without those that a table wants beside them.
pub(crate) fn own(labels: &Labels) -> Labels {
    labels.iter().filter(|label| !label.key.is_empty()).cloned().collect()
}

/// The reserved label of the API server, which belongs to the cluster wherever it is.
pub(crate) const API_SERVER: &str = "kube-apiserver";

/// The labels of addresses outside the cluster, those that say so included.
pub(crate) fn outside(prefix: Prefix, labels: &Labels) -> Labels {
    let family = if prefix.address().is_ipv4() { "world-ipv4" } else { "world-ipv6" };
    let world = ["world", family].map(|key| Label {
        key: key.to_owned(),
        source: Source::Reserved,
        value: String::new(),
    });
    labels.iter().cloned().chain(world).collect()
}

#[cfg(test)]
mod tests;
