//! Everything that is derived from the inventory, and what of it one revision has touched.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::{
    EndpointId, EndpointName, Identity, Interface, Labels, Objects, PortPrefix, Prefix, Row,
    Ruling, TableId,
};
use policy::Altered;

use crate::addresses::{Addresses, Touched};
use crate::destinations::Destinations;
use crate::endpoints::Placed;
use crate::node::Settings;
use crate::plan::{InventoryProblem, LocalEndpoint};
use crate::resolvers::DnsServers;
use crate::selection::Selection;
use crate::services::{Affected, Services};
use crate::snapshot::Snapshot;
use crate::table::TableKey;

/// Everything that is derived from the inventory.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) addresses: Addresses,
    pub(crate) destinations: Destinations,
    pub(crate) services: Services,
    pub(crate) selection: Selection,
    /// The labels of the cluster's DNS pods.
    pub(crate) dns_pods: BTreeSet<Labels>,
    pub(crate) dns_servers: DnsServers,
    /// Which table judges a pod of this node.
    pub(crate) judged: BTreeMap<EndpointName, TableKey>,
    /// The interfaces of this node's pods.
    pub(crate) bound: BTreeMap<EndpointName, Interface>,
    pub(crate) placed: BTreeMap<Interface, Placed>,
    pub(crate) locals: Objects<EndpointId, LocalEndpoint>,
    pub(crate) snapshot: Snapshot,
    /// Addresses that several pods claim.
    pub(crate) shared: BTreeMap<IpAddr, Vec<InventoryProblem>>,
    /// Prefixes that nothing has been made of yet.
    pub(crate) unplaced: Touched,
}

impl World {
    /// What the settings alone tell.
    pub(crate) fn new(settings: &Settings) -> Self {
        let mut unplaced = Touched::new();
        Self {
            addresses: Addresses::new(settings, &mut unplaced),
            destinations: Destinations::default(),
            services: Services::default(),
            selection: Selection::default(),
            dns_pods: BTreeSet::new(),
            dns_servers: DnsServers::default(),
            judged: BTreeMap::new(),
            bound: BTreeMap::new(),
            placed: BTreeMap::new(),
            locals: Objects::default(),
            snapshot: Snapshot::default(),
            shared: BTreeMap::new(),
            unplaced,
        }
    }
}

/// What one revision has touched so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Prefixes that may mean something else.
    pub(crate) prefixes: Touched,
    /// Prefixes that have another identity, or none any more.
    pub(crate) moved: BTreeSet<Prefix>,
    /// Frontends and services that may be met, or stand for something, else.
    pub(crate) affected: Affected,
    /// Pods of this node that other rules may judge.
    pub(crate) pods: BTreeSet<EndpointName>,
    /// Interfaces whose endpoint may be another one, or another's.
    pub(crate) interfaces: BTreeSet<Interface>,
    /// Destinations that got their first prefix, or lost their last.
    pub(crate) identities: BTreeSet<Identity>,
    /// Those of them that are new.
    pub(crate) fresh: BTreeSet<Identity>,
    /// Service ports that stand for something else.
    pub(crate) service_ports: BTreeSet<Identity>,
    /// Tables that came into use, and have no rows yet.
    pub(crate) entered: BTreeSet<TableKey>,
    /// Tables that go on to other rules, and where these say something else.
    pub(crate) altered: BTreeMap<TableKey, Altered>,
    /// The destinations of which these say something else.
    pub(crate) rewritten: BTreeMap<TableId, BTreeSet<Identity>>,
    /// Destinations that no prefix has any more.
    pub(crate) departed: Vec<Identity>,
    /// Tables whose rows are others now.
    pub(crate) views: BTreeSet<TableKey>,
    /// Rows that are needed while endpoints change tables.
    pub(crate) passing: Vec<(Row, Ruling)>,
    /// What is said now of the addresses of new destinations by tables that go on to other rules.
    pub(crate) inherited: BTreeMap<(TableId, Identity), BTreeMap<PortPrefix, Ruling>>,
    /// Tables whose endpoints' flows have to be judged again.
    pub(crate) stale: BTreeSet<TableId>,
    /// Prefixes that were outside the cluster and are not any more.
    pub(crate) enclosed: BTreeSet<Prefix>,
}
