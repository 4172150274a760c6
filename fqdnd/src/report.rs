//! The daemon's state in the words of its API.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use engine::{BindingError, LocalEndpoint};
use model::{DropReason, EndpointId, EndpointName, Enforcement, Interface, NameRef};

use crate::clock;
use crate::daemon::Shared;
use crate::observer::Observer;
use crate::reconcile::Reconciler;

mod l7;
pub mod rules;
pub mod services;

/// How the daemon fares.
pub fn status(
    shared: &Shared,
    reconciler: &Reconciler,
    audit: &[policy::Problem],
) -> Result<api::Status> {
    let manifests = shared.manifests.borrow().clone();
    let (policy_revision, applied_revision) = reconciler.revisions();
    let mut problems: Vec<api::Problem> = manifests.problems.iter().map(problem).collect();
    problems.extend(reconciler.problems().iter().map(|message| api::Problem {
        file: String::new(),
        line: 0,
        column: 0,
        field: String::new(),
        message: message.clone(),
    }));
    let mut warnings: BTreeSet<api::Problem> = manifests.warnings.iter().map(problem).collect();
    warnings.extend(audit.iter().map(problem));
    warnings.extend(shared.l7.iter().flat_map(|own| l7::lacking(own, &manifests)));
    let unenforced = manifests.policies.values().flat_map(|policy| &policy.unenforced);
    let unenforced: BTreeSet<api::Problem> = unenforced.map(problem).collect();
    let drops = shared.datapath.drops().context("drop counters cannot be read")?;
    let audits = shared.datapath.audits().context("audit counters cannot be read")?;
    Ok(api::Status {
        version: env!("CARGO_PKG_VERSION").into(),
        started: shared.started_at,
        uptime_seconds: shared.started.elapsed().as_secs(),
        kernel: shared.kernel.clone(),
        attach_mode: shared.attach_mode(),
        audit: shared.audits,
        read_revision: reconciler.read(),
        policy_revision,
        applied_revision,
        endpoints: counts(reconciler),
        policies: manifests.policies.len() as u64,
        files: manifests.files.len() as u64,
        stale_files: stale_files(&manifests),
        problems,
        warnings: warnings.into_iter().collect(),
        unenforced: unenforced.into_iter().collect(),
        bypasses: shared.bypasses.found().to_vec(),
        dns: shared.dns_counts(),
        limits: limits(shared)?,
        flows: shared.flows.as_ref().map_or_else(BTreeMap::new, |flows| flows.counts()),
        drops: by_reason(drops.iter().map(|((_, reason), count)| (*reason, *count))),
        audits: by_reason(audits.iter().map(|((_, reason), count)| (*reason, *count))),
        hubble: shared.observer.as_ref().map(Observer::report),
        l7: shared.l7.as_ref().map(l7::status),
        metrics: shared.metrics.clone(),
        page: shared.page.clone(),
    })
}

fn by_reason(counts: impl Iterator<Item = (DropReason, u64)>) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (reason, count) in counts {
        *sums.entry(reason.as_str().to_owned()).or_default() += count;
    }
    sums
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

fn stale_files(manifests: &kubernetes::Inventory) -> Vec<api::StaleFile> {
    let stale = manifests.files.iter().filter_map(|(path, state)| match state {
        kubernetes::FileState::Stale { last_good } => Some((path, last_good)),
        kubernetes::FileState::Good | kubernetes::FileState::Broken => None,
    });
    stale
        .map(|(path, last_good)| api::StaleFile {
            file: path.display().to_string(),
            last_good: last_good
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        })
        .collect()
}

fn problem(problem: &policy::Problem) -> api::Problem {
    problem.into()
}

/// What reached a bound, and how often; nothing for bounds that were never reached.
fn limits(shared: &Shared) -> Result<BTreeMap<String, u64>> {
    let mut limits = shared.names.counts().read();
    shared.names.visit(|_, leases| {
        let stats = leases.stats();
        for (limit, count) in [
            ("names-evicted", stats.evicted_names),
            ("addresses-evicted", stats.evicted_addresses),
            ("kept-addresses-evicted", stats.evicted_kept),
        ] {
            *limits.entry(limit.to_owned()).or_default() += count;
        }
    });
    if let Some(metering) = shared.names.metering() {
        limits.extend(metering.counts());
    }
    limits.insert("page-clients-refused".to_owned(), shared.page_clients.refused());
    limits.extend(shared.datapath_limits().context("flow counters cannot be read")?);
    limits.retain(|_, count| *count > 0);
    Ok(limits)
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

/// The endpoint that a client names by number or pod.
pub fn find(reconciler: &Reconciler, wanted: &api::EndpointRef) -> Option<EndpointId> {
    let mut endpoints = reconciler.endpoints().iter();
    let found = endpoints.find(|(id, local)| match wanted {
        api::EndpointRef::Id(number) => **id == *number,
        api::EndpointRef::Name(name) => local.name == *name,
    });
    found.map(|(id, _)| *id)
}

/// Resolved addresses, by endpoint, name and address.
pub fn cache(
    shared: &Shared,
    reconciler: &Reconciler,
    endpoint: Option<EndpointId>,
    selects: &impl Fn(NameRef<'_>) -> bool,
) -> Vec<api::CacheEntry> {
    let now = clock::now();
    let mut entries = Vec::new();
    shared.names.visit(|id, leases| {
        if endpoint.is_some_and(|wanted| wanted != id) {
            return;
        }
        let Some(local) = reconciler.endpoints().get(&id) else { return };
        for entry in leases.entries().filter(|entry| selects(entry.name)) {
            let left = entry.expires.since(now).as_secs().cast_signed();
            let past = now.since(entry.expires).as_secs().cast_signed();
            entries.push(api::CacheEntry {
                endpoint: local.name.clone(),
                name: entry.name.to_string(),
                address: entry.address,
                expires_in_seconds: left - past,
                ttl: None,
                kept_alive: entry.kept_alive,
                enforced: entry.selected,
            });
        }
    });
    entries
        .sort_by(|a, b| (&a.endpoint, &a.name, a.address).cmp(&(&b.endpoint, &b.name, b.address)));
    entries
}

/// Resolved names with the selectors that match them.
pub fn names(shared: &Shared, reconciler: &Reconciler) -> Vec<api::NameEntry> {
    let mut names: BTreeMap<String, (BTreeSet<EndpointName>, BTreeSet<String>)> = BTreeMap::new();
    shared.names.visit(|id, leases| {
        let Some(local) = reconciler.endpoints().get(&id) else { return };
        for name in leases.names() {
            let (endpoints, selectors) = names.entry(name.to_string()).or_default();
            endpoints.insert(local.name.clone());
            let Some(table) = &local.table else { continue };
            let mut matching = Vec::new();
            table.rules().selectors_of(name, &mut matching);
            let patterns = matching.iter().filter_map(|id| table.rules().selector(*id));
            selectors.extend(patterns.map(ToString::to_string));
        }
    });
    names
        .into_iter()
        .map(|(name, (endpoints, selectors))| api::NameEntry {
            name,
            endpoints: endpoints.into_iter().collect(),
            selectors: selectors.into_iter().collect(),
        })
        .collect()
}

/// A map, as the API describes it.
pub fn map(map: &bpf::MapInfo) -> api::MapInfo {
    api::MapInfo {
        name: map.name.to_string(),
        kind: map.kind.to_string(),
        entries: map.entries.map_or(0, |entries| entries as u64),
        size: map.size.into(),
    }
}
