//! What one revision asks of the datapath and of the endpoints' leases.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use model::{EndpointEntry, EndpointId, EndpointName, Interface, Objects, Prefix, Revision};
use policy::PolicyKey;
use thiserror::Error;

use crate::bindings::BindingError;
use crate::difference::Difference;
use crate::snapshot::Snapshot;
use crate::table::VerdictTable;

/// A decided revision, to be carried out in order: `difference.before`, then each endpoint's
/// switch (its leases, then its entry), then `difference.after`.
#[derive(Debug)]
pub struct Plan {
    /// The revision.
    pub revision: Revision,
    /// The way from what is in force to what should be, but for what the leases own.
    pub difference: Difference,
    /// The endpoints of this node, closed ones too.
    pub endpoints: Objects<EndpointId, LocalEndpoint>,
    /// Endpoints that are gone: their leases go too, their interfaces are let alone.
    pub gone: Vec<(EndpointId, Interface)>,
    /// Tables that nothing is judged by any more: their sets go too.
    pub retired: Vec<Arc<VerdictTable>>,
    /// Tables that others have taken the place of under the same number: when every endpoint is
    /// switched, the first of each [retires into](VerdictTable::retire_into) the second.
    pub replaced: Vec<(Arc<VerdictTable>, Arc<VerdictTable>)>,
    /// Endpoints to whom names may allow less than before: [`Node::bump`](crate::Node::bump) them
    /// when everything is written, `difference.after` too.
    pub narrowed: Vec<EndpointId>,
    /// Prefixes that were outside the cluster and are not any more. Endpoints with leases in them
    /// have flows that no rule for names covers now: [`Node::bump`](crate::Node::bump) them when
    /// `difference.before` is written.
    pub enclosed: BTreeSet<Prefix>,
    /// What the DNS workers read from now on.
    pub snapshot: Arc<Snapshot>,
    /// What is wrong with the inventory, to be shown to people.
    pub problems: Vec<InventoryProblem>,
}

/// An endpoint of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalEndpoint {
    /// Its pod; for a closed interface, the first that claims it.
    pub name: EndpointName,
    /// Its interface.
    pub interface: Interface,
    /// How the kernel knows it.
    pub entry: EndpointEntry,
    /// The table that judges it; none if open or closed.
    pub table: Option<Arc<VerdictTable>>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The numeric identity of its labels.
    pub identity: Option<model::Identity>,
    /// The policies whose rules select it, and how many of them do.
    pub policies: OrdMap<PolicyKey, usize>,
}

/// Something in the inventory that cannot be enforced as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InventoryProblem {
    /// A pod is not bound as its record says.
    #[error("pod {0}: {1}")]
    Binding(EndpointName, BindingError),
    /// A bound pod has no address, so it may send from none.
    #[error("pod {0}: has no address, so nothing may be sent from it")]
    NoAddress(EndpointName),
    /// Several pods have an address; none gains rights by it.
    #[error("address {address} is claimed by {first} and {second}: it is nobody's")]
    SharedAddress {
        /// The address.
        address: IpAddr,
        /// One claimant.
        first: EndpointName,
        /// Another.
        second: EndpointName,
    },
    /// What was enforced on a pod may be missing from the inventory.
    #[error("pod {0}: is closed: what was enforced on it may stand in what cannot be read")]
    Pending(EndpointName),
    /// The same of an interface whose pod is not known.
    #[error("interface {0}: is closed: its pod and policies may stand in what cannot be read")]
    PendingInterface(Interface),
}

/// Why a revision cannot be decided; what is in force stays.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// No number is left for a kind of thing.
    #[error("{0}")]
    Full(#[from] identity::Full),
}
