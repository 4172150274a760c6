//! One revision, computed whole from the inventory.

mod addresses;
mod endpoints;
mod services;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::{EndpointId, EndpointName, Identity, Row, State, TableId};
use policy::{Subject, TableRow, Wants};

pub use addresses::Addresses;
use addresses::Destination;
use services::Backends;
pub(crate) use tables::RuleDigests;

use crate::generations;
use crate::node::{CachedTable, Inventory, Node};
use crate::plan::{InventoryProblem, LocalEndpoint, PlanError};
use crate::snapshot::{Snapshot, TableView};
use crate::table::TableKey;

/// The result, and what is found on the way to it.
#[derive(Default)]
pub(crate) struct Computation {
    pub(crate) desired: State,
    pub(crate) endpoints: BTreeMap<EndpointId, LocalEndpoint>,
    pub(crate) tables: BTreeSet<TableKey>,
    pub(crate) snapshot: Snapshot,
    pub(crate) problems: Vec<InventoryProblem>,
    /// The labels that the tables in use ask for beside those of objects.
    wants: Wants,
    /// What each identity stands for, but for those of services and names.
    subjects: BTreeMap<Identity, Destination>,
    /// The identity of each address in the cluster.
    identities: BTreeMap<IpAddr, Identity>,
    /// What stands behind each service identity.
    services: BTreeMap<Identity, Backends>,
    views: BTreeMap<TableId, Arc<TableView>>,
    /// Which table judges a pod.
    judged: BTreeMap<EndpointName, TableKey>,
}

impl Computation {
    pub(crate) fn run(node: &mut Node, inventory: &Inventory) -> Result<Self, PlanError> {
        let mut this = Self::default();
        this.choose_tables(node, inventory)?;
        this.place_services(node, inventory)?;
        this.place_addresses(node, inventory)?;
        this.resolve_backends(node, inventory);
        this.fill_tables(node);
        this.place_endpoints(node, inventory)?;
        this.settle_generations(&node.realised);
        Ok(this)
    }

    /// The rows of every table in use, for every destination there is.
    fn fill_tables(&mut self, node: &mut Node) {
        for key in &self.tables.clone() {
            let Some(cached) = node.tables.get_mut(key) else { continue };
            let mut view = TableView::new(Arc::clone(&cached.table));
            let any = cached.rows_for(Identity::ANY, &Subject::Any);
            put_rows(&mut self.desired, &mut view, Identity::ANY, any);
            view.add_filters(Identity::ANY, Subject::Any);
            for (identity, destination) in &self.subjects {
                let rows = cached.rows_for(*identity, &destination.subject());
                if put_rows(&mut self.desired, &mut view, *identity, rows) {
                    view.add_filters(*identity, destination.subject());
                }
            }
            self.fill_services(&mut view);
            self.views.insert(view.table.id(), Arc::new(view));
        }
    }

    fn settle_generations(&mut self, realised: &State) {
        let by_name = self.views.iter();
        let by_name = by_name.filter(|(_, view)| !view.table.rules().selectors().is_empty());
        let by_name = by_name.map(|(id, _)| *id).collect();
        generations::carry_on(realised, &mut self.desired, &by_name);
        for entry in self.desired.endpoints.values() {
            if let Some(local) = self.endpoints.get_mut(&entry.endpoint) {
                local.entry = *entry;
            }
        }
    }
}

impl CachedTable {
    fn rows_for(&mut self, identity: Identity, subject: &Subject<'_>) -> Arc<[TableRow]> {
        let compile = || self.table.rules().rows(*subject).into();
        Arc::clone(self.rows.entry(identity).or_insert_with(compile))
    }
}

/// Whether there are any rows to put.
fn put_rows(
    desired: &mut State,
    view: &mut TableView,
    identity: Identity,
    rows: Arc<[TableRow]>,
) -> bool {
    if rows.is_empty() {
        return false;
    }
    let table = view.table.id();
    for row in rows.iter() {
        desired.rows.insert(Row { table, identity, ports: row.ports }, row.verdict);
    }
    view.rows.insert(identity, rows);
    true
}
