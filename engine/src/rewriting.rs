//! The order in which rows are rewritten that packets meet meanwhile.
//!
//! A packet is judged by several levels of a table, of which the greatest verdict stands. Where
//! rules change there is no moment in which it fares as it does neither before nor after: what is
//! greater than before is written first, the greatest of all first; then what is less, the least
//! first. Within a level a row takes in what the wider ones say, so that the narrowest comes first
//! where verdicts grow, and the widest where they shrink.
//!
//! Whether default deny is audited stands in the rows for every destination, beside their verdicts,
//! and has a place of its own in that order ([`Rank`]): it lets pass what has no verdict, and what
//! has one that is for a proxy and comes by a protocol that no proxy judges. What is audited beside
//! that changes what is told of a packet alone, and goes with the verdict.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use model::{Change, Identity, PortPrefix, Row, Ruling, TableId, Verdict};

/// The rows of one table for one destination, before and after.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rewritten {
    pub(crate) was: BTreeMap<PortPrefix, Ruling>,
    pub(crate) is: BTreeMap<PortPrefix, Ruling>,
}

/// What is written of some rows, in order: nothing is closed in the first half that both allow, and
/// nothing opened in either that both deny.
#[derive(Debug, Default)]
pub(crate) struct Rewriting {
    pub(crate) growing: Vec<Change>,
    pub(crate) shrinking: Vec<Change>,
}

/// The order of what is written: what grows is written from the last to the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Nothing,
    /// Default deny is audited, and enforced otherwise: what has no verdict passes by it alone.
    AuditedOrEnforced,
    Unruled,
    Proxy,
    /// Default deny is audited, and there is none otherwise, or the policies that do without it are
    /// audited: everything has a verdict without it.
    /// Only what is for a proxy, by another protocol, does not pass then.
    AuditedOrNone,
    Allow,
    Dns,
    Deny,
}

/// A row that is another one, or is none, before or after.
struct Step {
    row: Row,
    /// What is said of its packets before and after, be it by a wider row.
    was: Ruling,
    is: Ruling,
    /// Whether the row stood before.
    stood: bool,
    /// Whether the row stands afterwards.
    stays: bool,
    /// What stands by now.
    now: Option<Ruling>,
    /// Whether default deny is audited by now.
    default_deny: bool,
}

/// What of a row is written.
#[derive(Clone, Copy)]
enum Part {
    Verdict,
    DefaultDeny,
}

impl Rewriting {
    /// The way from one content of some levels to another.
    pub(crate) fn of(levels: &BTreeMap<(TableId, Identity), Rewritten>) -> Self {
        let mut steps: Vec<Step> =
            levels.iter().flat_map(|(place, level)| level.steps(*place)).collect();
        Self { growing: growing(&mut steps), shrinking: shrinking(&mut steps) }
    }
}

fn growing(steps: &mut [Step]) -> Vec<Change> {
    let mut order = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let narrowest = Reverse(step.row.ports.len());
        if step.says_otherwise() && step.is.verdict >= step.was.verdict {
            order.push((Reverse(Rank::of(step.is.verdict)), narrowest, index, Part::Verdict));
        }
        if step.is.audited.default_deny && !step.was.audited.default_deny {
            let rank = Rank::of_default_deny(step.was.verdict);
            order.push((Reverse(rank), narrowest, index, Part::DefaultDeny));
        }
    }
    order.sort_by_key(|(rank, length, ..)| (*rank, *length));
    let written = order.into_iter().filter_map(|(.., index, part)| {
        let step = &mut steps[index];
        match part {
            Part::Verdict if step.stays || step.is.verdict > step.was.verdict => step.put(),
            // What a wider row says by now; it goes in the end.
            Part::Verdict => None,
            Part::DefaultDeny => step.put_default_deny(),
        }
    });
    written.collect()
}

fn shrinking(steps: &mut [Step]) -> Vec<Change> {
    let mut order = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let length = i16::from(step.row.ports.len());
        if step.is.verdict < step.was.verdict {
            // A row that is new must stand before a wider one goes that its packets were judged by.
            let length = if step.stood { length } else { -length };
            order.push((Rank::of(step.was.verdict), step.stood, length, index, Part::Verdict));
        }
        if step.was.audited.default_deny && !step.is.audited.default_deny {
            let rank = Rank::of_default_deny(step.is.verdict);
            order.push((rank, step.stood, length, index, Part::DefaultDeny));
        }
    }
    order.sort_by_key(|(rank, stood, length, ..)| (*rank, *stood, *length));
    let mut written = Vec::new();
    for (.., index, part) in order {
        let step = &mut steps[index];
        written.extend(match part {
            Part::Verdict if step.stays => step.put(),
            Part::Verdict => step.delete(),
            Part::DefaultDeny => step.put_default_deny(),
        });
    }
    let left = steps.iter_mut().filter(|step| !step.stays);
    written.extend(left.filter_map(Step::delete));
    written
}

