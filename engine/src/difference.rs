//! From what the kernel holds to what it should hold, in an order that is safe at every step.
//!
//! Rows are written before the prefixes, frontends and leases that lead to them and removed after;
//! names and shared records are written before the leases that refer to them and removed after; an
//! endpoint's entry, whose generation makes the kernel judge again, comes behind every write and
//! behind every removal of a prefix. Where packets go on coming to rows of a destination, these are
//! rewritten in an order of their own ([`Rewriting`]). What is right already is not touched.
//!
//! While endpoints change tables, the ones they leave have rows for what comes as well. What goes
//! with these tables goes in a revision of its own. So nothing that both allow is denied meanwhile.
//!
//! Rows that nothing leads to, such as a revision leaves that could not be written, go first of all:
//! what they take up may be what the new ones need.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use model::{
    Change, Digest, EndpointEntry, EndpointId, Enforcement, Frontend, Identity, Interface,
    LeaseEntry, Moment, Name, NameNumber, NumberKind, PortPrefix, Prefix, Protocol, Row, Ruling,
    Scope, State, TableId,
};

use crate::rewriting::{Rewriting, Rewritten};

/// The changes that lead from one state to another, in three steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Writes that may come first, and removals that a new generation must follow.
    pub before: Vec<Change>,
    /// Endpoint entries.
    pub endpoints: Vec<Change>,
    /// Removals of what nothing refers to any more.
    pub after: Vec<Change>,
}

impl Difference {
    /// All changes in order.
    pub fn into_changes(self) -> impl Iterator<Item = Change> {
        self.before.into_iter().chain(self.endpoints).chain(self.after)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.endpoints.is_empty() && self.after.is_empty()
    }
}

/// The changes that lead from `realised` to `desired`.
pub fn difference(realised: &State, desired: &State) -> Difference {
    let mut steps = Steps::default();
    steps.endpoints.compare(&realised.endpoints, &desired.endpoints);
    steps.sources.compare(&realised.sources, &desired.sources);
    steps.prefixes.compare(&realised.prefixes, &desired.prefixes);
    steps.frontends.compare(&realised.frontends, &desired.frontends);
    steps.rows.compare(&realised.rows, &desired.rows);
    steps.numbers.compare(&realised.numbers, &desired.numbers);
    steps.names.compare(&realised.names, &desired.names);
    steps.leases.compare(&realised.leases, &desired.leases);
    steps.shared.compare(&realised.shared, &desired.shared);
    let (before, after) = (Leads::of(realised), Leads::of(desired));
    let led = |row: &Row| match (before.to(row), after.to(row)) {
        (false, _) => Led::Nowhere,
        (true, false) => Led::Away,
        (true, true) => Led::On,
    };
    steps.in_order(led, |table, identity| {
        let of = |state: &State| {
            let rows = state.rows.range(level_range(table, identity));
            rows.map(|(row, ruling)| (row.ports, *ruling)).collect()
        };
        Rewritten { was: of(realised), is: of(desired) }
    })
}

/// Whether packets come to a row while the changes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Led {
    /// None do.
    Nowhere,
    /// They do, and do not any more in the end.
    Away,
    /// They go on doing so.
    On,
    /// The same, and by names less may be allowed than before: nothing is closed but in the end.
    Late,
}

/// All rows of a table for one identity.
pub(crate) fn level_range(table: TableId, identity: Identity) -> RangeInclusive<Row> {
    let last = PortPrefix::Ports { protocol: Protocol(u8::MAX), port: u16::MAX, bits: u8::MAX };
    Row { table, identity, ports: PortPrefix::Any }..=Row { table, identity, ports: last }
}

