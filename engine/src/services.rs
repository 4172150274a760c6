//! Services: their frontends, and what their backends let through.
//!
//! A frontend is met before the node translates it, so it has an identity of its own and is never
//! judged as world, host or prefix. It lets through what all of its ready backends let through,
//! each at its own port. With no ready backend, it does what rules for the service itself say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use identity::Full;
use model::{
    Audited, Changed, EndpointName, Frontend, Identity, Prefix, Protocol, Ruling, Service,
    ServicePort, Verdict, changes,
};
use policy::Subject;

use crate::inventory::Inventory;
use crate::prefix_map::PrefixMap;
use crate::roster::{Record, Roster};
use crate::snapshot::{TableView, find};

/// A service port and family: what a frontend's identity stands for.
pub(crate) type ServiceKey = (EndpointName, Protocol, u16, bool);

/// All services, by where they are met and by what stands behind them.
#[derive(Debug, Default)]
pub(crate) struct Services {
    /// The service ports that are met at a frontend. Where several claim one, the last by name has
    /// it.
    claims: BTreeMap<Frontend, BTreeSet<Arc<ServiceKey>>>,
    /// Where ports of nodes are met: the addresses of this node and of all others.
    nodes: BTreeMap<IpAddr, usize>,
    /// The services that have such ports.
    at_nodes: BTreeSet<EndpointName>,
    behind: BTreeMap<Identity, Behind>,
    /// The identities of a service's ports.
    identities: BTreeMap<EndpointName, BTreeSet<Identity>>,
    /// The services that have a backend at an address.
    by_address: BTreeSet<(IpAddr, EndpointName)>,
    /// The service ports that have a backend of an identity.
    by_backend: BTreeMap<Identity, BTreeSet<Identity>>,
    /// Those that have none.
    unready: BTreeSet<Identity>,
}

/// What stands behind a service port in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Behind {
    pub(crate) service: EndpointName,
    pub(crate) protocol: Protocol,
    /// The ports where it is met.
    pub(crate) ports: Vec<u16>,
    /// Identity and port of each ready backend.
    pub(crate) ready: Arc<[(Identity, u16)]>,
}

/// What may have changed.
#[derive(Debug, Default)]
pub(crate) struct Affected {
    pub(crate) frontends: BTreeSet<Frontend>,
    pub(crate) services: BTreeSet<EndpointName>,
}

/// The numbers of service ports, and where those in use are recorded.
pub(crate) struct Numbering<'a> {
    pub(crate) roster: &'a mut Roster<ServiceKey>,
    pub(crate) record: &'a mut Record,
}

impl Services {
    /// Takes in what differs between two inventories.
    pub(crate) fn take(
        &mut self,
        old: &Inventory,
        new: &Inventory,
        numbering: &mut Numbering<'_>,
        affected: &mut Affected,
    ) -> Result<(), Full> {
        for changed in changes(&old.services, &new.services) {
            self.take_service(&changed, numbering, affected)?;
        }
        let mut moved: BTreeMap<IpAddr, isize> = BTreeMap::new();
        for changed in changes(&old.nodes, &new.nodes) {
            let gone = changed.old.into_iter().flat_map(|node| &node.addresses);
            gone.for_each(|own| *moved.entry(*own).or_default() -= 1);
            let come = changed.new.into_iter().flat_map(|node| &node.addresses);
            come.for_each(|own| *moved.entry(*own).or_default() += 1);
        }
        if old.host_addresses != new.host_addresses {
            old.host_addresses.iter().for_each(|own| *moved.entry(*own).or_default() -= 1);
            new.host_addresses.iter().for_each(|own| *moved.entry(*own).or_default() += 1);
        }
        for (address, by) in moved {
            self.count_node(address, by, new, numbering, affected)?;
        }
        Ok(())
    }

    fn take_service(
        &mut self,
        changed: &Changed<'_, EndpointName, Service>,
        numbering: &mut Numbering<'_>,
        affected: &mut Affected,
    ) -> Result<(), Full> {
        let claims = |own: &Arc<Service>| {
            own.ports.iter().flat_map(|port| self.claims_of(own, port)).collect::<BTreeSet<_>>()
        };
        let old = changed.old.map(claims).unwrap_or_default();
        let new = changed.new.map(claims).unwrap_or_default();
        for (frontend, key) in new.difference(&old) {
            self.claim(*frontend, key, numbering, affected)?;
        }
        for (frontend, key) in old.difference(&new) {
            self.disclaim(*frontend, key, numbering, affected);
        }
        for backend in changed.old.into_iter().flat_map(backends_of) {
            self.by_address.remove(&(backend.ip(), changed.key.clone()));
        }
        for backend in changed.new.into_iter().flat_map(backends_of) {
            self.by_address.insert((backend.ip(), changed.key.clone()));
        }
        let at_nodes = |own: &Arc<Service>| own.ports.iter().any(|port| port.node_port.is_some());
        if changed.new.is_some_and(at_nodes) {
            self.at_nodes.insert(changed.key.clone());
        } else {
            self.at_nodes.remove(changed.key);
        }
        affected.services.insert(changed.key.clone());
        Ok(())
    }

