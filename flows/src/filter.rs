//! Which flows somebody wants to see.
//!
//! A [`FilterSpec`] holds what was asked for, as text where the asker writes text; [`Filter`] is
//! the same, checked. Everything that a filter names must hold (of several values, one), and of
//! several filters, one must match. That is how Hubble's filters work, so are their texts.

mod criterion;
mod labels;
mod pattern;

use std::net::AddrParseError;

use model::{DropReason, Identity, PrefixError};
use thiserror::Error;

use criterion::{Criterion, End};

use crate::{Direction, EventKind, Flow, TcpFlags, Verdict};

/// Filters of which one must match a flow, and filters of which none may.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// One of these must match, if there are any.
    pub allow: Vec<Filter>,
    /// None of these may match.
    pub deny: Vec<Filter>,
}

/// A checked filter: all of its criteria must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter(Vec<Criterion>);

/// What a filter asks for. A field that is left empty asks for nothing.
///
/// A list with values that stand for nothing here must not be left empty for that: such a filter
/// matches nothing ([`FilterSpec::nothing`]).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FilterSpec {
    /// Set where something is asked for that no flow here has: the filter matches nothing.
    pub nothing: bool,
    /// UUIDs.
    pub uuid: Vec<String>,
    /// Source addresses or prefixes.
    pub source_ip: Vec<String>,
    /// Destination addresses or prefixes.
    pub destination_ip: Vec<String>,
    /// Source pods, `[NAMESPACE/][NAME]`: a name stands for all that begin with it, and without a
    /// namespace for those in `default`; `/NAME` is of any namespace.
    pub source_pod: Vec<String>,
    /// Destination pods, in the same form.
    pub destination_pod: Vec<String>,
    /// Names of the source address; `*` stands for anything.
    pub source_fqdn: Vec<String>,
    /// Names of the destination address, in the same form.
    pub destination_fqdn: Vec<String>,
    /// Label selectors, in the syntax of Kubernetes, for the source.
    pub source_label: Vec<String>,
    /// Label selectors for the destination.
    pub destination_label: Vec<String>,
    /// Source services, in the form of pods. No flow has any.
    pub source_service: Vec<String>,
    /// Destination services, in the form of pods.
    pub destination_service: Vec<String>,
    /// Clusters of the source, by their names.
    pub source_cluster: Vec<String>,
    /// Clusters of the destination.
    pub destination_cluster: Vec<String>,
    /// Identities of the source.
    pub source_identity: Vec<Identity>,
    /// Identities of the destination.
    pub destination_identity: Vec<Identity>,
    /// Source ports.
    pub source_port: Vec<String>,
    /// Destination ports.
    pub destination_port: Vec<String>,
    /// Protocols of layer 4 or 7: `tcp`, `udp`, `sctp`, `icmp`, `icmpv4`, `icmpv6`, `dns`, `http`,
    /// `kafka`; in any case.
    pub protocol: Vec<String>,
    /// Directions.
    pub direction: Vec<Direction>,
    /// Verdicts.
    pub verdict: Vec<Verdict>,
    /// Reasons of drops.
    pub drop_reason: Vec<DropReason>,
    /// Where the event came from.
    pub event: Vec<EventPattern>,
    /// Whether it goes back to where the connection came from. What is not known counts as no for
    /// a drop, and as neither for everything else.
    pub reply: Vec<bool>,
    /// Regular expressions that match anywhere in the name that a DNS message asks for, which is
    /// written with its trailing dot.
    pub dns_query: Vec<String>,
    /// HTTP status codes, or their beginnings: `404`, `4+`.
    pub http_status_code: Vec<String>,
    /// HTTP methods, in any case.
    pub http_method: Vec<String>,
    /// Regular expressions that match anywhere in an HTTP URL's path.
    pub http_path: Vec<String>,
    /// Regular expressions that match anywhere in an HTTP URL.
    pub http_url: Vec<String>,
    /// HTTP headers: name, in any case, and value.
    pub http_header: Vec<(String, String)>,
    /// TCP flags: all flags of one value must be set.
    pub tcp_flags: Vec<TcpFlags>,
    /// Nodes, `[CLUSTER/][NODE]`; `*` stands for anything.
    pub node_name: Vec<String>,
    /// Address families: whether it is IPv6.
    pub ipv6: Vec<bool>,
    /// Interfaces: the index and the name, where they are given.
    pub interface: Vec<(Option<u32>, Option<String>)>,
}

/// Where an event came from, and why, if it is a drop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventPattern {
    /// The kind; none for every kind.
    pub kind: Option<EventKind>,
    /// The reasons; none where they do not matter.
    pub reasons: Option<Vec<DropReason>>,
}

/// Why a filter is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FilterError {
    /// Neither an address nor a prefix.
    #[error("`{0}` is no address: {1}")]
    Address(String, AddrParseError),
    /// A prefix that is none.
    #[error("`{0}` is no prefix: {1}")]
    Prefix(String, PrefixError),
    /// Neither a namespace nor a name.
    #[error("`{0}` is not of the form [NAMESPACE/][NAME]")]
    Pod(String),
    /// A name with characters that names do not have.
    #[error("`{0}` is no pattern for names: letters, digits, `-`, `_`, `.` and `*` may be in it")]
    Name(String),
    /// More than a cluster and a node.
    #[error("`{0}` is not of the form [CLUSTER/][NODE]")]
    Node(String),
    /// No selector of labels.
    #[error("`{0}` is no label selector: {1}")]
    Labels(String, &'static str),
    /// No port.
    #[error("`{0}` is no port from 0 to 65535")]
    Port(String),
    /// A protocol that is not known.
    #[error(
        "protocol `{0}` is not known; there are tcp, udp, sctp, icmp, icmpv4, icmpv6, dns, http and kafka"
    )]
    Protocol(String),
    /// A regular expression that is none, or too large.
    #[error("`{0}` is no regular expression: {1}")]
    Regex(String, String),
    /// Neither a status code nor the start of one.
    #[error("`{0}` is no HTTP status code: write `404`, `40+` or `4+`")]
    StatusCode(String),
}

