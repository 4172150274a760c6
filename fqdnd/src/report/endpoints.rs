//! This node's endpoints, bound or not, in the words of the API.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use engine::{BindingError, LocalEndpoint};
use model::{DropReason, EndpointId, EndpointName, Enforcement, Interface};

use crate::daemon::Shared;
use crate::reconcile::Reconciler;

/// How many endpoints are in which state.
pub fn counts(reconciler: &Reconciler) -> api::EndpointCounts {
    let unbound = unbound(reconciler);
    let mut counts = api::EndpointCounts { denied: unbound.len() as u64, ..Default::default() };
    for (_, local) in listed(reconciler, &unbound) {
        *match local.entry.enforcement {
            Enforcement::Open => &mut counts.open,
            Enforcement::Table(_) if is_audited(reconciler, local) => &mut counts.audited,
            Enforcement::Table(_) => &mut counts.enforced,
            Enforcement::Closed(_) => &mut counts.denied,
        } += 1;
    }
    counts
}

/// This node's endpoints, by name.
pub fn endpoints(shared: &Shared, reconciler: &Reconciler) -> Result<Vec<api::Endpoint>> {
    let drops = by_endpoint(shared.datapath.drops().context("drop counters cannot be read")?);
    let audits = by_endpoint(shared.datapath.audits().context("audit counters cannot be read")?);
    let begun = shared.datapath.counts().context("flow counters cannot be read")?;
    let mut held: BTreeMap<EndpointId, (u64, u64)> = BTreeMap::new();
    shared.names.visit(|id, leases| {
        let stats = leases.stats();
        held.insert(id, (stats.names as u64, stats.leases as u64));
    });
    let held = |id: EndpointId| {
        let of = |counts: &BTreeMap<_, _>| counts.get(&id).cloned().unwrap_or_default();
        let (drops, audits) = (of(&drops), of(&audits));
        let (names, leases) = held.get(&id).copied().unwrap_or_default();
        let metering = shared.names.metering();
        let over_limits = metering.map_or_else(BTreeMap::new, |own| own.counts_of(id));
        let connections = begun.get(&id).map_or(0, |own| own.outbound);
        Held { names, leases, over_limits, connections, drops, audits }
    };
    let unbound = unbound(reconciler);
    let bound = listed(reconciler, &unbound)
        .map(|(id, local)| endpoint(shared, reconciler, id, local, held(id)));
    let mut endpoints: Vec<api::Endpoint> = bound.collect();
    endpoints.extend(unbound.iter().map(|pod| {
        let held = pod.closed.map(|(id, _)| held(id)).unwrap_or_default();
        unbound_endpoint(shared, reconciler, pod, held)
    }));
    endpoints.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(endpoints)
}

/// The endpoint that a client names by number or pod.
pub fn find(reconciler: &Reconciler, wanted: &api::EndpointRef) -> Option<EndpointId> {
    let mut endpoints = reconciler.endpoints().iter();
    let found = endpoints.find(|(id, local)| match wanted {
        api::EndpointRef::Id(number) => **id == *number,
        api::EndpointRef::Name(name) => local.name == *name,
    });
    found.map(|(id, _)| *id)
}

/// A pod of this node that is bound to no interface.
struct Unbound<'a> {
    name: &'a EndpointName,
    reason: &'static str,
    /// The interface that it claims, where it is closed for that.
    closed: Option<(EndpointId, Interface)>,
}

/// The pods whose record says how they are to be bound, and that are not.
fn unbound(reconciler: &Reconciler) -> Vec<Unbound<'_>> {
    let bindings = &reconciler.inventory().bindings;
    let problems = bindings.problems.iter();
    let unbound = problems.filter(|(name, _)| !bindings.bound.contains_key(*name));
    let closed = |interface: Interface| {
        let mut endpoints = reconciler.endpoints().iter();
        let found = endpoints.find(|(_, local)| local.interface == interface && is_closed(local));
        found.map(|(id, _)| (*id, interface))
    };
    unbound
        .map(|(name, error)| {
            let (reason, closed) = match error {
                BindingError::NotFound(_) => ("interface-not-found", None),
                BindingError::ClaimedTwice { interface, .. }
                | BindingError::Held { interface, .. }
                | BindingError::Moved { claimed: interface, .. } => {
                    (DropReason::EndpointConflict.as_str(), closed(*interface))
                }
            };
            Unbound { name, reason, closed }
        })
        .collect()
}

/// The endpoints but for closed interfaces that are listed with those who claim them.
fn listed<'a>(
    reconciler: &'a Reconciler,
    unbound: &'a [Unbound<'_>],
) -> impl Iterator<Item = (EndpointId, &'a LocalEndpoint)> {
    let claimed: BTreeSet<EndpointId> =
        unbound.iter().filter_map(|pod| pod.closed.map(|(id, _)| id)).collect();
    let endpoints = reconciler.endpoints().iter();
    endpoints.filter(move |(id, _)| !claimed.contains(id)).map(|(id, local)| (*id, &**local))
}