    /// Where a service's port is met, and as what.
    fn claims_of(&self, service: &Service, port: &ServicePort) -> Vec<(Frontend, ServiceKey)> {
        let at_service = service.addresses.iter().map(|address| (*address, port.port));
        let at_nodes = port.node_port.into_iter();
        let at_nodes = at_nodes.flat_map(|own| self.nodes.keys().map(move |node| (*node, own)));
        let all = at_service.chain(at_nodes);
        all.map(|(address, number)| claim(service, port, address, number)).collect()
    }

    fn count_node(
        &mut self,
        address: IpAddr,
        by: isize,
        known: &Inventory,
        numbering: &mut Numbering<'_>,
        affected: &mut Affected,
    ) -> Result<(), Full> {
        let before = self.nodes.get(&address).copied().unwrap_or(0);
        let after = before.saturating_add_signed(by);
        if after == 0 {
            self.nodes.remove(&address);
        } else {
            self.nodes.insert(address, after);
        }
        if (before == 0) == (after == 0) {
            return Ok(());
        }
        for name in self.at_nodes.clone() {
            let Some(service) = known.services.get(&name) else { continue };
            for port in &service.ports {
                let Some(number) = port.node_port else { continue };
                let (frontend, key) = claim(service, port, address, number);
                if after > 0 {
                    self.claim(frontend, &key, numbering, affected)?;
                } else if !service.addresses.contains(&address) || port.port != number {
                    self.disclaim(frontend, &key, numbering, affected);
                }
            }
            affected.services.insert(name);
        }
        Ok(())
    }

    fn claim(
        &mut self,
        frontend: Frontend,
        key: &ServiceKey,
        numbering: &mut Numbering<'_>,
        affected: &mut Affected,
    ) -> Result<(), Full> {
        let claims = self.claims.entry(frontend).or_default();
        if claims.contains(key) {
            return Ok(());
        }
        numbering.roster.acquire(key, || digest(key), numbering.record)?;
        claims.insert(Arc::new(key.clone()));
        affected.frontends.insert(frontend);
        Ok(())
    }

    fn disclaim(
        &mut self,
        frontend: Frontend,
        key: &ServiceKey,
        numbering: &mut Numbering<'_>,
        affected: &mut Affected,
    ) {
        let Some(claims) = self.claims.get_mut(&frontend) else { return };
        if !claims.remove(key) {
            return;
        }
        if claims.is_empty() {
            self.claims.remove(&frontend);
        }
        numbering.roster.release(key, numbering.record);
        affected.frontends.insert(frontend);
    }

    /// The service port that is met at a frontend.
    pub(crate) fn at(&self, frontend: &Frontend) -> Option<&ServiceKey> {
        self.claims.get(frontend)?.last().map(|key| &**key)
    }

    /// Adds the services with a backend under a prefix.
    pub(crate) fn behind(&self, prefix: Prefix, services: &mut BTreeSet<EndpointName>) {
        let nowhere = EndpointName { namespace: String::new(), name: String::new() };
        let from = self.by_address.range((prefix.address(), nowhere)..);
        let under = from.take_while(|(address, _)| prefix.covers(*address));
        services.extend(under.map(|(_, service)| service.clone()));
    }

