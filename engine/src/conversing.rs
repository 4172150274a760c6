//! What may be said on a connection that the kernel sent to the L7 proxy.
//!
//! The same levels are read as the kernel reads: a service port before addresses, the destination
//! before every destination, names only outside the cluster. So what the kernel would let through
//! directly, or not at all, comes out as such here too.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::{EndpointId, Frontend, Identity, PortPrefix, Prefix, Protocol, Ruling, Verdict};
use policy::{DefaultDeny, L7};

use crate::snapshot::{Snapshot, TableView, find};

/// What becomes of a connection to the L7 proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum L7Judgement {
    /// The client is no endpoint of this node.
    Unknown,
    /// No rule lets the endpoint connect there, or one forbids it.
    Refused(EndpointId),
    /// Whatever is said passes: a plain rule covers the port, or none does and none need.
    Anything(EndpointId),
    /// Nothing allows the endpoint to connect there, and whatever is said passes all the same.
    Audited(EndpointId),
    /// What one of these allows passes.
    Limited(EndpointId, Alternatives, Unmatched),
}

/// What becomes of what no alternative allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// It is refused.
    Refused,
    /// It passes, and is told as what would be refused.
    Audited,
}

/// Rules of which any may allow what is said, in the order of the policies' own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alternatives {
    /// Those that hold by what the destination is, whatever name the endpoint has for it.
    pub by_address: Vec<Arc<L7>>,
    /// Those that hold only for names that the endpoint resolved to the destination.
    pub by_name: Vec<Arc<L7>>,
}

/// What a table says of one destination.
enum Said {
    /// That it is denied, or judged by another proxy.
    Denied,
    Nothing,
    Anything,
    Limited(Alternatives),
}

impl Snapshot {
    /// Judges a TCP connection. `resolved` tells the name sets that the endpoint's own leases give
    /// an address; it is asked only for destinations outside the cluster.
    pub fn converse(
        &self,
        client: IpAddr,
        destination: SocketAddr,
        resolved: impl FnOnce(EndpointId, IpAddr) -> [Option<Identity>; 2],
    ) -> L7Judgement {
        let Some(client) = self.clients.get(&client) else { return L7Judgement::Unknown };
        let endpoint = client.endpoint;
        let Some(table) = client.table else { return L7Judgement::Anything(endpoint) };
        let Some(view) = self.views.get(&table) else { return L7Judgement::Refused(endpoint) };
        let said = self.said(view, destination, |address| resolved(endpoint, address));
        let default_deny = view.table.rules().default_deny();
        match said {
            Said::Denied => L7Judgement::Refused(endpoint),
            Said::Nothing if default_deny.is_lenient() => L7Judgement::Audited(endpoint),
            Said::Nothing => L7Judgement::Refused(endpoint),
            Said::Anything => L7Judgement::Anything(endpoint),
            Said::Limited(alternatives) => alternatives.judgement(endpoint, default_deny),
        }
    }

    fn said(
        &self,
        view: &TableView,
        destination: SocketAddr,
        resolved: impl FnOnce(IpAddr) -> [Option<Identity>; 2],
    ) -> Said {
        let (address, port) = (destination.ip(), destination.port());
        let frontend = Frontend { address, protocol: Protocol::TCP, port };
        if let Some(service) = self.frontends.get(&frontend) {
            let backends = self.backends.get(service).map_or(&[][..], |backends| &**backends);
            let each =
                backends.iter().map(|&(identity, port)| view.said(identity, port, [None; 2]));
            // With no ready backend there is nobody to say anything to.
            return each.reduce(Said::and).unwrap_or_else(|| view.said_of_nothing(port));
        }
        match self.prefixes.longest(Prefix::host(address)) {
            None | Some(&Identity::NO_SERVICE) => view.said_of_nothing(port),
            Some(identity) if identity.is_outside() => {
                view.said(*identity, port, resolved(address))
            }
            Some(identity) => view.said(*identity, port, [None; 2]),
        }
    }
}

impl TableView {
    /// What is said where nothing stands behind an address.
    fn said_of_nothing(&self, port: u16) -> Said {
        match self.ruling_of_nothing(PortPrefix::port(Protocol::TCP, port)).verdict {
            Some(_) => Said::Denied,
            None => Said::Nothing,
        }
    }

    /// What is said of a destination that has one identity, and these name sets.
    fn said(&self, identity: Identity, port: u16, sets: [Option<Identity>; 2]) -> Said {
        let levels = [identity, Identity::ANY];
        let rows = levels.iter().filter_map(|own| find(self.rows(*own), Protocol::TCP, port));
        let named = self.rows_by_lease(sets, Protocol::TCP, port);
        let rulings = rows.clone().chain(&named).map(|row| row.ruling);
        match rulings.reduce(Ruling::union).unwrap_or_default().verdict {
            Some(Verdict::Deny | Verdict::Dns) => Said::Denied,
            None => Said::Nothing,
            Some(Verdict::Allow | Verdict::Unruled) => Said::Anything,
            Some(Verdict::Proxy) => Said::Limited(Alternatives {
                by_address: unique(rows.flat_map(|row| &row.conversations)),
                by_name: unique(named.iter().flat_map(|row| &row.conversations)),
            }),
        }
    }
}

impl Said {
    /// What may be said to either of two destinations, of which it is not known to whom it goes.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Denied, _) | (_, Self::Denied) => Self::Denied,
            (Self::Nothing, _) | (_, Self::Nothing) => Self::Nothing,
            (Self::Anything, other) | (other, Self::Anything) => other,
            (Self::Limited(one), Self::Limited(other)) => Self::Limited(one.and(&other)),
        }
    }
}

impl Alternatives {
    /// Those of both: what each of them allows, both destinations allow.
    fn and(mut self, other: &Self) -> Self {
        self.by_address.retain(|own| other.by_address.contains(own));
        self.by_name.retain(|own| other.by_name.contains(own));
        self
    }

    /// The same, and all that is handled as they say. Where nothing asks for default deny, what is
    /// said is read and changed by rules, and refused by none.
    fn unlimited(self) -> Self {
        let with_the_rest = |rules: Vec<Arc<L7>>| {
            let rest: Vec<Arc<L7>> = rules.iter().map(|own| Arc::new(own.unlimited())).collect();
            unique(rules.iter().chain(&rest))
        };
        Self { by_address: with_the_rest(self.by_address), by_name: with_the_rest(self.by_name) }
    }

    fn judgement(self, endpoint: EndpointId, default_deny: DefaultDeny) -> L7Judgement {
        let unmatched =
            if default_deny.is_lenient() { Unmatched::Audited } else { Unmatched::Refused };
        if !default_deny.is_absent() {
            return L7Judgement::Limited(endpoint, self, unmatched);
        }
        // Where several destinations have nothing in common, there is no way to read it.
        if self == Self::default() {
            return L7Judgement::Anything(endpoint);
        }
        L7Judgement::Limited(endpoint, self.unlimited(), unmatched)
    }
}

fn unique<'a>(all: impl Iterator<Item = &'a Arc<L7>>) -> Vec<Arc<L7>> {
    let mut seen: Vec<Arc<L7>> = Vec::new();
    for one in all {
        if !seen.contains(one) {
            seen.push(Arc::clone(one));
        }
    }
    seen
}
