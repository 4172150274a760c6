//! What an earlier daemon enforced, until it is sure that nothing of it is missing.
//!
//! Where manifests cannot be read and nothing was kept of them, the rest does not tell what they
//! held: a pod that no other policy selects would be opened, one that loses a denial allowed more,
//! one that is not described any more let go of. Such an interface is closed instead, until
//! everything can be read. It never opens because of a fault.

use std::collections::{BTreeMap, BTreeSet};

use model::{Enforcement, Interface, State, TableId};

/// Interfaces that may not be less enforced than they were, each with the table it was under; none
/// for one that was closed, and for all once the first revision stands, since a table's number may
/// be another's from then on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending(BTreeMap<Interface, Option<TableId>>);

impl Pending {
    /// What the kernel enforces at the start. An interface that has programs and no entry is one
    /// that nobody knows of how it was judged, by another version's maps.
    pub fn of(dump: &State, attached: &BTreeSet<Interface>) -> Self {
        let unknown = attached.iter().filter(|interface| !dump.endpoints.contains_key(interface));
        let enforced = dump.endpoints.iter().filter_map(|(interface, entry)| {
            Some((
                *interface,
                match entry.enforcement {
                    Enforcement::Open => return None,
                    Enforcement::Table(table) => Some(table),
                    Enforcement::Closed(_) => None,
                },
            ))
        });
        Self(enforced.chain(unknown.map(|interface| (*interface, None))).collect())
    }

    /// Everything could be read: what is not enforced now is not to be.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Only these interfaces are still what they were.
    pub fn retain(&mut self, lives: impl Fn(Interface) -> bool) {
        self.0.retain(|interface, _| lives(*interface));
    }

    /// The first revision stands: who came under the same table again has lost nothing.
    pub fn settle(&mut self, desired: &State) {
        self.0.retain(|interface, table| {
            let entry = desired.endpoints.get(interface);
            let judged =
                entry.is_some_and(|entry| matches!(entry.enforcement, Enforcement::Table(_)));
            *table = None;
            !judged
        });
    }

    /// The interfaces, and the table under which each may come.
    pub fn interfaces(&self) -> &BTreeMap<Interface, Option<TableId>> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use model::{DropReason, EndpointEntry, EndpointId};

    use super::*;

    fn state(endpoints: &[(u32, Enforcement)]) -> State {
        let mut state = State::default();
        for &(index, enforcement) in endpoints {
            let endpoint = EndpointId(index);
            let entry = EndpointEntry { endpoint, enforcement, generation: 1, bridge: None };
            state.endpoints.insert(Interface(index), entry);
        }
        state
    }

    #[test]
    fn what_was_open_is_free_and_what_comes_back_as_it_was_is_too() {
        let closed = Enforcement::Closed(DropReason::EndpointPending);
        let (one, two) = (Enforcement::Table(TableId(1)), Enforcement::Table(TableId(2)));
        let known = [(5, Enforcement::Open), (6, one), (7, two), (8, closed), (9, two)];
        let attached = [5, 6, 7, 8, 10].map(Interface).into();
        let mut pending = Pending::of(&state(&known), &attached);
        pending.retain(|interface| interface != Interface(9));
        let known = [
            (Interface(6), Some(TableId(1))),
            (Interface(7), Some(TableId(2))),
            (Interface(8), None),
            (Interface(10), None),
        ];
        assert_eq!(*pending.interfaces(), known.into());
        pending.settle(&state(&[(6, one), (7, closed), (8, closed)]));
        let left = [7, 8, 10].map(|index| (Interface(index), None));
        assert_eq!(*pending.interfaces(), left.into());
        pending.clear();
        assert!(pending.interfaces().is_empty());
    }
}
