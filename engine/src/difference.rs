//! From what the kernel holds to what it should hold, in an order that is safe at every step.
//!
//! Rows are written before the prefixes, frontends and leases that lead to them and removed after;
//! names and shared records are written before the leases that refer to them and removed after; an
//! endpoint's entry, whose generation makes the kernel judge again, comes behind every write and
//! behind every removal of a prefix. What is right already is not touched.
//!
//! Rows that nothing leads to, such as a revision leaves that could not be written, go first of all:
//! what they take up may be what the new ones need.

use std::collections::{BTreeMap, BTreeSet};

use model::{Change, Enforcement, Identity, LeaseEntry, Row, Scope, State, TableId};

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
    let mut steps = Difference::default();
    let Difference { before, endpoints, after } = &mut steps;

    let leads = Leads::of(realised);
    deletes(&realised.rows, &desired.rows, |row| {
        if !leads.to(row) {
            before.push(Change::DeleteRow(*row));
        }
    });
    puts(&realised.numbers, &desired.numbers, |(kind, number), digest| {
        before.push(Change::PutNumber(*kind, *number, *digest));
    });
    puts(&realised.rows, &desired.rows, |row, verdict| {
        before.push(Change::PutRow(*row, *verdict));
    });
    puts(&realised.sources, &desired.sources, |(endpoint, source), ()| {
        before.push(Change::PutSource(*endpoint, *source));
    });
    puts(&realised.names, &desired.names, |(endpoint, number), name| {
        before.push(Change::PutName(*endpoint, *number, name.clone()));
    });
    puts(&realised.shared, &desired.shared, |(endpoint, address, number), expires| {
        before.push(Change::PutShared(*endpoint, *address, *number, *expires));
    });
    puts(&realised.leases, &desired.leases, |key, lease| {
        let (endpoint, address) = *key;
        match realised.leases.get(key).and_then(|old| bridged(old, lease)) {
            Some(both) => {
                before.push(Change::PutLease(endpoint, address, both));
                after.push(Change::PutLease(endpoint, address, *lease));
            }
            None => before.push(Change::PutLease(endpoint, address, *lease)),
        }
    });
    puts(&realised.frontends, &desired.frontends, |frontend, identity| {
        before.push(Change::PutFrontend(*frontend, *identity));
    });
    puts(&realised.prefixes, &desired.prefixes, |prefix, identity| {
        before.push(Change::PutPrefix(*prefix, *identity));
    });

    deletes(&realised.prefixes, &desired.prefixes, |prefix| {
        before.push(Change::DeletePrefix(*prefix));
    });
    deletes(&realised.frontends, &desired.frontends, |frontend| {
        before.push(Change::DeleteFrontend(*frontend));
    });
    deletes(&realised.sources, &desired.sources, |(endpoint, source)| {
        before.push(Change::DeleteSource(*endpoint, *source));
    });

    puts(&realised.endpoints, &desired.endpoints, |interface, entry| {
        endpoints.push(Change::PutEndpoint(*interface, *entry));
    });
    deletes(&realised.endpoints, &desired.endpoints, |interface| {
        endpoints.push(Change::DeleteEndpoint(*interface));
    });

    deletes(&realised.leases, &desired.leases, |(endpoint, address)| {
        after.push(Change::DeleteLease(*endpoint, *address));
    });
    deletes(&realised.shared, &desired.shared, |(endpoint, address, number)| {
        after.push(Change::DeleteShared(*endpoint, *address, *number));
    });
    deletes(&realised.names, &desired.names, |(endpoint, number)| {
        after.push(Change::DeleteName(*endpoint, *number));
    });
    deletes(&realised.rows, &desired.rows, |row| {
        if leads.to(row) {
            after.push(Change::DeleteRow(*row));
        }
    });
    deletes(&realised.numbers, &desired.numbers, |(kind, number)| {
        after.push(Change::DeleteNumber(*kind, *number));
    });
    steps
}

/// What of the tables a packet can come to.
struct Leads {
    tables: BTreeSet<TableId>,
    identities: BTreeSet<Identity>,
}

impl Leads {
    fn of(state: &State) -> Self {
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
    fn to(&self, row: &Row) -> bool {
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

fn puts<K: Ord, V: Eq>(
    realised: &BTreeMap<K, V>,
    desired: &BTreeMap<K, V>,
    mut put: impl FnMut(&K, &V),
) {
    for (key, value) in desired {
        if realised.get(key) != Some(value) {
            put(key, value);
        }
    }
}

fn deletes<K: Ord, V>(
    realised: &BTreeMap<K, V>,
    desired: &BTreeMap<K, V>,
    mut delete: impl FnMut(&K),
) {
    for key in realised.keys() {
        if !desired.contains_key(key) {
            delete(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use model::{
        EndpointEntry, EndpointId, Enforcement, Identity, Interface, Moment, NameNumber,
        PortPrefix, Row, TableId, Verdict,
    };

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
        state.apply(&Change::PutRow(row, Verdict::Allow));
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
            realised.apply(&Change::PutRow(row, Verdict::Allow));
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
