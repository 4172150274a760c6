//! What a DNS worker reads to judge a query: which endpoint asks, what the server is, which names
//! the endpoint's rules let it ask there. Immutable; a new one is published for each revision.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::{
    Audited, EndpointId, Frontend, Identity, NameRef, PortPrefix, Prefix, Protocol, Ruling,
    TableId, Transport, Verdict,
};
use policy::{NameFilter, SelectorId, Subject, TableRow};

use crate::prefix_map::{PrefixMap, SharedMap};
use crate::resolvers::Resolvers;
use crate::table::VerdictTable;

/// One revision's view of clients, servers and rules. It shares with the next what is the same.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(crate) clients: SharedMap<IpAddr, Client>,
    pub(crate) views: SharedMap<TableId, Arc<TableView>>,
    pub(crate) frontends: SharedMap<Frontend, Identity>,
    /// The identities and ports of the ready backends that a frontend stands for: all of them must
    /// allow.
    pub(crate) backends: SharedMap<Identity, Arc<[(Identity, u16)]>>,
    pub(crate) prefixes: PrefixMap<Identity>,
    pub(crate) resolvers: Arc<Resolvers>,
}

/// An endpoint, as one of its addresses leads to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) endpoint: EndpointId,
    /// None where no policy selects the endpoint.
    pub(crate) table: Option<TableId>,
}

/// A verdict table, and what it says of each destination of this revision.
#[derive(Clone, Debug)]
pub(crate) struct TableView {
    pub(crate) table: Arc<VerdictTable>,
    /// Of those that it says something of, beside what it says of all ([`Identity::ANY`]).
    pub(crate) levels: SharedMap<Identity, Arc<Level>>,
}

/// What a table says of one destination.
#[derive(Debug)]
pub(crate) struct Level {
    pub(crate) rows: Vec<TableRow>,
    /// The names that may be asked there, by port.
    filters: Vec<((Protocol, u16), Arc<NameFilter>)>,
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
    /// No rule does, and it may be asked all the same: default deny is audited there.
    Audited(EndpointId),
    /// The client is no endpoint of this node.
    Unknown,
}

impl Snapshot {
    /// Judges a question. `resolved` tells the name sets that the asking endpoint's own leases
    /// give an address; it is asked only for servers outside the cluster.
    pub fn judge(
        &self,
        question: &Question<'_>,
        resolved: impl Fn(EndpointId, IpAddr) -> [Option<Identity>; 2],
    ) -> Judgement {
        let Some(client) = self.clients.get(&question.client) else { return Judgement::Unknown };
        let endpoint = client.endpoint;
        let Some(table) = client.table else { return Judgement::Allowed(endpoint) };
        let Some(view) = self.views.get(&table) else { return Judgement::Refused(endpoint) };
        let allows = |filter: &NameFilter| filter.allows(question.name);
        let allowed = self.holds_at(view, endpoint, question, &resolved, allows);
        if allowed && !view.table.rules().has_audited_denials() {
            return Judgement::Allowed(endpoint);
        }
        let ruling = self.ruling_at(view, question, |address| resolved(endpoint, address));
        let default_deny = view.table.rules().default_deny();
        // Where nothing asks for default deny, rules for DNS refuse nothing.
        let all = ruling.verdict == Some(Verdict::Dns) && default_deny.is_absent();
        let is_audited = match allowed || all {
            true => ruling.audited.deny_rule,
            false if ruling.verdict != Some(Verdict::Deny) && default_deny.is_lenient() => true,
            false => return Judgement::Refused(endpoint),
        };
        if is_audited { Judgement::Audited(endpoint) } else { Judgement::Allowed(endpoint) }
    }

    /// Whether an allowed question asks for a name that a rule spells out, or of an endpoint whose
    /// names there no rule restricts; otherwise it is a pattern that allows it. `resolved` is as
    /// for [`judge`](Self::judge).
    pub fn is_spelled_out(
        &self,
        question: &Question<'_>,
        resolved: impl FnOnce(EndpointId, IpAddr) -> [Option<Identity>; 2],
    ) -> bool {
        let spells_out = |filter: &NameFilter| filter.spells_out(question.name);
        let client = self.clients.get(&question.client);
        client.is_some_and(|client| self.holds(*client, question, resolved, spells_out))
    }

    /// The patterns that match a question's name, list by list as judging it comes to them. Two
    /// questions of one endpoint to one server that have them in common are decided by the same
    /// rules. `resolved` is as for [`judge`](Self::judge).
    pub fn patterns_of(
        &self,
        question: &Question<'_>,
        resolved: impl FnOnce(EndpointId, IpAddr) -> [Option<Identity>; 2],
    ) -> Vec<Vec<SelectorId>> {
        let lists = RefCell::new(Vec::new());
        let collects = |filter: &NameFilter| {
            let mut patterns = Vec::new();
            filter.collect(question.name, &mut patterns);
            lists.borrow_mut().push(patterns);
            filter.allows(question.name)
        };
        if let Some(client) = self.clients.get(&question.client) {
            self.holds(*client, question, resolved, collects);
        }
        lists.into_inner()
    }

