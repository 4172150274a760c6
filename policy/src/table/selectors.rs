//! The selectors of names that a table has, and what it grants to each.

use std::sync::Arc;

use imbl::OrdMap;
use model::{NameRef, Pattern};

use crate::counted::{Bag, Numbered};
use crate::pattern_index::{PatternIndex, SelectorId};
use crate::table::GrantId;

/// Selectors of names by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Selectors {
    patterns: Numbered<Pattern>,
    said: OrdMap<u32, Said>,
    index: PatternIndex,
}

/// What rules say of a selector.
#[derive(Clone, Debug, Default)]
struct Said {
    grants: Bag<GrantId>,
    /// How many rules let private addresses be learned by it.
    private: usize,
}

impl Selectors {
    /// One rule more has a selector; whether none had it before.
    pub(super) fn acquire(&mut self, pattern: &Pattern, private: bool) -> bool {
        let (number, is_first) = self.patterns.acquire(pattern.clone());
        if is_first {
            self.index.insert(pattern, SelectorId(number));
        }
        self.said.entry(number).or_default().private += usize::from(private);
        is_first
    }

    /// One rule less has a selector; whether none has it any more.
    pub(super) fn release(&mut self, pattern: &Pattern, private: bool) -> bool {
        let Some(number) = self.patterns.number(pattern) else { return false };
        if let Some(said) = self.said.get_mut(&number) {
            said.private -= usize::from(private);
        }
        let is_last = self.patterns.release(number).is_some();
        if is_last {
            self.said.remove(&number);
            self.index.remove(pattern, SelectorId(number));
        }
        is_last
    }

    /// Grants something once more to a selector that is there; whether it was not granted before.
    pub(super) fn grant(&mut self, pattern: &Pattern, grant: GrantId) -> bool {
        self.said_of(pattern).is_some_and(|said| said.grants.insert(grant))
    }

    /// Takes that back once; whether it is not granted any more.
    pub(super) fn withdraw(&mut self, pattern: &Pattern, grant: GrantId) -> bool {
        self.said_of(pattern).is_some_and(|said| said.grants.remove(&grant))
    }

    fn said_of(&mut self, pattern: &Pattern) -> Option<&mut Said> {
        self.said.get_mut(&self.patterns.number(pattern)?)
    }

    /// What is granted to a selector.
    pub(super) fn grants(&self, selector: SelectorId) -> impl Iterator<Item = GrantId> {
        let said = self.said.get(&selector.0);
        said.into_iter().flat_map(|said| said.grants.iter().copied())
    }

    pub(super) fn allow_private(&self, selector: SelectorId) -> bool {
        self.said.get(&selector.0).is_some_and(|said| said.private > 0)
    }

    pub(super) fn get(&self, selector: SelectorId) -> Option<&Pattern> {
        self.patterns.get(selector.0).map(Arc::as_ref)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SelectorId, &Pattern)> {
        self.patterns.iter().map(|(number, pattern)| (SelectorId(number), &**pattern))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    pub(super) fn collect(&self, name: NameRef<'_>, into: &mut Vec<SelectorId>) {
        self.index.collect(name, into);
    }
}
