//! The verdicts of endpoints that the same rules select.
//!
//! A table answers for a level at a time: for every destination, for what carries certain labels
//! in the cluster, for the addresses under a prefix outside of it, for a set of names. Whoever
//! judges a packet reads all levels that its destination is on and unites them
//! ([`Ruling::union`]). The rows of one level never hide each other: a row has already taken in
//! what the wider rows say.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;
use model::{
    EndpointName, Label, Labels, NameRef, Pattern, PortPrefix, Prefix, Protocol, Ruling, Source,
};

use crate::context::{Context, Wants, named_ports};
use crate::counted;
use crate::counted::Bag;
use crate::meaning::{Meaning, Spoken};
use crate::pattern_index::SelectorId;
use crate::rule::{L7, NamedPort, Rule};
use crate::selector::{Requirement, SelectorIndex};

mod change;
mod conversation;
mod filter;
mod fold;
mod prefixes;
mod selectors;

pub use change::{Altered, AlteredNames, Asked};
use conversation::Conversations;
use filter::Filters;
pub use filter::NameFilter;
use fold::{Effect, Effects, Fold, Numbered};
use prefixes::Prefixes;
use selectors::Selectors;

type Grants = counted::Numbered<Grant>;

/// The verdicts of endpoints that the same rules select. A copy of it costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// What each rule has it become of what none allows.
    denying: Bag<DefaultDeny>,
    /// How many statements of audited rules deny something.
    audited_denials: usize,
    grants: Grants,
    any: Bag<GrantId>,
    /// Those of `any` with ports that each pod names itself.
    any_named: Bag<GrantId>,
    /// What `cluster` means: every label set in the cluster.
    cluster: Bag<GrantId>,
    labelled: SelectorIndex<GrantId>,
    /// Those of `labelled` that are for the backends of a service.
    services: OrdMap<EndpointName, Bag<GrantId>>,
    /// By all the labels that pods have of their own.
    pods: OrdMap<Labels, Bag<GrantId>>,
    prefixes: Prefixes,
    selectors: Selectors,
    filters: Filters,
    conversations: Conversations,
    /// The names of ports that rules ask for.
    ports: Bag<String>,
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

/// What becomes of packets that no rule speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DefaultDeny {
    /// They pass: no rule asks for default deny. All rules are audited, so that what is dropped
    /// although no rule denies it passes too, and is told.
    NoneAudited,
    /// They pass: no rule asks for default deny.
    #[default]
    None,
    /// They pass and are told: audited rules alone ask for it.
    Audited,
    /// They are dropped.
    Enforced,
}

impl DefaultDeny {
    /// What it is, as people and machines read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoneAudited | Self::None => "none",
            Self::Audited => "audited",
            Self::Enforced => "enforced",
        }
    }

    /// Whether no rule asks for it.
    pub const fn is_absent(self) -> bool {
        match self {
            Self::NoneAudited | Self::None => true,
            Self::Audited | Self::Enforced => false,
        }
    }

    /// Whether nothing is dropped but what an enforced rule denies.
    pub const fn is_lenient(self) -> bool {
        match self {
            Self::NoneAudited | Self::Audited => true,
            Self::None | Self::Enforced => false,
        }
    }
}

/// One row of a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRow {
    /// The protocols and ports; types in the place of ports for ICMP.
    pub ports: PortPrefix,
    /// What happens to their packets.
    pub ruling: Ruling,
    /// The names that may be asked for, where the verdict is [`model::Verdict::Dns`], as far as this
    /// level alone says. [`Table::name_filter`] asks several levels.
    pub filter: Option<Arc<NameFilter>>,
    /// What may be said, where the verdict is [`model::Verdict::Proxy`], as far as this level alone says:
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
struct GrantId(u32);

impl Table {
    /// The table of endpoints that these rules select, in such a cluster.
    pub fn compile(rules: &[Arc<Rule>], context: &Context) -> Self {
        let meanings: Vec<Meaning> = rules.iter().map(|rule| rule.meaning(context)).collect();
        Self::default().changed([], &meanings).0
    }

    /// What becomes of what no row allows. Unless it is dropped, [`Subject::Any`] has a row that
    /// says so of the rest.
    pub fn default_deny(&self) -> DefaultDeny {
        self.denying.iter().last().copied().unwrap_or_default()
    }

    /// Whether an audited rule denies something.
    pub fn has_audited_denials(&self) -> bool {
        self.audited_denials > 0
    }

    /// The rows of one level, in the order of their ports. The longest one that covers a packet
    /// is the level's verdict; none: the level says nothing.
    pub fn rows(&self, subject: Subject<'_>) -> Vec<TableRow> {
        let mut fold = Fold::default();
        self.visit(subject, |ports, effect| fold.add(ports, effect));
        if matches!(subject, Subject::Any) {
            fold.leave_the_rest(self.default_deny());
        }
        fold.rows(self.numbered())
    }

