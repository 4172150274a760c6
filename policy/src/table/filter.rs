//! Which names may be asked for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use model::{NameRef, Pattern};
use rustc_hash::FxHashMap;

use crate::counted::Numbered;
use crate::pattern_index::{PatternIndex, SelectorId};

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

    /// Adds the numbers of the [patterns](Self::patterns) that match a name, in order.
    pub fn collect(&self, name: NameRef<'_>, into: &mut Vec<SelectorId>) {
        self.index.collect(name, into);
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
pub(super) struct ListId(u32);

/// The lists of a table, and the filters made of them.
///
/// A filter is made when it is first asked for, shared while anybody holds it, and forgotten
/// after, so that what is kept is bounded by what is in use.
#[derive(Debug, Default)]
pub(super) struct Filters {
    lists: Numbered<Vec<Pattern>>,
    made: Mutex<FxHashMap<Vec<ListId>, Weak<NameFilter>>>,
}

impl Filters {
    /// The number of a list of patterns, with one user more.
    pub(super) fn acquire(&mut self, list: &Arc<Vec<Pattern>>) -> ListId {
        ListId(self.lists.acquire(Arc::clone(list)).0)
    }

    /// One user of a list less; the number it has, or had if that was the last.
    pub(super) fn release(&mut self, list: &Vec<Pattern>) -> Option<ListId> {
        let number = self.lists.number(list)?;
        self.lists.release(number);
        Some(ListId(number))
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
        let lists = lists.iter().filter_map(|list| self.lists.get(list.0));
        let patterns = lists.flat_map(|list| list.iter().cloned());
        let filter = Arc::new(NameFilter::new(false, patterns.collect()));
        made.insert(key, Arc::downgrade(&filter));
        filter
    }
}

/// In a copy that goes on otherwise a number may stand for another list, so it makes its own.
impl Clone for Filters {
    fn clone(&self) -> Self {
        Self { lists: self.lists.clone(), made: Mutex::default() }
    }
}

#[cfg(test)]
impl Filters {
    /// How many filters are remembered.
    pub(super) fn made(&self) -> usize {
        self.made.lock().unwrap().len()
    }
}
