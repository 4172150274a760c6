//! Overlapping ports to rows that longest-prefix match can read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Audited, PortPrefix, Ruling, Verdict};

use crate::table::conversation::{ConversationId, Conversations};
use crate::table::filter::{Filters, ListId};
use crate::table::{DefaultDeny, TableRow};

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
    /// They would be, were the policy not audited.
    AuditedDeny,
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
    /// An audited rule would.
    audited_deny: bool,
    /// A rule lets them pass.
    allow: bool,
    /// They pass if no rule says anything.
    rest: bool,
    /// They pass then too, and are told.
    audited_rest: bool,
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

    /// What becomes of everything that no rule speaks of.
    pub(super) fn leave_the_rest(&mut self, default_deny: DefaultDeny) {
        if default_deny != DefaultDeny::Enforced {
            self.rows.entry(PortPrefix::Any).or_default().leave_the_rest(default_deny);
        }
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
            Effect::AuditedDeny => self.audited_deny = true,
            Effect::Dns(list) => drop(self.lists.insert(*list)),
            Effect::L7(id) => drop(self.conversations.insert(*id)),
        }
    }

    /// What becomes of them if no rule says anything.
    pub(super) fn leave_the_rest(&mut self, default_deny: DefaultDeny) {
        self.rest |= default_deny.is_absent();
        self.audited_rest |= default_deny.is_lenient();
    }

    fn union(&self, other: &Self) -> Self {
        Self {
            deny: self.deny || other.deny,
            audited_deny: self.audited_deny || other.audited_deny,
            allow: self.allow || other.allow,
            rest: self.rest || other.rest,
            audited_rest: self.audited_rest || other.audited_rest,
            lists: self.lists.union(&other.lists).copied().collect(),
            conversations: self.conversations.union(&other.conversations).copied().collect(),
        }
    }

    fn verdict(&self) -> Option<Verdict> {
        match self {
            Self { deny: true, .. } => Some(Verdict::Deny),
            Self { lists, .. } if !lists.is_empty() => Some(Verdict::Dns),
            Self { allow: true, .. } => Some(Verdict::Allow),
            Self { conversations, .. } if !conversations.is_empty() => Some(Verdict::Proxy),
            Self { rest: true, .. } => Some(Verdict::Unruled),
            Self { .. } => None,
        }
    }

    fn ruling(&self) -> Ruling {
        let deny_rule = self.audited_deny && !self.deny;
        let audited = Audited { deny_rule, default_deny: self.audited_rest };
        Ruling { verdict: self.verdict(), audited }
    }

    /// The ruling, and the lists or conversations where they matter.
    fn meaning(&self) -> (Ruling, Option<&BTreeSet<ListId>>, Option<&BTreeSet<ConversationId>>) {
        let ruling = self.ruling();
        let is = |verdict| ruling.verdict == Some(verdict);
        let lists = (is(Verdict::Dns) && !self.allow).then_some(&self.lists);
        (ruling, lists, is(Verdict::Proxy).then_some(&self.conversations))
    }

    pub(super) fn row(&self, ports: PortPrefix, numbered: Numbered<'_>) -> TableRow {
        let (ruling, _, conversations) = self.meaning();
        let asks = ruling.verdict == Some(Verdict::Dns);
        let filter = asks.then(|| numbered.filters.filter(self.allow, &self.lists));
        let conversations = conversations.into_iter().flatten();
        let conversations =
            conversations.map(|id| Arc::clone(numbered.conversations.get(*id))).collect();
        TableRow { ports, ruling, filter, conversations }
    }
}
