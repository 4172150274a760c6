//! One thing that a filter asks for: of several values, one must fit.

use model::{DropReason, Identity, Prefix};
use regex::Regex;

use super::labels::Selector;
use super::pattern::Pod;
use super::{EventPattern, FilterError};
use crate::{Direction, Flow, Http, Layer4, Record, Side, TcpFlags, Verdict};

/// What must hold of a flow.
#[derive(Clone, Debug)]
pub(super) enum Criterion {
    Nothing,
    Uuid(Vec<String>),
    Address(End, Vec<Prefix>),
    Pod(End, Vec<Pod>),
    Name(End, Vec<Regex>),
    Labels(End, Vec<Selector>),
    Service(End, Vec<Pod>),
    Cluster(End, Vec<String>),
    Identity(End, Vec<Identity>),
    Port(End, Vec<u16>),
    Direction(Vec<Direction>),
    Verdict(Vec<Verdict>),
    DropReason(Vec<DropReason>),
    Event(Vec<EventPattern>),
    Reply(Vec<bool>),
    TcpFlags(Vec<TcpFlags>),
    Ipv6(Vec<bool>),
    Protocol(Vec<ProtocolName>),
    DnsQuery(Vec<Regex>),
    StatusCode(Vec<String>),
    Method(Vec<String>),
    Path(Vec<Regex>),
    Url(Vec<Regex>),
    Header(Vec<(String, String)>),
    Node(Vec<Regex>),
    Interface(Vec<(Option<u32>, Option<String>)>),
}

/// Which end of a flow is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// A protocol of layer 4 or 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProtocolName {
    Tcp,
    Udp,
    Sctp,
    Icmp,
    IcmpV4,
    IcmpV6,
    Dns,
    Http,
    Kafka,
}

impl Criterion {
    pub fn holds(&self, flow: &Flow) -> bool {
        match self {
            Self::Nothing => false,
            Self::Uuid(wanted) => {
                let own = flow.uuid.to_string();
                wanted.iter().any(|uuid| uuid.eq_ignore_ascii_case(&own))
            }
            Self::Address(end, wanted) => end
                .side(flow)
                .address
                .is_some_and(|own| wanted.iter().any(|prefix| prefix.covers(own))),
            Self::Pod(end, wanted) => any_pod(wanted, end.side(flow).pod()),
            Self::Name(end, wanted) => end.side(flow).plain_names().any(|own| any(wanted, &own)),
            Self::Labels(end, wanted) => {
                wanted.iter().any(|selector| selector.matches(&end.side(flow).who.labels))
            }
            Self::Service(end, wanted) => end.service(flow).is_some_and(|own| any_pod(wanted, own)),
            Self::Cluster(end, wanted) => {
                let own = end.side(flow).cluster();
                !own.is_empty() && wanted.iter().any(|cluster| cluster == own)
            }
            Self::Identity(end, wanted) => {
                end.side(flow).who.identity.is_some_and(|own| wanted.contains(&own))
            }
            Self::Port(end, wanted) => end.port(flow).is_some_and(|own| wanted.contains(&own)),
            Self::Direction(wanted) => flow.direction.is_some_and(|own| wanted.contains(&own)),
            Self::Verdict(wanted) => wanted.contains(&flow.verdict),
            Self::DropReason(wanted) => flow.drop_reason.is_some_and(|own| wanted.contains(&own)),
            Self::Event(wanted) => wanted.iter().any(|pattern| pattern.matches(flow)),
            Self::Reply(wanted) => is_reply(flow).is_some_and(|own| wanted.contains(&own)),
            Self::TcpFlags(wanted) => {
                flags(flow).is_some_and(|own| wanted.iter().any(|wanted| own.has(*wanted)))
            }
            Self::Ipv6(wanted) => {
                let address = flow.source.address.or(flow.destination.address);
                address.is_some_and(|own| wanted.contains(&own.is_ipv6()))
            }
            Self::Protocol(wanted) => wanted.iter().any(|protocol| protocol.is_of(flow)),
            Self::DnsQuery(wanted) => match record(flow) {
                Some(Record::Dns(dns)) => any(wanted, &dns.query.to_string()),
                Some(Record::Http(_) | Record::Kafka(_) | Record::Tls(_) | Record::Connection)
                | None => false,
            },
            Self::StatusCode(wanted) => http(flow).and_then(|own| own.code).is_some_and(|own| {
                let own = format!("{own:03}");
                wanted.iter().any(|start| own.starts_with(start))
            }),
            Self::Method(wanted) => http(flow)
                .is_some_and(|own| wanted.iter().any(|one| one.eq_ignore_ascii_case(&own.method))),
            Self::Path(wanted) => http(flow).is_some_and(|own| any(wanted, path(&own.url))),
            Self::Url(wanted) => http(flow).is_some_and(|own| any(wanted, &own.url)),
            Self::Header(wanted) => http(flow).is_some_and(|own| {
                own.headers.iter().any(|(name, value)| {
                    wanted.iter().any(|(key, text)| key.eq_ignore_ascii_case(name) && text == value)
                })
            }),
            Self::Node(wanted) => any(wanted, &flow.node),
            Self::Interface(wanted) => wanted.iter().any(|(index, name)| {
                let Some((own, own_name)) = &flow.interface else { return false };
                index.is_none_or(|index| index == own.0)
                    && name.as_ref().is_none_or(|name| own_name.as_deref() == Some(name))
            }),
        }
    }
}