impl Rank {
    fn of(verdict: Option<Verdict>) -> Self {
        match verdict {
            None => Self::Nothing,
            Some(Verdict::Unruled) => Self::Unruled,
            Some(Verdict::Proxy) => Self::Proxy,
            Some(Verdict::Allow) => Self::Allow,
            Some(Verdict::Dns) => Self::Dns,
            Some(Verdict::Deny) => Self::Deny,
        }
    }

    /// Of audited default deny, where this is said without it.
    fn of_default_deny(otherwise: Option<Verdict>) -> Self {
        if otherwise.is_some() { Self::AuditedOrNone } else { Self::AuditedOrEnforced }
    }
}

impl Step {
    /// Whether more differs than whether default deny is audited.
    fn says_otherwise(&self) -> bool {
        self.stood != self.stays
            || self.was.verdict != self.is.verdict
            || self.was.audited.deny_rule != self.is.audited.deny_rule
    }

    /// Writes what is said afterwards, but for default deny, which has its own time.
    fn put(&mut self) -> Option<Change> {
        let mut ruling = self.is;
        ruling.audited.default_deny = self.default_deny;
        self.write(ruling)
    }

    fn put_default_deny(&mut self) -> Option<Change> {
        self.default_deny = self.is.audited.default_deny;
        let mut ruling = self.now?;
        ruling.audited.default_deny = self.default_deny;
        self.write(ruling)
    }

    fn write(&mut self, ruling: Ruling) -> Option<Change> {
        if ruling.is_nothing() {
            return self.delete();
        }
        if self.now == Some(ruling) {
            return None;
        }
        self.now = Some(ruling);
        Some(Change::PutRow(self.row, ruling))
    }

    fn delete(&mut self) -> Option<Change> {
        self.now.take().map(|_| Change::DeleteRow(self.row))
    }
}

impl Rewritten {
    fn steps(&self, (table, identity): (TableId, Identity)) -> impl Iterator<Item = Step> {
        let keys: BTreeSet<PortPrefix> = self.was.keys().chain(self.is.keys()).copied().collect();
        let differ = keys.into_iter().filter(|key| self.was.get(key) != self.is.get(key));
        differ.map(move |ports| {
            let was = covering(&self.was, ports);
            Step {
                row: Row { table, identity, ports },
                was,
                is: covering(&self.is, ports),
                stood: self.was.contains_key(&ports),
                stays: self.is.contains_key(&ports),
                now: self.was.get(&ports).copied(),
                default_deny: was.audited.default_deny,
            }
        })
    }
}

