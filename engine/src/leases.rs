//! One endpoint's names and addresses: what an answer lets it reach, and until when.
//!
//! A state machine without clock or I/O: answers, time and policy go in, [`Change`]s for the
//! kernel come out. What the caller must carry out, in the order given, is always in `changes`,
//! also where a call fails: the machine counts on it from then on. Invariants:
//!
//! - The kernel's `expires` of an address is its lease's end with the grace. The machine never
//!   takes an address away before that moment but to evict or forget it, so no new flow can slip in
//!   between looking for living ones and the removal.
//! - An answer writes nothing where what stands in the kernel lasts for the answer's own time to
//!   live; only the grace is then short, and [`Leases::handle_timeout`] makes it whole in time. So
//!   after a crash, too, an address is good for as long as any client was told.
//! - Every name has a number of its own, not used again before 2^32 others. Names that no selector
//!   matches stand in user space only, so that a policy that comes later can use them.
//! - Nothing grows without bound: [`Limits`] says how far, and what is evicted is counted.

mod book;
mod expiry;
mod limits;
mod rejudge;
mod report;
mod restore;
mod write;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use model::{Change, EndpointId, Identity, Moment, NameNumber, NameRef};
use thiserror::Error;

use book::{Book, Link, Named};
pub use report::{Entry, Stats};

/// How long leases last, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Seconds that a lease lasts at least, whatever the records say.
    pub min_ttl: u32,
    /// Seconds that it lasts at most; stronger than `min_ttl`.
    pub max_ttl: u32,
    /// How long an address stays open behind its lease's end.
    pub grace: Duration,
    /// Leased addresses of one name. Above it the earliest to expire ends at once.
    pub addresses_per_name: usize,
    /// Addresses of one name that outlive their leases because a connection lives. Above it those
    /// not in use go, then the one whose lease ended first.
    pub kept_per_name: usize,
    /// Names of the endpoint. Above it the name that expires first goes.
    pub names: usize,
    /// Addresses of the endpoint's names, one that two names share counted twice. Above it the
    /// name that expires first goes.
    pub addresses: usize,
    /// How long an address kept for a living connection stays open until it is looked at again.
    pub recheck: Duration,
    /// How long before its time an address is looked at as well, so that one in use never closes
    /// for a moment; at most half of `recheck` counts. To be longer than the caller's steps.
    pub ahead: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            min_ttl: 0,
            max_ttl: 86_400,
            grace: Duration::from_secs(15),
            addresses_per_name: 1000,
            kept_per_name: 1000,
            names: 10_000,
            addresses: 50_000,
            recheck: Duration::from_secs(30),
            ahead: Duration::from_secs(1),
        }
    }
}

/// The name sets of the verdict table that judges the endpoint.
pub trait NameSets {
    /// The set of the selectors that match a name; none where no selector does. A set seen for the
    /// first time brings its rows into `changes`.
    fn set_of(
        &mut self,
        name: NameRef<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<Option<Identity>, SetsFull>;

    /// The set of the selectors of both sets.
    fn union(
        &mut self,
        a: Identity,
        b: Identity,
        changes: &mut Vec<Change>,
    ) -> Result<Identity, SetsFull>;
}

/// The verdict table takes no further name set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("all name sets of the endpoint's verdict table are in use")]
pub struct SetsFull;

/// What came of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// Whether a selector matches the name, so that the kernel knows its addresses now.
    pub selected: bool,
    /// Addresses that the name did not have before.
    pub fresh: usize,
    /// Names and addresses that had to go because a limit was reached.
    pub evicted: u64,
}

/// The names and addresses of one endpoint.
#[derive(Debug)]
pub struct Leases {
    limits: Limits,
    book: Book,
    /// When each name is to be looked at: never later than something is due, sometimes earlier.
    agenda: BTreeSet<(Moment, NameNumber)>,
    /// The order of eviction, by [`Rank`]: a name never stands behind where it belongs.
    ranks: BTreeSet<(Rank, NameNumber)>,
    evicted: Evicted,
    /// Times that a name set was needed and there was none left.
    sets_full: u64,
}

/// How soon a name is evicted: whether connections keep it, then when the last address expires.
type Rank = (bool, Moment);

#[derive(Clone, Copy, Debug, Default)]
struct Evicted {
    names: u64,
    addresses: u64,
    kept: u64,
}

/// What an answer finds of its name.
struct Standing {
    number: NameNumber,
    /// Whether a selector matches it.
    selected: bool,
    /// Whether the kernel knows it.
    written: bool,
}

/// What an answer did to one link.
enum Extended {
    /// The name did not have the address.
    Fresh,
    /// It had outlived its lease, and has a new one.
    Regained,
    /// It had a lease already.
    Leased,
}

/// The least step of time: what is due after a moment is due this much later.
const TICK: Duration = Duration::from_nanos(1);

impl Leases {
    /// An endpoint that has learned nothing yet.
    pub fn new(endpoint: EndpointId, limits: Limits) -> Self {
        Self {
            limits,
            book: Book::new(endpoint),
            agenda: BTreeSet::new(),
            ranks: BTreeSet::new(),
            evicted: Evicted::default(),
            sets_full: 0,
        }
    }

