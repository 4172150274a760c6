//! From one inventory to the next: what has changed is taken in, what it concerns is decided anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{EndpointId, EndpointName, Interface, Labels, Prefix, TableId, changes};
use policy::Table;

use crate::inventory::{Inventory, dns_backends};
use crate::node::Node;
use crate::plan::{InventoryProblem, Plan, PlanError};
use crate::services::Numbering;
use crate::table::{LiveTable, TableKey, VerdictTable};
use crate::world::Progress;

impl Node {
    pub(crate) fn advance(&mut self, old: &Inventory, new: &Inventory) -> Result<Plan, PlanError> {
        let mut progress = Progress::default();
        self.take_cluster(old, new, &mut progress)?;
        self.take_policies(old, new, &mut progress);
        self.take_pods(old, new, &mut progress);
        self.choose_tables(new, &mut progress)?;
        self.place_prefixes(&mut progress)?;
        self.place_frontends(new, &mut progress);
        self.write_rows(&mut progress);
        self.place_endpoints(old, new, &mut progress)?;
        self.settle_generations(&mut progress);
        Ok(self.conclude(new, progress))
    }

    fn take_cluster(
        &mut self,
        old: &Inventory,
        new: &Inventory,
        progress: &mut Progress,
    ) -> Result<(), PlanError> {
        progress.prefixes.append(&mut self.world.unplaced);
        self.world.addresses.take(old, new, &mut progress.prefixes);
        let (roster, record) = (&mut self.rosters.services, &mut self.ledger.numbers);
        let mut numbering = Numbering { roster, record };
        self.world.services.take(old, new, &mut numbering, &mut progress.affected)?;
        if let Some(resolvers) = self.world.dns_servers.take(old, new, &self.settings.dns_service) {
            self.world.snapshot.resolvers = Arc::new(resolvers);
        }
        Ok(())
    }

    fn take_policies(&mut self, old: &Inventory, new: &Inventory, progress: &mut Progress) {
        let selection = &mut self.world.selection;
        for changed in changes(&old.policies, &new.policies) {
            selection.take_policy(&changed, &mut progress.pods);
        }
        for changed in changes(&old.cidr_groups, &new.cidr_groups) {
            selection.concerned_with_group(&changed, &mut progress.pods);
        }
        for changed in changes(&old.services, &new.services) {
            selection.concerned_with_service(&changed, &mut progress.pods);
        }
        let dns = &self.settings.dns_service;
        let (was, is) = (old.services.get(dns), new.services.get(dns));
        let backends = is.map(dns_backends).unwrap_or_default();
        let mut touched = backends.iter().map(|own| Prefix::host(*own));
        if was != is || touched.any(|own| progress.prefixes.contains(&own)) {
            let pods = backends.iter().flat_map(|own| self.world.addresses.pods_at(*own));
            let dns_pods: BTreeSet<Labels> = pods.map(|pod| pod.labels.clone()).collect();
            if self.world.dns_pods != dns_pods {
                self.world.dns_pods = dns_pods;
                self.world.selection.concerned(|own| own.dns_pods, &mut progress.pods);
            }
        }
    }

    /// The pods of this node: those that are bound to one of its interfaces.
    fn take_pods(&mut self, old: &Inventory, new: &Inventory, progress: &mut Progress) {
        let mut touched: BTreeSet<EndpointName> = BTreeSet::new();
        if old.bindings.bound != new.bindings.bound {
            let names = old.bindings.bound.keys().chain(new.bindings.bound.keys());
            touched.extend(names.cloned());
            self.world.bound.clone_from(&new.bindings.bound);
        }
        let bound = |name: &&EndpointName| new.bindings.bound.contains_key(*name);
        let changed = changes(&old.pods, &new.pods).map(|changed| changed.key);
        touched.extend(changed.filter(bound).cloned());
        for name in touched {
            let interface = new.bindings.bound.get(&name);
            let pod = interface.and_then(|_| new.pods.get(&name));
            self.world.selection.take_pod(&name, pod.map(|pod| &pod.labels));
            progress.interfaces.extend(interface);
            progress.pods.insert(name);
        }
    }

    /// Finds the tables of pods that other rules may judge, and makes those not met before.
    fn choose_tables(&mut self, new: &Inventory, progress: &mut Progress) -> Result<(), PlanError> {
        if progress.pods.is_empty() {
            return Ok(());
        }
        let context = new.context_with(self.world.dns_pods.clone());
        let mut tables: BTreeSet<TableKey> = BTreeSet::new();
        for pod in std::mem::take(&mut progress.pods) {
            progress.interfaces.extend(new.bindings.bound.get(&pod));
            let key = self.world.selection.key(&pod, &context);
            let key = key.map(|digests| identity::digest("table", digests));
            let known = self.world.judged.get(&pod).copied();
            if key == known {
                continue;
            }
            if let Some(key) = key {
                let rules = self.world.selection.rules(&pod);
                self.join_table(key, || Table::compile(&rules, &context))?;
                self.world.judged.insert(pod, key);
            } else {
                self.world.judged.remove(&pod);
            }
            if let Some(table) = known.and_then(|key| self.tables.get_mut(&key)) {
                table.lose_user();
            }
            tables.extend(key.into_iter().chain(known));
        }
        for key in tables {
            self.settle_table(key, new, progress)?;
        }
        Ok(())
    }

