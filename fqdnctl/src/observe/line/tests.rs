use hubble::proto::flow::{CiliumEventType, DropReason, Ip, Layer4, Tcp};

use super::*;

fn flow() -> Flow {
    Flow {
        verdict: Verdict::Dropped.into(),
        drop_reason_desc: DropReason::StaleOrUnroutableIp.into(),
        ip: Some(Ip {
            source: "fd00::7".to_owned(),
            destination: "2001:db8::1".to_owned(),
            ..Ip::default()
        }),
        l4: Some(Layer4 {
            protocol: Some(layer4::Protocol::Tcp(Tcp {
                source_port: 40_000,
                destination_port: 443,
                flags: None,
            })),
        }),
        source: Some(Endpoint {
            namespace: "shop".to_owned(),
            pod_name: "web".to_owned(),
            identity: 300,
            ..Endpoint::default()
        }),
        destination: Some(Endpoint { identity: 2, ..Endpoint::default() }),
        destination_names: vec!["api.example.com".to_owned()],
        event_type: Some(CiliumEventType { r#type: event::DROP, sub_type: 151 }),
        traffic_direction: TrafficDirection::Egress.into(),
        is_reply: Some(false),
        ..Flow::default()
    }
}

fn ends(flow: &Flow, numeric: bool) -> String {
    let (left, arrow, right) = Line { flow, numeric }.ends();
    format!("{} {} {arrow} {} {}", left.name, left.identity, right.name, right.identity)
}

#[test]
fn ends_are_called_what_people_call_them() {
    let named = flow();
    assert_eq!(ends(&named, false), "shop/web:40000 (ID:300) -> api.example.com:443 (world)");
    assert_eq!(ends(&named, true), "[fd00::7]:40000 (ID:300) -> [2001:db8::1]:443 (world)");
    let service = Service { namespace: "shop".to_owned(), name: "db".to_owned() };
    let served = Flow { destination_service: Some(service), ..flow() };
    assert!(ends(&served, false).contains("-> shop/db:443"));
    let nameless = Flow { destination_names: Vec::new(), ..flow() };
    assert!(ends(&nameless, false).contains("-> [2001:db8::1]:443"));
}

#[test]
fn the_arrow_points_where_the_packet_went() {
    let reply = Flow { is_reply: Some(true), ..flow() };
    assert_eq!(ends(&reply, true), "[2001:db8::1]:443 (world) <- [fd00::7]:40000 (ID:300)");
    assert!(ends(&Flow { is_reply: None, ..flow() }, false).contains(" <> "));
    assert_eq!(ends(&Flow::default(), false), "? (unknown) <> ? (unknown)");
}

#[test]
#[expect(deprecated, reason = "the server puts it into no other field")]
fn a_drop_names_our_reason_once() {
    let summary = "TCP Flags: SYN (lease-expired)".to_owned();
    let dropped = Flow { summary, ..flow() };
    let line = Line { flow: &dropped, numeric: false };
    assert_eq!((line.kind(), line.summary()), ("drop:lease-expired".to_owned(), "TCP Flags: SYN"));
}

#[test]
#[expect(deprecated, reason = "the server puts it into no other field")]
fn an_audit_names_the_reason_for_which_it_would_have_been_dropped() {
    let no_api = Policy { name: "no-api".to_owned(), ..Policy::default() };
    let audited = Flow {
        verdict: Verdict::Audit.into(),
        event_type: Some(CiliumEventType { r#type: event::POLICY_VERDICT, sub_type: 0 }),
        summary: "TCP Flags: SYN (lease-expired)".to_owned(),
        egress_denied_by: vec![no_api],
        ..flow()
    };
    let line = Line { flow: &audited, numeric: false };
    let shown = (line.kind(), line.verdict(), line.summary());
    assert_eq!(shown, ("audit:lease-expired".to_owned(), "AUDIT", "TCP Flags: SYN"));
    assert_eq!(line.policies(), ["no-api"]);
}

#[test]
fn a_reason_that_only_hubble_has_keeps_its_name() {
    let foreign = Flow { drop_reason_desc: DropReason::Nat46.into(), ..flow() };
    assert_eq!(Line { flow: &foreign, numeric: false }.kind(), "drop:nat46");
}

#[test]
fn policies_are_named_with_their_place() {
    let policy = |labels: Vec<String>| Policy {
        name: "no-api".to_owned(),
        namespace: "shop".to_owned(),
        labels,
        ..Policy::default()
    };
    let own = policy(vec!["fqdnd:file=/etc/fqdnd/manifests/web.yaml:12".to_owned()]);
    let denied = Flow { egress_denied_by: vec![own], ..flow() };
    assert_eq!(Line { flow: &denied, numeric: false }.policies(), ["shop/no-api (web.yaml:12)"]);
    let clusterwide = Policy { namespace: String::new(), ..policy(Vec::new()) };
    let verdict = Verdict::Forwarded.into();
    let allowed = Flow { verdict, ingress_allowed_by: vec![clusterwide], ..flow() };
    assert_eq!(Line { flow: &allowed, numeric: false }.policies(), ["no-api"]);
}
