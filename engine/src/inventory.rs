//! What the engine is told of the cluster and of this node, and how two moments of it differ.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::{
    CidrGroup, ClusterNode, EndpointName, Interface, Labels, Objects, Pod, Service, TableId,
};
use policy::{Context, Policy, PolicyKey, Rule};

use crate::bindings::Bindings;

/// What the engine is told whenever it changes.
///
/// Its maps share what they have with those of the moment before, so that what is the same costs
/// nothing to find.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// All pods, this node's and others'.
    pub pods: Objects<EndpointName, Pod>,
    /// Services with their ready backends.
    pub services: Objects<EndpointName, Service>,
    /// Nodes, this one too, by name.
    pub nodes: Objects<String, ClusterNode>,
    /// Groups of prefixes, by name.
    pub cidr_groups: Objects<String, CidrGroup>,
    /// Checked policies.
    pub policies: Objects<PolicyKey, Policy>,
    /// The node's own addresses.
    pub host_addresses: BTreeSet<IpAddr>,
    /// Which interface is whose.
    pub bindings: Bindings,
    /// The bridge of each interface that is a port of one.
    pub bridges: BTreeMap<Interface, Interface>,
    /// Interfaces on which something was enforced that may be missing here: they are closed, but
    /// for one that comes under the very table it was under, if that is known.
    pub pending: BTreeMap<Interface, Option<TableId>>,
}

impl Inventory {
    /// Whether an interface has to be closed rather than put under this table, or opened.
    pub(crate) fn closes(&self, interface: Interface, table: Option<TableId>) -> bool {
        let known = self.pending.get(&interface);
        known.is_some_and(|known| known.is_none() || *known != table)
    }

    /// What of the cluster changes the meaning of rules; `dns` is the cluster's DNS service.
    pub fn context(&self, dns: &EndpointName) -> Context {
        let backends: BTreeSet<IpAddr> =
            self.services.get(dns).map(dns_backends).unwrap_or_default();
        let serves = |pod: &&Arc<Pod>| pod.addresses.iter().any(|own| backends.contains(own));
        let dns_pods: BTreeSet<Labels> = if backends.is_empty() {
            BTreeSet::new()
        } else {
            self.pods.values().filter(serves).map(|pod| pod.labels.clone()).collect()
        };
        self.context_with(dns_pods)
    }

    /// The rules that select pods with these labels, and the policies that they are of, in order.
    pub(crate) fn rules_for(&self, labels: &Labels) -> (Vec<Arc<Rule>>, Vec<&Policy>) {
        let selected = |policy: &Policy| -> Vec<Arc<Rule>> {
            policy.rules.iter().filter(|rule| rule.selects(labels)).cloned().collect()
        };
        let each = self.policies.values().map(|policy| (selected(policy), &**policy));
        let (rules, selecting): (Vec<_>, Vec<_>) =
            each.filter(|(rules, _)| !rules.is_empty()).unzip();
        (rules.concat(), selecting)
    }

    /// The same where the DNS pods' labels are known.
    pub(crate) fn context_with(&self, dns_pods: BTreeSet<Labels>) -> Context {
        Context { dns_pods, services: self.services.clone(), cidr_groups: self.cidr_groups.clone() }
    }
}

/// The addresses behind the ports of the cluster's DNS service.
pub(crate) fn dns_backends(service: &Arc<Service>) -> BTreeSet<IpAddr> {
    let ports = service.ports.iter().flat_map(|port| &port.backends);
    ports.map(SocketAddr::ip).collect()
}
