//! What the cold half wants in the maps, and what of it is not there yet.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Digest, EndpointEntry, EndpointId, Frontend, Identity, Interface, NumberKind, PortPrefix,
    Prefix, Row, Ruling, Scope, State, TableId,
};

use crate::difference::{Steps, level_range};
use crate::rewriting::Rewritten;
use crate::tracked::Tracked;

/// The maps that the cold half owns: all but names and leases, and the name sets' rows and
/// numbers.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) endpoints: Tracked<Interface, EndpointEntry>,
    pub(crate) sources: Tracked<(EndpointId, Prefix), ()>,
    pub(crate) prefixes: Tracked<Prefix, Identity>,
    pub(crate) frontends: Tracked<Frontend, Identity>,
    pub(crate) rows: Tracked<Row, Ruling>,
    pub(crate) numbers: Tracked<(NumberKind, u32), Digest>,
}

impl Ledger {
    /// What should be in force.
    pub(crate) fn desired(&self) -> State {
        State {
            endpoints: self.endpoints.desired().clone(),
            sources: self.sources.desired().clone(),
            prefixes: self.prefixes.desired().clone(),
            frontends: self.frontends.desired().clone(),
            rows: self.rows.desired().clone(),
            numbers: self.numbers.desired().clone(),
            ..State::default()
        }
    }

    /// All of it is in force.
    pub(crate) fn settle(&mut self) {
        self.endpoints.settle();
        self.sources.settle();
        self.prefixes.settle();
        self.frontends.settle();
        self.rows.settle();
        self.numbers.settle();
    }

    /// What of `dump` is the cold half's is in force, whatever is wanted.
    pub(crate) fn resync(&mut self, dump: &State) {
        self.endpoints.resync(&dump.endpoints);
        self.sources.resync(&dump.sources);
        self.prefixes.resync(&dump.prefixes);
        self.frontends.resync(&dump.frontends);
        let is_set = |identity: Identity| identity.scope() == Scope::Names;
        let rows = dump.rows.iter().filter(|(row, _)| !is_set(row.identity));
        self.rows.resync(&rows.map(|(row, ruling)| (*row, *ruling)).collect());
        let numbers = dump.numbers.iter().filter(|((kind, number), _)| {
            *kind != NumberKind::Identity || !is_set(Identity(*number))
        });
        self.numbers.resync(&numbers.map(|(key, digest)| (*key, *digest)).collect());
    }

    /// Nothing is wanted any more; what is in force stays known.
    pub(crate) fn clear(&mut self) {
        self.endpoints.clear();
        self.sources.clear();
        self.prefixes.clear();
        self.frontends.clear();
        self.rows.clear();
        self.numbers.clear();
    }

    /// The rows of a table.
    pub(crate) fn rows_of(&self, table: TableId) -> Vec<Row> {
        let first = Row { table, identity: Identity::ANY, ports: PortPrefix::Any };
        let rows = self.rows.desired().range(first..);
        rows.map(|(row, _)| *row).take_while(|row| row.table == table).collect()
    }

    /// The ports of a table's rows for one identity.
    pub(crate) fn ports_of(&self, table: TableId, identity: Identity) -> BTreeSet<PortPrefix> {
        let rows = self.rows.desired().range(Row { table, identity, ports: PortPrefix::Any }..);
        let own = rows.take_while(|(row, _)| (row.table, row.identity) == (table, identity));
        own.map(|(row, _)| row.ports).collect()
    }

    /// The rows of a table that are in force.
    pub(crate) fn rows_in_force(&self, table: TableId) -> BTreeMap<Row, Ruling> {
        let (first, _) = level_range(table, Identity::ANY).into_inner();
        let (_, last) = level_range(table, Identity(u32::MAX)).into_inner();
        self.rows.realised_in(first..=last)
    }

    /// The rows of a table for one identity, as they are in force and as they are wanted.
    pub(crate) fn level(&self, table: TableId, identity: Identity) -> Rewritten {
        let range = level_range(table, identity);
        let was = self.rows.realised_in(range.clone()).into_iter();
        let is = self.rows.desired().range(range);
        Rewritten {
            was: was.map(|(row, ruling)| (row.ports, ruling)).collect(),
            is: is.map(|(row, ruling)| (row.ports, *ruling)).collect(),
        }
    }

    /// The way from what is in force to what is wanted.
    pub(crate) fn steps(&self) -> Steps<'_> {
        let mut steps = Steps::default();
        steps.endpoints.fill(self.endpoints.puts(), self.endpoints.removals());
        steps.sources.fill(self.sources.puts(), self.sources.removals());
        steps.prefixes.fill(self.prefixes.puts(), self.prefixes.removals());
        steps.frontends.fill(self.frontends.puts(), self.frontends.removals());
        steps.rows.fill(self.rows.puts(), self.rows.removals());
        steps.numbers.fill(self.numbers.puts(), self.numbers.removals());
        steps
    }
}
