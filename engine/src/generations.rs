//! Generations: which endpoints' flows must be judged again after a revision.
//!
//! The kernel keeps a flow's verdict with the generation under which it was given. A generation
//! counts up when such a verdict may be wrong: when the endpoint is judged in another way, when its
//! table says something else of addresses or frontends that have become others, or when it may no
//! longer send from an address. What was denied needs none, because denials are not kept; nor does
//! what its table says the same of as before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{
    DropReason, EndpointId, Enforcement, Frontend, Identity, PortPrefix, Prefix, Protocol, Row,
    Ruling, Scope, TableId, Way,
};

use crate::node::Node;
use crate::snapshot::TableView;
use crate::world::Progress;

/// Addresses that had one identity and have another.
type Move = (Identity, Identity);

impl Node {
    /// Counts generations up where a revision needs it.
    pub(crate) fn settle_generations(&mut self, progress: &mut Progress) {
        self.find_stale_tables(progress);
        let fewer: BTreeSet<EndpointId> =
            self.ledger.sources.removals().map(|((endpoint, _), ())| *endpoint).collect();
        let unsettled = self.ledger.endpoints.puts().map(|(interface, ..)| *interface);
        let mut interfaces: BTreeSet<_> = unsettled.collect();
        interfaces.extend(&progress.interfaces);
        for (endpoint, local) in &self.world.locals {
            let is_stale = match local.entry.enforcement {
                Enforcement::Table(table) => progress.stale.contains(&table),
                Enforcement::Open | Enforcement::Closed(_) => false,
            };
            if is_stale || fewer.contains(endpoint) {
                interfaces.insert(local.interface);
            }
        }
        for interface in interfaces {
            self.settle_generation(interface, &fewer, progress);
        }
    }

    fn settle_generation(
        &mut self,
        interface: model::Interface,
        fewer: &BTreeSet<EndpointId>,
        progress: &Progress,
    ) {
        let Some(mut entry) = self.ledger.endpoints.get(&interface).copied() else { return };
        let old = self.ledger.endpoints.realised(&interface);
        let Some(old) = old.filter(|old| old.endpoint == entry.endpoint) else { return };
        let by_table = match entry.enforcement {
            // Where names may allow less, everything is judged again when that is written.
            Enforcement::Table(table) => progress.stale.contains(&table) && !self.is_late(table),
            Enforcement::Open | Enforcement::Closed(_) => false,
        };
        // Flows, inbound ones too, stand for the right to send from their address.
        let fewer = fewer.contains(&entry.endpoint);
        let judged_anew =
            by_table || fewer || self.is_judged_otherwise(old.enforcement, entry.enforcement);
        entry.generation = old.generation.wrapping_add(u32::from(judged_anew));
        self.ledger.endpoints.put(interface, entry);
        let Some(local) = self.world.locals.get_mut(&entry.endpoint) else { return };
        if local.entry != entry {
            let mut changed = (**local).clone();
            changed.entry = entry;
            *local = Arc::new(changed);
        }
    }

    /// Whether something that one enforcement allows fares otherwise under another.
    fn is_judged_otherwise(&self, old: Enforcement, new: Enforcement) -> bool {
        let (Enforcement::Table(old), Enforcement::Table(new)) = (old, new) else {
            return old != new;
        };
        let table = |id| self.tables.values().find(|table| table.table().id() == id);
        let (Some(was), Some(is)) = (table(old), table(new)) else { return old != new };
        let was = was.was.as_ref().unwrap_or(&was.view);
        // Which names are allowed less is not told here.
        if !self.in_force || was.table.rules().has_selectors() {
            return old != new;
        }
        if old == new {
            return false;
        }
        let is = &is.view;
        let known = was.levels.keys().chain(is.levels.keys()).chain([&Identity::ANY]);
        let (told, tells) = (self.ledger.rows_in_force(old), self.ledger.rows_of(new));
        let ports = told.keys().chain(&tells).filter(|row| row.identity.scope() == Scope::Service);
        let mut ports = ports.map(|row| (row.identity, row.ports));
        ports.any(|(identity, ports)| {
            let own = told.get(&Row { table: old, identity, ports }).copied();
            let now = self.ledger.rows.get(&Row { table: new, identity, ports }).copied();
            let (own, now) = (own.unwrap_or_default(), now.unwrap_or_default());
            fares_worse(
                own.union(was.ruling_by_default()),
                now.union(is.ruling_by_default()),
                ports,
            )
        }) || known.copied().any(|own| fares_otherwise((was, own), (is, own), false))
            || fares_otherwise((was, Identity::NO_SERVICE), (is, Identity::NO_SERVICE), false)
    }