    fn join_table(
        &mut self,
        key: TableKey,
        compile: impl FnOnce() -> Table,
    ) -> Result<(), PlanError> {
        if let Some(table) = self.tables.get_mut(&key) {
            table.gain_user();
            return Ok(());
        }
        // The number's own user is the use of the table, which is settled later.
        let (roster, record) = (&mut self.rosters.tables, &mut self.ledger.numbers);
        let number = roster.acquire(&key, || key, record)?;
        roster.release(&key, record);
        let (numbers, limit) = (Arc::clone(&self.set_numbers), self.settings.sets_per_table);
        let table = VerdictTable::new(TableId(number), Arc::new(compile()), numbers, limit);
        let mut table = LiveTable::new(table);
        table.gain_user();
        self.tables.insert(key, table);
        Ok(())
    }

    /// Has a table's rows wanted if it judges somebody, and only then.
    fn settle_table(
        &mut self,
        key: TableKey,
        new: &Inventory,
        progress: &mut Progress,
    ) -> Result<(), PlanError> {
        let Some(table) = self.tables.get_mut(&key) else { return Ok(()) };
        let (roster, record) = (&mut self.rosters.tables, &mut self.ledger.numbers);
        match (table.is_used(), table.is_in_use()) {
            (true, false) => {
                roster.acquire(&key, || key, record)?;
                if self.leaving.remove(&key).is_none() {
                    let touched = &mut progress.prefixes;
                    self.world.addresses.add(&table.rules().asked(), new, touched);
                }
                table.enter();
                progress.entered.insert(key);
            }
            (false, true) => {
                roster.release(&key, record);
                self.leaving.insert(key, Arc::clone(table.table()));
                table.leave();
                for row in self.ledger.rows_of(table.table().id()) {
                    self.ledger.rows.remove(&row);
                }
            }
            (true, true) | (false, false) => {}
        }
        Ok(())
    }

    /// The plan, and an end of what nothing has any more.
    fn conclude(&mut self, new: &Inventory, progress: Progress) -> Plan {
        self.remove_departed(&progress);
        self.publish_views(&progress);
        let mut steps = self.ledger.steps();
        steps.passing.clone_from(&progress.passing);
        let leads = self.leads.as_ref();
        let difference = steps.in_order(|row| leads.is_none_or(|leads| leads.to(row)));
        let unused = self.tables.values().filter(|table| !table.is_used());
        let retired = unused.map(|table| Arc::clone(table.table())).collect();
        self.revision.0 += 1;
        Plan {
            revision: self.revision,
            difference,
            gone: self.gone(),
            retired,
            enclosed: progress.enclosed,
            endpoints: self.world.locals.clone(),
            snapshot: Arc::new(self.world.snapshot.clone()),
            problems: self.problems(new),
        }
    }

    fn remove_departed(&mut self, progress: &Progress) {
        for &identity in &progress.departed {
            self.withdraw_rows(identity);
            self.forget_destination(identity);
        }
    }

    fn publish_views(&mut self, progress: &Progress) {
        let views = &mut self.world.snapshot.views;
        let everywhere = (!progress.departed.is_empty()).then(|| self.tables.keys());
        for key in progress.views.iter().chain(everywhere.into_iter().flatten()) {
            let Some(table) = self.tables.get(key) else { continue };
            if table.is_in_use() {
                views.insert(table.table().id(), Arc::new(table.view.clone()));
            } else {
                views.remove(&table.table().id());
            }
        }
    }

    /// Endpoints that are in force and are no more.
    fn gone(&self) -> Vec<(EndpointId, Interface)> {
        let endpoints = &self.ledger.endpoints;
        let replaced = endpoints.puts().filter_map(|(interface, _, old)| Some((interface, old?)));
        let all = endpoints.removals().chain(replaced);
        let gone = all.filter(|(_, entry)| !self.world.locals.contains_key(&entry.endpoint));
        gone.map(|(interface, entry)| (entry.endpoint, *interface)).collect()
    }

    fn problems(&self, new: &Inventory) -> Vec<InventoryProblem> {
        let shared = self.world.shared.values().flatten();
        let of_endpoints = self.world.placed.values().flat_map(|own| &own.problems);
        let mut problems: Vec<_> = shared.chain(of_endpoints).cloned().collect();
        problems.extend(
            new.bindings
                .problems
                .iter()
                .map(|(name, error)| InventoryProblem::Binding(name.clone(), error.clone())),
        );
        problems
    }
}