    /// Whether `holds` is true of the names that a client may ask for at a server, or the rules do
    /// not restrict them.
    fn holds(
        &self,
        client: Client,
        question: &Question<'_>,
        resolved: impl FnOnce(EndpointId, IpAddr) -> [Option<Identity>; 2],
        holds: impl Fn(&NameFilter) -> bool,
    ) -> bool {
        let Some(table) = client.table else { return true };
        let view = self.views.get(&table);
        view.is_some_and(|view| self.holds_at(view, client.endpoint, question, resolved, holds))
    }

    fn holds_at(
        &self,
        view: &TableView,
        endpoint: EndpointId,
        question: &Question<'_>,
        resolved: impl FnOnce(EndpointId, IpAddr) -> [Option<Identity>; 2],
        holds: impl Fn(&NameFilter) -> bool,
    ) -> bool {
        let protocol = question.transport.protocol();
        let (address, port) = (question.server.ip(), question.server.port());
        if let Some(service) = self.frontends.get(&Frontend { address, protocol, port }) {
            let backends = self.backends.get(service).map_or(&[][..], |backends| &**backends);
            let holds =
                |&(identity, port): &(Identity, u16)| view.holds(identity, protocol, port, &holds);
            return !backends.is_empty() && backends.iter().all(holds);
        }
        let Some(&identity) = self.prefixes.longest(Prefix::host(address)) else { return false };
        if identity == Identity::NO_SERVICE {
            return false;
        }
        view.holds(identity, protocol, port, &holds)
            || identity.is_outside()
                && view.ruling(identity, protocol, port).verdict != Some(Verdict::Deny)
                && view.holds_by_lease(resolved(endpoint, address), protocol, port, holds)
    }

    /// What all levels say that a question's server is on. Nothing where it is nowhere known.
    fn ruling_at(
        &self,
        view: &TableView,
        question: &Question<'_>,
        resolved: impl FnOnce(IpAddr) -> [Option<Identity>; 2],
    ) -> Ruling {
        let protocol = question.transport.protocol();
        let (address, port) = (question.server.ip(), question.server.port());
        if let Some(service) = self.frontends.get(&Frontend { address, protocol, port }) {
            let backends = self.backends.get(service).map_or(&[][..], |backends| &**backends);
            let each = backends.iter().map(|(own, port)| view.ruling(*own, protocol, *port));
            let ports = PortPrefix::port(protocol, port);
            return each.reduce(Ruling::restrict).unwrap_or_else(|| view.ruling_of_nothing(ports));
        }
        match self.prefixes.longest(Prefix::host(address)) {
            None | Some(&Identity::NO_SERVICE) => {
                view.ruling_of_nothing(PortPrefix::port(protocol, port))
            }
            Some(identity) if identity.is_outside() => {
                let named = view.ruling_by_lease(resolved(address), protocol, port);
                view.ruling(*identity, protocol, port).union(named)
            }
            Some(identity) => view.ruling(*identity, protocol, port),
        }
    }

    /// The cluster's own DNS servers.
    pub fn resolvers(&self) -> &Resolvers {
        &self.resolvers
    }

