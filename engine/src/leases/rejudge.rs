//! A change of policy, in two phases around the moment at which the kernel takes the new table.
//!
//! Before it, every address gets its new sets beside those that stand, so that it is right under
//! either table; after it, only the new ones stay. Names are let into the kernel in the first phase
//! and taken out in the second.

use model::{Change, Identity, NameNumber};

use super::{Leases, NameSets, SetsFull};

impl Leases {
    /// Before the switch: judges every name by the new table, which must stand with all rows of
    /// `changes` before it is switched to. Call [`Leases::settle`] before the next time; if not,
    /// what stood at the last settling is what stays beside the new sets.
    ///
    /// On an error everything is judged, but some names or addresses found no set and are closed
    /// under the new table.
    pub fn rejudge(
        &mut self,
        sets: &mut impl NameSets,
        changes: &mut Vec<Change>,
    ) -> Result<(), SetsFull> {
        for entry in self.book.addresses.values_mut() {
            if let (Some(lease), [None, None]) = (entry.lease, entry.previous) {
                entry.previous = lease.sets;
            }
            // Joined anew even where no name's set differs: the new table may not have the union.
            (entry.stale, entry.shrunk) = (true, true);
        }
        let judge = |(&number, named): (&NameNumber, &super::book::Named)| {
            (number, sets.set_of(named.name.as_ref(), changes))
        };
        let judged: Vec<(NameNumber, Result<Option<Identity>, SetsFull>)> =
            self.book.names.iter().map(judge).collect();
        let mut result = Ok(());
        for (number, set) in judged {
            self.book.select(number, set.unwrap_or(None), changes);
            if set.is_err() {
                self.sets_full += 1;
                result = Err(SetsFull);
                self.book.names.entry(number).and_modify(|named| named.judged = false);
            }
        }
        self.book.touch_all();
        result.and(self.write(sets, changes))
    }

    /// After the switch: takes away what only the old table needed.
    pub fn settle(&mut self, changes: &mut Vec<Change>) {
        for entry in self.book.addresses.values_mut() {
            entry.previous = [None; 2];
        }
        self.book.touch_all();
        let names = self.book.names.iter();
        let unselected: Vec<NameNumber> = names
            .filter(|(_, named)| named.written && named.set.is_none())
            .map(|(&number, _)| number)
            .collect();
        for number in unselected {
            self.book.withdraw(number);
        }
        self.book.write(changes);
    }
}
