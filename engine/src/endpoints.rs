//! The endpoints of this node: whose they are, how they are judged, from where they may send.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use model::{
    DropReason, EndpointEntry, EndpointId, EndpointName, Enforcement, Identity, Interface, Prefix,
};

use crate::inventory::Inventory;
use crate::node::{EndpointKey, Node};
use crate::plan::{InventoryProblem, LocalEndpoint, PlanError};
use crate::snapshot::Client;
use crate::world::Progress;

/// What stands for an interface.
#[derive(Debug)]
pub(crate) struct Placed {
    key: EndpointKey,
    pub(crate) endpoint: EndpointId,
    sources: BTreeSet<Prefix>,
    /// The addresses that lead to it.
    clients: BTreeSet<IpAddr>,
    pub(crate) problems: Vec<InventoryProblem>,
}

/// What an interface is to be.
struct Wanted {
    name: EndpointName,
    uid: String,
    enforcement: Enforcement,
    sources: BTreeSet<Prefix>,
    clients: BTreeSet<IpAddr>,
    local: Option<Arc<model::Pod>>,
    problems: Vec<InventoryProblem>,
}

impl Node {
    /// The endpoints of this node: bound ones, and interfaces whose owner is in doubt.
    pub(crate) fn place_endpoints(
        &mut self,
        old: &Inventory,
        new: &Inventory,
        progress: &mut Progress,
    ) -> Result<(), PlanError> {
        let same = old.bindings == new.bindings
            && old.bridges == new.bridges
            && old.pending == new.pending;
        if !same {
            progress.interfaces.extend(self.world.placed.keys());
            progress.interfaces.extend(new.bindings.bound.values());
            progress.interfaces.extend(&new.bindings.closed);
            progress.interfaces.extend(new.pending.keys());
        }
        if progress.interfaces.is_empty() {
            return Ok(());
        }
        let owners = new.bindings.bound.iter().map(|(name, interface)| (*interface, name));
        let owners: std::collections::BTreeMap<Interface, &EndpointName> = owners.collect();
        for &interface in &progress.interfaces {
            let wanted = match owners.get(&interface) {
                Some(name) => self.bound(new, interface, name),
                None => None,
            };
            let wanted = wanted.or_else(|| closed(new, interface));
            self.place(new, interface, wanted)?;
        }
        Ok(())
    }

    /// What the interface of a pod is to be.
    fn bound(&self, new: &Inventory, interface: Interface, name: &EndpointName) -> Option<Wanted> {
        let pod = new.pods.get(name)?;
        let key = self.world.judged.get(name);
        let table = key.and_then(|key| self.tables.get(key)).map(|table| table.table().id());
        let mut enforcement = table.map_or(Enforcement::Open, Enforcement::Table);
        let mut problems = Vec::new();
        if new.closes(interface, table) {
            problems.push(InventoryProblem::Pending(name.clone()));
            enforcement = Enforcement::Closed(DropReason::EndpointPending);
        }
        if pod.addresses.is_empty() {
            problems.push(InventoryProblem::NoAddress(name.clone()));
        }
        let own = pod.addresses.iter().map(|address| Prefix::host(*address));
        let asks = !matches!(enforcement, Enforcement::Closed(_));
        // An address that two pods claim leads to neither's names.
        let alone = |address: &&IpAddr| asks && !self.world.addresses.is_shared(**address);
        Some(Wanted {
            name: name.clone(),
            uid: pod.uid.clone(),
            enforcement,
            sources: own.chain(pod.extra_sources.iter().copied()).collect(),
            clients: pod.addresses.iter().filter(alone).copied().collect(),
            local: Some(Arc::clone(pod)),
            problems,
        })
    }

