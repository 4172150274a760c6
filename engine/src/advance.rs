//! From one inventory to the next: what has changed is taken in, what it concerns is decided anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{
    EndpointId, EndpointName, Identity, Interface, Labels, Prefix, Row, Scope, TableId, changes,
};

use crate::difference::Led;
use crate::inventory::{Inventory, dns_backends};
use crate::node::Node;
use crate::plan::{InventoryProblem, Plan, PlanError};
use crate::sayings::Sayings;
use crate::selection::Concern;
use crate::services::Numbering;
use crate::table::{LiveTable, TableKey};
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
        let mut concerns: Vec<Concern<'_>> = Vec::new();
        if self.find_dns_pods(old, new, progress) {
            concerns.push(Concern::DnsPods);
        }
        concerns.extend(changes(&old.cidr_groups, &new.cidr_groups).map(Concern::Group));
        concerns.extend(changes(&old.services, &new.services).map(Concern::Service));
        let context = new.context_with(self.world.dns_pods.clone());
        let selection = &mut self.world.selection;
        for concern in &concerns {
            selection.take_concern(concern, &context, &mut progress.pods);
        }
        for changed in changes(&old.policies, &new.policies) {
            selection.take_policy(&changed, &context, &mut progress.pods);
        }
    }

    /// Looks which pods serve DNS; whether their labels are others than before.
    fn find_dns_pods(&mut self, old: &Inventory, new: &Inventory, progress: &Progress) -> bool {
        let dns = &self.settings.dns_service;
        let (was, is) = (old.services.get(dns), new.services.get(dns));
        let backends = is.map(dns_backends).unwrap_or_default();
        let mut touched = backends.iter().map(|own| Prefix::host(*own));
        if was == is && !touched.any(|own| progress.prefixes.contains(&own)) {
            return false;
        }
        let pods = backends.iter().flat_map(|own| self.world.addresses.pods_at(*own));
        let dns_pods: BTreeSet<Labels> = pods.map(|pod| pod.labels.clone()).collect();
        let known = std::mem::replace(&mut self.world.dns_pods, dns_pods);
        known != self.world.dns_pods
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
        if touched.is_empty() {
            return;
        }
        let context = new.context_with(self.world.dns_pods.clone());
        for name in touched {
            let interface = new.bindings.bound.get(&name);
            let pod = interface.and_then(|_| new.pods.get(&name));
            self.world.selection.take_pod(&name, pod.map(|pod| &pod.labels), &context);
            progress.interfaces.extend(interface);
            progress.pods.insert(name);
        }
    }

    /// Finds the tables of pods that other rules may judge. Where all pods of a table go on to the
    /// same rules, the table does; otherwise they go to another one, made if it was not met before:
    /// until they have, what they leave stands as it was.
    fn choose_tables(&mut self, new: &Inventory, progress: &mut Progress) -> Result<(), PlanError> {
        let mut moves: BTreeMap<(Option<TableKey>, Option<TableKey>), Vec<EndpointName>> =
            BTreeMap::new();
        for pod in std::mem::take(&mut progress.pods) {
            progress.interfaces.extend(new.bindings.bound.get(&pod));
            let key = self.world.selection.sayings(&pod).map(|(digest, _)| digest);
            let known = self.world.judged.get(&pod).copied();
            if key != known {
                moves.entry((known, key)).or_default().push(pod);
            }
        }
        let mut ways: BTreeMap<TableKey, usize> = BTreeMap::new();
        for known in moves.keys().filter_map(|(known, _)| *known) {
            *ways.entry(known).or_default() += 1;
        }
        let mut tables: BTreeSet<TableKey> = BTreeSet::new();
        for ((known, key), pods) in moves {
            tables.extend(key.into_iter().chain(known));
            let sayings = pods.first().and_then(|pod| self.world.selection.sayings(pod));
            let sayings = sayings.map(|(_, sayings)| sayings.clone()).unwrap_or_default();
            let grown = match (known, key) {
                (Some(known), Some(key)) if ways[&known] == 1 => {
                    self.alter_table(known, key, pods.len(), &sayings, new, progress)
                }
                _ => false,
            };
            if let (Some(key), false) = (key, grown) {
                self.join_table(key, pods.len(), sayings)?;
            }
            if let (Some(table), false) = (known.and_then(|key| self.tables.get_mut(&key)), grown) {
                table.lose_users(pods.len());
            }
            for pod in pods {
                match key {
                    Some(key) => drop(self.world.judged.insert(pod, key)),
                    None => drop(self.world.judged.remove(&pod)),
                }
            }
        }
        for key in tables {
            self.settle_table(key, new, progress)?;
        }
        Ok(())
    }

    /// Has a table go on to other rules, if nothing but these pods is judged by it and there is no
    /// table with these rules; whether that is so.
    fn alter_table(
        &mut self,
        known: TableKey,
        key: TableKey,
        users: usize,
        sayings: &Sayings,
        new: &Inventory,
        progress: &mut Progress,
    ) -> bool {
        let is_theirs = |table: &LiveTable| table.is_in_use() && table.users() == users;
        if self.tables.contains_key(&key) || !self.tables.get(&known).is_some_and(is_theirs) {
            return false;
        }
        let (roster, record) = (&mut self.rosters.tables, &mut self.ledger.numbers);
        if !roster.rename(&known, key, key, record) {
            return false;
        }
        let Some(mut table) = self.tables.remove(&known) else { return false };
        let limit = self.settings.sets_per_table;
        let altered = table.alter(sayings, &self.set_numbers, limit);
        self.world.addresses.add(&altered.come, new, &mut progress.prefixes);
        self.withdrawn.push(altered.gone.clone());
        self.tables.insert(key, table);
        progress.altered.insert(key, altered);
        true
    }

    fn join_table(
        &mut self,
        key: TableKey,
        users: usize,
        sayings: Sayings,
    ) -> Result<(), PlanError> {
        if let Some(table) = self.tables.get_mut(&key) {
            table.gain_users(users);
            return Ok(());
        }
        // The number's own user is the use of the table, which is settled later.
        let (roster, record) = (&mut self.rosters.tables, &mut self.ledger.numbers);
        let number = roster.acquire(&key, || key, record)?;
        roster.release(&key, record);
        let (numbers, limit) = (Arc::clone(&self.set_numbers), self.settings.sets_per_table);
        let mut table = LiveTable::new(TableId(number), sayings, numbers, limit);
        table.gain_users(users);
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
        steps.inherited.clone_from(&progress.inherited);
        let entered = progress.entered.iter().filter_map(|key| self.tables.get(key));
        let entered: BTreeSet<TableId> = entered.map(|table| table.table().id()).collect();
        let in_use = self.tables.values().filter(|table| table.is_in_use());
        let in_use: BTreeSet<TableId> = in_use.map(|table| table.table().id()).collect();
        let late = self.tables.values().filter(|table| table.is_late()).map(|own| own.table().id());
        let late: BTreeSet<TableId> = late.collect();
        let leads = self.leads.as_ref();
        let is_known = |row: &Row| {
            leads.is_none_or(|leads| leads.to(row))
                && !entered.contains(&row.table)
                && !progress.fresh.contains(&row.identity)
        };
        let begins = |row: &Row| progress.inherited.contains_key(&(row.table, row.identity));
        let led = |row: &Row| match () {
            () if !is_known(row) && !begins(row) => Led::Nowhere,
            () if !in_use.contains(&row.table) || !self.is_met(row.identity) => Led::Away,
            () if late.contains(&row.table) => Led::Late,
            () => Led::On,
        };
        let difference = steps.in_order(led, |table, identity| self.ledger.level(table, identity));
        let (used, unused): (Vec<_>, Vec<_>) =
            self.tables.values().partition(|table| table.is_used());
        let retired = unused.iter().flat_map(|table| table.all()).cloned().collect();
        let replaced = used.iter().flat_map(|table| table.replaced()).collect();
        let narrowed = self.world.locals.iter().filter(|(_, local)| {
            local.table.as_ref().is_some_and(|table| late.contains(&table.id()))
        });
        self.revision.0 += 1;
        Plan {
            revision: self.revision,
            difference,
            gone: self.gone(),
            retired,
            replaced,
            narrowed: narrowed.map(|(endpoint, _)| *endpoint).collect(),
            enclosed: progress.enclosed,
            endpoints: self.world.locals.clone(),
            snapshot: Arc::new(self.world.snapshot.clone()),
            problems: self.problems(new),
        }
    }

    /// Whether packets can come to a destination when the revision is in force.
    pub(crate) fn is_met(&self, identity: Identity) -> bool {
        match identity.scope() {
            Scope::Labels | Scope::Cidr => self.world.destinations.is_used(identity),
            Scope::Service => self.world.services.get(identity).is_some(),
            Scope::Reserved | Scope::Names => true,
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