/// What to put and to remove, map by map.
#[derive(Default)]
pub(crate) struct Steps<'a> {
    pub(crate) endpoints: Part<'a, Interface, EndpointEntry>,
    pub(crate) sources: Part<'a, (EndpointId, Prefix), ()>,
    pub(crate) prefixes: Part<'a, Prefix, Identity>,
    pub(crate) frontends: Part<'a, Frontend, Identity>,
    pub(crate) rows: Part<'a, Row, Ruling>,
    pub(crate) numbers: Part<'a, (NumberKind, u32), Digest>,
    names: Part<'a, (EndpointId, NameNumber), Name>,
    leases: Part<'a, (EndpointId, IpAddr), LeaseEntry>,
    shared: Part<'a, (EndpointId, IpAddr, NameNumber), Moment>,
    /// Rows that are needed while endpoints change tables, and not after.
    pub(crate) passing: Vec<(Row, Ruling)>,
    /// What is said now of the addresses that new destinations will have, where a table goes on to
    /// other rules: it is what they begin with.
    pub(crate) inherited: BTreeMap<(TableId, Identity), BTreeMap<PortPrefix, Ruling>>,
}

/// What to put and to remove in one map.
pub(crate) struct Part<'a, K, V> {
    /// With what is in force.
    puts: Vec<(&'a K, &'a V, Option<&'a V>)>,
    removals: Vec<&'a K>,
}

impl<K, V> Default for Part<'_, K, V> {
    fn default() -> Self {
        Self { puts: Vec::new(), removals: Vec::new() }
    }
}

