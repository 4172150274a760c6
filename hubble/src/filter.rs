//! From the filters of a request to those that choose among recorded flows.
//!
//! What a filter names and no flow here can have makes the filter match nothing. What cannot be
//! understood is an error, never left out: a reader would take what he sees for what he asked for.

use flows::{Direction, EventPattern, Filter, FilterError, FilterSpec, TcpFlags, Verdict};
use model::{DropReason, Identity};

use crate::event;
use crate::message;
use crate::proto::flow as proto;
use crate::reason::from_hubble;

/// How many filters a request may hold in each of its lists.
const FILTERS: usize = 64;
/// How many patterns all filters of a list together may hold: each is compiled.
const PATTERNS: usize = 128;

/// Why a request's filters cannot be applied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FiltersError {
    /// A value of a filter is none.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// An expression in Google's Common Expression Language.
    #[error("CEL expressions are not supported: `{0}`")]
    Cel(String),
    /// More filters than a request may hold.
    #[error("{0} filters are too many: a request may hold {FILTERS} in each list")]
    TooMany(usize),
    /// More patterns than a request may hold.
    #[error("{0} patterns are too many: the filters of a list may hold {PATTERNS}")]
    TooManyPatterns(usize),
}

/// The filters of one list.
pub fn filters(list: &[proto::FlowFilter]) -> Result<Vec<Filter>, FiltersError> {
    if list.len() > FILTERS {
        return Err(FiltersError::TooMany(list.len()));
    }
    let patterns = list.iter().map(patterns).sum();
    if patterns > PATTERNS {
        return Err(FiltersError::TooManyPatterns(patterns));
    }
    list.iter().map(|filter| Ok(Filter::new(&spec(filter)?)?)).collect()
}

fn spec(filter: &proto::FlowFilter) -> Result<FilterSpec, FiltersError> {
    if let Some(experimental) = &filter.experimental
        && let Some(expression) = experimental.cel_expression.first()
    {
        return Err(FiltersError::Cel(expression.clone()));
    }
    let mut nothing = asks_for_what_no_flow_has(filter);
    let verdict = known(&filter.verdict, verdict, &mut nothing);
    let direction = known(&filter.traffic_direction, direction, &mut nothing);
    let drop_reason = known(&filter.drop_reason_desc, drop_reason, &mut nothing);
    let ipv6 = known(&filter.ip_version, is_ipv6, &mut nothing);
    let event = known(&filter.event_type, event_pattern, &mut nothing);
    Ok(FilterSpec {
        nothing,
        uuid: filter.uuid.clone(),
        source_ip: filter.source_ip.clone(),
        destination_ip: filter.destination_ip.clone(),
        source_pod: filter.source_pod.clone(),
        destination_pod: filter.destination_pod.clone(),
        source_fqdn: filter.source_fqdn.clone(),
        destination_fqdn: filter.destination_fqdn.clone(),
        source_label: filter.source_label.clone(),
        destination_label: filter.destination_label.clone(),
        source_service: filter.source_service.clone(),
        destination_service: filter.destination_service.clone(),
        source_cluster: filter.source_cluster_name.clone(),
        destination_cluster: filter.destination_cluster_name.clone(),
        source_identity: filter.source_identity.iter().copied().map(Identity).collect(),
        destination_identity: filter.destination_identity.iter().copied().map(Identity).collect(),
        source_port: filter.source_port.clone(),
        destination_port: filter.destination_port.clone(),
        protocol: filter.protocol.clone(),
        direction,
        verdict,
        drop_reason,
        event,
        reply: filter.reply.clone(),
        dns_query: filter.dns_query.clone(),
        http_status_code: filter.http_status_code.clone(),
        http_method: filter.http_method.clone(),
        http_path: filter.http_path.clone(),
        http_url: filter.http_url.clone(),
        http_header: filter.http_header.iter().map(header).collect(),
        tcp_flags: filter.tcp_flags.iter().map(tcp_flags).collect(),
        node_name: filter.node_name.clone(),
        ipv6,
        interface: filter.interface.iter().map(interface).collect(),
    })
}