    /// Puts an endpoint on an interface in the place of what stands there, or nothing.
    fn place(
        &mut self,
        new: &Inventory,
        interface: Interface,
        wanted: Option<Wanted>,
    ) -> Result<(), PlanError> {
        let Some(wanted) = wanted else {
            self.ledger.endpoints.remove(&interface);
            if let Some(old) = self.world.placed.remove(&interface) {
                self.displace(&old);
            }
            return Ok(());
        };
        let key = (wanted.name.clone(), wanted.uid.clone(), interface);
        let digest = || {
            let (name, interface) = (wanted.name.to_string(), interface.to_string());
            identity::digest("endpoint", [name.as_str(), &wanted.uid, &interface])
        };
        let (roster, record) = (&mut self.rosters.endpoints, &mut self.ledger.numbers);
        let endpoint = EndpointId(roster.acquire(&key, digest, record)?);
        if let Some(old) = self.world.placed.remove(&interface) {
            self.displace(&old);
        }
        let generation = match self.ledger.endpoints.get(&interface) {
            Some(known) if known.endpoint == endpoint => known.generation,
            Some(_) | None => 1,
        };
        let bridge = new.bridges.get(&interface).copied();
        let enforcement = wanted.enforcement;
        let entry = EndpointEntry { endpoint, enforcement, generation, bridge };
        self.ledger.endpoints.put(interface, entry);
        let local = self.local(interface, entry, &wanted);
        self.world.locals.insert(endpoint, Arc::new(local));
        for source in &wanted.sources {
            self.ledger.sources.put((endpoint, *source), ());
        }
        let table = match enforcement {
            Enforcement::Table(table) => Some(table),
            Enforcement::Open | Enforcement::Closed(_) => None,
        };
        for address in &wanted.clients {
            self.world.snapshot.clients.insert(*address, Client { endpoint, table });
        }
        let Wanted { sources, clients, problems, .. } = wanted;
        let placed = Placed { key, endpoint, sources, clients, problems };
        self.world.placed.insert(interface, placed);
        Ok(())
    }

    fn local(&self, interface: Interface, entry: EndpointEntry, wanted: &Wanted) -> LocalEndpoint {
        let pod = wanted.local.as_deref();
        let table = match entry.enforcement {
            Enforcement::Table(_) => self.world.judged.get(&wanted.name),
            Enforcement::Open | Enforcement::Closed(_) => None,
        };
        let table = table.and_then(|key| self.tables.get(key));
        let first = pod.and_then(|pod| pod.addresses.first()).map(|own| Prefix::host(*own));
        let identity = first.and_then(|own| self.ledger.prefixes.get(&own)).copied();
        let is_inside = |own: &Identity| !own.is_outside() && *own != Identity::NO_SERVICE;
        LocalEndpoint {
            name: wanted.name.clone(),
            interface,
            entry,
            table: table.map(|table| Arc::clone(table.table())),
            addresses: pod.map_or_else(Vec::new, |pod| pod.addresses.clone()),
            identity: identity.filter(is_inside),
            policies: self.world.selection.policies(&wanted.name),
        }
    }

    /// Takes back what was made of an endpoint, but for its interface's entry.
    fn displace(&mut self, old: &Placed) {
        for source in &old.sources {
            self.ledger.sources.remove(&(old.endpoint, *source));
        }
        for address in &old.clients {
            let clients = &mut self.world.snapshot.clients;
            if clients.get(address).is_some_and(|client| client.endpoint == old.endpoint) {
                clients.remove(address);
            }
        }
        self.world.locals.remove(&old.endpoint);
        self.rosters.endpoints.release(&old.key, &mut self.ledger.numbers);
    }
}

/// An interface whose owner is in doubt or not known: everything on it is dropped.
fn closed(new: &Inventory, interface: Interface) -> Option<Wanted> {
    let mut problems = Vec::new();
    let reason = if new.bindings.closed.contains(&interface) {
        DropReason::EndpointConflict
    } else if new.pending.contains_key(&interface) {
        problems.push(InventoryProblem::PendingInterface(interface));
        DropReason::EndpointPending
    } else {
        return None;
    };
    Some(Wanted {
        name: EndpointName { namespace: String::new(), name: format!("interface-{interface}") },
        uid: String::new(),
        enforcement: Enforcement::Closed(reason),
        sources: BTreeSet::new(),
        clients: BTreeSet::new(),
        local: None,
        problems,
    })
}
