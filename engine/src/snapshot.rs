//! What a DNS worker reads to judge a query: which endpoint asks, what the server is, which names
//! the endpoint's rules let it ask there. Immutable; a new one is published for each revision.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use model::{EndpointId, Frontend, Identity, NameRef, PortPrefix, Protocol, Transport, Verdict};
use policy::{NameFilter, Subject, TableRow};
use prefix_trie::joint::map::JointPrefixMap;
use rustc_hash::FxHashMap;

use crate::table::VerdictTable;

/// One revision's view of clients, servers and rules.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub(crate) clients: FxHashMap<IpAddr, Client>,
    pub(crate) frontends: FxHashMap<Frontend, Identity>,
    pub(crate) prefixes: JointPrefixMap<IpNet, Identity>,
}

/// An endpoint, as one of its addresses leads to it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) endpoint: EndpointId,
    /// None where no policy selects the endpoint.
    pub(crate) view: Option<Arc<TableView>>,
}

/// A verdict table, and the names it lets be asked at each destination of this revision.
#[derive(Clone, Debug)]
pub(crate) struct TableView {
    pub(crate) table: Arc<VerdictTable>,
    pub(crate) rows: FxHashMap<Identity, Arc<[TableRow]>>,
    /// Of destinations with rows of their own, and of all others under [`Identity::ANY`].
    pub(crate) filters: FxHashMap<(Identity, Protocol, u16), Arc<NameFilter>>,
    /// The backends that a frontend stands for: all of them must allow.
    pub(crate) services: FxHashMap<Identity, Vec<(Identity, u16)>>,
}

/// A question as policy sees it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The pod's address, which the kernel has checked.
    pub client: IpAddr,
    /// The server that the pod asked.
    pub server: SocketAddr,
    /// UDP or TCP.
    pub transport: Transport,
    /// The name asked for.
    pub name: NameRef<'a>,
}

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It may be asked there.
    Allowed(EndpointId),
    /// No rule lets the endpoint ask for this name there.
    Refused(EndpointId),
    /// The client is no endpoint of this node.
    Unknown,
}

impl Snapshot {
    /// Judges a question. `resolved` tells the name sets that the asking endpoint's own leases
    /// give an address; it is asked only for servers outside the cluster.
    pub fn judge(
        &self,
        question: &Question<'_>,
        resolved: impl FnOnce(EndpointId, IpAddr) -> [Option<Identity>; 2],
    ) -> Judgement {
        let Some(client) = self.clients.get(&question.client) else { return Judgement::Unknown };
        let endpoint = client.endpoint;
        let Some(view) = &client.view else { return Judgement::Allowed(endpoint) };
        if self.allows(view, endpoint, question, resolved) {
            Judgement::Allowed(endpoint)
        } else {
            Judgement::Refused(endpoint)
        }
    }

    fn allows(
        &self,
        view: &TableView,
        endpoint: EndpointId,
        question: &Question<'_>,
        resolved: impl FnOnce(EndpointId, IpAddr) -> [Option<Identity>; 2],
    ) -> bool {
        let protocol = question.transport.protocol();
        let (address, port) = (question.server.ip(), question.server.port());
        if let Some(service) = self.frontends.get(&Frontend { address, protocol, port }) {
            let backends = view.services.get(service).map_or(&[][..], Vec::as_slice);
            let allows = |&(identity, port): &(Identity, u16)| {
                view.allows(identity, protocol, port, question.name)
            };
            return !backends.is_empty() && backends.iter().all(allows);
        }
        let Some((_, &identity)) = self.prefixes.get_lpm(&IpNet::from(address)) else {
            return false;
        };
        if identity == Identity::NO_SERVICE {
            return false;
        }
        view.allows(identity, protocol, port, question.name)
            || identity.is_outside()
                && view.verdict(identity, protocol, port) != Some(Verdict::Deny)
                && view.allows_by_lease(resolved(endpoint, address), protocol, port, question.name)
    }

    /// What an address is to rules, where it is no service's port.
    pub fn identity(&self, address: IpAddr) -> Option<Identity> {
        self.prefixes.get_lpm(&IpNet::from(address)).map(|(_, identity)| *identity)
    }

    /// What a service's port is to rules.
    pub fn frontend(&self, frontend: Frontend) -> Option<Identity> {
        self.frontends.get(&frontend).copied()
    }

    /// The endpoint that sends from an address.
    pub fn endpoint(&self, client: IpAddr) -> Option<EndpointId> {
        self.clients.get(&client).map(|client| client.endpoint)
    }
}

impl TableView {
    pub(crate) fn new(table: Arc<VerdictTable>) -> Self {
        Self {
            table,
            rows: FxHashMap::default(),
            filters: FxHashMap::default(),
            services: FxHashMap::default(),
        }
    }

    /// Finds the names that may be asked at a destination, wherever it or all destinations have
    /// rows for DNS. To be called when the rows are there, [`Identity::ANY`]'s first.
    pub(crate) fn add_filters(&mut self, identity: Identity, subject: Subject<'_>) {
        let levels = [identity, Identity::ANY];
        let rows = levels.iter().filter_map(|level| self.rows.get(level));
        let ports: BTreeSet<(Protocol, u16)> = rows
            .flat_map(|rows| rows.iter())
            .filter(|row| row.verdict == Verdict::Dns)
            .filter_map(|row| match row.ports {
                PortPrefix::Ports { protocol, port, bits: 16 } => Some((protocol, port)),
                PortPrefix::Ports { .. } | PortPrefix::Protocol(_) | PortPrefix::Any => None,
            })
            .collect();
        for (protocol, port) in ports {
            if let Some(filter) = self.table.rules().name_filter(&[subject], protocol, port) {
                self.filters.insert((identity, protocol, port), filter);
            }
        }
    }

    /// Whether `name` may be asked at a destination.
    fn allows(&self, identity: Identity, protocol: Protocol, port: u16, name: NameRef<'_>) -> bool {
        let own = if self.rows.contains_key(&identity) { identity } else { Identity::ANY };
        match self.filters.get(&(own, protocol, port)) {
            Some(filter) => filter.allows(name),
            // The kernel sends such a packet on; one may still be on its way to the proxy.
            None => self.verdict(identity, protocol, port) == Some(Verdict::Allow),
        }
    }

    /// What the rows say of a destination's port.
    pub(crate) fn verdict(
        &self,
        identity: Identity,
        protocol: Protocol,
        port: u16,
    ) -> Option<Verdict> {
        let levels = [identity, Identity::ANY];
        let rows = levels.iter().filter_map(|level| find(self.rows.get(level)?, protocol, port));
        rows.map(|row| row.verdict).reduce(Verdict::union)
    }

    fn allows_by_lease(
        &self,
        sets: [Option<Identity>; 2],
        protocol: Protocol,
        port: u16,
        name: NameRef<'_>,
    ) -> bool {
        let named = self.table.sets();
        let selectors = sets.into_iter().flatten().filter_map(|set| named.selectors(set));
        selectors
            .filter_map(|selectors| {
                self.table.rules().name_filter(&[Subject::Names(selectors)], protocol, port)
            })
            .any(|filter| filter.allows(name))
    }
}

/// The row with the longest prefix that covers a port.
pub(crate) fn find(rows: &[TableRow], protocol: Protocol, port: u16) -> Option<&TableRow> {
    let covering = rows.iter().filter(|row| row.ports.covers(protocol, port));
    covering.max_by_key(|row| row.ports.len())
}
