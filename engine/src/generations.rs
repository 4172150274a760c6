//! Generations: which endpoints' flows must be judged again after a revision.
//!
//! The kernel keeps a flow's verdict with the generation under which it was given. A generation
//! counts up when such a verdict may be wrong: when the endpoint is judged in another way, when a
//! row of its table is another one, when a destination that its table knows is another one, or when
//! it may no longer send from an address. What was only added needs none, because denials are not
//! kept.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use model::{EndpointId, Enforcement, Identity, Prefix, State, TableId};
use prefix_trie::joint::map::JointPrefixMap;

/// Carries generations on from what is in force, and counts them up where that is needed;
/// `by_name` are the tables with selectors of names.
pub(crate) fn carry_on(realised: &State, desired: &mut State, by_name: &BTreeSet<TableId>) {
    let stale = stale_tables(realised, desired, by_name);
    let fewer_sources = endpoints_with_fewer_sources(realised, desired);
    for (interface, entry) in &mut desired.endpoints {
        let Some(old) = realised.endpoints.get(interface) else { continue };
        if old.endpoint != entry.endpoint {
            continue;
        }
        let by_table = match entry.enforcement {
            Enforcement::Table(table) => stale.contains(&table),
            Enforcement::Open | Enforcement::Closed(_) => false,
        };
        let judged_anew = by_table
            || old.enforcement != entry.enforcement
            || fewer_sources.contains(&entry.endpoint);
        entry.generation = old.generation.wrapping_add(u32::from(judged_anew));
    }
}

/// The endpoints that may no longer send from some address. Their flows, inbound ones too, stand
/// for the right to send from it.
fn endpoints_with_fewer_sources(realised: &State, desired: &State) -> BTreeSet<EndpointId> {
    let gone = realised.sources.keys().filter(|source| !desired.sources.contains_key(source));
    gone.map(|(endpoint, _)| *endpoint).collect()
}

/// The tables in which a row was changed or removed, or under which a destination's identity is
/// another one now.
fn stale_tables(
    realised: &State,
    desired: &State,
    by_name: &BTreeSet<TableId>,
) -> BTreeSet<TableId> {
    let changed = realised.rows.iter().filter(|(row, verdict)| {
        let new = desired.rows.get(row);
        new.is_none_or(|new| new != *verdict)
    });
    let mut stale: BTreeSet<TableId> = changed.map(|(row, _)| row.table).collect();
    let moved = moved_identities(realised, desired);
    let rows = realised.rows.keys().chain(desired.rows.keys());
    stale.extend(rows.filter(|row| moved.contains(&row.identity)).map(|row| row.table));
    // An address that was outside and no longer is takes resolved names' rights with it.
    if moved.iter().any(|identity| identity.is_outside()) {
        stale.extend(by_name);
    }
    stale
}

/// Identities that some address had and has no longer, or has and had not.
fn moved_identities(realised: &State, desired: &State) -> BTreeSet<Identity> {
    let (old, new) = (&realised.prefixes, &desired.prefixes);
    let mut moved = BTreeSet::new();
    if old != new {
        let (before, after) = (longest_match(old), longest_match(new));
        let prefixes = old.keys().chain(new.keys());
        for prefix in prefixes.filter(|prefix| old.get(prefix) != new.get(prefix)) {
            for map in [&before, &after] {
                moved.extend(map.get_lpm(&prefix.net()).map(|(_, identity)| *identity));
            }
        }
    }
    let frontends = realised.frontends.iter();
    let gone = frontends.filter(|(frontend, own)| desired.frontends.get(frontend) != Some(own));
    moved.extend(gone.map(|(_, identity)| *identity));
    moved
}

/// The prefixes as the kernel's trie has them.
pub(crate) fn longest_match(
    prefixes: &BTreeMap<Prefix, Identity>,
) -> JointPrefixMap<IpNet, Identity> {
    let mut map = JointPrefixMap::new();
    for (prefix, identity) in prefixes {
        map.insert(prefix.net(), *identity);
    }
    map
}
