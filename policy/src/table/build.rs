//! Rules to a table: every entry is put under what it selects by.

use std::collections::{BTreeMap, BTreeSet};

use model::{EndpointName, Pattern, Prefix};
use prefix_trie::joint::JointPrefixMap;
use rustc_hash::FxHashMap;

use crate::context::{Context, SelectedService, Wants, service_source};
use crate::pattern_index::PatternIndex;
use crate::rule::{
    Application, Direction, Egress, EndpointPeer, Entity, Peers, PortRuleRef, PrefixPeer, Rule,
    ServicePeer,
};
use crate::selector::{LabelSelector, Operator, Requirement, SelectorIndex};
use crate::table::conversation::Conversations;
use crate::table::filter::Filters;
use crate::table::fold::Effect;
use crate::table::{ExceptId, Grant, GrantId, PrefixGrant, Selected, Table};

/// A table being compiled.
pub(super) struct Build<'a> {
    context: &'a Context,
    grants: Vec<Grant>,
    grant_ids: FxHashMap<Grant, GrantId>,
    any: BTreeSet<GrantId>,
    cluster: BTreeSet<GrantId>,
    labelled: SelectorIndex<GrantId>,
    for_services: BTreeMap<EndpointName, BTreeSet<GrantId>>,
    dns_by_pod: SelectorIndex<GrantId>,
    prefixes: BTreeMap<Prefix, BTreeSet<PrefixGrant>>,
    excepts: Vec<Vec<Prefix>>,
    except_ids: FxHashMap<Vec<Prefix>, ExceptId>,
    names: FxHashMap<Pattern, Selected>,
    services: FxHashMap<ServicePeer, Vec<SelectedService>>,
    filters: Filters,
    conversations: Conversations,
    wants: Wants,
}

/// A grant on its way to what it is for.
#[derive(Clone, Copy)]
struct Granted {
    id: GrantId,
    is_dns: bool,
    allow_private: bool,
}