    fn is_late(&self, id: TableId) -> bool {
        self.tables.values().any(|table| table.is_late() && table.table().id() == id)
    }

    /// Tables that allowed something and now say something else of it.
    fn find_stale_tables(&self, progress: &mut Progress) {
        if self.ledger.endpoints.realised_is_empty() {
            return;
        }
        let moves = self.moves(progress);
        let precise = self.precise();
        let in_use = || self.tables.values().filter(|table| table.is_in_use());
        let views: BTreeMap<TableId, (&TableView, &TableView)> = in_use()
            .map(|table| {
                let (id, view) = (table.table().id(), &table.view);
                (id, (precise.get(&id).copied().unwrap_or(view), view))
            })
            .collect();
        let rows = self.ledger.rows.puts().map(|(row, new, old)| (row, Some(new), old));
        let removed = self.ledger.rows.removals().map(|(row, old)| (row, None, Some(old)));
        for (row, new, old) in rows.chain(removed) {
            let is_service = row.identity.scope() == Scope::Service;
            if !is_service && precise.contains_key(&row.table) {
                continue;
            }
            // Those of other destinations go with these; but no row in force may be another one.
            let counts = new.is_some() || self.is_met(row.identity);
            let (mut was, mut is) =
                (old.copied().unwrap_or_default(), new.copied().unwrap_or_default());
            if let Some((before, after)) = views.get(&row.table).filter(|_| is_service) {
                (was, is) =
                    (was.union(before.ruling_by_default()), is.union(after.ruling_by_default()));
            }
            if counts && fares_worse(was, is, row.ports) {
                progress.stale.insert(row.table);
            }
        }
        for table in in_use() {
            let id = table.table().id();
            let (was, view) = views[&id];
            // What it said is not known to be what is in force.
            let unknown = table.is_altered() && !precise.contains_key(&id);
            if unknown
                || moves.iter().any(|own| self.concerns(*own, was, view))
                || self.is_met_otherwise(was, view)
                || progress.rewritten.get(&id).is_some_and(|own| says_otherwise(was, view, own))
            {
                progress.stale.insert(id);
            }
        }
    }

    /// What tables said before that say something else now, where what is in force is known to be
    /// that.
    fn precise(&self) -> BTreeMap<TableId, &TableView> {
        let altered = self.tables.values().filter(|table| table.is_in_use() && self.in_force);
        altered.filter_map(|table| Some((table.table().id(), table.was.as_ref()?))).collect()
    }

    /// The identities that addresses had and have; notes the prefixes that are outside no more.
    fn moves(&self, progress: &mut Progress) -> BTreeSet<Move> {
        let puts = self.ledger.prefixes.puts().map(|(prefix, ..)| *prefix);
        let removals = self.ledger.prefixes.removals().map(|(prefix, _)| *prefix);
        let mut moves = BTreeSet::new();
        for prefix in puts.chain(removals) {
            // Where nothing was known, nothing was allowed.
            let Some(&old) = self.realised_prefixes.longest(prefix) else { continue };
            let new = self.world.snapshot.prefixes.longest(prefix);
            let new = new.copied().unwrap_or(Identity::NO_SERVICE);
            if old.is_outside() && !new.is_outside() {
                progress.enclosed.insert(prefix);
            }
            if old != new {
                moves.insert((old, new));
            }
        }
        for (frontend, ..) in self.ledger.frontends.puts().filter(|(_, _, old)| old.is_none()) {
            let own = Prefix::host(frontend.address);
            if self.realised_prefixes.longest(own).is_some_and(|old| old.is_outside()) {
                progress.enclosed.insert(own);
            }
        }
        moves
    }

    /// Whether a table may have allowed something under the old identity that it does not, or not
    /// in the same way, under the new one.
    fn concerns(&self, (old, new): Move, was: &TableView, is: &TableView) -> bool {
        let known = old.scope() == Scope::Reserved || self.world.destinations.get(old).is_some();
        if !known {
            return true;
        }
        let by_name = was.table.rules().has_selectors() && old.is_outside() && new.is_outside();
        fares_otherwise((was, old), (is, new), by_name)
    }

