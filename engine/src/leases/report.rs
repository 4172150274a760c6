//! What people and flow records want to know of an endpoint's names and addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::{EndpointId, Identity, Moment, NameNumber, NameRef, Prefix};

use super::Leases;
use super::book::under;

/// One address of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The name.
    pub name: NameRef<'a>,
    /// The address.
    pub address: IpAddr,
    /// Until when it opens new flows.
    pub expires: Moment,
    /// Whether its lease is over, and a living connection keeps it.
    pub kept_alive: bool,
    /// Whether a selector matches the name; if not, the kernel does not know the address.
    pub selected: bool,
}

/// How much an endpoint has, and what went because a limit was reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Names.
    pub names: usize,
    /// Addresses of all names, one that two names share counted twice.
    pub addresses: usize,
    /// Addresses in the kernel.
    pub leases: usize,
    /// Names evicted because the endpoint had too many names or addresses.
    pub evicted_names: u64,
    /// Addresses whose lease was ended because their name had too many.
    pub evicted_addresses: u64,
    /// Addresses that a living connection would have kept, and that were too many.
    pub evicted_kept: u64,
    /// Times that a name set was needed and the verdict table had none left.
    pub sets_full: u64,
}

impl Leases {
    /// Whose names these are.
    pub fn endpoint(&self) -> EndpointId {
        self.book.endpoint
    }

    /// Every address of every name, by name.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.numbered().into_iter().flat_map(|(name, number)| {
            let selected = self.book.named(number).is_some_and(|named| named.set.is_some());
            self.book.links_of(number).map(move |(address, link)| Entry {
                name,
                address,
                expires: link.expires,
                kept_alive: link.ended.is_some(),
                selected,
            })
        })
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = NameRef<'_>> {
        self.numbered().into_iter().map(|(name, _)| name)
    }

    fn numbered(&self) -> Vec<(NameRef<'_>, NameNumber)> {
        let names = self.book.numbers.iter();
        let mut names: Vec<_> = names.map(|(name, &number)| (name.as_ref(), number)).collect();
        names.sort_unstable();
        names
    }

    /// The name that a number stands for.
    pub fn name(&self, number: NameNumber) -> Option<NameRef<'_>> {
        self.book.named(number).map(|named| named.name.as_ref())
    }

    /// The names that have an address.
    pub fn names_of(&self, address: IpAddr) -> impl Iterator<Item = NameRef<'_>> {
        let holders = self.book.holders.range(under!(holder address));
        holders.filter_map(|&(_, number)| self.name(number))
    }

    /// Whether a flow may live by a lease under a prefix: the kernel has one there, or had, and it
    /// was evicted.
    pub fn may_hold(&self, prefix: Prefix) -> bool {
        let addresses = &self.book.addresses;
        let is_leased = if prefix.is_host() {
            addresses.get(&prefix.address()).is_some_and(|entry| entry.lease.is_some())
        } else {
            let mut leased = addresses.iter().filter(|(_, entry)| entry.lease.is_some());
            leased.any(|(address, _)| prefix.covers(*address))
        };
        is_leased || self.evicted.total() > 0
    }

    /// The sets that the kernel has for an address.
    pub fn sets_of(&self, address: IpAddr) -> [Option<Identity>; 2] {
        let lease = self.book.addresses.get(&address).and_then(|entry| entry.lease);
        lease.map_or([None; 2], |lease| lease.sets)
    }

    /// The sets that are in use: of names, and of addresses in the kernel.
    pub fn sets(&self) -> BTreeSet<Identity> {
        let names = self.book.names.values().filter_map(|named| named.set);
        let addresses = self.book.addresses.values().flat_map(|entry| {
            let leased = entry.lease.map_or([None; 2], |lease| lease.sets);
            leased.into_iter().chain(entry.previous).chain([entry.union]).flatten()
        });
        names.chain(addresses).collect()
    }

    /// Figures for metrics.
    pub fn stats(&self) -> Stats {
        Stats {
            names: self.book.names.len(),
            addresses: self.book.links.len(),
            leases: self.book.addresses.len(),
            evicted_names: self.evicted.names,
            evicted_addresses: self.evicted.addresses,
            evicted_kept: self.evicted.kept,
            sets_full: self.sets_full,
        }
    }
}