    /// Looks at what stands behind a service anew; adds the identities of its ports, old and new.
    pub(crate) fn refresh<'a>(
        &mut self,
        name: &EndpointName,
        service: Option<&'a Arc<Service>>,
        roster: &Roster<ServiceKey>,
        identities: &PrefixMap<Identity>,
        changed: &mut BTreeSet<Identity>,
    ) {
        let mut found: BTreeMap<Identity, Behind> = BTreeMap::new();
        let ports = |own: &'a Arc<Service>| own.ports.iter().map(move |port| (own, port));
        for (service, port) in service.into_iter().flat_map(ports) {
            for ipv6 in [false, true] {
                let key = (name.clone(), port.protocol, port.port, ipv6);
                let Some(number) = roster.number_in_use(&key) else { continue };
                let behind = Behind {
                    service: name.clone(),
                    protocol: port.protocol,
                    ports: self.ports_of(service, port, ipv6),
                    ready: ready(port, ipv6, identities),
                };
                found.insert(Identity(number), behind);
            }
        }
        let known = self.identities.remove(name).unwrap_or_default();
        let all: BTreeSet<Identity> = known.iter().chain(found.keys()).copied().collect();
        for identity in all {
            if self.behind.get(&identity) == found.get(&identity) {
                continue;
            }
            self.forget(identity);
            if let Some(behind) = found.get(&identity) {
                self.remember(identity, behind.clone());
            }
            changed.insert(identity);
        }
        if !found.is_empty() {
            self.identities.insert(name.clone(), found.into_keys().collect());
        }
    }

    fn ports_of(&self, service: &Service, port: &ServicePort, ipv6: bool) -> Vec<u16> {
        let own_family = |address: &IpAddr| address.is_ipv6() == ipv6;
        let at_service = service.addresses.iter().any(own_family).then_some(port.port);
        let at_nodes = port.node_port.filter(|_| self.nodes.keys().any(own_family));
        let mut ports: Vec<u16> = at_service.into_iter().chain(at_nodes).collect();
        ports.dedup();
        ports
    }

    fn remember(&mut self, identity: Identity, behind: Behind) {
        for (backend, _) in behind.ready.iter() {
            self.by_backend.entry(*backend).or_default().insert(identity);
        }
        if behind.ready.is_empty() {
            self.unready.insert(identity);
        }
        self.behind.insert(identity, behind);
    }

    fn forget(&mut self, identity: Identity) {
        self.unready.remove(&identity);
        let Some(behind) = self.behind.remove(&identity) else { return };
        for (backend, _) in behind.ready.iter() {
            let Some(services) = self.by_backend.get_mut(backend) else { continue };
            services.remove(&identity);
            if services.is_empty() {
                self.by_backend.remove(backend);
            }
        }
    }

    /// All service ports.
    pub(crate) fn all(&self) -> impl Iterator<Item = Identity> {
        self.behind.keys().copied()
    }

    /// The ports of a service.
    pub(crate) fn ports_of_service(&self, name: &EndpointName) -> impl Iterator<Item = Identity> {
        self.identities.get(name).into_iter().flatten().copied()
    }

    /// The service ports that have a backend of an identity.
    pub(crate) fn before(&self, backend: Identity) -> impl Iterator<Item = Identity> {
        self.by_backend.get(&backend).into_iter().flatten().copied()
    }

    pub(crate) fn get(&self, identity: Identity) -> Option<&Behind> {
        self.behind.get(&identity)
    }

    /// The service ports of which a table may say something: those with a backend that it speaks
    /// of, and those without backends.
    pub(crate) fn concerning(&self, view: &TableView) -> BTreeSet<Identity> {
        if !view.rows(Identity::ANY).is_empty() {
            return self.behind.keys().copied().collect();
        }
        let backends = view.levels.keys().filter_map(|identity| self.by_backend.get(identity));
        backends.flatten().chain(&self.unready).copied().collect()
    }
}

impl Behind {
    /// What a table lets through at one of the ports: what it does at all of the backends. Whether
    /// it audits default deny is what its rows for every destination say here too.
    pub(crate) fn ruling(&self, view: &TableView, port: u16) -> Ruling {
        if self.ready.is_empty() {
            return self.unready_ruling(view, port);
        }
        let each = self.ready.iter();
        let each = each.map(|&(identity, port)| view.ruling(identity, self.protocol, port));
        let Ruling { verdict, audited } = each.reduce(Ruling::restrict).unwrap_or_default();
        Ruling { verdict, audited: Audited { default_deny: false, ..audited } }
    }

    /// What rules for the service itself say, and what is denied wherever it goes.
    fn unready_ruling(&self, view: &TableView, port: u16) -> Ruling {
        let rows = view.table.rules().rows(Subject::Service(&self.service));
        let own = find(&rows, self.protocol, port).map(|row| row.ruling).unwrap_or_default();
        let Ruling { verdict, audited } = view.ruling(Identity::ANY, self.protocol, port);
        let verdict = verdict.filter(|own| *own == Verdict::Deny);
        own.union(Ruling { verdict, audited: Audited { default_deny: false, ..audited } })
    }
}

fn claim(
    service: &Service,
    port: &ServicePort,
    address: IpAddr,
    number: u16,
) -> (Frontend, ServiceKey) {
    let frontend = Frontend { address, protocol: port.protocol, port: number };
    let key = (service.name.clone(), port.protocol, port.port, address.is_ipv6());
    (frontend, key)
}

fn backends_of(service: &Arc<Service>) -> impl Iterator<Item = &SocketAddr> {
    service.ports.iter().flat_map(|port| &port.backends)
}

/// The ready backends of one family. One at no known place is behind nothing that passes.
fn ready(
    port: &ServicePort,
    ipv6: bool,
    identities: &PrefixMap<Identity>,
) -> Arc<[(Identity, u16)]> {
    let family = port.backends.iter().filter(|own| own.is_ipv6() == ipv6);
    let identity = |own: &SocketAddr| {
        let found = identities.longest(Prefix::host(own.ip()));
        (found.copied().unwrap_or(Identity::NO_SERVICE), own.port())
    };
    let mut ready: Vec<(Identity, u16)> = family.map(identity).collect();
    ready.sort_unstable();
    ready.dedup();
    ready.into()
}

fn digest((name, protocol, port, ipv6): &ServiceKey) -> model::Digest {
    let family = if *ipv6 { "6" } else { "4" };
    let parts = [name.to_string(), protocol.0.to_string(), port.to_string(), family.into()];
    identity::digest("service", parts)
}
