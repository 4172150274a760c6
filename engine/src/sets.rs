//! Name sets: which selectors of a verdict table match a name, as one identity.
//!
//! All addresses of all names that the same selectors match share one identity, whose rows are
//! written when the set is first seen, before any address that refers to it. From then on an
//! address costs one write, however many selectors stand behind it. The number of sets a table may
//! have is bounded; [`TableSets::collect`] frees those that no address uses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use identity::Numbers;
use model::{Change, Identity, NameRef, NumberKind, Pattern, PortPrefix, Row, Ruling, TableId};
use policy::{SelectorId, Subject};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::leases::{NameSets, SetsFull};
use crate::prefix_map::SharedMap;

/// The selectors of sets.
type Members = SharedMap<Identity, Arc<[SelectorId]>>;

/// The name sets of one verdict table.
#[derive(Debug)]
pub struct TableSets {
    table: TableId,
    rules: Arc<policy::Table>,
    numbers: Arc<Mutex<Numbers>>,
    limit: usize,
    identities: FxHashMap<Arc<[SelectorId]>, Identity>,
    members: Members,
    unions: FxHashMap<(Identity, Identity), Identity>,
    /// Sets whose rows are not known to be written yet.
    fresh: Vec<Identity>,
    /// The sets whose place these take: their rows stand.
    standing: Option<(Arc<policy::Table>, Members)>,
    /// Sets asked for since the last collection began.
    touched: Option<FxHashSet<Identity>>,
    scratch: Vec<SelectorId>,
}

impl TableSets {
    /// No sets yet, `limit` at most; `numbers` are those of all tables.
    pub fn new(
        table: TableId,
        rules: Arc<policy::Table>,
        numbers: Arc<Mutex<Numbers>>,
        limit: usize,
    ) -> Self {
        Self {
            table,
            rules,
            numbers,
            limit,
            identities: FxHashMap::default(),
            members: Members::default(),
            unions: FxHashMap::default(),
            fresh: Vec::new(),
            standing: None,
            touched: None,
            scratch: Vec::new(),
        }
    }

    /// These sets take the place of others under the same number, whose rows stand until they
    /// [retire](Self::retire_into).
    pub(crate) fn follow(&mut self, standing: &Self) {
        let mut members = standing.members.clone();
        standing.fresh.iter().for_each(|set| drop(members.remove(set)));
        self.standing = Some((Arc::clone(&standing.rules), members));
    }

    /// Takes out the rows that are not `heirs`' too, which have the table from now on.
    pub(crate) fn retire_into(&mut self, heirs: &mut Self, changes: &mut Vec<Change>) {
        heirs.standing = None;
        let all: BTreeSet<Identity> = self.members.keys().copied().collect();
        for set in all {
            let kept = heirs.rows_of(set);
            let stood = self.rows_of(set).into_keys().filter(|ports| !kept.contains_key(ports));
            let table = self.table;
            changes
                .extend(stood.map(|ports| Change::DeleteRow(Row { table, identity: set, ports })));
            if self.remove(set) {
                changes.push(Change::DeleteNumber(NumberKind::Identity, set.0));
            }
        }
    }

    fn rows_of(&self, set: Identity) -> BTreeMap<PortPrefix, Ruling> {
        rows_of(&self.rules, self.members.get(&set))
    }

    /// How many sets there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no set.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The selectors of a set.
    pub fn selectors(&self, set: Identity) -> Option<&[SelectorId]> {
        self.members.get(&set).map(|members| &**members)
    }

