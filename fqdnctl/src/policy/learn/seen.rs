//! What one flow shows: a lookup, or a connection to somebody.

use std::net::IpAddr;

use hubble::proto::flow::{DropReason, Endpoint, Flow, Verdict, layer4, layer7};
use model::Protocol;

use super::kind::Kind;

/// The narrowest first: an API server may be a node as well.
const ENTITIES: [&str; 7] =
    ["kube-apiserver", "host", "remote-node", "health", "init", "ingress", "unmanaged"];

/// The port of DNS.
const DNS: u16 = 53;

/// What a flow shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Lookup {
        server: Target,
        port: Port,
        name: String,
        addresses: Vec<IpAddr>,
    },
    Connection {
        target: Target,
        port: Port,
        names: Vec<String>,
    },
    /// Nothing that an entry of a policy could be about.
    Unsayable,
}

/// Who was sent to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// A service's address.
    Service {
        namespace: String,
        name: String,
    },
    Pods(Kind),
    Entity(&'static str),
    Outside(IpAddr),
}

/// A port, or a type of ICMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub protocol: Protocol,
    pub number: u16,
}

/// Whether policies let a flow pass, or would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Passed,
    /// Nothing allows it.
    Denied,
    /// A rule denies it, it was malformed, or something failed.
    Other,
}

impl Fate {
    pub fn of(flow: &Flow) -> Self {
        let is_lookup = matches!(record(flow), Some(layer7::Record::Dns(_)));
        match flow.verdict() {
            Verdict::Forwarded | Verdict::Redirected => Self::Passed,
            Verdict::Audit => match flow.drop_reason_desc() {
                // Whatever allows it, a rule denies it all the same, or no rule could allow it.
                DropReason::PolicyDeny | DropReason::ServiceBackendNotFound => Self::Other,
                _ => Self::Passed,
            },
            // The lookup was allowed; that its server failed is another matter.
            Verdict::Error if is_lookup => Self::Passed,
            Verdict::Dropped if flow.drop_reason_desc() == DropReason::PolicyDenied => Self::Denied,
            Verdict::Dropped
            | Verdict::Error
            | Verdict::Traced
            | Verdict::Translated
            | Verdict::Unknown => Self::Other,
        }
    }
}

impl Seen {
    /// What a flow that a pod began shows; none if another flow shows the same, as a request of
    /// HTTP is on a connection.
    pub fn read(flow: &Flow) -> Option<Self> {
        let (Some(target), Some(port)) = (Target::read(flow), Port::read(flow)) else {
            return flow.l7.is_none().then_some(Self::Unsayable);
        };
        match (record(flow), &flow.l7) {
            (Some(layer7::Record::Dns(dns)), _) => Some(Self::Lookup {
                server: target,
                port,
                name: plain(&dns.query),
                addresses: dns.ips.iter().filter_map(|own| own.parse().ok()).collect(),
            }),
            (_, Some(_)) => None,
            // The lookups on it say what was asked, and whether that was allowed.
            (_, None) if flow.verdict() == Verdict::Redirected && port.is_for_dns_proxy() => None,
            (_, None) => {
                let names = flow.destination_names.iter().map(|name| plain(name)).collect();
                Some(Self::Connection { target, port, names })
            }
        }
    }
}

impl Target {
    fn read(flow: &Flow) -> Option<Self> {
        if let Some(service) = &flow.destination_service {
            let (namespace, name) = (service.namespace.clone(), service.name.clone());
            return Some(Self::Service { namespace, name });
        }
        let labels = flow.destination.as_ref().map_or(&[][..], |Endpoint { labels, .. }| labels);
        if let Some(kind) = Kind::read(labels) {
            return Some(Self::Pods(kind));
        }
        let reserved =
            |name: &&str| labels.iter().any(|label| label.strip_prefix("reserved:") == Some(*name));
        if let Some(entity) = ENTITIES.into_iter().find(|name| reserved(name)) {
            return Some(Self::Entity(entity));
        }
        Some(Self::Outside(flow.ip.as_ref()?.destination.parse().ok()?))
    }
}

impl Port {
    fn read(flow: &Flow) -> Option<Self> {
        use layer4::Protocol as Header;
        let (protocol, number) = match flow.l4.as_ref()?.protocol.as_ref()? {
            Header::Tcp(own) => (Protocol::TCP, own.destination_port),
            Header::Udp(own) => (Protocol::UDP, own.destination_port),
            Header::Sctp(own) => (Protocol::SCTP, own.destination_port),
            Header::IcmPv4(own) => (Protocol::ICMP, own.r#type),
            Header::IcmPv6(own) => (Protocol::ICMPV6, own.r#type),
        };
        Some(Self { protocol, number: u16::try_from(number).ok()? })
    }

    /// Whether what is redirected there goes to the DNS proxy: the other proxy takes TCP alone.
    fn is_for_dns_proxy(self) -> bool {
        self.is_dns() || self.protocol == Protocol::UDP
    }

    /// Whether it is the port of DNS.
    pub fn is_dns(self) -> bool {
        self.number == DNS && (self.protocol == Protocol::UDP || self.protocol == Protocol::TCP)
    }

    pub fn is_icmp(self) -> bool {
        self.protocol == Protocol::ICMP || self.protocol == Protocol::ICMPV6
    }
}

fn record(flow: &Flow) -> Option<&layer7::Record> {
    flow.l7.as_ref()?.record.as_ref()
}

/// A name as policies write it.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}
