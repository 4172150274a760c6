//! How much one endpoint may have, and who goes when it has more.
//!
//! An address above its name's limit ends at once: it opens nothing new, and what lives on it is
//! looked at like everything that has run out. A name above the endpoint's limits goes with all it
//! has. Whoever expires first goes first, and names kept for a living connection go last.

use std::net::IpAddr;

use model::{Moment, NameNumber};

use super::Leases;
use super::book::Link;

impl Leases {
    /// Evicts a name if there is no room for another.
    pub(super) fn make_room_for_a_name(&mut self) {
        while self.book.names.len() >= self.limits.names.max(1) && self.evict_a_name(None) {}
    }

    /// Brings a name that has learned something, and the endpoint, back below their limits.
    pub(super) fn enforce_limits(&mut self, number: NameNumber, now: Moment) {
        let all = self.limits.addresses.max(1);
        let per_name = self.limits.addresses_per_name.clamp(1, all);
        self.end_surplus(number, per_name, now);
        while self.book.links.len() > all {
            if !self.evict_a_name(Some(number)) {
                let surplus = self.book.links.len() - all;
                self.drop_addresses(number, surplus);
                break;
            }
        }
    }

    /// Ends a name's leases above its limit, and drops what it has left above what may be kept.
    fn end_surplus(&mut self, number: NameNumber, per_name: usize, now: Moment) {
        let total = self.book.links_of(number).count();
        if total <= per_name {
            return;
        }
        let mut leased: Vec<(Moment, IpAddr)> = self
            .book
            .links_of(number)
            .filter(|(_, link)| link.ended.is_none() && link.expires >= now)
            .map(|(address, link)| (link.expires, address))
            .collect();
        leased.sort_unstable();
        let surplus = leased.len().saturating_sub(per_name);
        for &(_, address) in &leased[..surplus] {
            self.end(number, address, now);
            self.evicted.addresses += 1;
        }
        let most = per_name.saturating_add(self.limits.kept_per_name);
        let total = self.book.links_of(number).count();
        self.drop_addresses(number, total.saturating_sub(most));
    }

    /// Ends a lease now. What the kernel has not heard of need not be closed there first.
    fn end(&mut self, number: NameNumber, address: IpAddr, now: Moment) {
        let written = self.book.is_written(number);
        match self.book.link_mut(number, address) {
            Some(link) if written && !link.fresh => {
                link.expires = now;
                let link = Link { lasts: now, ..*link };
                self.book.stand(number, address);
                self.arm(number, self.link_due(&link, written));
            }
            Some(_) | None => self.book.remove_link(number, address),
        }
    }

    /// Drops the addresses of a name that are not in use, then those that expire first.
    fn drop_addresses(&mut self, number: NameNumber, count: usize) {
        if count == 0 {
            return;
        }
        let links = self.book.links_of(number);
        let mut order: Vec<(bool, bool, Moment, IpAddr)> = links
            .map(|(address, link)| {
                let kept = link.ended.is_some();
                (kept, kept && link.in_use, link.ended.unwrap_or(link.expires), address)
            })
            .collect();
        order.sort_unstable();
        for &(.., address) in order.iter().take(count) {
            self.book.remove_link(number, address);
            self.evicted.addresses += 1;
        }
    }

    /// Evicts the name that goes first, but not `except`; false if there is none.
    fn evict_a_name(&mut self, except: Option<NameNumber>) -> bool {
        loop {
            let mut candidates = self.ranks.iter().filter(|&&(_, number)| Some(number) != except);
            let Some(&(rank, number)) = candidates.next() else { return false };
            if self.rank_of(number) == rank {
                self.drop_name(number);
                self.evicted.names += 1;
                return true;
            }
            // It was prolonged since it was ranked.
            self.rank(number);
        }
    }

    /// Removes a name with all of its addresses.
    pub(super) fn drop_name(&mut self, number: NameNumber) {
        for address in self.book.addresses_of(number) {
            self.book.remove_link(number, address);
        }
        self.remove_name(number);
    }
}
