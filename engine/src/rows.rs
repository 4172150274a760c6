//! The rows of tables: what each says of the destinations and services that concern it.
//!
//! What a table says of a destination changes with its rules alone, so a row is made once, and again
//! where rules that came or went speak of its destination. While endpoints change tables, those they
//! leave have rows for what comes too, so that meanwhile nothing is denied that both allow.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Identity, PortPrefix, Row, Ruling};
use policy::{Altered, TableRow};

use crate::destinations::Destinations;
use crate::ledger::Ledger;
use crate::node::Node;
use crate::services::Services;
use crate::snapshot::Level;
use crate::table::LiveTable;
use crate::world::Progress;

impl Node {
    /// Brings the rows of all tables up to date, but for what goes with the destinations that
    /// depart: these are needed to see what changes by it.
    pub(crate) fn write_rows(&mut self, progress: &mut Progress) {
        let fresh = self.sort_destinations(progress);
        self.inherit(&fresh, progress);
        progress.fresh.extend(&fresh);
        let world = &self.world;
        for (key, table) in &mut self.tables {
            let mut writer = Writer { ledger: &mut self.ledger, table };
            if !writer.table.is_in_use() {
                progress.passing.extend(writer.passing(&world.destinations, &fresh));
                progress.views.insert(*key);
            } else if progress.entered.contains(key) {
                writer.fill(&world.destinations, &world.services);
                progress.views.insert(*key);
            } else {
                let mut ports = progress.service_ports.clone();
                if let Some(altered) = progress.altered.get(key) {
                    let mut anew =
                        writer.rewrite(altered, &world.destinations, &world.services, &mut ports);
                    // What is new was nothing before.
                    anew.retain(|own| !fresh.contains(own));
                    progress.rewritten.insert(writer.table.table().id(), anew);
                    progress.views.insert(*key);
                }
                if writer.add(&world.destinations, fresh.iter().copied()) {
                    progress.views.insert(*key);
                }
                writer.write_services(&world.services, &ports);
            }
        }
    }

    /// Notes what tables that go on to other rules say now of the addresses of new destinations, of
    /// which nothing stands that a failed write left.
    fn inherit(&self, fresh: &[Identity], progress: &mut Progress) {
        let altered = progress.altered.keys().filter_map(|key| self.tables.get(key));
        for id in altered.map(|table| table.table().id()) {
            for prefix in &progress.moved {
                let new = self.ledger.prefixes.get(prefix).filter(|own| fresh.contains(own));
                let old = self.realised_prefixes.longest(*prefix);
                let (Some(&new), Some(&old)) = (new, old) else { continue };
                if self.ledger.level(id, new).was.is_empty() {
                    progress.inherited.insert((id, new), self.ledger.level(id, old).was);
                }
            }
        }
    }

    /// Tells the destinations that are new, and keeps those that depart for later.
    fn sort_destinations(&mut self, progress: &mut Progress) -> Vec<Identity> {
        let destinations = &mut self.world.destinations;
        let mut fresh = Vec::new();
        for identity in std::mem::take(&mut progress.identities) {
            if !destinations.is_used(identity) {
                progress.departed.push(identity);
            } else if destinations.serve(identity) {
                fresh.push(identity);
            }
        }
        fresh
    }

    /// Takes out the rows of a destination that departs.
    pub(crate) fn withdraw_rows(&mut self, identity: Identity) {
        for table in self.tables.values_mut() {
            let Some(level) = table.view.levels.remove(&identity) else { continue };
            let id = table.table().id();
            for row in &level.rows {
                self.ledger.rows.remove(&Row { table: id, identity, ports: row.ports });
            }
        }
    }
}

/// Writes the rows of one table.
struct Writer<'a> {
    ledger: &'a mut Ledger,
    table: &'a mut LiveTable,
}

