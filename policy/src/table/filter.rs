//! Which names may be asked for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use model::{NameRef, Pattern};
use rustc_hash::FxHashMap;

use crate::pattern_index::PatternIndex;

/// The names that may be asked for at a port of a destination.
#[derive(Debug)]
pub struct NameFilter {
    all: bool,
    patterns: Vec<Pattern>,
    index: PatternIndex,
}

impl NameFilter {
    /// Whether a name may be asked for.
    pub fn allows(&self, name: NameRef<'_>) -> bool {
        self.all || self.index.matches(name)
    }

    /// Whether a rule spells a name out, rather than matching it by a pattern with stars. Of no
    /// name where [`allows_all`](Self::allows_all).
    pub fn spells_out(&self, name: NameRef<'_>) -> bool {
        self.index.names(name)
    }

    /// Whether every name may be asked for because a rule without names allows the port.
    pub fn allows_all(&self) -> bool {
        self.all
    }

    /// The patterns that allow names, in order and no two the same; empty where
    /// [`allows_all`](Self::allows_all).
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    fn new(all: bool, mut patterns: Vec<Pattern>) -> Self {
        patterns.sort();
        patterns.dedup();
        Self { all, index: PatternIndex::new(&patterns), patterns }
    }
}

impl PartialEq for NameFilter {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all && self.patterns == other.patterns
    }
}

impl Eq for NameFilter {}

/// One list of patterns that a rule has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ListId(usize);

/// The lists of a table, and the filters made of them.
///
/// A filter is made when it is first asked for, shared while anybody holds it, and forgotten
/// after, so that what is kept is bounded by what is in use.
#[derive(Debug, Default)]
pub(super) struct Filters {
    lists: Vec<Vec<Pattern>>,
    ids: FxHashMap<Vec<Pattern>, ListId>,
    made: Mutex<FxHashMap<Vec<ListId>, Weak<NameFilter>>>,
}

impl Filters {
    /// The number of a list of patterns.
    pub(super) fn list(&mut self, patterns: &[Pattern]) -> ListId {
        let mut list = patterns.to_vec();
        list.sort();
        list.dedup();
        if let Some(id) = self.ids.get(&list) {
            return *id;
        }
        let id = ListId(self.lists.len());
        self.lists.push(list.clone());
        self.ids.insert(list, id);
        id
    }

    /// The filter that allows what any of the lists allows, or every name.
    pub(super) fn filter(&self, all: bool, lists: &BTreeSet<ListId>) -> Arc<NameFilter> {
        if all {
            return Arc::new(NameFilter::new(true, Vec::new()));
        }
        let key: Vec<ListId> = lists.iter().copied().collect();
        // The map is whole between any two statements, so a panic elsewhere does not spoil it.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(filter) = made.get(&key).and_then(Weak::upgrade) {
            return filter;
        }
        made.retain(|_, filter| filter.strong_count() > 0);
        let patterns = lists.iter().flat_map(|list| self.lists[list.0].iter().cloned());
        let filter = Arc::new(NameFilter::new(false, patterns.collect()));
        made.insert(key, Arc::downgrade(&filter));
        filter
    }
}

#[cfg(test)]
impl Filters {
    /// How many filters are remembered.
    pub(super) fn made(&self) -> usize {
        self.made.lock().unwrap().len()
    }
}