    /// Learns the addresses of an answer to a question for `name`, each with its time to live in
    /// seconds. On an error the answer must not go out: not all of its addresses may be open.
    pub fn handle_answer(
        &mut self,
        name: NameRef<'_>,
        addresses: &[(IpAddr, u32)],
        now: Moment,
        sets: &mut impl NameSets,
        changes: &mut Vec<Change>,
    ) -> Result<Learned, SetsFull> {
        if addresses.is_empty() {
            return Ok(Learned::default());
        }
        let evicted_before = self.evicted.total();
        let Standing { number, selected, written } = self.admit(name, sets, changes)?;
        let (mut fresh, mut regained, mut due) = (0, 0, Moment::MAX);
        for &(address, ttl) in addresses {
            let ttl = ttl.max(self.limits.min_ttl).min(self.limits.max_ttl);
            let end = now + Duration::from_secs(ttl.into());
            let (extended, link) = self.extend(number, address, end);
            due = due.min(self.link_due(&link, written));
            match extended {
                Extended::Fresh => fresh += 1,
                Extended::Regained => regained += 1,
                Extended::Leased => (),
            }
        }
        self.arm(number, due);
        if fresh + regained > 0 {
            self.rank(number);
        }
        if fresh > 0 {
            self.enforce_limits(number, now);
        }
        self.write(sets, changes)?;
        Ok(Learned { selected, fresh, evicted: self.evicted.total() - evicted_before })
    }

    /// What is known of a name, which gets a number and a set if it is new here.
    fn admit(
        &mut self,
        name: NameRef<'_>,
        sets: &mut impl NameSets,
        changes: &mut Vec<Change>,
    ) -> Result<Standing, SetsFull> {
        let known = self.book.number(name);
        if let Some((number, named)) =
            known.and_then(|number| Some((number, self.book.named(number)?)))
            && named.judged
        {
            return Ok(Standing::of(number, named));
        }
        let set = sets.set_of(name, changes).inspect_err(|_| self.sets_full += 1)?;
        let number = match known {
            Some(number) => number,
            None => {
                self.make_room_for_a_name();
                self.book.add_name(name)
            }
        };
        self.book.select(number, set, changes);
        let written = self.book.is_written(number);
        Ok(Standing { number, selected: set.is_some(), written })
    }

    /// Makes an address of a name good until `end`, with the grace behind it; the link as it is
    /// then. A lease is never made shorter.
    fn extend(&mut self, number: NameNumber, address: IpAddr, end: Moment) -> (Extended, Link) {
        let expires = end + self.limits.grace;
        let Some(link) = self.book.link_mut(number, address) else {
            return (Extended::Fresh, self.book.add_link(number, address, expires));
        };
        link.expires = link.expires.max(expires);
        link.looked_at = false;
        let was_kept = link.ended.take().is_some();
        let mut link = *link;
        if link.lasts >= end {
            self.book.touch_if_stale(number, address);
        } else if let Some(lasts) = self.book.stand(number, address) {
            link.lasts = lasts;
        }
        (if was_kept { Extended::Regained } else { Extended::Leased }, link)
    }

    /// Forgets the names that `matches` tells, with their addresses; how many there were.
    pub fn forget(
        &mut self,
        matches: impl Fn(NameRef<'_>) -> bool,
        sets: &mut impl NameSets,
        changes: &mut Vec<Change>,
    ) -> usize {
        let names = self.book.names.iter().filter(|(_, named)| matches(named.name.as_ref()));
        let numbers: Vec<NameNumber> = names.map(|(&number, _)| number).collect();
        for &number in &numbers {
            self.drop_name(number);
        }
        // A set that is missing for those who share an address leaves them closed; it is counted.
        let _ = self.write(sets, changes);
        numbers.len()
    }

    /// Forgets a name whose changes could not be carried out: what the kernel has of it is not
    /// known, and the deletions emitted here make it nothing.
    pub fn revoke(
        &mut self,
        name: NameRef<'_>,
        sets: &mut impl NameSets,
        changes: &mut Vec<Change>,
    ) {
        let Some(number) = self.book.number(name) else { return };
        self.drop_name(number);
        let _ = self.write(sets, changes);
    }

    /// Brings the kernel up to date with everything decided since the last time.
    fn write(
        &mut self,
        sets: &mut impl NameSets,
        changes: &mut Vec<Change>,
    ) -> Result<(), SetsFull> {
        let joined = self.book.join(sets, changes).inspect_err(|_| self.sets_full += 1);
        self.book.write(changes);
        joined
    }
}

impl Standing {
    const fn of(number: NameNumber, named: &Named) -> Self {
        Self { number, selected: named.set.is_some(), written: named.written }
    }
}

impl Evicted {
    fn total(self) -> u64 {
        self.names + self.addresses + self.kept
    }
}

#[cfg(test)]
mod tests;
