use std::time::Duration;

use model::Identity;

use super::*;
use crate::samples::{dropped, forwarded};

#[test]
fn a_dropped_packet_says_who_what_where_and_why() {
    let message = flow(&dropped(5));
    assert_eq!(message.time, Some(Timestamp { seconds: 5, nanos: 0 }));
    assert_eq!(message.verdict(), proto::Verdict::Dropped);
    assert_eq!(message.drop_reason_desc(), proto::DropReason::PolicyDeny);
    assert_eq!(message.event_type, Some(proto::CiliumEventType { r#type: 1, sub_type: 181 }));
    assert_eq!(message.traffic_direction(), proto::TrafficDirection::Egress);
    assert_eq!(message.r#type(), proto::FlowType::L3L4);
    let ip = message.ip.unwrap();
    assert_eq!((ip.source.as_str(), ip.destination.as_str()), ("10.1.0.7", "192.0.2.9"));
    let source = message.source.unwrap();
    assert_eq!((source.namespace.as_str(), source.pod_name.as_str()), ("shop", "web-7"));
    assert_eq!((source.id, source.identity, source.labels), (7, 300, vec!["k8s:app=web".into()]));
    assert_eq!(message.destination.unwrap().identity, Identity::WORLD.0);
    assert_eq!(message.destination_names, ["api.example.com"]);
    let Some(proto::layer4::Protocol::Tcp(tcp)) = message.l4.unwrap().protocol else {
        panic!("not TCP");
    };
    assert_eq!((tcp.source_port, tcp.destination_port), (40_000, 443));
    assert_eq!(tcp.flags, Some(proto::TcpFlags { syn: true, ..Default::default() }));
    let interface = message.interface.unwrap();
    assert_eq!((interface.index, interface.name.as_str()), (9, "veth9"));
}

#[test]
#[expect(deprecated, reason = "clients print it")]
fn the_summary_ends_with_our_own_reason() {
    assert_eq!(flow(&dropped(5)).summary, "TCP Flags: SYN (deny-rule)");
}

#[test]
fn policies_stand_on_the_side_that_they_are_about_with_their_place() {
    let egress = flow(&dropped(5));
    let policy = &egress.egress_denied_by[0];
    assert_eq!((policy.namespace.as_str(), policy.name.as_str()), ("shop", "no-api"));
    assert_eq!(policy.kind, "CiliumNetworkPolicy");
    assert_eq!(policy.labels, ["fqdnd:file=policies/web.yaml:12"]);
    assert!(egress.ingress_denied_by.is_empty() && egress.egress_allowed_by.is_empty());

    let ingress = flow(&Flow { direction: Some(Direction::Ingress), ..dropped(5) });
    assert_eq!(ingress.ingress_denied_by, egress.egress_denied_by);
    assert!(ingress.egress_denied_by.is_empty());
}

#[test]
fn a_first_packet_tells_whether_a_rule_matched() {
    assert_eq!(flow(&forwarded(1)).policy_match_type, 4);
    let by_rule = Flow { allowed_by: dropped(1).denied_by, ..forwarded(1) };
    let message = flow(&by_rule);
    assert_eq!(message.policy_match_type, 2);
    assert_eq!(message.event_type, Some(proto::CiliumEventType { r#type: 5, sub_type: 0 }));
    assert_eq!(message.drop_reason_desc(), proto::DropReason::Unknown);
}

#[test]
fn an_answer_of_dns_is_told_whole() {
    let answer = Layer7 {
        kind: MessageKind::Response,
        latency: Some(Duration::from_micros(7)),
        record: Record::Dns(Dns {
            query: "www.example.com".parse().unwrap(),
            qtype: 1,
            rcode: Some(0),
            addresses: Box::new([[192, 0, 2, 1].into(), [192, 0, 2, 2].into()]),
            ttl: 30,
            cnames: Box::new(["cdn.example.net".parse().unwrap()]),
            cut: false,
            failure: None,
        }),
        refused: None,
    };
    let message = flow(&Flow { event: EventKind::L7, l7: Some(Box::new(answer)), ..forwarded(1) });
    assert_eq!(message.r#type(), proto::FlowType::L7);
    let l7 = message.l7.unwrap();
    assert_eq!((l7.r#type(), l7.latency_ns), (proto::L7FlowType::Response, 7000));
    let dns = proto::Dns {
        query: "www.example.com.".to_owned(),
        ips: vec!["192.0.2.1".to_owned(), "192.0.2.2".to_owned()],
        ttl: 30,
        cnames: vec!["cdn.example.net.".to_owned()],
        observation_source: "proxy".to_owned(),
        rcode: 0,
        qtypes: vec!["A".to_owned()],
        rrtypes: vec!["CNAME".to_owned(), "A".to_owned()],
    };
    assert_eq!(l7.record, Some(proto::layer7::Record::Dns(dns)));
}

#[test]
fn what_could_not_be_read_is_absent_and_not_zero() {
    let unread = Flow {
        source: Side::default(),
        destination: Side::default(),
        l4: None,
        is_reply: None,
        ..dropped(1)
    };
    let message = flow(&unread);
    assert_eq!((message.ip, message.l4, message.is_reply), (None, None, None));
}

#[test]
fn losses_name_where_they_happened() {
    let source = |source| {
        let own = Lost { source, count: 3, time: Time::from_nanos(0) };
        let message = lost(&own);
        assert_eq!(message.num_events_lost, 3);
        message.source()
    };
    assert_eq!(source(LossSource::Suppressed), proto::LostEventSource::PerfEventRingBuffer);
    assert_eq!(source(LossSource::KernelRing), proto::LostEventSource::PerfEventRingBuffer);
    assert_eq!(source(LossSource::DnsQueue), proto::LostEventSource::ObserverEventsQueue);
    assert_eq!(source(LossSource::Ring), proto::LostEventSource::HubbleRingBuffer);
}
