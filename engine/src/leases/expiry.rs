//! What runs out, and what a living connection keeps.
//!
//! When an address of a name has run out, its name's connections are looked for. One that lives on
//! any of the name's addresses that have run out keeps them all, for [`super::Limits::recheck`] at a
//! time: a client that stays connected goes on to use what it was once told. A lease that runs is
//! no reason to keep the others.
//!
//! An address is looked at twice: shortly ahead of its time, so that the kernel never closes one
//! that is in use, and behind it, because only then is it sure that no new flow slips in between
//! the look and the removal.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::time::Duration;

use model::{Change, Moment, NameNumber};

use super::book::Link;
use super::{Leases, NameSets, Rank, TICK};

impl Leases {
    /// Names that one call of [`Leases::handle_timeout`] looks at, at most, so that the answers
    /// waiting for the same endpoint do not wait long.
    pub const NAMES_PER_TIMEOUT: usize = 1024;

    /// When [`Leases::handle_timeout`] wants to be called next; it may then find nothing to do.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.agenda.first().map(|&(due, _)| due)
    }

    /// Removes what has run out and is not in use, keeps what is, and gives the kernel the grace
    /// that answers left out. `is_live` tells whether the endpoint has a flow to an address.
    ///
    /// Looks at [`Leases::NAMES_PER_TIMEOUT`] names; call again while [`Leases::poll_timeout`] is
    /// not after `now`.
    pub fn handle_timeout(
        &mut self,
        now: Moment,
        is_live: impl Fn(&IpAddr) -> bool,
        sets: &mut impl NameSets,
        changes: &mut Vec<Change>,
    ) {
        for _ in 0..Self::NAMES_PER_TIMEOUT {
            let Some(&(due, number)) = self.agenda.first() else { break };
            if due > now {
                break;
            }
            self.refresh(number, now);
            self.expire(number, now, &is_live);
            self.tidy(number);
        }
        // Where a set is missing, its addresses are closed, and that is counted.
        let _ = self.write(sets, changes);
    }

    /// Gives the kernel the whole grace of the leases that are about to need it.
    fn refresh(&mut self, number: NameNumber, now: Moment) {
        let grace = self.limits.grace;
        let short: Vec<IpAddr> = self
            .book
            .links_of(number)
            .filter(|(_, link)| link.lasts < link.expires)
            .filter(|(_, link)| link.expires >= now && link.expires - grace <= now)
            .map(|(address, _)| address)
            .collect();
        for address in short {
            self.book.stand(number, address);
        }
    }

    /// Judges the addresses of a name that have run out or are about to, together with those
    /// already kept.
    fn expire(&mut self, number: NameNumber, now: Moment, is_live: &impl Fn(&IpAddr) -> bool) {
        if self.book.links_of(number).all(|(_, link)| self.look_due(link) > now) {
            return;
        }
        let ahead = self.ahead();
        let is_ending = |link: &Link| link.expires < now || link.expires - ahead < now;
        let links = self.book.links_of(number);
        let mut ended: Vec<Ended> = links
            .filter(|(_, link)| is_ending(link) || link.ended.is_some())
            .map(|(address, link)| Ended {
                address,
                at: link.ended.unwrap_or(link.expires),
                closed: link.expires < now,
                in_use: false,
            })
            .collect();
        for one in &mut ended {
            one.in_use = is_live(&one.address);
        }
        if ended.iter().any(|one| one.in_use) {
            self.keep(number, ended, now);
            return;
        }
        for one in ended {
            if one.closed {
                self.book.remove_link(number, one.address);
            } else if let Some(link) = self.book.link_mut(number, one.address) {
                link.looked_at |= is_ending(link);
            }
        }
    }

    fn ahead(&self) -> Duration {
        self.limits.ahead.min(self.limits.recheck / 2)
    }

    /// Keeps addresses for a living connection, as many as may be kept.
    fn keep(&mut self, number: NameNumber, mut ended: Vec<Ended>, now: Moment) {
        ended.sort_by_key(|one| Reverse((one.in_use, one.at)));
        let kept = ended.len().min(self.limits.kept_per_name);
        for one in ended.drain(kept..) {
            self.book.remove_link(number, one.address);
            self.evicted.kept += 1;
        }
        for one in ended {
            if let Some(link) = self.book.link_mut(number, one.address) {
                link.ended = Some(one.at);
                link.in_use = one.in_use;
                link.looked_at = false;
                link.expires = link.expires.max(now + self.limits.recheck);
                self.book.stand(number, one.address);
            }
        }
    }

    /// Puts a name where it belongs in the agenda and in the order of eviction, or removes it if
    /// it has no addresses left.
    pub(super) fn tidy(&mut self, number: NameNumber) {
        if self.book.links_of(number).next().is_none() {
            self.remove_name(number);
            return;
        }
        let written = self.book.is_written(number);
        let due = self.book.links_of(number).map(|(_, link)| self.link_due(link, written)).min();
        self.set_due(number, due.unwrap_or(Moment::MAX));
        self.rank(number);
    }

    pub(super) fn remove_name(&mut self, number: NameNumber) {
        if let Some(named) = self.book.named(number) {
            self.agenda.remove(&(named.due, number));
            self.ranks.remove(&(named.rank, number));
        }
        self.book.remove_name(number);
    }

    /// Has a name looked at by `due`. That it may be looked at earlier than needed spares the
    /// agenda a change with every answer.
    pub(super) fn arm(&mut self, number: NameNumber, due: Moment) {
        if self.book.named(number).is_some_and(|named| due < named.due) {
            self.set_due(number, due);
        }
    }

    /// When one of a name's addresses is to be looked at next.
    pub(super) fn link_due(&self, link: &Link, written: bool) -> Moment {
        let look = self.look_due(link);
        if written && link.lasts < link.expires {
            look.min(link.expires - self.limits.grace)
        } else {
            look
        }
    }

    /// When a link's connections are to be looked for next.
    fn look_due(&self, link: &Link) -> Moment {
        if link.looked_at { link.expires + TICK } else { link.expires - self.ahead() + TICK }
    }

    fn set_due(&mut self, number: NameNumber, due: Moment) {
        let Some(named) = self.book.names.get_mut(&number) else { return };
        self.agenda.remove(&(named.due, number));
        named.due = due;
        self.agenda.insert((due, number));
    }

    /// Puts a name where it belongs in the order of eviction.
    pub(super) fn rank(&mut self, number: NameNumber) {
        let rank = self.rank_of(number);
        let Some(named) = self.book.names.get_mut(&number) else { return };
        self.ranks.remove(&(named.rank, number));
        named.rank = rank;
        self.ranks.insert((rank, number));
    }

    pub(super) fn rank_of(&self, number: NameNumber) -> Rank {
        let links = self.book.links_of(number);
        links.fold((false, Moment::ZERO), |(kept, last), (_, link)| {
            (kept || link.ended.is_some(), last.max(link.expires))
        })
    }
}

/// An address whose lease is over.
struct Ended {
    address: IpAddr,
    /// When its lease ran out.
    at: Moment,
    /// Whether it opens no new flow any more.
    closed: bool,
    in_use: bool,
}
