//! From a recorded flow to the message that clients get.

use std::net::IpAddr;
use std::sync::Arc;

use flows::{
    Direction, Dns, EventKind, Flow, Http, Kafka, Layer4, Layer7, LossSource, Lost, MessageKind,
    PolicyRef, Record, Service, Side, TcpFlags, Time, Verdict,
};
use model::Labels;
use prost_types::Timestamp;

use crate::event;
use crate::proto::flow as proto;
use crate::reason::to_hubble;

/// How a rule matched a packet, as far as it is known: by none, by address and port, or by there
/// being no rules. The numbers are Cilium's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PolicyMatch {
    None = 0,
    AddressAndPort = 2,
    NoRules = 4,
}

/// The message of a flow.
#[expect(deprecated, reason = "clients older than the fields that took their place read them")]
pub fn flow(flow: &Flow) -> proto::Flow {
    let reason = flow.drop_reason.map(to_hubble);
    let [egress_allowed_by, ingress_allowed_by] = by_direction(flow.direction, &flow.allowed_by);
    let [egress_denied_by, ingress_denied_by] = by_direction(flow.direction, &flow.denied_by);
    proto::Flow {
        time: Some(timestamp(flow.time)),
        verdict: verdict(flow.verdict).into(),
        drop_reason: reason.map_or(0, |reason| reason as u32),
        ip: addresses(flow),
        l4: flow.l4.and_then(layer4),
        source: Some(endpoint(&flow.source)),
        destination: Some(endpoint(&flow.destination)),
        r#type: match flow.event {
            EventKind::Drop | EventKind::PolicyVerdict => proto::FlowType::L3L4.into(),
            EventKind::L7 => proto::FlowType::L7.into(),
        },
        node_name: flow.node.to_string(),
        source_names: flow.source.plain_names().collect(),
        destination_names: flow.destination.plain_names().collect(),
        l7: flow.l7.as_deref().map(layer7),
        reply: flow.is_reply.unwrap_or(false),
        event_type: Some(proto::CiliumEventType {
            r#type: event::number(flow.event),
            sub_type: reason.map_or(0, |reason| reason as i32),
        }),
        source_service: None,
        destination_service: flow.destination_service.as_deref().map(service),
        traffic_direction: direction(flow.direction).into(),
        policy_match_type: policy_match(flow) as u32,
        trace_observation_point: 0,
        drop_reason_desc: reason.unwrap_or_default().into(),
        is_reply: flow.is_reply,
        interface: flow.interface.as_ref().map(|(interface, name)| proto::NetworkInterface {
            index: interface.0,
            name: name.as_deref().unwrap_or_default().to_owned(),
        }),
        proxy_port: flow.proxy_port.map_or(0, u32::from),
        uuid: flow.uuid.to_string(),
        auth_type: 0,
        node_labels: Vec::new(),
        emitter: Some(proto::Emitter {
            name: "fqdnd".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }),
        egress_allowed_by,
        ingress_allowed_by,
        egress_denied_by,
        ingress_denied_by,
        summary: flow.summary(),
    }
}

/// The message of a loss.
pub fn lost(lost: &Lost) -> proto::LostEvent {
    let source = match lost.source {
        LossSource::Suppressed | LossSource::KernelRing => {
            proto::LostEventSource::PerfEventRingBuffer
        }
        LossSource::DnsQueue | LossSource::L7Queue => proto::LostEventSource::ObserverEventsQueue,
        LossSource::Ring => proto::LostEventSource::HubbleRingBuffer,
    };
    proto::LostEvent {
        source: source.into(),
        num_events_lost: lost.count,
        cpu: None,
        first: None,
        last: Some(timestamp(lost.time)),
    }
}

/// The message of a time.
pub fn timestamp(time: Time) -> Timestamp {
    let since = time.since_epoch();
    Timestamp { seconds: since.as_secs().cast_signed(), nanos: since.subsec_nanos().cast_signed() }
}

/// The policies as those of the source's side and of the destination's.
fn by_direction(
    direction: Option<Direction>,
    policies: &Arc<[PolicyRef]>,
) -> [Vec<proto::Policy>; 2] {
    let policies = policies.iter().map(policy).collect();
    match direction {
        Some(Direction::Ingress) => [Vec::new(), policies],
        Some(Direction::Egress) | None => [policies, Vec::new()],
    }
}

fn policy(policy: &PolicyRef) -> proto::Policy {
    let mut labels = policy.labels.clone();
    labels.push(format!("fqdnd:file={}:{}", policy.file, policy.line));
    proto::Policy {
        name: policy.name.clone(),
        namespace: policy.namespace.clone(),
        labels,
        revision: policy.revision,
        kind: policy.kind.as_str().to_owned(),
    }
}

fn policy_match(flow: &Flow) -> PolicyMatch {
    match flow.event {
        EventKind::PolicyVerdict if flow.decided_by().is_empty() => PolicyMatch::NoRules,
        EventKind::PolicyVerdict => PolicyMatch::AddressAndPort,
        EventKind::Drop | EventKind::L7 => PolicyMatch::None,
    }
}

/// What stands for a verdict in messages.
pub const fn verdict(verdict: Verdict) -> proto::Verdict {
    match verdict {
        Verdict::Forwarded => proto::Verdict::Forwarded,
        Verdict::Dropped => proto::Verdict::Dropped,
        Verdict::Error => proto::Verdict::Error,
        Verdict::Audit => proto::Verdict::Audit,
        Verdict::Redirected => proto::Verdict::Redirected,
        Verdict::Traced => proto::Verdict::Traced,
        Verdict::Translated => proto::Verdict::Translated,
    }
}