    /// What an address is to rules, where it is no service's port.
    pub fn identity(&self, address: IpAddr) -> Option<Identity> {
        self.prefixes.longest(Prefix::host(address)).copied()
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

impl Level {
    /// What a table says of a subject, or none if it says nothing of its own; `everywhere` is what
    /// it says of all.
    pub(crate) fn of(
        table: &policy::Table,
        everywhere: Option<&Self>,
        subject: Subject<'_>,
    ) -> Option<Self> {
        let rows = table.rows(subject);
        if rows.is_empty() {
            return None;
        }
        let all = rows.iter().chain(everywhere.into_iter().flat_map(|level| &level.rows));
        let asked = all.filter(|row| row.ruling.verdict == Some(Verdict::Dns));
        let ports: BTreeSet<(Protocol, u16)> = asked
            .filter_map(|row| match row.ports {
                PortPrefix::Ports { protocol, port, bits: 16 } => Some((protocol, port)),
                PortPrefix::Ports { .. } | PortPrefix::Protocol(_) | PortPrefix::Any => None,
            })
            .collect();
        let filters = ports.into_iter().filter_map(|(protocol, port)| {
            Some(((protocol, port), table.name_filter(&[subject], protocol, port)?))
        });
        Some(Self { filters: filters.collect(), rows })
    }

    /// Whether names are asked for there.
    pub(crate) fn asks(&self) -> bool {
        !self.filters.is_empty()
    }

    fn filter(&self, protocol: Protocol, port: u16) -> Option<&NameFilter> {
        let found = self.filters.iter().find(|(own, _)| *own == (protocol, port));
        found.map(|(_, filter)| &**filter)
    }
}

impl TableView {
    pub(crate) fn new(table: Arc<VerdictTable>) -> Self {
        Self { table, levels: SharedMap::default() }
    }

    /// The rows that the table has for a destination alone.
    pub(crate) fn rows(&self, identity: Identity) -> &[TableRow] {
        self.levels.get(&identity).map_or(&[], |level| &level.rows)
    }

    /// Whether `holds` is true of the names that may be asked for at a destination, or these are
    /// not restricted.
    fn holds(
        &self,
        identity: Identity,
        protocol: Protocol,
        port: u16,
        holds: impl Fn(&NameFilter) -> bool,
    ) -> bool {
        let level = self.levels.get(&identity).or_else(|| self.levels.get(&Identity::ANY));
        match level.and_then(|level| level.filter(protocol, port)) {
            Some(filter) => holds(filter),
            // The kernel sends such a packet on; one may still be on its way to the proxy.
            None => self.ruling(identity, protocol, port).verdict.is_some_and(Verdict::is_direct),
        }
    }

    /// What the rows say of a destination's port.
    pub(crate) fn ruling(&self, identity: Identity, protocol: Protocol, port: u16) -> Ruling {
        let levels = [identity, Identity::ANY];
        let rows = levels.iter().filter_map(|level| find(self.rows(*level), protocol, port));
        rows.map(|row| row.ruling).reduce(Ruling::union).unwrap_or_default()
    }

    /// The same of all the ports that a prefix covers and no longer one of a row does.
    pub(crate) fn ruling_under(&self, identity: Identity, ports: PortPrefix) -> Ruling {
        let levels = [identity, Identity::ANY];
        let rows = levels.iter().filter_map(|level| {
            let covering = self.rows(*level).iter().filter(|row| row.ports.contains(ports));
            covering.max_by_key(|row| row.ports.len())
        });
        rows.map(|row| row.ruling).reduce(Ruling::union).unwrap_or_default()
    }

    /// What is said where nothing is known of a destination, or no service stands behind it:
    /// whether it passes because default deny is audited. What is denied everywhere does not.
    pub(crate) fn ruling_of_nothing(&self, ports: PortPrefix) -> Ruling {
        match self.ruling_under(Identity::ANY, ports).verdict {
            Some(Verdict::Deny) => Verdict::Deny.into(),
            None | Some(Verdict::Unruled | Verdict::Proxy | Verdict::Allow | Verdict::Dns) => {
                self.ruling_by_default()
            }
        }
    }

    /// What holds where no row speaks of a packet.
    pub(crate) fn ruling_by_default(&self) -> Ruling {
        let default_deny = self.table.rules().default_deny().is_lenient();
        Ruling { verdict: None, audited: Audited { default_deny, deny_rule: false } }
    }

    fn ruling_by_lease(
        &self,
        sets: [Option<Identity>; 2],
        protocol: Protocol,
        port: u16,
    ) -> Ruling {
        let rows = self.rows_by_lease(sets, protocol, port).into_iter();
        rows.map(|row| row.ruling).reduce(Ruling::union).unwrap_or_default()
    }

    /// What the rows of name sets say of a port.
    pub(crate) fn rows_by_lease(
        &self,
        sets: [Option<Identity>; 2],
        protocol: Protocol,
        port: u16,
    ) -> Vec<TableRow> {
        if sets == [None; 2] {
            return Vec::new();
        }
        let named = self.table.sets();
        let selectors = sets.into_iter().flatten().filter_map(|set| named.selectors(set));
        let at = |own| self.table.rules().row_at(Subject::Names(own), protocol, port);
        selectors.filter_map(at).collect()
    }

    fn holds_by_lease(
        &self,
        sets: [Option<Identity>; 2],
        protocol: Protocol,
        port: u16,
        holds: impl Fn(&NameFilter) -> bool,
    ) -> bool {
        let named = self.table.sets();
        let selectors = sets.into_iter().flatten().filter_map(|set| named.selectors(set));
        selectors
            .filter_map(|selectors| {
                self.table.rules().name_filter(&[Subject::Names(selectors)], protocol, port)
            })
            .any(|filter| holds(&filter))
    }
}

/// The row with the longest prefix that covers a port.
pub(crate) fn find(rows: &[TableRow], protocol: Protocol, port: u16) -> Option<&TableRow> {
    let covering = rows.iter().filter(|row| row.ports.covers(protocol, port));
    covering.max_by_key(|row| row.ports.len())
}