impl<'a, K: Ord, V: Eq> Part<'a, K, V> {
    pub(crate) fn fill(
        &mut self,
        puts: impl Iterator<Item = (&'a K, &'a V, Option<&'a V>)>,
        removals: impl Iterator<Item = (&'a K, &'a V)>,
    ) {
        self.puts.extend(puts);
        self.removals.extend(removals.map(|(key, _)| key));
    }

    fn compare(&mut self, realised: &'a BTreeMap<K, V>, desired: &'a BTreeMap<K, V>) {
        let puts = desired.iter().map(|(key, value)| (key, value, realised.get(key)));
        self.puts.extend(puts.filter(|(_, new, old)| *old != Some(*new)));
        self.removals.extend(realised.keys().filter(|key| !desired.contains_key(*key)));
    }
}

impl Steps<'_> {
    /// All changes in an order that is safe at every step; `led` tells whether packets come to a
    /// row, and `level` what its table says of its destination.
    pub(crate) fn in_order(
        self,
        led: impl Fn(&Row) -> Led,
        level: impl Fn(TableId, Identity) -> Rewritten,
    ) -> Difference {
        let mut steps = Difference::default();
        let Difference { before, endpoints, after } = &mut steps;
        let removals = |wanted: Led| {
            let removals = self.rows.removals.iter().filter(|row| led(row) == wanted);
            removals.map(|row| Change::DeleteRow(**row)).collect::<Vec<_>>()
        };
        let rewritten = |wanted: Led| {
            let puts = self.rows.puts.iter().map(|(row, ..)| *row);
            let rows = puts.chain(self.rows.removals.iter().copied()).copied();
            let begun = self.inherited.keys();
            let begun =
                begun.map(|&(table, identity)| Row { table, identity, ports: PortPrefix::Any });
            let met = rows.chain(begun).filter(|row| led(row) == wanted);
            let levels: BTreeSet<_> = met.map(|row| (row.table, row.identity)).collect();
            let levels = levels.into_iter().map(|place| {
                let mut level = level(place.0, place.1);
                if let Some(inherited) = self.inherited.get(&place) {
                    level.was.clone_from(inherited);
                }
                (place, level)
            });
            Rewriting::of(&levels.collect())
        };
        let (now, late) = (rewritten(Led::On), rewritten(Led::Late));

        before.extend(removals(Led::Nowhere));
        before.extend(
            self.numbers
                .puts
                .iter()
                .map(|((kind, number), digest, _)| Change::PutNumber(*kind, *number, **digest)),
        );
        let unmet = |row: &Row| matches!(led(row), Led::Nowhere | Led::Away);
        let rows = self.rows.puts.iter().filter(|(row, ..)| unmet(row));
        let rows = rows.map(|(row, ruling, _)| (**row, **ruling));
        let rows = rows.chain(self.passing.iter().copied());
        before.extend(rows.map(|(row, ruling)| Change::PutRow(row, ruling)));
        for (&(table, identity), rows) in &self.inherited {
            let row = |ports: &PortPrefix| Row { table, identity, ports: *ports };
            before.extend(rows.iter().map(|(ports, own)| Change::PutRow(row(ports), *own)));
        }
        // No address is taken for one under a wider prefix that a narrower one takes it from.
        let mut prefixes = self.prefixes.puts;
        prefixes.sort_by_key(|(prefix, ..)| Reverse(prefix.length()));
        let prefixes = prefixes.into_iter();
        before.extend(prefixes.map(|(own, identity, _)| Change::PutPrefix(*own, *identity)));
        before.extend(now.growing.into_iter().chain(late.growing));
        for ((endpoint, source), ..) in &self.sources.puts {
            before.push(Change::PutSource(*endpoint, *source));
        }
        for ((endpoint, number), name, _) in &self.names.puts {
            before.push(Change::PutName(*endpoint, *number, (*name).clone()));
        }
        for ((endpoint, address, number), expires, _) in &self.shared.puts {
            before.push(Change::PutShared(*endpoint, *address, *number, **expires));
        }
        for ((endpoint, address), lease, old) in &self.leases.puts {
            let now = old.and_then(|old| bridged(old, lease));
            before.push(Change::PutLease(*endpoint, *address, now.unwrap_or(**lease)));
            if now.is_some() {
                after.push(Change::PutLease(*endpoint, *address, **lease));
            }
        }
        for (frontend, identity, _) in &self.frontends.puts {
            before.push(Change::PutFrontend(**frontend, **identity));
        }
        before.extend(self.prefixes.removals.iter().map(|own| Change::DeletePrefix(**own)));
        before.extend(self.frontends.removals.iter().map(|own| Change::DeleteFrontend(**own)));
        for (endpoint, source) in &self.sources.removals {
            before.push(Change::DeleteSource(*endpoint, *source));
        }
        before.extend(now.shrinking);

        for (interface, entry, _) in &self.endpoints.puts {
            endpoints.push(Change::PutEndpoint(**interface, **entry));
        }
        endpoints.extend(self.endpoints.removals.iter().map(|own| Change::DeleteEndpoint(**own)));

        for (endpoint, address) in &self.leases.removals {
            after.push(Change::DeleteLease(*endpoint, *address));
        }
        for (endpoint, address, number) in &self.shared.removals {
            after.push(Change::DeleteShared(*endpoint, *address, *number));
        }
        for (endpoint, number) in &self.names.removals {
            after.push(Change::DeleteName(*endpoint, *number));
        }
        after.extend(late.shrinking.into_iter().chain(removals(Led::Away)));
        after.extend(self.passing.iter().map(|(row, _)| Change::DeleteRow(*row)));
        for (kind, number) in &self.numbers.removals {
            after.push(Change::DeleteNumber(*kind, *number));
        }
        steps
    }
}

/// What of the tables a packet can come to.
#[derive(Debug)]
pub(crate) struct Leads {
    tables: BTreeSet<TableId>,
    identities: BTreeSet<Identity>,
}

impl Leads {
    pub(crate) fn of(state: &State) -> Self {
        let table = |enforcement| match enforcement {
            Enforcement::Table(table) => Some(table),
            Enforcement::Open | Enforcement::Closed(_) => None,
        };
        let enforcements = state.endpoints.values().map(|entry| entry.enforcement);
        let identities = state.prefixes.values().chain(state.frontends.values());
        Self {
            tables: enforcements.filter_map(table).collect(),
            identities: identities.copied().collect(),
        }
    }

    /// Whether a packet can come to this row. Name sets are led to by leases, which may come at any
    /// time, and what is reserved by nothing at all.
    pub(crate) fn to(&self, row: &Row) -> bool {
        self.tables.contains(&row.table)
            && match row.identity.scope() {
                Scope::Labels | Scope::Cidr | Scope::Service => {
                    self.identities.contains(&row.identity)
                }
                Scope::Reserved | Scope::Names => true,
            }
    }
}