impl Filters {
    /// Whether a flow is wanted.
    pub fn admit(&self, flow: &Flow) -> bool {
        let any = |filters: &[Filter]| filters.iter().any(|filter| filter.matches(flow));
        (self.allow.is_empty() || any(&self.allow)) && !any(&self.deny)
    }
}

impl Filter {
    /// Checks what was asked for.
    pub fn new(spec: &FilterSpec) -> Result<Self, FilterError> {
        let mut all = Vec::new();
        if spec.nothing {
            all.push(Criterion::Nothing);
        }
        spec.add_ends(&mut all)?;
        spec.add_event(&mut all);
        spec.add_protocols(&mut all)?;
        spec.add_http(&mut all)?;
        spec.add_place(&mut all)?;
        Ok(Self(all))
    }

    /// Whether everything that was asked for holds of a flow.
    pub fn matches(&self, flow: &Flow) -> bool {
        self.0.iter().all(|criterion| criterion.holds(flow))
    }
}

impl FilterSpec {
    fn add_ends(&self, all: &mut Vec<Criterion>) -> Result<(), FilterError> {
        use End::{Destination, Source};
        for (end, texts) in [(Source, &self.source_ip), (Destination, &self.destination_ip)] {
            let prefixes = each(texts, pattern::prefix)?;
            add(all, prefixes, |wanted| Criterion::Address(end, wanted));
        }
        for (end, texts) in [(Source, &self.source_pod), (Destination, &self.destination_pod)] {
            let pods = each(texts, pattern::Pod::parse)?;
            add(all, pods, |wanted| Criterion::Pod(end, wanted));
        }
        for (end, texts) in [(Source, &self.source_fqdn), (Destination, &self.destination_fqdn)] {
            let names = each(texts, pattern::name)?;
            add(all, names, |wanted| Criterion::Name(end, wanted));
        }
        for (end, texts) in [(Source, &self.source_label), (Destination, &self.destination_label)] {
            let selectors = each(texts, labels::Selector::parse)?;
            add(all, selectors, |wanted| Criterion::Labels(end, wanted));
        }
        let services = [(Source, &self.source_service), (Destination, &self.destination_service)];
        for (end, texts) in services {
            let services = each(texts, pattern::Pod::parse)?;
            add(all, services, |wanted| Criterion::Service(end, wanted));
        }
        for (end, own) in [(Source, &self.source_cluster), (Destination, &self.destination_cluster)]
        {
            add(all, own.clone(), |wanted| Criterion::Cluster(end, wanted));
        }
        for (end, own) in
            [(Source, &self.source_identity), (Destination, &self.destination_identity)]
        {
            add(all, own.clone(), |wanted| Criterion::Identity(end, wanted));
        }
        for (end, texts) in [(Source, &self.source_port), (Destination, &self.destination_port)] {
            let ports =
                each(texts, |text| text.parse().map_err(|_| FilterError::Port(text.to_owned())))?;
            add(all, ports, |wanted| Criterion::Port(end, wanted));
        }
        Ok(())
    }

    fn add_event(&self, all: &mut Vec<Criterion>) {
        add(all, self.uuid.clone(), Criterion::Uuid);
        add(all, self.direction.clone(), Criterion::Direction);
        add(all, self.verdict.clone(), Criterion::Verdict);
        add(all, self.drop_reason.clone(), Criterion::DropReason);
        add(all, self.event.clone(), Criterion::Event);
        add(all, self.reply.clone(), Criterion::Reply);
        add(all, self.tcp_flags.clone(), Criterion::TcpFlags);
        add(all, self.ipv6.clone(), Criterion::Ipv6);
    }

    fn add_protocols(&self, all: &mut Vec<Criterion>) -> Result<(), FilterError> {
        let protocols = each(&self.protocol, criterion::ProtocolName::parse)?;
        add(all, protocols, Criterion::Protocol);
        let queries = each(&self.dns_query, pattern::regex)?;
        add(all, queries, Criterion::DnsQuery);
        Ok(())
    }

    fn add_http(&self, all: &mut Vec<Criterion>) -> Result<(), FilterError> {
        let codes = each(&self.http_status_code, pattern::status_code)?;
        add(all, codes, Criterion::StatusCode);
        add(all, self.http_method.clone(), Criterion::Method);
        add(all, each(&self.http_path, pattern::regex)?, Criterion::Path);
        add(all, each(&self.http_url, pattern::regex)?, Criterion::Url);
        add(all, self.http_header.clone(), Criterion::Header);
        Ok(())
    }

    fn add_place(&self, all: &mut Vec<Criterion>) -> Result<(), FilterError> {
        add(all, each(&self.node_name, pattern::node)?, Criterion::Node);
        add(all, self.interface.clone(), Criterion::Interface);
        Ok(())
    }
}

fn each<T>(
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, FilterError>,
) -> Result<Vec<T>, FilterError> {
    texts.iter().map(|text| parse(text)).collect()
}

/// Adds a criterion, unless nothing is asked for.
fn add<T>(all: &mut Vec<Criterion>, wanted: Vec<T>, make: impl FnOnce(Vec<T>) -> Criterion) {
    if !wanted.is_empty() {
        all.push(make(wanted));
    }
}

#[cfg(test)]
mod tests;
