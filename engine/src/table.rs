//! Verdict tables: what the rules that select an endpoint say, shared by all with the same rules.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use identity::Numbers;
use model::{Digest, TableId};

use crate::sets::TableSets;

/// What makes two endpoints share a table: the digests of their rules, in order.
pub(crate) type TableKey = Vec<Digest>;

/// A verdict table: its rules, and the name sets that answers have brought so far.
#[derive(Debug)]
pub struct VerdictTable {
    id: TableId,
    rules: Arc<policy::Table>,
    sets: Mutex<TableSets>,
}

impl VerdictTable {
    pub(crate) fn new(
        id: TableId,
        rules: Arc<policy::Table>,
        numbers: Arc<Mutex<Numbers>>,
        set_limit: usize,
    ) -> Self {
        let sets = TableSets::new(id, Arc::clone(&rules), numbers, set_limit);
        Self { id, rules, sets: Mutex::new(sets) }
    }

    /// The table's number in the maps.
    pub fn id(&self) -> TableId {
        self.id
    }

    /// The compiled rules.
    pub fn rules(&self) -> &policy::Table {
        &self.rules
    }

    /// The name sets, locked. Whoever holds this lock takes no endpoint's lock.
    pub fn sets(&self) -> MutexGuard<'_, TableSets> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
