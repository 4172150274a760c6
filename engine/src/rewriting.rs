//! The order in which rows are rewritten that packets meet meanwhile.
//!
//! A packet is judged by several levels of a table, of which the greatest verdict stands. Where
//! rules change there is no moment in which it fares as it does neither before nor after: what is
//! greater than before is written first, the greatest of all first; then what is less, the least
//! first. Within a level a row takes in what the wider ones say, so that the narrowest comes first
//! where verdicts grow, and the widest where they shrink.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use model::{Change, Identity, PortPrefix, Row, TableId, Verdict};

/// The rows of one table for one destination, before and after.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rewritten {
    pub(crate) was: BTreeMap<PortPrefix, Verdict>,
    pub(crate) is: BTreeMap<PortPrefix, Verdict>,
}

/// What is written of some rows, in order: nothing is closed in the first half that both allow, and
/// nothing opened in either that both deny.
#[derive(Debug, Default)]
pub(crate) struct Rewriting {
    pub(crate) growing: Vec<Change>,
    pub(crate) shrinking: Vec<Change>,
}

/// A row that is another one, or is none, before or after.
struct Step {
    row: Row,
    was: Option<Verdict>,
    is: Option<Verdict>,
    /// Whether the row stood before; otherwise it was what a wider one said.
    stood: bool,
    /// Whether the row stands afterwards; otherwise it is what a wider one says.
    stays: bool,
}

impl Rewriting {
    /// The way from one content of some levels to another.
    pub(crate) fn of(levels: &BTreeMap<(TableId, Identity), Rewritten>) -> Self {
        let mut steps: Vec<Step> =
            levels.iter().flat_map(|(place, level)| level.steps(*place)).collect();
        steps.sort_by_key(|step| (Reverse(step.is), Reverse(step.row.ports.len())));
        let mut this = Self::default();
        for step in steps.iter().filter(|step| step.is >= step.was) {
            if let Some(verdict) = step.is.filter(|_| step.stays || step.is > step.was) {
                this.growing.push(Change::PutRow(step.row, verdict));
            }
        }
        // A row that is new must stand before a wider one goes that its packets were judged by.
        steps.sort_by_key(|step| {
            let length = i16::from(step.row.ports.len());
            (step.was, step.stood, if step.stood { length } else { -length })
        });
        for step in steps.iter().filter(|step| step.is < step.was) {
            this.shrinking.push(match step.is.filter(|_| step.stays) {
                Some(verdict) => Change::PutRow(step.row, verdict),
                None => Change::DeleteRow(step.row),
            });
        }
        // What a wider row says by now.
        let same = steps.iter().filter(|step| step.is >= step.was && !step.stays);
        this.shrinking.extend(same.map(|step| Change::DeleteRow(step.row)));
        this
    }
}

impl Rewritten {
    fn steps(&self, (table, identity): (TableId, Identity)) -> impl Iterator<Item = Step> {
        let keys: BTreeSet<PortPrefix> = self.was.keys().chain(self.is.keys()).copied().collect();
        let differ = keys.into_iter().filter(|key| self.was.get(key) != self.is.get(key));
        differ.map(move |ports| Step {
            row: Row { table, identity, ports },
            was: covering(&self.was, ports),
            is: covering(&self.is, ports),
            stood: self.was.contains_key(&ports),
            stays: self.is.contains_key(&ports),
        })
    }
}

/// What the longest row says that covers all of these ports.
fn covering(rows: &BTreeMap<PortPrefix, Verdict>, ports: PortPrefix) -> Option<Verdict> {
    let mut covering = std::iter::once(ports).chain(ports.wider());
    covering.find_map(|prefix| rows.get(&prefix)).copied()
}

#[cfg(test)]
mod tests {
    use model::Protocol;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const ALL: [Verdict; 5] =
        [Verdict::Unruled, Verdict::Proxy, Verdict::Allow, Verdict::Dns, Verdict::Deny];

    /// Rows as a table has them: each with what wider ones say, and none that says what the next
    /// wider one says.
    fn rows() -> impl Strategy<Value = BTreeMap<PortPrefix, Verdict>> {
        let ports = prop_oneof![
            1 => Just(PortPrefix::Any),
            1 => Just(PortPrefix::Protocol(Protocol::TCP)),
            4 => (0u16..4, 13u8..=16).prop_map(|(port, bits)| {
                let port = port & (u16::MAX << (16 - bits));
                PortPrefix::Ports { protocol: Protocol::TCP, port, bits }
            }),
        ];
        prop::collection::btree_map(ports, select(&ALL[..]), 0..5).prop_map(|said| {
            let mut all: Vec<_> = said.into_iter().collect();
            all.sort_by_key(|(ports, _)| ports.len());
            let mut rows = BTreeMap::new();
            for (ports, verdict) in all {
                if covering(&rows, ports).is_none_or(|wider| wider < verdict) {
                    rows.insert(ports, verdict);
                }
            }
            rows
        })
    }

    fn level() -> impl Strategy<Value = Rewritten> {
        (rows(), rows()).prop_map(|(was, is)| Rewritten { was, is })
    }

    /// What becomes of a packet that is on all of these levels.
    fn verdict<'a>(
        levels: impl Iterator<Item = &'a BTreeMap<PortPrefix, Verdict>>,
        port: u16,
    ) -> Option<Verdict> {
        let port = PortPrefix::port(Protocol::TCP, port);
        levels.filter_map(|rows| covering(rows, port)).reduce(Verdict::union)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_packet_fares_as_before_or_as_after_at_every_moment(
            levels in prop::collection::vec(level(), 1..4),
        ) {
            let place = |number: usize| (TableId(1), Identity(u32::try_from(number).unwrap()));
            let named: BTreeMap<_, _> =
                levels.iter().cloned().enumerate().map(|(own, level)| (place(own), level)).collect();
            let Rewriting { growing, shrinking } = Rewriting::of(&named);
            let mut rows: Vec<_> = levels.iter().map(|level| level.was.clone()).collect();
            for change in growing.iter().chain(&shrinking) {
                match change {
                    Change::PutRow(row, verdict) => {
                        rows[row.identity.0 as usize].insert(row.ports, *verdict);
                    }
                    Change::DeleteRow(row) => {
                        let gone = rows[row.identity.0 as usize].remove(&row.ports);
                        prop_assert!(gone.is_some(), "{change:?} of what is not there");
                    }
                    other => panic!("{other:?}"),
                }
                for port in [0, 1, 2, 3, 4, 7, 8] {
                    let now = verdict(rows.iter(), port);
                    let was = verdict(levels.iter().map(|level| &level.was), port);
                    let is = verdict(levels.iter().map(|level| &level.is), port);
                    prop_assert!(now == was || now == is, "{port}: {was:?}, {now:?}, {is:?}");
                }
            }
            prop_assert!(rows.iter().eq(levels.iter().map(|level| &level.is)));
        }
    }
}
