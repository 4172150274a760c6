//! Verdict tables: what the rules that select an endpoint say, shared by all with the same rules.
//!
//! Rules come to a table and go from it as long as the same endpoints are judged by it. What of it
//! is read elsewhere never changes: a table with other rules is another [`VerdictTable`] with the
//! same number.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use identity::Numbers;
use model::{Digest, Identity, TableId};
use policy::{Altered, AlteredNames, Subject, Table};

use crate::sayings::Sayings;
use crate::sets::TableSets;
use crate::snapshot::{Level, TableView};

/// What makes two endpoints share a table: the digest of their rules, and of what in the cluster
/// these depend on.
pub(crate) type TableKey = Digest;

/// A verdict table: its rules, and the name sets that answers have brought so far.
#[derive(Debug)]
pub struct VerdictTable {
    id: TableId,
    rules: Arc<Table>,
    /// Shared with the table that this one takes the place of, where both say the same of names.
    sets: Arc<Mutex<TableSets>>,
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
        rules: Arc<Table>,
        numbers: Arc<Mutex<Numbers>>,
        set_limit: usize,
    ) -> Self {
        let sets = TableSets::new(id, Arc::clone(&rules), numbers, set_limit);
        Self { id, rules, sets: Arc::new(Mutex::new(sets)) }
    }

    /// The table's number in the maps.
    pub fn id(&self) -> TableId {
        self.id
    }

    /// The compiled rules.
    pub fn rules(&self) -> &Table {
        &self.rules
    }

    /// The name sets, locked. Whoever holds this lock takes no endpoint's lock.
    pub fn sets(&self) -> MutexGuard<'_, TableSets> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another one says the same of names, so that no name has to be judged anew.
    pub fn shares_sets(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.sets, &other.sets)
    }

    /// Takes out what of the name sets' rows stands and is not `successor`'s, which has the number
    /// from now on, and judges every endpoint that this one did.
    pub fn retire_into(&self, successor: &Self, changes: &mut Vec<model::Change>) {
        if !self.shares_sets(successor) {
            let mut heirs = successor.sets();
            self.sets().retire_into(&mut heirs, changes);
        }
    }
}

/// A table with what it says of the destinations there are.
#[derive(Debug)]
pub(crate) struct LiveTable {
    pub(crate) view: TableView,
    /// What it said when it last was in force, if that is something else.
    pub(crate) was: Option<TableView>,
    sayings: Sayings,
    /// What had the number since a revision was last in force: rows of each may stand.
    replaced: Vec<Arc<VerdictTable>>,
    /// Whether less may be allowed by names than before.
    is_late: bool,
    /// How many pods it judges.
    users: usize,
    /// Whether its rows are wanted in the maps.
    in_use: bool,
}

impl LiveTable {
    pub(crate) fn new(
        id: TableId,
        sayings: Sayings,
        numbers: Arc<Mutex<Numbers>>,
        set_limit: usize,
    ) -> Self {
        let (rules, _) = Table::default().changed([], sayings.meanings());
        let table = VerdictTable::new(id, Arc::new(rules), numbers, set_limit);
        Self {
            view: TableView::new(Arc::new(table)),
            was: None,
            sayings,
            replaced: Vec::new(),
            is_late: false,
            users: 0,
            in_use: false,
        }
    }

    /// Goes on to other rules; where they say something else.
    pub(crate) fn alter(
        &mut self,
        sayings: &Sayings,
        numbers: &Arc<Mutex<Numbers>>,
        set_limit: usize,
    ) -> Altered {
        let (gone, come) = self.sayings.differences(sayings);
        let (rules, altered) = self.rules().changed(gone, come);
        let (id, rules) = (self.view.table.id, Arc::new(rules));
        let sets = match altered.names {
            AlteredNames::Same => Arc::clone(&self.view.table.sets),
            AlteredNames::Wider | AlteredNames::Other => {
                let mut sets =
                    TableSets::new(id, Arc::clone(&rules), Arc::clone(numbers), set_limit);
                // Where several had the number since, it is not known whose rows stand.
                if self.replaced.is_empty() {
                    sets.follow(&self.view.table.sets());
                }
                Arc::new(Mutex::new(sets))
            }
        };
        let table = Arc::new(VerdictTable { id, rules, sets });
        self.was.get_or_insert_with(|| self.view.clone());
        self.replaced.push(std::mem::replace(&mut self.view.table, table));
        self.is_late |= altered.names == AlteredNames::Other;
        self.sayings = sayings.clone();
        altered
    }

    /// A revision with it is in force.
    pub(crate) fn settle(&mut self) {
        self.was = None;
        self.replaced.clear();
        self.is_late = false;
    }

    pub(crate) fn table(&self) -> &Arc<VerdictTable> {
        &self.view.table
    }

    pub(crate) fn rules(&self) -> &Table {
        self.view.table.rules()
    }

    /// Everything that has the number, or had it and may have rows.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<VerdictTable>> {
        self.replaced.iter().chain([&self.view.table])
    }

    /// What had the number and may have rows, with what has it now.
    pub(crate) fn replaced(&self) -> impl Iterator<Item = (Arc<VerdictTable>, Arc<VerdictTable>)> {
        self.replaced.iter().map(|old| (Arc::clone(old), Arc::clone(&self.view.table)))
    }

    /// Whether less may be allowed by names than before: what closes then comes last of all.
    pub(crate) fn is_late(&self) -> bool {
        self.is_late
    }

    /// Whether its rules are others than when it last was in force.
    pub(crate) fn is_altered(&self) -> bool {
        self.was.is_some()
    }

    /// Whether it judges any pod.
    pub(crate) fn is_used(&self) -> bool {
        self.users > 0
    }

    pub(crate) fn users(&self) -> usize {
        self.users
    }

    /// Whether its rows are wanted in the maps.
    pub(crate) fn is_in_use(&self) -> bool {
        self.in_use
    }

    pub(crate) fn gain_users(&mut self, more: usize) {
        self.users += more;
    }

    pub(crate) fn lose_users(&mut self, less: usize) {
        self.users = self.users.saturating_sub(less);
    }

    /// Its rows are to be written.
    pub(crate) fn enter(&mut self) {
        self.in_use = true;
        self.refresh_everywhere();
    }

    /// Looks at what it says of every destination anew.
    pub(crate) fn refresh_everywhere(&mut self) {
        match Level::of(self.rules(), None, Subject::Any) {
            Some(level) => drop(self.view.levels.insert(Identity::ANY, Arc::new(level))),
            None => drop(self.view.levels.remove(&Identity::ANY)),
        }
    }

    /// It judges nobody, and its rows are not wanted.
    pub(crate) fn leave(&mut self) {
        (self.users, self.in_use) = (0, false);
        self.was.get_or_insert_with(|| self.view.clone());
        self.view.levels.clear();
    }
}
