//! Services: their frontends, and what their backends let through.
//!
//! A frontend is met before the node translates it, so it has an identity of its own and is never
//! judged as world, host or prefix. It lets through what all of its ready backends let through,
//! each at its own port. With no ready backend, it does what rules for the service itself say.

use ipnet::IpNet;
use model::{Frontend, Identity, Labels, NumberKind, PortPrefix, Prefix, Protocol, Row, Verdict};
use policy::{Subject, Table, Wants};

use super::Computation;
use crate::generations::longest_match;
use crate::node::{Inventory, Node, ServiceKey};
use crate::plan::PlanError;
use crate::snapshot::{TableView, find};

/// What stands behind a frontend.
#[derive(Debug, Default)]
pub(super) struct Backends {
    /// Identity and port of each ready one.
    ready: Vec<(Identity, u16)>,
    /// The label by which rules for the service know its backends, where there are such rules.
    label: Option<Labels>,
}

impl Computation {
    /// Frontends with their identities, and the addresses that are services' alone.
    pub(super) fn place_services(
        &mut self,
        node: &mut Node,
        inventory: &Inventory,
    ) -> Result<(), PlanError> {
        let of_nodes = inventory.nodes.values().flat_map(|own| &own.addresses);
        let nodes: Vec<_> = inventory.host_addresses.iter().chain(of_nodes).copied().collect();
        for service in inventory.services.values() {
            for &address in &service.addresses {
                self.desired.prefixes.insert(Prefix::host(address), Identity::NO_SERVICE);
            }
            for port in &service.ports {
                let at_nodes = port.node_port.into_iter();
                let at_nodes = at_nodes.flat_map(|own| nodes.iter().map(move |node| (*node, own)));
                let at_service = service.addresses.iter().map(|address| (*address, port.port));
                for (address, number) in at_service.chain(at_nodes) {
                    let frontend = Frontend { address, protocol: port.protocol, port: number };
                    let key = (service.name.clone(), port.protocol, port.port, address.is_ipv6());
                    let identity = self.identify_service(node, &key)?;
                    self.desired.frontends.insert(frontend, identity);
                }
            }
        }
        Ok(())
    }

    fn identify_service(
        &mut self,
        node: &mut Node,
        key: &ServiceKey,
    ) -> Result<Identity, PlanError> {
        let digest = || {
            let (name, protocol, port, ipv6) = key;
            let family = if *ipv6 { "6" } else { "4" };
            let parts = [name.to_string(), protocol.0.to_string(), port.to_string(), family.into()];
            identity::digest("service", parts)
        };
        let (number, digest) = node.services.assign(key, digest)?;
        self.desired.numbers.insert((NumberKind::Identity, number), digest);
        Ok(Identity(number))
    }

    /// Which identities stand behind each frontend.
    pub(super) fn resolve_backends(&mut self, node: &Node, inventory: &Inventory) {
        let map = longest_match(&self.desired.prefixes);
        let identity = |address| {
            map.get_lpm(&IpNet::from(address)).map_or(Identity::NO_SERVICE, |(_, own)| *own)
        };
        for service in inventory.services.values() {
            let wanted = self.wants.services.contains(&service.name);
            let label = wanted
                .then(|| std::iter::once(Wants::service_label(&service.name)).collect::<Labels>());
            for port in &service.ports {
                for ipv6 in [false, true] {
                    let key = (service.name.clone(), port.protocol, port.port, ipv6);
                    let Some(number) = node.services.number(&key) else { continue };
                    let family = port.backends.iter().filter(|own| own.is_ipv6() == ipv6);
                    let mut ready: Vec<(Identity, u16)> =
                        family.map(|own| (identity(own.ip()), own.port())).collect();
                    ready.sort_unstable();
                    ready.dedup();
                    let backends = Backends { ready, label: label.clone() };
                    self.services.insert(Identity(number), backends);
                }
            }
        }
        self.snapshot.prefixes = map;
        self.snapshot.frontends =
            self.desired.frontends.iter().map(|(frontend, own)| (*frontend, *own)).collect();
    }

    /// The rows of one table for every frontend; those of its destinations are there already.
    pub(super) fn fill_services(&mut self, view: &mut TableView) {
        for (frontend, identity) in &self.desired.frontends {
            let Some(backends) = self.services.get(identity) else { continue };
            let Some(verdict) = backends.verdict(view, frontend) else { continue };
            let ports = PortPrefix::port(frontend.protocol, frontend.port);
            let row = Row { table: view.table.id(), identity: *identity, ports };
            self.desired.rows.insert(row, verdict);
            view.services.insert(*identity, backends.ready.clone());
        }
    }
}

impl Backends {
    /// What a frontend's traffic may do: what all of its backends' may.
    fn verdict(&self, view: &TableView, frontend: &Frontend) -> Option<Verdict> {
        if self.ready.is_empty() {
            return self.unready_verdict(view.table.rules(), frontend.protocol, frontend.port);
        }
        let each = self
            .ready
            .iter()
            .map(|&(identity, port)| view.verdict(identity, frontend.protocol, port));
        each.reduce(|whole, own| Some(whole?.union(own?))).flatten()
    }

    fn unready_verdict(&self, table: &Table, protocol: Protocol, port: u16) -> Option<Verdict> {
        let rows = table.rows(Subject::Labels(self.label.as_ref()?));
        find(&rows, protocol, port).map(|row| row.verdict)
    }
}
