//! Flows, endpoints and policies for the tests.

use std::time::Duration;

use hubble::proto::flow::{
    CiliumEventType, Dns, DropReason, Endpoint, Flow, FlowType, Ip, Layer4, Layer7, Policy, Tcp,
    TrafficDirection, Verdict, layer4, layer7,
};
use model::{EndpointId, EndpointName, Identity, TableId};

use super::board::{Detail, Sample};

/// 2026-11-23T10:29:54Z.
pub(super) const NOW: Duration = Duration::from_secs(1_795_429_794);

fn flow(verdict: Verdict) -> Flow {
    Flow {
        time: Some(prost_types::Timestamp { seconds: NOW.as_secs().cast_signed(), nanos: 0 }),
        verdict: verdict.into(),
        r#type: FlowType::L3L4.into(),
        traffic_direction: TrafficDirection::Egress.into(),
        source: Some(Endpoint {
            namespace: "default".to_owned(),
            pod_name: "client".to_owned(),
            ..Endpoint::default()
        }),
        ..Flow::default()
    }
}

/// The client asks for the address of a name.
pub(super) fn query(name: &str, allowed: bool) -> Flow {
    let dns = Dns { query: name.to_owned(), qtypes: vec!["A".to_owned()], ..Dns::default() };
    let record = Some(layer7::Record::Dns(dns));
    let refused = if allowed { DropReason::Unknown } else { DropReason::PolicyDenied };
    Flow {
        r#type: FlowType::L7.into(),
        l7: Some(Layer7 { record, ..Layer7::default() }),
        drop_reason_desc: refused.into(),
        ..flow(if allowed { Verdict::Forwarded } else { Verdict::Dropped })
    }
}

/// The client connects to an address of a name.
pub(super) fn connection(name: &str) -> Flow {
    Flow { destination_names: vec![name.to_owned()], ..flow(Verdict::Forwarded) }
}

/// The client's packet to an address is denied by a rule.
pub(super) fn drop(address: &str, port: u32) -> Flow {
    let tcp = Tcp { source_port: 40_000, destination_port: port, flags: None };
    Flow {
        ip: Some(Ip { destination: address.to_owned(), ..Ip::default() }),
        l4: Some(Layer4 { protocol: Some(layer4::Protocol::Tcp(tcp)) }),
        event_type: Some(CiliumEventType { r#type: 1, sub_type: 0 }),
        drop_reason_desc: DropReason::PolicyDeny.into(),
        egress_denied_by: vec![Policy {
            name: "one-name".to_owned(),
            namespace: "default".to_owned(),
            labels: vec!["fqdnd:file=/etc/fqdnd/one-name.yaml:25".to_owned()],
            ..Policy::default()
        }],
        ..flow(Verdict::Dropped)
    }
}

/// An endpoint that one policy selects.
pub(super) fn endpoint(name: &str, connections: u64, drops: u64) -> api::Endpoint {
    api::Endpoint {
        id: Some(EndpointId(7)),
        name: name.to_owned(),
        namespace: "default".to_owned(),
        identity: Identity(257),
        labels: vec![format!("k8s:app={name}")],
        interface: Some(format!("veth-{name}")),
        bridge: None,
        addresses: vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
        enforcement: api::Enforcement::Enforced,
        reason: None,
        table: Some(TableId(1)),
        generation: 2,
        policies: vec!["default/one-name".to_owned()],
        audited_policies: Vec::new(),
        names: 3,
        leases: 5,
        over_limits: [].into(),
        connections,
        drops: [("deny-rule".to_owned(), drops)].into(),
        audits: [].into(),
    }
}

/// What the daemon says, so many seconds after [`NOW`].
pub(super) fn sample(seconds: u64) -> Sample {
    let open = api::Endpoint {
        enforcement: api::Enforcement::Open,
        policies: Vec::new(),
        ..endpoint("other", 10 + 2 * seconds, 0)
    };
    let denied = api::Endpoint {
        id: None,
        enforcement: api::Enforcement::Denied,
        reason: Some("interface-not-found".to_owned()),
        interface: None,
        ..endpoint("gone", 0, 0)
    };
    Sample {
        endpoints: vec![endpoint("client", 100 + 10 * seconds, 7 + seconds), denied, open],
        policy_revision: 8,
        applied_revision: 8,
        problems: 0,
        detail: None,
    }
}

/// What is known of the client when it is opened.
pub(super) fn detail() -> Detail {
    let rule = api::PolicyRule {
        line: 9,
        subject: "app=client".to_owned(),
        default_deny: true,
        allows: 2,
        denies: 1,
    };
    let policy = |name: &str| api::Policy {
        namespace: Some("default".to_owned()),
        name: name.to_owned(),
        file: format!("/etc/fqdnd/manifests/{name}.yaml"),
        audited: false,
        rules: vec![rule.clone()],
        endpoints: Vec::new(),
        unenforced: Vec::new(),
        warnings: Vec::new(),
    };
    let selector = |policy: &str, selector: &str| api::Selector {
        field: "toFQDNs".to_owned(),
        selector: selector.to_owned(),
        policies: vec![policy.to_owned()],
        identities: Vec::new(),
        names: vec!["www.example.com.".to_owned()],
    };
    let entry = |address: &str, expires_in_seconds| api::CacheEntry {
        endpoint: EndpointName { namespace: "default".into(), name: "client".into() },
        name: "www.example.com.".to_owned(),
        address: address.parse().unwrap(),
        expires_in_seconds,
        ttl: None,
        kept_alive: false,
        enforced: true,
    };
    Detail {
        endpoint: EndpointName { namespace: "default".into(), name: "client".into() },
        policies: vec![policy("one-name"), policy("of-others")],
        selectors: vec![
            selector("default/one-name", "*.example.com"),
            selector("default/of-others", "*.example.net"),
        ],
        cache: vec![entry("203.0.113.10", 299), entry("2001:db8::10", -2)],
    }
}