    /// Whether something that a table allowed is met at a frontend, or not any more, and fares
    /// otherwise there.
    fn is_met_otherwise(&self, before: &TableView, after: &TableView) -> bool {
        let frontends = &self.ledger.frontends;
        let puts =
            frontends.puts().map(|(frontend, new, old)| (frontend, Some(*new), old.copied()));
        let removals = frontends.removals().map(|(frontend, old)| (frontend, None, Some(*old)));
        let mut changed = puts.chain(removals);
        changed.any(|(frontend, new, old)| {
            let was = match old {
                Some(identity) => {
                    let row = service_row(before, frontend, identity);
                    self.ledger.rows.realised(&row).copied().unwrap_or_default()
                }
                None => ruling_at(before, frontend, self.realised_prefixes.longest(host(frontend))),
            };
            let is = match new {
                Some(identity) => {
                    let row = service_row(after, frontend, identity);
                    self.ledger.rows.get(&row).copied().unwrap_or_default()
                }
                None => {
                    let own = self.world.snapshot.prefixes.longest(host(frontend));
                    ruling_at(after, frontend, own)
                }
            };
            let ports = PortPrefix::port(frontend.protocol, frontend.port);
            fares_worse(
                was.union(before.ruling_by_default()),
                is.union(after.ruling_by_default()),
                ports,
            )
        })
    }
}

/// Whether a table says something else of what it allowed, where what it says of these destinations
/// was looked at anew.
fn says_otherwise(was: &TableView, is: &TableView, anew: &BTreeSet<Identity>) -> bool {
    let by_name = was.table.rules().has_selectors();
    let differs = |own: Identity| {
        fares_otherwise(
            (was, own),
            (is, own),
            by_name && (own.is_outside() || own == Identity::ANY),
        )
    };
    if anew.contains(&Identity::ANY) {
        // Where nothing is said of a destination alone, what is said of all stands for it.
        let known = was.levels.keys().chain(is.levels.keys());
        return differs(Identity::ANY)
            || known.copied().any(differs)
            || differs(Identity::NO_SERVICE);
    }
    anew.iter().copied().any(differs)
}

/// Whether something that was allowed at one destination fares otherwise at another; `by_name` is
/// whether names may have allowed more there.
fn fares_otherwise(
    (before, old): (&TableView, Identity),
    (after, new): (&TableView, Identity),
    by_name: bool,
) -> bool {
    let spoken_of = |view: &TableView, identity| {
        let levels = [identity, Identity::ANY];
        let rows = levels.iter().flat_map(|own| view.rows(*own));
        rows.map(|row| row.ports).collect::<BTreeSet<PortPrefix>>()
    };
    let mut ports = spoken_of(before, old);
    ports.extend(spoken_of(after, new));
    ports.into_iter().any(|ports| {
        let said = |view: &TableView, identity| match identity {
            Identity::NO_SERVICE => view.ruling_of_nothing(ports),
            known => view.ruling_under(known, ports),
        };
        let (was, is) = (said(before, old), said(after, new));
        // What no row allowed, a name may have, and still does beside a row that allows it.
        let by_name =
            by_name && was.verdict.is_none() && is.verdict.is_some_and(|own| !own.is_direct());
        by_name || fares_worse(was, is, ports)
    })
}

/// Whether something of these ports that was let through fares otherwise.
fn fares_worse(was: Ruling, is: Ruling, ports: PortPrefix) -> bool {
    let way = |own: Ruling, protocol| own.fate(protocol, DropReason::PolicyDenied).way;
    protocols(ports).iter().any(|protocol| {
        let (was, is) = (way(was, *protocol), way(is, *protocol));
        was != Way::Dropped && was != is
    })
}

/// The protocols of some ports, of those that fare in different ways.
fn protocols(ports: PortPrefix) -> Vec<Protocol> {
    match ports {
        PortPrefix::Any => vec![Protocol::TCP, Protocol::UDP, Protocol::ICMP],
        PortPrefix::Protocol(own) | PortPrefix::Ports { protocol: own, .. } => vec![own],
    }
}

fn host(frontend: &Frontend) -> Prefix {
    Prefix::host(frontend.address)
}

fn service_row(view: &TableView, frontend: &Frontend, identity: Identity) -> Row {
    let ports = PortPrefix::port(frontend.protocol, frontend.port);
    Row { table: view.table.id(), identity, ports }
}

/// What a table says of an address's port where no service is met.
fn ruling_at(view: &TableView, frontend: &Frontend, identity: Option<&Identity>) -> Ruling {
    match identity.filter(|own| **own != Identity::NO_SERVICE) {
        Some(identity) => view.ruling(*identity, frontend.protocol, frontend.port),
        None => view.ruling_of_nothing(PortPrefix::port(frontend.protocol, frontend.port)),
    }
}
