//! The entries of `ingress` and `ingressDeny`: checked, and not enforced.
//!
//! Whole documents carry both directions, and what Cilium's schema refuses of one is refused here.
//! Nothing is warned of but that it is not looked at.

use crate::rule::{Direction, Entity};
use crate::spec::fields::{At, Check, Fields};
use crate::spec::{egress, icmp, ports, prefixes, selector};

/// The fields that name sources. Cilium takes one of them in an entry.
const KINDS: &[&str] =
    &["fromCIDR", "fromCIDRSet", "fromEndpoints", "fromEntities", "fromGroups", "fromNodes"];
/// The fields of an entry beside them.
const ASIDES: &[&str] = &["authentication", "fromRequires", "icmps", "toPorts"];

/// Checks the entries of a section.
pub(super) fn check(check: &mut Check, entries: &[At<'_>], direction: Direction) {
    check.in_silence(|check| entries.iter().for_each(|entry| check_entry(check, entry, direction)));
}

fn check_entry(check: &mut Check, at: &At<'_>, direction: Direction) {
    let known: Vec<&str> = KINDS.iter().chain(ASIDES).copied().collect();
    let Some(fields) = check.fields(at, &known) else { return };
    if direction == Direction::Deny {
        check.for_allowed_only(&fields, &["authentication"]);
    }
    egress::authentication(check, &fields);
    check_sources(check, &fields);
    let icmps = check.present(&fields, "icmps").and_then(|icmps| icmp::read(check, &icmps));
    let ports = check.present(&fields, "toPorts");
    if let Some(ports) = &ports {
        refuse_for_egress_only(check, ports);
    }
    let ports = ports.and_then(|ports| ports::read(check, &ports, direction));
    if icmps.is_some() && ports.is_some() {
        check.problem(fields.at("icmps"), "must not stand beside toPorts: write an entry for each");
    }
}

fn check_sources(check: &mut Check, fields: &Fields<'_>) {
    let mut first: Option<&str> = None;
    egress::requirements(check, fields, "fromRequires");
    for kind in KINDS {
        let Some(at) = check.present(fields, kind) else { continue };
        let Some(items) = check.list(&at) else { continue };
        items.iter().for_each(|item| check_source(check, kind, item));
        if items.is_empty() {
            continue;
        }
        if let Some(first) = first {
            let message =
                format!("{first} and {kind} must not stand in one entry: write one for each");
            check.problem(&at, message);
        }
        first = first.or(Some(kind));
    }
}

fn check_source(check: &mut Check, kind: &str, item: &At<'_>) {
    match kind {
        "fromCIDR" => drop(prefixes::plain(check, item)),
        "fromCIDRSet" => drop(prefixes::set(check, item)),
        "fromEntities" => drop(check.one_of(item, &Entity::names())),
        "fromGroups" => egress::group(check, item),
        _ => drop(selector::read(check, item)),
    }
}

/// Nobody asks a pod for names through the proxy, and Cilium sends what comes in to no listener.
fn refuse_for_egress_only(check: &mut Check, at: &At<'_>) {
    for item in at.items() {
        let dns = item.value_of("rules").and_then(|rules| rules.value_of("dns"));
        let dns = dns.filter(|dns| !dns.is_empty_list());
        for only in dns.into_iter().chain(item.value_of("listener")) {
            check.problem(&only, "is for egress only");
        }
    }
}
