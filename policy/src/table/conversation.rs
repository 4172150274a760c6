//! What may be said in other protocols than DNS, by number.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::rule::L7;

/// One set of rules for what is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConversationId(usize);

/// The rules of a table for what is said.
#[derive(Debug, Default)]
pub(super) struct Conversations {
    all: Vec<Arc<L7>>,
    ids: FxHashMap<Arc<L7>, ConversationId>,
}

impl Conversations {
    /// The number of some rules.
    pub(super) fn number(&mut self, rules: &Arc<L7>) -> ConversationId {
        if let Some(id) = self.ids.get(rules) {
            return *id;
        }
        let id = ConversationId(self.all.len());
        self.all.push(Arc::clone(rules));
        self.ids.insert(Arc::clone(rules), id);
        id
    }

    pub(super) fn get(&self, id: ConversationId) -> &Arc<L7> {
        &self.all[id.0]
    }
}