impl Writer<'_> {
    /// All rows of a table that has none yet.
    fn fill(&mut self, destinations: &Destinations, services: &Services) {
        let everywhere = self.table.view.levels.get(&Identity::ANY).cloned();
        if let Some(level) = everywhere {
            self.put(Identity::ANY, &level.rows);
        }
        let concerning = destinations.concerning(&self.table.rules().places());
        let used = concerning.into_iter().filter(|own| destinations.is_used(*own));
        self.add(destinations, used);
        let ports = services.concerning(&self.table.view);
        self.write_services(services, &ports);
    }

    /// The rows of a table that has others, where its rules say something else now. Adds the service
    /// ports that fare otherwise by it, and tells the destinations that do.
    fn rewrite(
        &mut self,
        altered: &Altered,
        destinations: &Destinations,
        services: &Services,
        ports: &mut BTreeSet<Identity>,
    ) -> BTreeSet<Identity> {
        let mut anew = BTreeSet::new();
        let mut concerned = destinations.concerning(altered);
        concerned.retain(|own| destinations.is_used(*own));
        if altered.everywhere {
            let was = self.table.view.levels.get(&Identity::ANY).cloned();
            self.table.refresh_everywhere();
            let is = self.table.view.levels.get(&Identity::ANY).cloned();
            self.replace(Identity::ANY, was.as_deref(), is.as_deref());
            anew.insert(Identity::ANY);
            concerned.extend(self.asking(was.as_deref(), is.as_deref()));
            ports.extend(services.all());
        }
        ports.extend(altered.services.iter().flat_map(|own| services.ports_of_service(own)));
        for identity in concerned {
            let was = self.table.view.levels.remove(&identity);
            let is = self.level(destinations, identity).map(Arc::new);
            if was.as_ref().map(|own| &own.rows) != is.as_ref().map(|own| &own.rows) {
                self.replace(identity, was.as_deref(), is.as_deref());
                ports.extend(services.before(identity));
                anew.insert(identity);
            }
            if let Some(level) = is {
                self.table.view.levels.insert(identity, level);
            }
        }
        anew
    }

    /// The destinations whose names that may be asked for there depend on what is said of all.
    fn asking(&self, was: Option<&Level>, is: Option<&Level>) -> Vec<Identity> {
        let everywhere = was.into_iter().chain(is).any(Level::asks);
        let levels = self.table.view.levels.iter();
        let asking =
            levels.filter(|(own, level)| **own != Identity::ANY && (everywhere || level.asks()));
        asking.map(|(own, _)| *own).collect()
    }

    fn replace(&mut self, identity: Identity, was: Option<&Level>, is: Option<&Level>) {
        let table = self.table.table().id();
        let is = is.map_or(&[][..], |level| &level.rows);
        let kept: BTreeSet<PortPrefix> = is.iter().map(|row| row.ports).collect();
        for row in was.into_iter().flat_map(|level| &level.rows) {
            if !kept.contains(&row.ports) {
                self.ledger.rows.remove(&Row { table, identity, ports: row.ports });
            }
        }
        self.put(identity, is);
    }

    /// The rows of some destinations; whether there are any.
    fn add(
        &mut self,
        destinations: &Destinations,
        identities: impl Iterator<Item = Identity>,
    ) -> bool {
        let mut any = false;
        for identity in identities {
            let Some(level) = self.level(destinations, identity) else { continue };
            self.put(identity, &level.rows);
            self.table.view.levels.insert(identity, Arc::new(level));
            any = true;
        }
        any
    }

    fn put(&mut self, identity: Identity, rows: &[TableRow]) {
        let table = self.table.table().id();
        for row in rows {
            self.ledger.rows.put(Row { table, identity, ports: row.ports }, row.ruling);
        }
    }

    /// The rows of some destinations that are not the table's to keep.
    fn passing(&self, destinations: &Destinations, identities: &[Identity]) -> Vec<(Row, Ruling)> {
        let table = self.table.table().id();
        let mut rows = Vec::new();
        for &identity in identities {
            let level = self.level(destinations, identity);
            rows.extend(
                level
                    .into_iter()
                    .flat_map(|level| level.rows)
                    .map(|row| (Row { table, identity, ports: row.ports }, row.ruling)),
            );
        }
        rows
    }

    fn level(&self, destinations: &Destinations, identity: Identity) -> Option<Level> {
        let subject = destinations.get(identity)?.subject();
        let everywhere = self.table.view.levels.get(&Identity::ANY).map(|level| &**level);
        Level::of(self.table.rules(), everywhere, subject)
    }

    /// The rows of service ports that stand for something else, or for nothing any more.
    fn write_services(&mut self, services: &Services, ports: &BTreeSet<Identity>) {
        let table = self.table.table().id();
        for &identity in ports {
            let mut gone: BTreeSet<PortPrefix> = self.ledger.ports_of(table, identity);
            if let Some(behind) = services.get(identity) {
                for &port in &behind.ports {
                    let ports = PortPrefix::port(behind.protocol, port);
                    let ruling = behind.ruling(&self.table.view, port);
                    if !ruling.is_nothing() {
                        self.ledger.rows.put(Row { table, identity, ports }, ruling);
                        gone.remove(&ports);
                    }
                }
            }
            for ports in gone {
                self.ledger.rows.remove(&Row { table, identity, ports });
            }
        }
    }
}