impl End {
    fn side(self, flow: &Flow) -> &Side {
        match self {
            Self::Source => &flow.source,
            Self::Destination => &flow.destination,
        }
    }

    fn service(self, flow: &Flow) -> Option<(&str, &str)> {
        match self {
            Self::Source => None,
            Self::Destination => {
                flow.destination_service.as_ref().map(|own| (&*own.namespace, &*own.name))
            }
        }
    }

    fn port(self, flow: &Flow) -> Option<u16> {
        let (source, destination) = flow.l4?.ports()?;
        Some(match self {
            Self::Source => source,
            Self::Destination => destination,
        })
    }
}

impl EventPattern {
    fn matches(&self, flow: &Flow) -> bool {
        self.kind.is_none_or(|kind| kind == flow.event)
            && self
                .reasons
                .as_ref()
                .is_none_or(|wanted| flow.drop_reason.is_some_and(|own| wanted.contains(&own)))
    }
}

impl ProtocolName {
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "tcp" => Self::Tcp,
            "udp" => Self::Udp,
            "sctp" => Self::Sctp,
            "icmp" => Self::Icmp,
            "icmpv4" => Self::IcmpV4,
            "icmpv6" => Self::IcmpV6,
            "dns" => Self::Dns,
            "http" => Self::Http,
            "kafka" => Self::Kafka,
            _ => return Err(FilterError::Protocol(text.to_owned())),
        })
    }

    fn is_of(self, flow: &Flow) -> bool {
        match self {
            Self::Tcp => matches!(flow.l4, Some(Layer4::Tcp { .. })),
            Self::Udp => matches!(flow.l4, Some(Layer4::Udp { .. })),
            Self::Sctp => matches!(flow.l4, Some(Layer4::Sctp { .. })),
            Self::Icmp => Self::IcmpV4.is_of(flow) || Self::IcmpV6.is_of(flow),
            Self::IcmpV4 => matches!(flow.l4, Some(Layer4::IcmpV4 { .. })),
            Self::IcmpV6 => matches!(flow.l4, Some(Layer4::IcmpV6 { .. })),
            Self::Dns => matches!(record(flow), Some(Record::Dns(_))),
            Self::Http => http(flow).is_some(),
            Self::Kafka => matches!(record(flow), Some(Record::Kafka(_))),
        }
    }
}

fn any(patterns: &[Regex], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.is_match(text))
}

fn any_pod(patterns: &[Pod], own: (&str, &str)) -> bool {
    own != ("", "") && patterns.iter().any(|pattern| pattern.matches(own))
}

/// A drop whose direction of travel is not known counts as none of a reply, as Hubble's clients
/// take it.
fn is_reply(flow: &Flow) -> Option<bool> {
    flow.is_reply.or((flow.verdict == Verdict::Dropped).then_some(false))
}

fn flags(flow: &Flow) -> Option<TcpFlags> {
    match flow.l4? {
        Layer4::Tcp { flags, .. } => flags,
        Layer4::Udp { .. }
        | Layer4::Sctp { .. }
        | Layer4::IcmpV4 { .. }
        | Layer4::IcmpV6 { .. }
        | Layer4::Other(_) => None,
    }
}

fn record(flow: &Flow) -> Option<&Record> {
    flow.l7.as_ref().map(|l7| &l7.record)
}

fn http(flow: &Flow) -> Option<&Http> {
    match record(flow)? {
        Record::Http(http) => Some(http),
        Record::Dns(_) | Record::Kafka(_) | Record::Tls(_) | Record::Connection => None,
    }
}

/// The path of a URL or request target, without its query.
fn path(url: &str) -> &str {
    let rest = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |start| &rest[start..]),
        None => url,
    };
    rest.split(['?', '#']).next().unwrap_or_default()
}
