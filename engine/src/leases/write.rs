//! From the book to the kernel: the difference between what should stand and what does.
//!
//! Shared records come before the lease that says to look for them, and go after it; a name's row
//! goes when nothing refers to it any more. Several names on an address make one lease, whose sets
//! are joined and which lasts as long as the last of them.

use std::net::IpAddr;

use model::{Change, Identity, LeaseEntry, Moment, NameNumber};

use super::book::{Address, Book, Touch, under};
use super::{NameSets, SetsFull};

impl Book {
    /// Joins the sets of the touched addresses' names where they changed. Where the table is full,
    /// the sets that would have needed another one are left out: they open nothing.
    pub(super) fn join(
        &mut self,
        sets: &mut impl NameSets,
        changes: &mut Vec<Change>,
    ) -> Result<(), SetsFull> {
        self.touched.sort_unstable();
        self.touched.dedup();
        let mut result = Ok(());
        for touch in self.touched.chunk_by(|a, b| a.address == b.address).map(|group| group[0]) {
            let Some(entry) = self.addresses.get_mut(&touch.address) else { continue };
            if !entry.stale {
                continue;
            }
            let mut union = entry.union.filter(|_| !entry.shrunk);
            let mut full = false;
            for (&(_, set), _) in self.sets.range(under!(set touch.address)) {
                match union.map_or(Ok(set), |union| sets.union(union, set, changes)) {
                    Ok(joined) => union = Some(joined),
                    Err(SetsFull) => full = true,
                }
            }
            (entry.union, entry.stale, entry.shrunk) = (union, full, full && entry.shrunk);
            if full {
                self.lacked = true;
                result = Err(SetsFull);
            }
        }
        result
    }

    /// Emits what the kernel lacks of the touched addresses, and what it has too much.
    pub(super) fn write(&mut self, changes: &mut Vec<Change>) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for group in touched.chunk_by(|a, b| a.address == b.address) {
            self.write_address(group, changes);
        }
        touched.clear();
        self.touched = touched;
        for number in self.departed.drain(..) {
            changes.push(Change::DeleteName(self.endpoint, number));
        }
    }

    fn write_address(&mut self, group: &[Touch], changes: &mut Vec<Change>) {
        let address = group[0].address;
        let Some(stands) = self.addresses.get(&address).map(|entry| entry.lease) else { return };
        let wanted = self.wanted(address);
        let was_shared = is_shared(stands);
        if is_shared(wanted) {
            self.put_shared(address, group, was_shared, changes);
        }
        if wanted != stands {
            changes.push(match wanted {
                Some(lease) => Change::PutLease(self.endpoint, address, lease),
                None => Change::DeleteLease(self.endpoint, address),
            });
        }
        for touch in group.iter().filter(|touch| touch.row_left) {
            changes.push(Change::DeleteShared(self.endpoint, address, touch.number));
        }
        if was_shared && !is_shared(wanted) {
            self.delete_shared(address, changes);
        }
        self.note_written(address, group, wanted);
    }

    /// The lease that an address should have.
    pub(super) fn wanted(&self, address: IpAddr) -> Option<LeaseEntry> {
        let sets = self.addresses.get(&address)?.sets();
        let mut names = self.lasting.range(under!(lasting address)).rev();
        let &(_, expires, number) = names.next()?;
        let name = if names.next().is_some() { NameNumber::SHARED } else { number };
        (sets != [None; 2]).then_some(LeaseEntry { sets, name, expires })
    }

    /// Writes shared records: of the touched names, or of all where there were none before.
    fn put_shared(
        &mut self,
        address: IpAddr,
        group: &[Touch],
        was_shared: bool,
        changes: &mut Vec<Change>,
    ) {
        if was_shared {
            for touch in group.iter().filter(|touch| !touch.row_left) {
                self.put_row(address, touch.number, changes);
            }
            return;
        }
        for number in self.standing(address) {
            self.put_row(address, number, changes);
        }
    }

    fn put_row(&mut self, address: IpAddr, number: NameNumber, changes: &mut Vec<Change>) {
        let Some(link) = self.links.get_mut(&(number, address)) else { return };
        if link.lasts == Moment::ZERO || link.row == Some(link.lasts) {
            return;
        }
        link.row = Some(link.lasts);
        changes.push(Change::PutShared(self.endpoint, address, number, link.lasts));
    }

    /// Deletes the shared records of the names that still have the address.
    fn delete_shared(&mut self, address: IpAddr, changes: &mut Vec<Change>) {
        for number in self.standing(address) {
            let Some(link) = self.links.get_mut(&(number, address)) else { continue };
            if link.row.take().is_some() {
                changes.push(Change::DeleteShared(self.endpoint, address, number));
            }
        }
    }

    /// The names through which the kernel knows an address.
    fn standing(&self, address: IpAddr) -> Vec<NameNumber> {
        let mut numbers: Vec<NameNumber> =
            self.lasting.range(under!(lasting address)).map(|&(_, _, number)| number).collect();
        numbers.sort_unstable();
        numbers
    }

    fn note_written(&mut self, address: IpAddr, group: &[Touch], wanted: Option<LeaseEntry>) {
        for touch in group {
            if let Some(link) = self.links.get_mut(&(touch.number, address)) {
                link.fresh = false;
            }
        }
        if self.lasting.range(under!(lasting address)).next().is_none() {
            self.addresses.remove(&address);
        } else if let Some(entry) = self.addresses.get_mut(&address) {
            entry.lease = wanted;
        }
    }
}

impl Address {
    /// The sets that the kernel should have: the names' own, and until policy is settled those
    /// that stood before.
    fn sets(&self) -> [Option<Identity>; 2] {
        match (self.previous, self.union) {
            ([None, None], union) => [union, None],
            (previous, None) => previous,
            (previous, union) if previous.contains(&union) => previous,
            ([first, _], union) => [first, union],
        }
    }
}

fn is_shared(lease: Option<LeaseEntry>) -> bool {
    lease.is_some_and(|lease| lease.name == NameNumber::SHARED)
}