fn is_closed(local: &LocalEndpoint) -> bool {
    matches!(local.entry.enforcement, Enforcement::Closed(_))
}

fn unbound_endpoint(
    shared: &Shared,
    reconciler: &Reconciler,
    unbound: &Unbound<'_>,
    held: Held,
) -> api::Endpoint {
    let node = shared.node.borrow().clone();
    let pod = reconciler.inventory().pods.get(unbound.name);
    let interface = unbound.closed.and_then(|(_, interface)| node.link(interface));
    api::Endpoint {
        id: unbound.closed.map(|(id, _)| id),
        name: unbound.name.name.clone(),
        namespace: unbound.name.namespace.clone(),
        identity: pod.map_or(model::Identity::INIT, |pod| reconciler.identity_of(&pod.labels)),
        labels: pod.map_or_else(Vec::new, |pod| labels(pod)),
        interface: interface.map(|link| link.name.clone()),
        bridge: None,
        addresses: pod.map_or_else(Vec::new, |pod| pod.addresses.clone()),
        enforcement: api::Enforcement::Denied,
        reason: Some(unbound.reason.to_owned()),
        table: None,
        generation: 0,
        policies: Vec::new(),
        audited_policies: Vec::new(),
        names: held.names,
        leases: held.leases,
        over_limits: held.over_limits,
        connections: held.connections,
        drops: held.drops,
        audits: held.audits,
    }
}

fn labels(pod: &model::Pod) -> Vec<String> {
    pod.labels.iter().map(ToString::to_string).collect()
}

#[derive(Default)]
struct Held {
    names: u64,
    leases: u64,
    over_limits: BTreeMap<String, u64>,
    connections: u64,
    drops: BTreeMap<String, u64>,
    audits: BTreeMap<String, u64>,
}

fn endpoint(
    shared: &Shared,
    reconciler: &Reconciler,
    id: EndpointId,
    local: &LocalEndpoint,
    held: Held,
) -> api::Endpoint {
    let node = shared.node.borrow().clone();
    let link = |index| node.link(index).map(|link| link.name.clone());
    let (enforcement, reason, table) = match local.entry.enforcement {
        Enforcement::Open => (api::Enforcement::Open, None, None),
        Enforcement::Table(table) if is_audited(reconciler, local) => {
            (api::Enforcement::Audited, None, Some(table))
        }
        Enforcement::Table(table) => (api::Enforcement::Enforced, None, Some(table)),
        Enforcement::Closed(reason) => (api::Enforcement::Denied, Some(reason.to_string()), None),
    };
    let pod = reconciler.inventory().pods.get(&local.name);
    api::Endpoint {
        id: Some(id),
        name: local.name.name.clone(),
        namespace: local.name.namespace.clone(),
        identity: local.identity.unwrap_or(model::Identity::INIT),
        labels: pod.map_or_else(Vec::new, |pod| labels(pod)),
        interface: link(local.interface),
        bridge: local.entry.bridge.and_then(link),
        addresses: local.addresses.clone(),
        enforcement,
        reason,
        table,
        generation: local.entry.generation,
        policies: local.policies.keys().map(ToString::to_string).collect(),
        audited_policies: audited(reconciler, local).map(ToString::to_string).collect(),
        names: held.names,
        leases: held.leases,
        over_limits: held.over_limits,
        connections: held.connections,
        drops: held.drops,
        audits: held.audits,
    }
}

/// The policies that select an endpoint and are audited.
fn audited<'a>(
    reconciler: &'a Reconciler,
    local: &'a LocalEndpoint,
) -> impl Iterator<Item = &'a policy::PolicyKey> {
    let policies = &reconciler.inventory().policies;
    let is_audited = |key: &&_| policies.get(*key).is_some_and(|policy| policy.audited);
    local.policies.keys().filter(is_audited)
}

/// Whether all policies that select an endpoint are audited.
fn is_audited(reconciler: &Reconciler, local: &LocalEndpoint) -> bool {
    audited(reconciler, local).count() == local.policies.len()
}

/// Counts of each endpoint by reason.
fn by_endpoint(
    counts: BTreeMap<(EndpointId, DropReason), u64>,
) -> BTreeMap<EndpointId, BTreeMap<String, u64>> {
    let mut grouped: BTreeMap<EndpointId, BTreeMap<String, u64>> = BTreeMap::new();
    for ((id, reason), count) in counts {
        grouped.entry(id).or_default().insert(reason.as_str().to_owned(), count);
    }
    grouped
}
