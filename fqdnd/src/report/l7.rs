//! The L7 proxy in the words of the API, and what its rules lack.

use std::collections::BTreeSet;
use std::sync::Arc;

use kubernetes::Inventory;
use policy::{Application, Policy, PortRule, Rule};

use crate::l7::{Health, L7};

/// How the proxy fares.
pub fn status(l7: &L7) -> api::L7Proxy {
    let (status, tally) = (l7.status(), l7.status().tally());
    let (pid, failure) = match status.health() {
        Health::Starting => (None, Some("it has not been heard of yet".to_owned())),
        Health::Running(pid) => (Some(pid), None),
        Health::Failed(reason) => (None, Some(reason)),
    };
    let limits = [
        ("connections", tally.over_connections),
        ("requests", tally.over_requests),
        ("slow-clients", tally.slow_clients),
        ("records-lost", tally.lost_records),
        ("rules-broken", tally.broken_rules),
    ];
    let reached = limits.into_iter().filter(|(_, count)| *count > 0);
    api::L7Proxy {
        pid,
        failure,
        restarts: status.restarts(),
        connections: tally.open,
        accepted: tally.accepted,
        forwarded: tally.forwarded,
        audited: tally.audited,
        refused: tally.refused,
        limits: reached.map(|(name, count)| (name.to_owned(), count)).collect(),
    }
}

/// What rules cannot use of the secrets that they name: nothing passes by them meanwhile.
pub fn lacking(l7: &L7, manifests: &Inventory) -> BTreeSet<api::Problem> {
    let secrets = l7.secrets();
    let each = manifests.policies.values().flat_map(ports);
    let lacks = each.flat_map(|(rule, ports)| {
        let lacks = match &ports.application {
            Some(Application::L7(l7)) => secrets.lacks(l7),
            Some(Application::Dns(_) | Application::Unenforced(_)) | None => Vec::new(),
        };
        lacks.into_iter().map(|message| api::Problem {
            file: rule.origin.file.display().to_string(),
            line: ports.at.line as u64,
            column: ports.at.column as u64,
            field: ports.at.field.to_string(),
            message,
        })
    });
    lacks.collect()
}

fn ports(policy: &Arc<Policy>) -> impl Iterator<Item = (&Rule, &PortRule)> {
    policy.rules.iter().flat_map(|rule| {
        let ports = rule.egress.iter().flat_map(|entry| &entry.ports).flatten();
        ports.map(|ports| (&**rule, ports))
    })
}