    /// All sets with their selectors, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Identity, &[SelectorId])> {
        self.members.iter().map(|(set, members)| (*set, &**members))
    }

    /// The patterns of a set, in order.
    pub fn patterns(&self, set: Identity) -> Vec<String> {
        let members = self.selectors(set).unwrap_or_default();
        self.texts(members).into_iter().map(str::to_owned).collect()
    }

    fn texts(&self, members: &[SelectorId]) -> Vec<&str> {
        let patterns = members.iter().filter_map(|own| self.rules.selector(*own));
        let mut texts: Vec<&str> = patterns.map(Pattern::as_str).collect();
        texts.sort_unstable();
        texts
    }

    /// Whether sets were first seen since the last [`confirm`](Self::confirm).
    pub fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// The changes emitted so far are written.
    pub fn confirm(&mut self) {
        self.fresh.clear();
    }

    /// The changes emitted since the last [`confirm`](Self::confirm) could not be written: the
    /// sets they brought are forgotten, so that their rows are written when seen again.
    pub fn abandon(&mut self) {
        for set in std::mem::take(&mut self.fresh) {
            self.remove(set);
        }
    }

    /// From now on notes which sets are asked for, until [`collect`](Self::collect).
    pub fn begin_collection(&mut self) {
        self.touched = Some(FxHashSet::default());
    }

    /// Frees the sets that are not in `used` and were not asked for since the collection began.
    pub fn collect(&mut self, used: &FxHashSet<Identity>, changes: &mut Vec<Change>) {
        let touched = self.touched.take().unwrap_or_default();
        let unused = |set: &&Identity| !used.contains(set) && !touched.contains(set);
        let unused: BTreeSet<Identity> = self.members.keys().filter(unused).copied().collect();
        for set in unused {
            self.drop_rows(set, changes);
        }
    }

    /// Frees all sets, because nothing is judged by the table any more.
    pub fn clear(&mut self, changes: &mut Vec<Change>) {
        let all: BTreeSet<Identity> = self.members.keys().copied().collect();
        for set in all {
            self.drop_rows(set, changes);
        }
    }

    fn drop_rows(&mut self, set: Identity, changes: &mut Vec<Change>) {
        let Some(members) = self.members.get(&set) else { return };
        for row in self.rules.rows(Subject::Names(members)) {
            let row = Row { table: self.table, identity: set, ports: row.ports };
            changes.push(Change::DeleteRow(row));
        }
        if self.remove(set) {
            changes.push(Change::DeleteNumber(NumberKind::Identity, set.0));
        }
    }

    /// Forgets a set; true if no other table has it.
    fn remove(&mut self, set: Identity) -> bool {
        let Some(members) = self.members.remove(&set) else { return false };
        self.identities.remove(&members);
        self.unions.retain(|(a, b), union| *a != set && *b != set && *union != set);
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).release(set.0)
    }

    fn touch(&mut self, set: Identity) {
        if let Some(touched) = &mut self.touched {
            touched.insert(set);
        }
    }

    /// The identity of the selectors in `scratch`, which is not empty.
    fn intern(&mut self, changes: &mut Vec<Change>) -> Result<Identity, SetsFull> {
        if let Some(&set) = self.identities.get(self.scratch.as_slice()) {
            self.touch(set);
            return Ok(set);
        }
        if self.members.len() >= self.limit {
            return Err(SetsFull);
        }
        let digest = identity::digest("names", self.texts(&self.scratch));
        let acquired = {
            let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
            numbers.acquire(&digest).map_err(|_| SetsFull)?
        };
        let set = Identity(acquired.number);
        let standing = self.standing.as_ref();
        let standing = standing.and_then(|(rules, members)| Some((rules, members.get(&set)?)));
        let stand = standing.map(|(rules, members)| rows_of(rules, Some(members)));
        if stand.is_none() {
            changes.push(Change::PutNumber(NumberKind::Identity, set.0, digest));
        }
        // The longest first, so that none stands without what is narrower.
        for row in self.rules.rows(Subject::Names(&self.scratch)).into_iter().rev() {
            let place = Row { table: self.table, identity: set, ports: row.ports };
            if stand.as_ref().and_then(|own| own.get(&row.ports)) != Some(&row.ruling) {
                changes.push(Change::PutRow(place, row.ruling));
            }
        }
        let members: Arc<[SelectorId]> = self.scratch.as_slice().into();
        self.identities.insert(Arc::clone(&members), set);
        self.members.insert(set, members);
        self.fresh.push(set);
        self.touch(set);
        Ok(set)
    }
}

/// What a set's rows say.
fn rows_of(
    rules: &policy::Table,
    members: Option<&Arc<[SelectorId]>>,
) -> BTreeMap<PortPrefix, Ruling> {
    let rows = members.map(|members| rules.rows(Subject::Names(members)));
    rows.into_iter().flatten().map(|row| (row.ports, row.ruling)).collect()
}

impl NameSets for TableSets {
    fn set_of(
        &mut self,
        name: NameRef<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<Option<Identity>, SetsFull> {
        self.scratch.clear();
        self.rules.selectors_of(name, &mut self.scratch);
        if self.scratch.is_empty() { Ok(None) } else { self.intern(changes).map(Some) }
    }

    fn union(
        &mut self,
        a: Identity,
        b: Identity,
        changes: &mut Vec<Change>,
    ) -> Result<Identity, SetsFull> {
        if a == b {
            return Ok(a);
        }
        let key = (a.min(b), a.max(b));
        if let Some(&union) = self.unions.get(&key) {
            self.touch(union);
            return Ok(union);
        }
        self.scratch.clear();
        for set in [a, b] {
            self.scratch.extend(self.members.get(&set).into_iter().flat_map(|all| all.iter()));
        }
        self.scratch.sort_unstable();
        self.scratch.dedup();
        let union = self.intern(changes)?;
        // The memo only spares work; bounding it with the sets keeps a pod from growing it.
        if self.unions.len() < self.limit {
            self.unions.insert(key, union);
        }
        Ok(union)
    }
}