    /// What one level says of one port; none: nothing.
    pub fn row_at(&self, subject: Subject<'_>, protocol: Protocol, port: u16) -> Option<TableRow> {
        let mut effects = Effects::default();
        if matches!(subject, Subject::Any) {
            effects.leave_the_rest(self.default_deny());
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
                    Effect::AuditedDeny => {}
                    Effect::Dns(list) => drop(lists.insert(*list)),
                    Effect::L7(_) => {}
                }
            });
        }
        (!denied && !lists.is_empty()).then(|| self.filters.filter(allowed, &lists))
    }

    /// Everything that the table says something of, as where it differs from one without rules.
    pub fn places(&self) -> Altered {
        let pods = self.pods.keys().map(|own| own.iter().map(Requirement::from).collect());
        Altered {
            everywhere: true,
            inside: !self.cluster.is_empty() || !self.any_named.is_empty(),
            selectors: self.labelled.selectors().cloned().chain(pods).collect(),
            services: self.services.keys().cloned().collect(),
            prefixes: self.prefixes.iter().collect(),
            come: self.asked(),
            gone: Asked::default(),
            names: if self.has_selectors() { AlteredNames::Wider } else { AlteredNames::Same },
        }
    }

    /// The prefixes that rules name, their exceptions too, in order.
    pub fn prefixes(&self) -> impl Iterator<Item = Prefix> {
        self.prefixes.iter()
    }

    /// What it has addresses told apart by.
    pub fn asked(&self) -> Asked {
        Asked { prefixes: self.prefixes.iter().collect(), wants: self.wants() }
    }

    /// The labels beside those of objects that must be given to [`Self::rows`] where they apply.
    pub fn wants(&self) -> Wants {
        Wants {
            services: self.services.keys().cloned().collect(),
            ports: self.ports.iter().cloned().collect(),
        }
    }

    /// Whether there are toFQDNs rules.
    pub fn has_selectors(&self) -> bool {
        !self.selectors.is_empty()
    }

    /// The patterns of all toFQDNs rules, no two the same, in the order of their numbers.
    pub fn selectors(&self) -> impl Iterator<Item = (SelectorId, &Pattern)> {
        self.selectors.iter()
    }

    /// The pattern of a number.
    pub fn selector(&self, selector: SelectorId) -> Option<&Pattern> {
        self.selectors.get(selector)
    }

    /// Adds the selectors that match a name, in order.
    pub fn selectors_of(&self, name: NameRef<'_>, into: &mut Vec<SelectorId>) {
        self.selectors.collect(name, into);
    }

    /// Whether a policy that has this selector lets private addresses of outside names be learned.
    pub fn allow_private(&self, selector: SelectorId) -> bool {
        self.selectors.allow_private(selector)
    }

    /// Calls `found` with the ports and effects of everything that is said at one level.
    fn visit(&self, subject: Subject<'_>, mut found: impl FnMut(PortPrefix, &Effect)) {
        let mut found = |ports: PortPrefix, effect: &Effect| match effect {
            Effect::L7(id) => {
                let carriers = self.conversations.get(*id).carriers(ports);
                carriers.for_each(|ports| found(ports, effect));
            }
            Effect::Allow | Effect::Dns(_) | Effect::Deny | Effect::AuditedDeny => {
                found(ports, effect);
            }
        };
        let grants = self.grants(subject);
        for grant in grants.iter().filter_map(|id| self.grants.get(id.0)) {
            grant.ports.iter().for_each(|ports| found(*ports, &grant.effect));
        }
        let Subject::Labels(labels) = subject else { return };
        let named = named_ports(labels);
        if named.is_empty() {
            return;
        }
        let everywhere = self.any_named.iter().copied();
        for id in grants.into_iter().chain(everywhere).collect::<BTreeSet<_>>() {
            let Some(grant) = self.grants.get(id.0) else { continue };
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
                let own = (!self.pods.is_empty()).then(|| self.pods.get(&own(labels))).flatten();
                let own = own.into_iter().flat_map(Bag::iter);
                self.labelled
                    .matching(labels)
                    .chain(self.cluster.iter())
                    .chain(own)
                    .copied()
                    .collect()
            }
            Subject::Service(name) => {
                self.services.get(name).into_iter().flat_map(|own| own.iter().copied()).collect()
            }
            Subject::Outside { prefix, labels } => {
                let labelled = self.labelled.matching(&outside(prefix, labels)).copied();
                let is_cluster = labels.values(&Source::Reserved, API_SERVER).next().is_some();
                let cluster = self.cluster.iter().copied().filter(|_| is_cluster);
                self.prefixes.grants_over(prefix).chain(labelled).chain(cluster).collect()
            }
            Subject::Names(selectors) => {
                selectors.iter().flat_map(|own| self.selectors.grants(*own)).collect()
            }
        }
    }
}

impl Grant {
    fn new(spoken: &Spoken, effect: Effect) -> Self {
        let Spoken { ports, named, .. } = spoken;
        Self { ports: ports.clone(), named: named.clone(), effect }
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