/// A lease that counts under the table before and the table after: with both name sets.
///
/// A set is sound wherever all of its selectors match the name, so two of them allow no more than
/// the one that is right.
fn bridged(old: &LeaseEntry, new: &LeaseEntry) -> Option<LeaseEntry> {
    let from = old.sets[0]?;
    let to = new.sets[0]?;
    (from != to).then_some(LeaseEntry { sets: [Some(from), Some(to)], ..*new })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: EndpointId = EndpointId(1);

    fn state(table: u32, set: u32) -> State {
        let mut state = State::default();
        let address: IpAddr = "203.0.113.7".parse().unwrap();
        let row = Row { table: TableId(table), identity: Identity(set), ports: PortPrefix::Any };
        let entry = EndpointEntry {
            endpoint: ENDPOINT,
            enforcement: Enforcement::Table(TableId(table)),
            generation: table,
            bridge: None,
        };
        let lease = LeaseEntry {
            sets: [Some(Identity(set)), None],
            name: NameNumber(1),
            expires: Moment::from_secs(60),
        };
        state.apply(&Change::PutRow(row, model::Verdict::Allow.into()));
        state.apply(&Change::PutName(ENDPOINT, NameNumber(1), "a.example".parse().unwrap()));
        state.apply(&Change::PutLease(ENDPOINT, address, lease));
        state.apply(&Change::PutEndpoint(Interface(7), entry));
        state
    }

    #[test]
    fn nothing_is_done_when_all_is_right() {
        assert!(difference(&state(1, 10), &state(1, 10)).is_empty());
    }

    #[test]
    fn applying_the_difference_gives_the_desired_state() {
        let (mut realised, desired) = (state(1, 10), state(2, 11));
        let changes: Vec<Change> = difference(&realised, &desired).into_changes().collect();
        changes.iter().for_each(|change| realised.apply(change));
        assert_eq!(realised, desired);
    }

    #[test]
    fn a_lease_counts_under_both_tables_while_the_endpoint_switches() {
        let steps = difference(&state(1, 10), &state(2, 11));
        let sets = |changes: &[Change]| {
            changes.iter().find_map(|change| match change {
                Change::PutLease(_, _, lease) => Some(lease.sets),
                _ => None,
            })
        };
        assert_eq!(sets(&steps.before), Some([Some(Identity(10)), Some(Identity(11))]));
        assert_eq!(sets(&steps.after), Some([Some(Identity(11)), None]));
        assert!(matches!(steps.endpoints[..], [Change::PutEndpoint(Interface(7), _)]));
    }

    #[test]
    fn rows_that_nothing_leads_to_make_room_before_anything_is_written() {
        let mut realised = state(1, 10);
        let cidr = Identity::first(Scope::Cidr);
        let left = [(TableId(5), Identity::ANY), (TableId(1), cidr)].map(|(table, identity)| Row {
            table,
            identity,
            ports: PortPrefix::Any,
        });
        for row in left {
            realised.apply(&Change::PutRow(row, model::Verdict::Allow.into()));
        }
        let steps = difference(&realised, &state(2, 11));
        let first = left.map(Change::DeleteRow);
        assert!(steps.before.starts_with(&[first[1].clone(), first[0].clone()]), "{steps:?}");
        assert!(steps.before[2..].iter().all(|change| !change.is_removal()), "{steps:?}");
    }

    #[test]
    fn rows_stand_as_long_as_something_leads_to_them() {
        let steps = difference(&state(1, 10), &State::default());
        let place = |wanted: fn(&Change) -> bool| steps.after.iter().position(wanted).unwrap();
        let lease = place(|change| matches!(change, Change::DeleteLease(..)));
        let name = place(|change| matches!(change, Change::DeleteName(..)));
        let row = place(|change| matches!(change, Change::DeleteRow(..)));
        assert!(lease < name && name < row);
    }
}
