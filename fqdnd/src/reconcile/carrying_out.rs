//! A plan is written to the kernel, or as much of it taken back as can be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use engine::leases::Leases;
use engine::{LocalEndpoint, Plan};
use model::{
    Change, DropReason, EndpointEntry, EndpointId, Enforcement, Objects, Row, Ruling, Scope, State,
    TableId, changes,
};
use tracing::{debug, error, warn};

use super::Reconciler;

impl Reconciler {
    /// Carries out a plan; see [`engine::difference`] for why in this order.
    pub(super) fn carry_out(&mut self, plan: &Plan) -> Result<(), bpf::ApplyError> {
        self.datapath.apply(&plan.difference.before)?;
        let holders = self.names.holders(&plan.enclosed);
        self.attachments.detach_gone(plan);
        let mut entries: BTreeMap<EndpointId, &Change> = BTreeMap::new();
        for change in &plan.difference.endpoints {
            match change {
                Change::PutEndpoint(_, entry) => {
                    entries.insert(entry.endpoint, change);
                }
                other => self.datapath.apply(std::slice::from_ref(other))?,
            }
        }
        for changed in changes(&self.placed, &plan.endpoints) {
            if let Some(local) = changed.new {
                self.place(*changed.key, local, entries.get(changed.key).copied())?;
            }
        }
        // Names no longer lead to addresses that have become the cluster's.
        for endpoint in holders {
            let change = self.node.bump(endpoint);
            self.datapath.apply(change.as_slice())?;
        }
        self.attachments.attach(plan);
        self.names.publish(Arc::clone(&plan.snapshot));
        let mut after = Vec::new();
        for (endpoint, _) in &plan.gone {
            self.names.remove(*endpoint, &mut after);
        }
        for (old, new) in &plan.replaced {
            old.retire_into(new, &mut after);
        }
        for table in &plan.retired {
            table.sets().clear(&mut after);
        }
        self.datapath.apply(&after)?;
        self.datapath.apply(&plan.difference.after)?;
        for endpoint in &plan.narrowed {
            let change = self.node.bump(*endpoint);
            self.datapath.apply(change.as_slice())?;
        }
        Ok(())
    }

    fn place(
        &self,
        id: EndpointId,
        local: &LocalEndpoint,
        entry: Option<&Change>,
    ) -> Result<(), bpf::ApplyError> {
        if !self.names.contains(id) {
            let leases = Leases::new(id, *self.names.limits());
            self.names.insert(id, leases, local.table.clone());
        }
        match (entry, self.names.goes_on_under(id, local.table.as_ref())) {
            (None, true) => Ok(()),
            (Some(entry), true) => self.datapath.apply(std::slice::from_ref(entry)),
            (Some(entry), false) => self.names.switch(id, local.table.as_ref(), entry),
            (None, false) => {
                let entry = Change::PutEndpoint(local.interface, local.entry);
                self.names.switch(id, local.table.as_ref(), &entry)
            }
        }
    }

    /// After a failed write: new endpoints stay closed, and the kernel tells what is in force.
    pub(super) fn fall_back(&mut self, plan: &Plan) {
        let new = plan.endpoints.values().filter(|_| !self.audits);
        for local in new {
            if self.attachments.contains(local.interface) {
                continue;
            }
            let enforcement = Enforcement::Closed(DropReason::EndpointPending);
            let entry = EndpointEntry { enforcement, ..local.entry };
            if let Err(error) = self.datapath.apply(&[Change::PutEndpoint(local.interface, entry)])
            {
                error!(%error, pod = %local.name, "a new endpoint could not be closed");
            }
            self.attachments.attach_one(local.interface);
        }
        self.placed = Objects::default();
        let rows = self.node.rows_in_force();
        let known = self.datapath.dump().and_then(|dump| {
            if self.take_back(plan, &rows, &dump) { self.datapath.dump() } else { Ok(dump) }
        });
        match known {
            Ok(dump) => self.node.resync(&dump),
            Err(error) => error!(%error, "the kernel's state cannot be read back"),
        }
    }

    /// Brings tables that were to go on to other rules back to those in force before; whether
    /// there was anything to take back.
    fn take_back(
        &mut self,
        plan: &Plan,
        rows: &BTreeMap<TableId, BTreeMap<Row, Ruling>>,
        dump: &State,
    ) -> bool {
        let is_new = |row: &&Row| {
            let known = rows.get(&row.table).filter(|_| row.identity.scope() != Scope::Names);
            known.is_some_and(|known| !known.contains_key(*row))
        };
        // What is taken out makes room for what comes back.
        let mut changes: Vec<Change> =
            dump.rows.keys().filter(is_new).map(|row| Change::DeleteRow(*row)).collect();
        let gone = rows.values().flatten().filter(|(row, own)| dump.rows.get(row) != Some(*own));
        changes.extend(gone.map(|(row, ruling)| Change::PutRow(*row, *ruling)));
        if changes.is_empty() {
            return false;
        }
        // What was let through meanwhile is judged again.
        let judged = |local: &LocalEndpoint| {
            local.table.as_ref().is_some_and(|table| rows.contains_key(&table.id()))
        };
        let judged = plan.endpoints.iter().filter(|(_, local)| judged(local));
        changes.extend(judged.filter_map(|(id, _)| self.node.bump(*id)));
        if let Err(error) = self.datapath.apply(&changes) {
            error!(%error, "a policy that could not be written whole is in force in part");
        }
        true
    }

    pub(super) fn finish(&mut self, plan: &Plan) {
        self.planned = plan.revision.0;
        self.applied = plan.revision.0;
        self.applied_at = SystemTime::now();
        let problems: Vec<String> = plan.problems.iter().map(ToString::to_string).collect();
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            warn!(problem, "the inventory cannot be enforced as it stands");
        }
        self.problems = problems;
        self.placed = self.node.endpoints().clone();
        self.endpoints = self.placed.clone();
        debug!(revision = self.applied, endpoints = self.endpoints.len(), "a revision is in force");
    }
}
