//! Verdict tables: what the rules that select an endpoint say, shared by all with the same rules.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use identity::Numbers;
use model::{Digest, Identity, TableId};

use crate::sets::TableSets;
use crate::snapshot::{Level, TableView};

/// What makes two endpoints share a table: the digest of their rules, and of what in the cluster
/// these depend on.
pub(crate) type TableKey = Digest;

/// A verdict table: its rules, and the name sets that answers have brought so far.
#[derive(Debug)]
pub struct VerdictTable {
    id: TableId,
    rules: Arc<policy::Table>,
    sets: Mutex<TableSets>,
}

/// A table is the same as itself alone: another with the same rules has other name sets.
impl PartialEq for VerdictTable {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for VerdictTable {}

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

/// A table with what it says of the destinations there are.
#[derive(Debug)]
pub(crate) struct LiveTable {
    pub(crate) view: TableView,
    /// How many pods it judges.
    users: usize,
    /// Whether its rows are wanted in the maps.
    in_use: bool,
}

impl LiveTable {
    pub(crate) fn new(table: VerdictTable) -> Self {
        Self { view: TableView::new(Arc::new(table)), users: 0, in_use: false }
    }

    pub(crate) fn table(&self) -> &Arc<VerdictTable> {
        &self.view.table
    }

    pub(crate) fn rules(&self) -> &policy::Table {
        self.view.table.rules()
    }

    /// Whether it judges any pod.
    pub(crate) fn is_used(&self) -> bool {
        self.users > 0
    }

    /// Whether its rows are wanted in the maps.
    pub(crate) fn is_in_use(&self) -> bool {
        self.in_use
    }

    pub(crate) fn gain_user(&mut self) {
        self.users += 1;
    }

    pub(crate) fn lose_user(&mut self) {
        self.users = self.users.saturating_sub(1);
    }

    /// Its rows are to be written.
    pub(crate) fn enter(&mut self) {
        self.in_use = true;
        let everywhere = Level::of(self.rules(), None, policy::Subject::Any);
        if let Some(level) = everywhere {
            self.view.levels.insert(Identity::ANY, Arc::new(level));
        }
    }

    /// It judges nobody, and its rows are not wanted.
    pub(crate) fn leave(&mut self) {
        (self.users, self.in_use) = (0, false);
        self.view.levels.clear();
    }
}