/// What the longest row says that covers all of these ports.
fn covering(rows: &BTreeMap<PortPrefix, Ruling>, ports: PortPrefix) -> Ruling {
    let mut covering = std::iter::once(ports).chain(ports.wider());
    covering.find_map(|prefix| rows.get(&prefix)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use model::{Audited, Protocol};
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// What rules say. That none does stands in the rows for every destination alone.
    const SAID: [Option<Verdict>; 5] =
        [None, Some(Verdict::Proxy), Some(Verdict::Allow), Some(Verdict::Dns), Some(Verdict::Deny)];

    /// What no rule allows.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Default {
        PassesAudited,
        Passes,
        IsAudited,
        IsDropped,
    }

    /// What becomes of a packet, whatever is told of it.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fate {
        Passes,
        IsDropped,
        GoesTo(Verdict),
    }

    /// Rows as a table has them: each with what wider ones say, and none that says what the next
    /// wider one says.
    fn rows(default: Option<Default>) -> impl Strategy<Value = BTreeMap<PortPrefix, Ruling>> {
        let ports = prop_oneof![
            1 => Just(PortPrefix::Any),
            1 => Just(PortPrefix::Protocol(Protocol::TCP)),
            4 => (0u16..4, 13u8..=16).prop_map(|(port, bits)| {
                let port = port & (u16::MAX << (16 - bits));
                PortPrefix::Ports { protocol: Protocol::TCP, port, bits }
            }),
        ];
        let said = (select(&SAID[..]), any::<bool>()).prop_map(|(verdict, deny_rule)| Ruling {
            verdict,
            audited: Audited { deny_rule, default_deny: false },
        });
        let all = prop::collection::btree_map(ports, said, 0..5);
        all.prop_map(move |said| {
            let mut all: Vec<_> = said.into_iter().collect();
            let audited = Audited { default_deny: true, deny_rule: false };
            let rest = match default {
                Some(Default::PassesAudited) => Ruling { verdict: Some(Verdict::Unruled), audited },
                Some(Default::Passes) => Ruling::from(Verdict::Unruled),
                Some(Default::IsAudited) => Ruling { verdict: None, audited },
                Some(Default::IsDropped) | None => Ruling::default(),
            };
            all.push((PortPrefix::Any, rest));
            all.sort_by_key(|(ports, _)| ports.len());
            let mut rows = BTreeMap::new();
            for (ports, own) in all {
                let wider = covering(&rows, ports);
                if wider.union(own) != wider {
                    rows.insert(ports, wider.union(own));
                }
            }
            rows
        })
    }

    fn level(was: Option<Default>, is: Option<Default>) -> impl Strategy<Value = Rewritten> {
        (rows(was), rows(is)).prop_map(|(was, is)| Rewritten { was, is })
    }

    /// What is said of every destination, and what is of some.
    fn levels() -> impl Strategy<Value = Vec<Rewritten>> {
        let passing = [Default::PassesAudited, Default::Passes];
        let others = [Default::IsAudited, Default::IsDropped];
        let default = || select([passing, others].concat());
        (default(), default()).prop_flat_map(|(was, is)| {
            let narrow = prop::collection::vec(level(None, None), 0..3);
            (level(Some(was), Some(is)), narrow).prop_map(|(everywhere, mut levels)| {
                levels.insert(0, everywhere);
                levels
            })
        })
    }

    /// What is said of a packet that is on all of these levels.
    fn ruling<'a>(
        levels: impl Iterator<Item = &'a BTreeMap<PortPrefix, Ruling>>,
        port: u16,
    ) -> Ruling {
        let port = PortPrefix::port(Protocol::TCP, port);
        levels.map(|rows| covering(rows, port)).reduce(Ruling::union).unwrap_or_default()
    }

    /// What becomes of it, if its protocol is one that proxies judge, or is not.
    fn fate(ruling: Ruling, is_judged: bool) -> Fate {
        let default = if ruling.audited.default_deny { Fate::Passes } else { Fate::IsDropped };
        match ruling.verdict {
            Some(Verdict::Deny) => Fate::IsDropped,
            Some(Verdict::Allow | Verdict::Unruled) => Fate::Passes,
            Some(own @ (Verdict::Dns | Verdict::Proxy)) if is_judged => Fate::GoesTo(own),
            // Both proxies' rules are about protocols that the DNS proxy judges.
            Some(Verdict::Dns) => Fate::GoesTo(Verdict::Dns),
            Some(Verdict::Proxy) | None => default,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn a_packet_fares_as_before_or_as_after_at_every_moment(levels in levels()) {
            let place = |number: usize| (TableId(1), Identity(u32::try_from(number).unwrap()));
            let named: BTreeMap<_, _> =
                levels.iter().cloned().enumerate().map(|(own, level)| (place(own), level)).collect();
            let Rewriting { growing, shrinking } = Rewriting::of(&named);
            let mut rows: Vec<_> = levels.iter().map(|level| level.was.clone()).collect();
            for change in growing.iter().chain(&shrinking) {
                match change {
                    Change::PutRow(row, ruling) => {
                        rows[row.identity.0 as usize].insert(row.ports, *ruling);
                    }
                    Change::DeleteRow(row) => {
                        let gone = rows[row.identity.0 as usize].remove(&row.ports);
                        prop_assert!(gone.is_some(), "{change:?} of what is not there");
                    }
                    other => panic!("{other:?}"),
                }
                for (port, is_judged) in [0, 1, 2, 3, 4, 7, 8].map(|port| [(port, true), (port, false)]).concat() {
                    let fate = |ruling| fate(ruling, is_judged);
                    let now = fate(ruling(rows.iter(), port));
                    let was = fate(ruling(levels.iter().map(|level| &level.was), port));
                    let is = fate(ruling(levels.iter().map(|level| &level.is), port));
                    prop_assert!(now == was || now == is, "{port}: {was:?}, {now:?}, {is:?}");
                }
            }
            prop_assert!(rows.iter().eq(levels.iter().map(|level| &level.is)));
        }
    }
}
