//! The maps as the kernel reads them, searched from end to end.

use std::net::IpAddr;

use model::{
    DropReason, Enforcement, Frontend, Identity, Protocol, Ruling, State, TableId, Verdict,
};

use crate::{
    fate::{Fate, Judgement},
    places::LOOPBACK,
};

/// What the client's table says of a new flow.
pub fn judge(state: &State, to: IpAddr, protocol: Protocol, port: u16) -> Fate {
    let entry = state.endpoints[&LOOPBACK];
    let Enforcement::Table(table) = entry.enforcement else {
        panic!("{:?}: the first policy selects the client", entry.enforcement)
    };
    let row = |identity| most_specific(state, table, identity, protocol, port);
    let any = row(Identity::ANY);
    let audits_default_deny = any.audited.default_deny;
    let fate = |ruling| Judgement { ruling, audits_default_deny }.fate(protocol);
    let frontend = Frontend { address: to, protocol, port };
    if let Some(service) = state.frontends.get(&frontend) {
        return fate(Ok(row(*service)));
    }
    let covering = state.prefixes.iter().filter(|(prefix, _)| prefix.covers(to));
    let longest = covering.max_by_key(|(prefix, _)| prefix.length());
    let identity = *longest.expect("a prefix covers everything").1;
    if identity == Identity::NO_SERVICE {
        let none = DropReason::NoService;
        let denied = any.verdict == Some(Verdict::Deny);
        return if denied { Fate::Dropped(none) } else { fate(Err(none)) };
    }
    let lease = state.leases.get(&(entry.endpoint, to)).filter(|_| identity.is_outside());
    let sets = lease.into_iter().flat_map(|own| own.sets).flatten();
    let levels = [identity, Identity::ANY].into_iter().chain(sets);
    fate(Ok(levels.map(row).reduce(Ruling::union).unwrap_or_default()))
}

fn most_specific(
    state: &State,
    table: TableId,
    identity: Identity,
    protocol: Protocol,
    port: u16,
) -> Ruling {
    let level = state.rows.iter().filter(|(row, _)| (row.table, row.identity) == (table, identity));
    let covering = level.filter(|(row, _)| row.ports.covers(protocol, port));
    covering.max_by_key(|(row, _)| row.ports.len()).map(|(_, ruling)| *ruling).unwrap_or_default()
}
