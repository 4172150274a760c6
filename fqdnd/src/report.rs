//! The daemon's state in the words of its API.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use model::{DropReason, EndpointId, EndpointName, NameRef};

use crate::clock;
use crate::daemon::Shared;
use crate::observer::Observer;
use crate::reconcile::Reconciler;

mod endpoints;
mod l7;
pub mod rules;
pub mod services;

pub use endpoints::{counts, endpoints, find};

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
