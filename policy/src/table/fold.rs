//! Overlapping ports to rows that longest-prefix match can read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{PortPrefix, Verdict};

use crate::table::TableRow;
use crate::table::conversation::{ConversationId, Conversations};
use crate::table::filter::{Filters, ListId};

/// What a rule does with the packets to its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Effect {
    /// They pass.
    Allow,
    /// Their questions are judged by a list of names.
    Dns(ListId),
    /// What is said on them is judged. Only TCP can carry it.
    L7(ConversationId),
    /// They are dropped, whatever else is said.
    Deny,
}

/// The rows of a level being folded.
#[derive(Default)]
pub(super) struct Fold {
    rows: BTreeMap<PortPrefix, Effects>,
}

/// What several rules do with the same packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// A rule drops them.
    deny: bool,
    /// A rule lets them pass.
    allow: bool,
    /// They pass if no rule says anything.
    rest: bool,
    /// Rules for DNS.
    lists: BTreeSet<ListId>,
    /// Rules for what is said in other protocols.
    conversations: BTreeSet<ConversationId>,
}

/// What the numbers in effects stand for.
#[derive(Clone, Copy)]
pub(super) struct Numbered<'a> {
    pub(super) filters: &'a Filters,
    pub(super) conversations: &'a Conversations,
}

impl Fold {
    pub(super) fn add(&mut self, ports: PortPrefix, effect: &Effect) {
        self.rows.entry(ports).or_default().add(effect);
    }

    /// Lets everything pass that no rule speaks of.
    pub(super) fn allow_the_rest(&mut self) {
        self.rows.entry(PortPrefix::Any).or_default().rest = true;
    }

    /// The rows: each with what all wider ones say, and none that says what the next wider says.
    pub(super) fn rows(&self, numbered: Numbered<'_>) -> Vec<TableRow> {
        let mut united: BTreeMap<PortPrefix, Effects> = BTreeMap::new();
        let mut prefixes: Vec<PortPrefix> = self.rows.keys().copied().collect();
        prefixes.sort_by_key(|prefix| prefix.len());
        let mut rows = Vec::new();
        for prefix in prefixes {
            let own = &self.rows[&prefix];
            let outer = prefix.wider().find_map(|wider| united.get(&wider));
            let effects = outer.map_or_else(|| own.clone(), |outer| own.union(outer));
            if outer.is_none_or(|outer| outer.meaning() != effects.meaning()) {
                rows.push(effects.row(prefix, numbered));
            }
            united.insert(prefix, effects);
        }
        rows.sort_by_key(|row| row.ports);
        rows
    }
}

impl Effects {
    pub(super) fn add(&mut self, effect: &Effect) {
        match effect {
            Effect::Allow => self.allow = true,
            Effect::Deny => self.deny = true,
            Effect::Dns(list) => drop(self.lists.insert(*list)),
            Effect::L7(id) => drop(self.conversations.insert(*id)),
        }
    }

    /// They pass if no rule says anything.
    pub(super) fn allow_the_rest(&mut self) {
        self.rest = true;
    }

    fn union(&self, other: &Self) -> Self {
        Self {
            deny: self.deny || other.deny,
            allow: self.allow || other.allow,
            rest: self.rest || other.rest,
            lists: self.lists.union(&other.lists).copied().collect(),
            conversations: self.conversations.union(&other.conversations).copied().collect(),
        }
    }

    fn verdict(&self) -> Verdict {
        match self {
            Self { deny: true, .. } => Verdict::Deny,
            Self { lists, .. } if !lists.is_empty() => Verdict::Dns,
            Self { allow: true, .. } => Verdict::Allow,
            Self { conversations, .. } if !conversations.is_empty() => Verdict::Proxy,
            Self { .. } => Verdict::Unruled,
        }
    }

    /// The verdict, and the lists or conversations where they matter.
    fn meaning(&self) -> (Verdict, Option<&BTreeSet<ListId>>, Option<&BTreeSet<ConversationId>>) {
        let verdict = self.verdict();
        let lists = (verdict == Verdict::Dns && !self.allow).then_some(&self.lists);
        (verdict, lists, (verdict == Verdict::Proxy).then_some(&self.conversations))
    }

    pub(super) fn row(&self, ports: PortPrefix, numbered: Numbered<'_>) -> TableRow {
        let (verdict, _, conversations) = self.meaning();
        let filter =
            (verdict == Verdict::Dns).then(|| numbered.filters.filter(self.allow, &self.lists));
        let conversations = conversations.into_iter().flatten();
        let conversations =
            conversations.map(|id| Arc::clone(numbered.conversations.get(*id))).collect();
        TableRow { ports, ruling: verdict.into(), filter, conversations }
    }
}