fn asks_for_what_no_flow_has(filter: &proto::FlowFilter) -> bool {
    let only_encrypted = !filter.encrypted.is_empty() && !filter.encrypted.contains(&false);
    // The one flag that no header here has.
    let nonce = |flags: &proto::TcpFlags| flags.ns;
    let only_nonces = !filter.tcp_flags.is_empty() && filter.tcp_flags.iter().all(nonce);
    only_encrypted
        || only_nonces
        || !filter.source_workload.is_empty()
        || !filter.destination_workload.is_empty()
        || !filter.trace_id.is_empty()
        || !filter.ip_trace_id.is_empty()
        || !filter.source_ip_xlated.is_empty()
        || !filter.node_labels.is_empty()
}

/// The values that flows here can have; if there are none of them, nothing is asked for.
fn known<T, U>(values: &[T], read: impl Fn(&T) -> Option<U>, nothing: &mut bool) -> Vec<U> {
    let known: Vec<U> = values.iter().filter_map(read).collect();
    *nothing |= known.is_empty() && !values.is_empty();
    known
}

fn verdict(number: &i32) -> Option<Verdict> {
    const ALL: [Verdict; 7] = [
        Verdict::Forwarded,
        Verdict::Dropped,
        Verdict::Error,
        Verdict::Audit,
        Verdict::Redirected,
        Verdict::Traced,
        Verdict::Translated,
    ];
    ALL.into_iter().find(|&verdict| message::verdict(verdict) as i32 == *number)
}

fn direction(number: &i32) -> Option<Direction> {
    match proto::TrafficDirection::try_from(*number).ok()? {
        proto::TrafficDirection::Egress => Some(Direction::Egress),
        proto::TrafficDirection::Ingress => Some(Direction::Ingress),
        proto::TrafficDirection::Unknown => None,
    }
}

fn drop_reason(number: &i32) -> Option<DropReason> {
    from_hubble(proto::DropReason::try_from(*number).ok()?)
}

fn is_ipv6(number: &i32) -> Option<bool> {
    match proto::IpVersion::try_from(*number).ok()? {
        proto::IpVersion::IPv4 => Some(false),
        proto::IpVersion::IPv6 => Some(true),
        proto::IpVersion::IpNotUsed => None,
    }
}

/// A type of 0 stands for all.
fn event_pattern(filter: &proto::EventTypeFilter) -> Option<EventPattern> {
    let kind = match filter.r#type {
        0 => None,
        number => Some(event::kind(number)?),
    };
    let of_drops = kind.is_none() || kind == Some(flows::EventKind::Drop);
    let reasons = match (filter.match_sub_type, filter.sub_type) {
        (false, _) => None,
        (true, 0) if !of_drops => None,
        (true, number) if of_drops => Some(vec![drop_reason(&number)?]),
        (true, _) => return None,
    };
    Some(EventPattern { kind, reasons })
}

fn header(header: &proto::HttpHeader) -> (String, String) {
    (header.key.clone(), header.value.clone())
}

fn interface(interface: &proto::NetworkInterface) -> (Option<u32>, Option<String>) {
    let index = Some(interface.index).filter(|&index| index != 0);
    (index, Some(interface.name.clone()).filter(|name| !name.is_empty()))
}

fn tcp_flags(flags: &proto::TcpFlags) -> TcpFlags {
    let set = [
        (flags.fin, TcpFlags::FIN),
        (flags.syn, TcpFlags::SYN),
        (flags.rst, TcpFlags::RST),
        (flags.psh, TcpFlags::PSH),
        (flags.ack, TcpFlags::ACK),
        (flags.urg, TcpFlags::URG),
        (flags.ece, TcpFlags::ECE),
        (flags.cwr, TcpFlags::CWR),
    ];
    let bits = set.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag.0);
    TcpFlags(bits.fold(0, |all, bit| all | bit))
}

/// How many values a filter holds that become regular expressions.
fn patterns(filter: &proto::FlowFilter) -> usize {
    let patterns = [
        &filter.source_fqdn,
        &filter.destination_fqdn,
        &filter.dns_query,
        &filter.http_path,
        &filter.http_url,
        &filter.node_name,
    ];
    patterns.into_iter().map(Vec::len).sum()
}

#[cfg(test)]
mod tests;