fn direction(direction: Option<Direction>) -> proto::TrafficDirection {
    match direction {
        Some(Direction::Egress) => proto::TrafficDirection::Egress,
        Some(Direction::Ingress) => proto::TrafficDirection::Ingress,
        None => proto::TrafficDirection::Unknown,
    }
}

/// Absent where neither address is known.
fn addresses(flow: &Flow) -> Option<proto::Ip> {
    let (source, destination) = (flow.source.address, flow.destination.address);
    let version = match source.or(destination)? {
        IpAddr::V4(_) => proto::IpVersion::IPv4,
        IpAddr::V6(_) => proto::IpVersion::IPv6,
    };
    let text = |address: Option<IpAddr>| address.map_or_else(String::new, |own| own.to_string());
    Some(proto::Ip {
        source: text(source),
        destination: text(destination),
        ip_version: version.into(),
        encrypted: false,
        source_xlated: String::new(),
    })
}

/// None for a protocol that has no message.
fn layer4(l4: Layer4) -> Option<proto::Layer4> {
    use proto::layer4::Protocol;
    let protocol = match l4 {
        Layer4::Tcp { source_port, destination_port, flags } => Protocol::Tcp(proto::Tcp {
            source_port: source_port.into(),
            destination_port: destination_port.into(),
            flags: flags.map(tcp_flags),
        }),
        Layer4::Udp { source_port, destination_port } => Protocol::Udp(proto::Udp {
            source_port: source_port.into(),
            destination_port: destination_port.into(),
        }),
        Layer4::Sctp { source_port, destination_port } => Protocol::Sctp(proto::Sctp {
            source_port: source_port.into(),
            destination_port: destination_port.into(),
        }),
        Layer4::IcmpV4 { kind, code } => {
            Protocol::IcmPv4(proto::IcmPv4 { r#type: kind.into(), code: code.into() })
        }
        Layer4::IcmpV6 { kind, code } => {
            Protocol::IcmPv6(proto::IcmPv6 { r#type: kind.into(), code: code.into() })
        }
        Layer4::Other(_) => return None,
    };
    Some(proto::Layer4 { protocol: Some(protocol) })
}

fn tcp_flags(flags: TcpFlags) -> proto::TcpFlags {
    proto::TcpFlags {
        fin: flags.has(TcpFlags::FIN),
        syn: flags.has(TcpFlags::SYN),
        rst: flags.has(TcpFlags::RST),
        psh: flags.has(TcpFlags::PSH),
        ack: flags.has(TcpFlags::ACK),
        urg: flags.has(TcpFlags::URG),
        ece: flags.has(TcpFlags::ECE),
        cwr: flags.has(TcpFlags::CWR),
        ns: false,
    }
}

fn endpoint(side: &Side) -> proto::Endpoint {
    let (namespace, pod_name) = side.pod();
    proto::Endpoint {
        id: side.who.endpoint.map_or(0, |endpoint| endpoint.0),
        identity: side.who.identity.map_or(0, |identity| identity.0),
        namespace: namespace.to_owned(),
        labels: labels(&side.who.labels),
        pod_name: pod_name.to_owned(),
        workloads: Vec::new(),
        cluster_name: side.cluster().to_owned(),
    }
}

fn labels(labels: &Labels) -> Vec<String> {
    labels.iter().map(ToString::to_string).collect()
}

fn service(service: &Service) -> proto::Service {
    proto::Service { name: service.name.clone(), namespace: service.namespace.clone() }
}

fn layer7(l7: &Layer7) -> proto::Layer7 {
    use proto::layer7::Record as Message;
    let record = match &l7.record {
        Record::Dns(own) => Some(Message::Dns(dns(own))),
        Record::Http(own) => Some(Message::Http(http(own))),
        Record::Kafka(own) => Some(Message::Kafka(kafka(own))),
        // Hubble has no message for it: the summary tells.
        Record::Tls(_) | Record::Connection => None,
    };
    let kind = match l7.kind {
        MessageKind::Request => proto::L7FlowType::Request,
        MessageKind::Response => proto::L7FlowType::Response,
    };
    let latency = l7.latency.unwrap_or_default().as_nanos();
    proto::Layer7 {
        r#type: kind.into(),
        latency_ns: u64::try_from(latency).unwrap_or(u64::MAX),
        record,
    }
}

fn dns(dns: &Dns) -> proto::Dns {
    proto::Dns {
        query: dns.query.to_string(),
        ips: dns.addresses.iter().map(ToString::to_string).collect(),
        ttl: dns.ttl,
        cnames: dns.cnames.iter().map(ToString::to_string).collect(),
        observation_source: "proxy".to_owned(),
        rcode: dns.rcode.map_or(0, u32::from),
        qtypes: vec![dns.qtype_text()],
        rrtypes: dns.answer_types().into_iter().map(str::to_owned).collect(),
    }
}

fn http(http: &Http) -> proto::Http {
    let header = |(key, value): &(String, String)| proto::HttpHeader {
        key: key.clone(),
        value: value.clone(),
    };
    proto::Http {
        code: http.code.map_or(0, u32::from),
        method: http.method.clone(),
        url: http.url.clone(),
        protocol: http.protocol.clone(),
        headers: http.headers.iter().map(header).collect(),
    }
}

fn kafka(kafka: &Kafka) -> proto::Kafka {
    proto::Kafka {
        error_code: kafka.error_code,
        api_version: kafka.api_version,
        api_key: kafka.api_key.clone(),
        correlation_id: kafka.correlation_id,
        topic: kafka.topic.clone(),
    }
}

#[cfg(test)]
mod tests;
