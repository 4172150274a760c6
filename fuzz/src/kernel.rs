//! The model of the kernel's judgement: the maps as values, searched from end to end.

use std::net::IpAddr;

use model::{
    DropReason, EndpointEntry, Enforcement, Frontend, Identity, Moment, Protocol, Ruling, State,
    TableId, Verdict,
};

/// What a packet is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Where it goes.
    pub to: IpAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its destination port; for ICMP the type.
    pub port: u16,
}

/// How a packet goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Where to.
    pub verdict: Verdict,
    /// Why it would have been dropped, were no policy audited.
    pub audited: Option<DropReason>,
}

/// Judges a packet of an endpoint under its table. `living`: its flow was allowed before.
pub fn judge(
    state: &State,
    entry: &EndpointEntry,
    probe: Probe,
    now: Moment,
    living: bool,
) -> Result<Judged, DropReason> {
    let table = match entry.enforcement {
        Enforcement::Open => return Ok(Judged { verdict: Verdict::Allow, audited: None }),
        Enforcement::Closed(reason) => return Err(reason),
        Enforcement::Table(table) => table,
    };
    let any = row(state, table, Identity::ANY, probe).unwrap_or_default();
    let Levels { identities, expired } = match levels(state, entry, probe, now, living) {
        Ok(levels) => levels,
        Err(reason) if any.verdict != Some(Verdict::Deny) && any.audited.default_deny => {
            return Ok(Judged { verdict: Verdict::Allow, audited: Some(reason) });
        }
        Err(reason) => return Err(reason),
    };
    let rulings = identities.into_iter().filter_map(|own| row(state, table, own, probe));
    let ruling = rulings.reduce(Ruling::union).unwrap_or_default();
    let denied = ruling.audited.deny_rule.then_some(DropReason::DenyRule);
    match allowed(ruling.verdict, probe.protocol, expired) {
        Ok(verdict) => Ok(Judged { verdict, audited: denied }),
        Err(DropReason::DenyRule) => Err(DropReason::DenyRule),
        Err(reason) if any.audited.default_deny => {
            Ok(Judged { verdict: Verdict::Allow, audited: denied.or(Some(reason)) })
        }
        Err(reason) => Err(reason),
    }
}

/// Whether what no rule allows of a packet's kind is only audited under an endpoint's table.
pub fn audits_default_deny(state: &State, entry: &EndpointEntry, probe: Probe) -> bool {
    let Enforcement::Table(table) = entry.enforcement else { return false };
    row(state, table, Identity::ANY, probe).is_some_and(|own| own.audited.default_deny)
}

/// What becomes of a packet by the verdict of all rows alone.
fn allowed(
    verdict: Option<Verdict>,
    protocol: Protocol,
    expired: bool,
) -> Result<Verdict, DropReason> {
    match verdict {
        Some(Verdict::Deny) => Err(DropReason::DenyRule),
        Some(Verdict::Dns) if ![Protocol::UDP, Protocol::TCP].contains(&protocol) => {
            Err(DropReason::PolicyDenied)
        }
        Some(Verdict::Proxy) if protocol == Protocol::UDP => Err(DropReason::QuicNotInspected),
        Some(Verdict::Proxy) if protocol != Protocol::TCP => Err(DropReason::PolicyDenied),
        Some(Verdict::Unruled) => Ok(Verdict::Allow),
        Some(verdict) => Ok(verdict),
        None if expired => Err(DropReason::LeaseExpired),
        None => Err(DropReason::PolicyDenied),
    }
}

/// Whose rows count.
struct Levels {
    identities: Vec<Identity>,
    /// Whether a lease would count, had it not run out.
    expired: bool,
}

fn levels(
    state: &State,
    entry: &EndpointEntry,
    probe: Probe,
    now: Moment,
    living: bool,
) -> Result<Levels, DropReason> {
    let Probe { to, protocol, port } = probe;
    let icmp = protocol == if to.is_ipv4() { Protocol::ICMP } else { Protocol::ICMPV6 };
    let has_ports = [Protocol::TCP, Protocol::UDP, Protocol::SCTP].contains(&protocol);
    let port = if icmp || !has_ports { 0 } else { port };
    if let Some(service) = state.frontends.get(&Frontend { address: to, protocol, port }) {
        return Ok(Levels { identities: vec![*service], expired: false });
    }
    let covering = state.prefixes.iter().filter(|(prefix, _)| prefix.covers(to));
    let longest = covering.max_by_key(|(prefix, _)| prefix.length());
    let identity = *longest.ok_or(DropReason::PolicyDenied)?.1;
    if identity == Identity::NO_SERVICE {
        return Err(DropReason::NoService);
    }
    let mut identities = vec![identity, Identity::ANY];
    let lease = state.leases.get(&(entry.endpoint, to)).filter(|_| identity.is_outside());
    let expired = lease.is_some_and(|lease| now >= lease.expires && !living);
    if let Some(lease) = lease.filter(|_| !expired) {
        identities.extend(lease.sets.into_iter().flatten());
    }
    Ok(Levels { identities, expired })
}

/// The most specific row of a table for an identity.
fn row(state: &State, table: TableId, identity: Identity, probe: Probe) -> Option<Ruling> {
    let rows = state.rows.iter().filter(|(row, _)| {
        row.table == table
            && row.identity == identity
            && row.ports.covers(probe.protocol, probe.port)
    });
    rows.max_by_key(|(row, _)| row.ports.len()).map(|(_, ruling)| *ruling)
}
