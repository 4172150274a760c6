//! The endpoints of this node: whose they are, how they are judged, from where they may send.

use std::sync::Arc;

use model::{
    DropReason, EndpointEntry, EndpointId, EndpointName, Enforcement, Interface, NumberKind, Pod,
    Prefix,
};

use super::Computation;
use crate::node::{Inventory, Node, select};
use crate::plan::{InventoryProblem, LocalEndpoint, PlanError};
use crate::snapshot::Client;
use crate::table::VerdictTable;

impl Computation {
    /// The endpoints of this node: bound ones, and interfaces whose owner is in doubt.
    pub(super) fn place_endpoints(
        &mut self,
        node: &mut Node,
        inventory: &Inventory,
    ) -> Result<(), PlanError> {
        for (name, &interface) in &inventory.bindings.bound {
            let Some(pod) = inventory.pods.get(name) else { continue };
            let table = self.judged.get(name).and_then(|key| node.tables.get(key));
            let mut table = table.map(|cached| Arc::clone(&cached.table));
            let mut enforcement =
                table.as_ref().map_or(Enforcement::Open, |table| Enforcement::Table(table.id()));
            if inventory.closes(interface, table.as_ref().map(|table| table.id())) {
                self.problems.push(InventoryProblem::Pending(name.clone()));
                enforcement = Enforcement::Closed(DropReason::EndpointPending);
                table = None;
            }
            self.place_endpoint(node, inventory, pod, interface, enforcement, table)?;
        }
        for &interface in &inventory.bindings.closed {
            self.close(node, inventory, interface, DropReason::EndpointConflict)?;
        }
        for &interface in inventory.pending.keys() {
            if !self.desired.endpoints.contains_key(&interface) {
                self.problems.push(InventoryProblem::PendingInterface(interface));
                self.close(node, inventory, interface, DropReason::EndpointPending)?;
            }
        }
        for (name, error) in &inventory.bindings.problems {
            self.problems.push(InventoryProblem::Binding(name.clone(), error.clone()));
        }
        self.drop_shared_clients();
        Ok(())
    }

    fn place_endpoint(
        &mut self,
        node: &mut Node,
        inventory: &Inventory,
        pod: &Pod,
        interface: Interface,
        enforcement: Enforcement,
        table: Option<Arc<VerdictTable>>,
    ) -> Result<(), PlanError> {
        let endpoint = self.number(node, &pod.name, &pod.uid, interface)?;
        if pod.addresses.is_empty() {
            self.problems.push(InventoryProblem::NoAddress(pod.name.clone()));
        }
        let own = pod.addresses.iter().map(|address| Prefix::host(*address));
        for source in own.chain(pod.extra_sources.iter().copied()) {
            self.desired.sources.insert((endpoint, source), ());
        }
        let view = table.as_ref().and_then(|table| self.views.get(&table.id())).cloned();
        let asks = !matches!(enforcement, Enforcement::Closed(_));
        for &address in pod.addresses.iter().filter(|_| asks) {
            self.snapshot.clients.insert(address, Client { endpoint, view: view.clone() });
        }
        let bridge = inventory.bridges.get(&interface).copied();
        let entry = EndpointEntry { endpoint, enforcement, generation: 1, bridge };
        self.desired.endpoints.insert(interface, entry);
        let (_, selecting) = select(&inventory.policies, &pod.labels);
        let identity = pod.addresses.first().and_then(|own| self.identities.get(own)).copied();
        self.endpoints.insert(
            endpoint,
            LocalEndpoint {
                name: pod.name.clone(),
                interface,
                entry,
                table,
                addresses: pod.addresses.clone(),
                identity,
                policies: selecting.iter().map(|policy| policy.key.to_string()).collect(),
            },
        );
        Ok(())
    }

    /// An interface whose owner is in doubt or not known: everything on it is dropped.
    fn close(
        &mut self,
        node: &mut Node,
        inventory: &Inventory,
        interface: Interface,
        reason: DropReason,
    ) -> Result<(), PlanError> {
        let name =
            EndpointName { namespace: String::new(), name: format!("interface-{interface}") };
        let endpoint = self.number(node, &name, "", interface)?;
        let enforcement = Enforcement::Closed(reason);
        let bridge = inventory.bridges.get(&interface).copied();
        let entry = EndpointEntry { endpoint, enforcement, generation: 1, bridge };
        self.desired.endpoints.insert(interface, entry);
        self.endpoints.insert(
            endpoint,
            LocalEndpoint {
                name,
                interface,
                entry,
                table: None,
                addresses: Vec::new(),
                identity: None,
                policies: Vec::new(),
            },
        );
        Ok(())
    }

    fn number(
        &mut self,
        node: &mut Node,
        name: &EndpointName,
        uid: &str,
        interface: Interface,
    ) -> Result<EndpointId, PlanError> {
        let key = (name.clone(), uid.to_owned(), interface);
        let digest = || {
            let (name, interface) = (name.to_string(), interface.to_string());
            identity::digest("endpoint", [name.as_str(), uid, &interface])
        };
        let (number, digest) = node.endpoints.assign(&key, digest)?;
        self.desired.numbers.insert((NumberKind::Endpoint, number), digest);
        Ok(EndpointId(number))
    }

    /// An address that two pods claim leads to neither's names.
    fn drop_shared_clients(&mut self) {
        for problem in &self.problems {
            if let InventoryProblem::SharedAddress { address, .. } = problem {
                self.snapshot.clients.remove(address);
            }
        }
    }
}
