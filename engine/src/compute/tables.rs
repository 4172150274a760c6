//! Which rules judge which endpoint, and the tables that are compiled from them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::{Digest, EndpointName, Labels, NumberKind, Pod, TableId};
use policy::{Context, Rule, Table};
use rustc_hash::FxHashMap;

use super::Computation;
use crate::node::{CachedTable, Inventory, Node, select};
use crate::plan::PlanError;
use crate::table::{TableKey, VerdictTable};

impl Computation {
    /// Finds the rules of each bound pod, and makes tables for rule sets not met before.
    pub(super) fn choose_tables(
        &mut self,
        node: &mut Node,
        inventory: &Inventory,
    ) -> Result<(), PlanError> {
        let context = inventory.context(&node.settings.dns_service);
        let mut digests = std::mem::take(&mut node.rule_digests);
        let mut contexts: BTreeMap<TableKey, Digest> = BTreeMap::new();
        for name in inventory.bindings.bound.keys() {
            let Some(pod) = inventory.pods.get(name) else { continue };
            let (rules, _) = select(&inventory.policies, &pod.labels);
            if rules.is_empty() {
                continue;
            }
            let mut key: TableKey = rules.iter().map(|rule| digests.of(rule)).collect();
            key.sort_unstable();
            key.dedup();
            let about = contexts.entry(key.clone());
            let digest = || identity::digest("context", [context.canonical_for(&rules)]);
            key.push(*about.or_insert_with(digest));
            if !node.tables.contains_key(&key) {
                let digest = || identity::digest("table", key.iter());
                let number = TableId(node.table_numbers.assign(&key, digest)?.0);
                let rules = Arc::new(Table::compile(&rules, &context));
                let (numbers, limit) =
                    (Arc::clone(&node.set_numbers), node.settings.sets_per_table);
                let table = Arc::new(VerdictTable::new(number, rules, numbers, limit));
                node.tables.insert(key.clone(), CachedTable { table, rows: FxHashMap::default() });
            }
            self.tables.insert(key.clone());
            self.judged.insert(name.clone(), key);
        }
        digests.forget_unused();
        node.rule_digests = digests;
        for key in &self.tables {
            let digest = || identity::digest("table", key.iter());
            let (number, digest) = node.table_numbers.assign(key, digest)?;
            self.desired.numbers.insert((NumberKind::Table, number), digest);
            if let Some(cached) = node.tables.get(key) {
                self.wants.extend(cached.table.rules().wants());
            }
        }
        Ok(())
    }
}

/// The digests of rules, each made once while its policy stands.
#[derive(Debug, Default)]
pub(crate) struct RuleDigests(FxHashMap<usize, KnownDigest>);

#[derive(Debug)]
struct KnownDigest {
    /// Kept, so that no other rule comes to lie at its address.
    _rule: Arc<Rule>,
    digest: Digest,
    used: bool,
}

impl RuleDigests {
    fn of(&mut self, rule: &Arc<Rule>) -> Digest {
        let make = || KnownDigest {
            _rule: Arc::clone(rule),
            digest: identity::digest("rule", [rule.canonical()]),
            used: true,
        };
        let known = self.0.entry(Arc::as_ptr(rule).addr()).or_insert_with(make);
        known.used = true;
        known.digest
    }

    /// Lets go of what no plan has asked for since this was last called.
    fn forget_unused(&mut self) {
        self.0.retain(|_, known| std::mem::take(&mut known.used));
    }
}

impl Inventory {
    /// What of the cluster changes the meaning of rules; `dns` is the cluster's DNS service.
    pub fn context(&self, dns: &EndpointName) -> Context {
        let services = self.services.iter().map(|(name, own)| (name.clone(), own.into()));
        Context {
            dns_pods: self.dns_pods(dns),
            services: services.collect(),
            cidr_groups: self.cidr_groups.clone(),
        }
    }

    /// The labels of the pods behind the cluster's DNS service.
    fn dns_pods(&self, dns: &EndpointName) -> BTreeSet<Labels> {
        let Some(service) = self.services.get(dns) else { return BTreeSet::new() };
        let ports = service.ports.iter().flat_map(|port| &port.backends);
        let backends: BTreeSet<IpAddr> = ports.map(SocketAddr::ip).collect();
        let serves = |pod: &&Pod| pod.addresses.iter().any(|own| backends.contains(own));
        self.pods.values().filter(serves).map(|pod| pod.labels.clone()).collect()
    }
}