impl<'a> Build<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self {
            context,
            grants: Vec::new(),
            grant_ids: FxHashMap::default(),
            any: BTreeSet::new(),
            cluster: BTreeSet::new(),
            labelled: SelectorIndex::default(),
            for_services: BTreeMap::new(),
            dns_by_pod: SelectorIndex::default(),
            prefixes: BTreeMap::new(),
            excepts: Vec::new(),
            except_ids: FxHashMap::default(),
            names: FxHashMap::default(),
            services: FxHashMap::default(),
            filters: Filters::default(),
            conversations: Conversations::default(),
            wants: Wants::default(),
        }
    }

    pub(super) fn add(&mut self, rule: &Rule) {
        for (direction, entry) in rule.entries() {
            self.add_entry(direction, entry, rule.allow_private);
        }
    }

    fn add_entry(&mut self, direction: Direction, entry: &Egress, allow_private: bool) {
        // Names that are granted no port are still selectors, so that their addresses are known.
        if let Peers::Names(patterns) = &entry.peers {
            for pattern in patterns {
                self.names.entry(pattern.clone()).or_default().allow_private |= allow_private;
            }
        }
        if entry.unenforced.is_some() {
            return;
        }
        for rule in entry.port_rules() {
            let effect = match (direction, rule.application()) {
                (Direction::Deny, _) => Effect::Deny,
                (Direction::Allow, None) => Effect::Allow,
                (Direction::Allow, Some(Application::Dns(patterns))) => {
                    Effect::Dns(self.filters.list(patterns))
                }
                (Direction::Allow, Some(Application::L7(rules))) => {
                    Effect::L7(self.conversations.number(rules))
                }
                (Direction::Allow, Some(Application::Unenforced(_))) => continue,
            };
            let is_dns = matches!(effect, Effect::Dns(_));
            let id = self.grant(rule, effect);
            self.give(&entry.peers, Granted { id, is_dns, allow_private });
        }
    }

    fn grant(&mut self, rule: PortRuleRef<'_>, effect: Effect) -> GrantId {
        let (mut ports, mut named) = (rule.ports().to_vec(), rule.named().to_vec());
        ports.sort_unstable();
        ports.dedup();
        named.sort_unstable();
        named.dedup();
        self.wants.ports.extend(named.iter().map(|port| port.name.clone()));
        let grant = Grant { ports, named, effect };
        if let Some(id) = self.grant_ids.get(&grant) {
            return *id;
        }
        let id = GrantId(self.grants.len());
        self.grants.push(grant.clone());
        self.grant_ids.insert(grant, id);
        id
    }

    fn give(&mut self, peers: &Peers, granted: Granted) {
        match peers {
            Peers::All => drop(self.any.insert(granted.id)),
            Peers::Endpoints(peers) => peers.iter().for_each(|peer| self.give_pods(peer, granted)),
            Peers::Entities(all) => all.iter().for_each(|own| self.give_entity(*own, granted)),
            Peers::Services(all) => all.iter().for_each(|own| self.give_services(own, granted)),
            Peers::Nodes(all) => all.iter().for_each(|own| self.labelled.insert(own, granted.id)),
            Peers::Prefixes(all) => all.iter().for_each(|own| self.give_prefixes(own, granted)),
            Peers::Names(all) => all.iter().for_each(|own| self.give_name(own, granted)),
        }
    }

    fn give_pods(&mut self, peer: &EndpointPeer, granted: Granted) {
        self.labelled.insert(&peer.selector, granted.id);
        if let Some(unscoped) = peer.unscoped.as_ref().filter(|_| granted.is_dns) {
            self.dns_by_pod.insert(unscoped, granted.id);
        }
    }

    fn give_entity(&mut self, entity: Entity, granted: Granted) {
        match entity {
            Entity::All => drop(self.any.insert(granted.id)),
            Entity::Cluster => drop(self.cluster.insert(granted.id)),
            Entity::None => {}
            Entity::Reserved(name) => {
                self.labelled.insert(&LabelSelector::reserved(name), granted.id);
            }
        }
    }

    fn give_services(&mut self, peer: &ServicePeer, granted: Granted) {
        let context = self.context;
        let known = self.services.entry(peer.clone());
        for service in known.or_insert_with(|| context.services_of(peer)).clone() {
            match service {
                SelectedService::Backends(name) => {
                    self.labelled.insert(&LabelSelector::backends(&name), granted.id);
                    self.for_services.entry(name.clone()).or_default().insert(granted.id);
                    self.wants.services.insert(name);
                }
                SelectedService::External(pattern) => self.give_name(&pattern, granted),
            }
        }
    }

    fn give_name(&mut self, pattern: &Pattern, granted: Granted) {
        let selected = self.names.entry(pattern.clone()).or_default();
        selected.grants.insert(granted.id);
        selected.allow_private |= granted.allow_private;
    }

    fn give_prefixes(&mut self, peer: &PrefixPeer, granted: Granted) {
        let except = self.except(&peer.except);
        for prefix in self.context.prefixes_of(&peer.base) {
            let grant = PrefixGrant { grant: granted.id, except };
            self.prefixes.entry(prefix).or_default().insert(grant);
        }
    }

    /// The number of a list of exceptions, whose prefixes are prefixes of the table from now on.
    fn except(&mut self, except: &[Prefix]) -> Option<ExceptId> {
        let mut except = except.to_vec();
        except.sort_unstable();
        except.dedup();
        if except.is_empty() {
            return None;
        }
        if let Some(id) = self.except_ids.get(&except) {
            return Some(*id);
        }
        for prefix in &except {
            self.prefixes.entry(*prefix).or_default();
        }
        let id = ExceptId(self.excepts.len());
        self.excepts.push(except.clone());
        self.except_ids.insert(except, id);
        Some(id)
    }

    pub(super) fn finish(self, enforces: bool) -> Table {
        let mut names: Vec<(Pattern, Selected)> = self.names.into_iter().collect();
        names.sort_by(|a, b| a.0.cmp(&b.0));
        let (selectors, by_selector): (Vec<_>, Vec<_>) = names.into_iter().unzip();
        let mut prefixes = JointPrefixMap::new();
        for (prefix, grants) in self.prefixes {
            prefixes.insert(prefix.net(), grants.into_iter().collect());
        }
        let has_named = |id: &&GrantId| !self.grants[id.0].named.is_empty();
        Table {
            enforces,
            any_named: self.any.iter().filter(has_named).copied().collect(),
            any: self.any.into_iter().collect(),
            cluster: self.cluster.into_iter().collect(),
            grants: self.grants,
            labelled: self.labelled,
            services: self.for_services,
            dns_pods: self.context.dns_pods.clone(),
            dns_by_pod: self.dns_by_pod,
            prefixes,
            excepts: self.excepts,
            index: PatternIndex::new(&selectors),
            selectors,
            by_selector,
            filters: self.filters,
            conversations: self.conversations,
            wants: self.wants,
        }
    }
}

impl LabelSelector {
    /// The ready backends of a service.
    pub(crate) fn backends(service: &EndpointName) -> Self {
        Self::everything().and(Requirement {
            key: String::new(),
            source: service_source(),
            operator: Operator::In([service.to_string()].into()),
        })
    }
}
