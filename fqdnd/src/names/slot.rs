//! One endpoint's names, and the name sets of the table that judges it.

use std::sync::{Arc, MutexGuard};

use engine::leases::{Leases, NameSets, SetsFull};
use engine::{TableSets, VerdictTable};
use model::{Change, Identity, NameRef};
use tracing::warn;

/// One endpoint's names, and the table that judges it.
pub(super) struct Slot {
    pub(super) leases: Leases,
    pub(super) table: Option<Arc<VerdictTable>>,
}

impl Slot {
    pub(super) fn rejudge(&mut self, table: Option<&Arc<VerdictTable>>, changes: &mut Vec<Change>) {
        if let Err(error) = self.leases.rejudge(&mut SlotSets::of(table), changes) {
            let endpoint = self.leases.endpoint();
            warn!(%endpoint, %error, "some resolved addresses are closed under the new policy");
        }
    }
}

/// The name sets of an endpoint's table, locked when they are first asked for; where no policy
/// selects it, no selector matches anything.
pub struct SlotSets<'a> {
    table: Option<&'a VerdictTable>,
    locked: Option<MutexGuard<'a, TableSets>>,
}

impl<'a> SlotSets<'a> {
    pub(super) fn of(table: Option<&'a Arc<VerdictTable>>) -> Self {
        Self { table: table.map(|table| &**table), locked: None }
    }

    fn lock(&mut self) -> Option<&mut TableSets> {
        let table = self.table?;
        Some(self.locked.get_or_insert_with(|| table.sets()))
    }

    pub(super) fn has_fresh(&self) -> bool {
        self.locked.as_ref().is_some_and(|sets| sets.has_fresh())
    }

    /// Settles what becomes of sets first seen, once their rows are written or could not be.
    pub(super) fn finish(mut self, written: bool) {
        match self.lock() {
            Some(sets) if written => sets.confirm(),
            Some(sets) => sets.abandon(),
            None => {}
        }
    }
}

impl NameSets for SlotSets<'_> {
    fn set_of(
        &mut self,
        name: NameRef<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<Option<Identity>, SetsFull> {
        self.lock().map_or(Ok(None), |sets| sets.set_of(name, changes))
    }

    fn union(
        &mut self,
        a: Identity,
        b: Identity,
        changes: &mut Vec<Change>,
    ) -> Result<Identity, SetsFull> {
        self.lock().map_or(Ok(a), |sets| sets.union(a, b, changes))
    }
}
