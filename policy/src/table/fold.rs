//! Overlapping ports to rows that longest-prefix match can read.

use std::collections::{BTreeMap, BTreeSet};

use model::{PortPrefix, Verdict};

use crate::table::TableRow;
use crate::table::conversation::ConversationId;
use crate::table::filter::{Filters, ListId};

/// What a rule does with the packets to its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Effect {
    /// They pass.
    Allow,
    /// Their questions are judged by a list of names.
    Dns(ListId),
    /// What is said on them would be judged. Nothing sends them there yet, so they are not let
    /// through by this.
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
struct Effects {
    /// A rule drops them.
    deny: bool,
    /// A rule lets them pass.
    allow: bool,
    /// They pass if no rule says anything.
    rest: bool,
    /// Rules for DNS.
    lists: BTreeSet<ListId>,
}

impl Fold {
    pub(super) fn add(&mut self, ports: PortPrefix, effect: &Effect) {
        if matches!(effect, Effect::L7(_)) {
            return;
        }
        let effects = self.rows.entry(ports).or_default();
        match effect {
            Effect::Allow => effects.allow = true,
            Effect::Deny => effects.deny = true,
            Effect::Dns(list) => drop(effects.lists.insert(*list)),
            Effect::L7(_) => {}
        }
    }

    /// Lets everything pass that no rule speaks of.
    pub(super) fn allow_the_rest(&mut self) {
        self.rows.entry(PortPrefix::Any).or_default().rest = true;
    }

    /// The rows: each with what all wider ones say, and none that says what the next wider says.
    pub(super) fn rows(&self, filters: &Filters) -> Vec<TableRow> {
        let mut united: BTreeMap<PortPrefix, Effects> = BTreeMap::new();
        let mut prefixes: Vec<PortPrefix> = self.rows.keys().copied().collect();
        prefixes.sort_by_key(|prefix| prefix.len());
        let mut rows = Vec::new();
        for prefix in prefixes {
            let own = &self.rows[&prefix];
            let outer = wider(prefix).find_map(|wider| united.get(&wider));
            let effects = outer.map_or_else(|| own.clone(), |outer| own.union(outer));
            if outer.is_none_or(|outer| outer.meaning() != effects.meaning()) {
                rows.push(effects.row(prefix, filters));
            }
            united.insert(prefix, effects);
        }
        rows.sort_by_key(|row| row.ports);
        rows
    }
}

/// The prefixes that contain this one, the longest first.
pub(crate) fn wider(prefix: PortPrefix) -> impl Iterator<Item = PortPrefix> {
    std::iter::successors(parent(prefix), |prefix| parent(*prefix))
}

fn parent(prefix: PortPrefix) -> Option<PortPrefix> {
    match prefix {
        PortPrefix::Any => None,
        PortPrefix::Protocol(_) => Some(PortPrefix::Any),
        PortPrefix::Ports { protocol, bits: ..=1, .. } => Some(PortPrefix::Protocol(protocol)),
        PortPrefix::Ports { protocol, port, bits } => {
            let port = port & (u16::MAX << (17 - bits));
            Some(PortPrefix::Ports { protocol, port, bits: bits - 1 })
        }
    }
}

impl Effects {
    fn union(&self, other: &Self) -> Self {
        Self {
            deny: self.deny || other.deny,
            allow: self.allow || other.allow,
            rest: self.rest || other.rest,
            lists: self.lists.union(&other.lists).copied().collect(),
        }
    }

    /// The verdict, and the lists where they matter.
    fn meaning(&self) -> (Verdict, Option<&BTreeSet<ListId>>) {
        if self.deny {
            return (Verdict::Deny, None);
        }
        match (self.lists.is_empty(), self.allow) {
            (true, _) => (Verdict::Allow, None),
            (false, true) => (Verdict::Dns, None),
            (false, false) => (Verdict::Dns, Some(&self.lists)),
        }
    }

    fn row(&self, ports: PortPrefix, filters: &Filters) -> TableRow {
        let (verdict, _) = self.meaning();
        let filter = (verdict == Verdict::Dns).then(|| filters.filter(self.allow, &self.lists));
        TableRow { ports, verdict, filter }
    }
}
