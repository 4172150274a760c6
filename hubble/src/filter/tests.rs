use super::*;
use crate::samples::{dropped, forwarded};

/// Whether a filter matches the dropped packet, and the one that passed.
fn matches(filter: proto::FlowFilter) -> (bool, bool) {
    let filters = filters(&[filter]).unwrap();
    (filters[0].matches(&dropped(1)), filters[0].matches(&forwarded(1)))
}

fn texts(text: &str) -> Vec<String> {
    vec![text.to_owned()]
}

#[test]
fn enums_select_what_they_say() {
    let verdict = |verdict: proto::Verdict| {
        matches(proto::FlowFilter { verdict: vec![verdict.into()], ..Default::default() })
    };
    assert_eq!(verdict(proto::Verdict::Dropped), (true, false));
    assert_eq!(verdict(proto::Verdict::Forwarded), (false, true));
    assert_eq!(verdict(proto::Verdict::Unknown), (false, false));

    let reason = |reason: proto::DropReason| {
        matches(proto::FlowFilter { drop_reason_desc: vec![reason.into()], ..Default::default() })
    };
    assert_eq!(reason(proto::DropReason::PolicyDeny), (true, false));
    assert_eq!(reason(proto::DropReason::PolicyDenied), (false, false));
    assert_eq!(reason(proto::DropReason::Nat46), (false, false));

    let direction = |direction: proto::TrafficDirection| {
        let traffic_direction = vec![direction.into()];
        matches(proto::FlowFilter { traffic_direction, ..Default::default() })
    };
    assert_eq!(direction(proto::TrafficDirection::Egress), (true, true));
    assert_eq!(direction(proto::TrafficDirection::Ingress), (false, false));

    let version = |version: proto::IpVersion| {
        matches(proto::FlowFilter { ip_version: vec![version.into()], ..Default::default() })
    };
    assert_eq!(version(proto::IpVersion::IPv4), (true, true));
    assert_eq!(version(proto::IpVersion::IPv6), (false, false));
}

#[test]
fn event_types_select_by_type_and_sub_type() {
    let event = |r#type, sub_type: Option<i32>| {
        let filter = proto::EventTypeFilter {
            r#type,
            match_sub_type: sub_type.is_some(),
            sub_type: sub_type.unwrap_or(0),
        };
        matches(proto::FlowFilter { event_type: vec![filter], ..Default::default() })
    };
    assert_eq!(event(event::DROP, None), (true, false));
    assert_eq!(event(event::DROP, Some(181)), (true, false));
    assert_eq!(event(event::DROP, Some(133)), (false, false));
    assert_eq!(event(event::POLICY_VERDICT, None), (false, true));
    assert_eq!(event(event::POLICY_VERDICT, Some(0)), (false, true));
    assert_eq!(event(event::POLICY_VERDICT, Some(1)), (false, false));
    assert_eq!(event(event::L7, None), (false, false));
    assert_eq!(event(event::TRACE, None), (false, false));
    assert_eq!(event(0, None), (true, true));
}

#[test]
fn texts_and_numbers_are_handed_on() {
    let default = proto::FlowFilter::default;
    let both = (true, true);
    assert_eq!(matches(proto::FlowFilter { source_pod: texts("shop/web"), ..default() }), both);
    assert_eq!(matches(proto::FlowFilter { source_ip: texts("10.1.0.0/16"), ..default() }), both);
    assert_eq!(matches(proto::FlowFilter { destination_port: texts("443"), ..default() }), both);
    assert_eq!(matches(proto::FlowFilter { source_identity: vec![300], ..default() }), both);
    assert_eq!(matches(proto::FlowFilter { destination_identity: vec![2], ..default() }), both);
    let named = proto::FlowFilter { destination_fqdn: texts("*.example.com"), ..default() };
    assert_eq!(matches(named), both);
    let interface = proto::NetworkInterface { index: 0, name: "veth9".to_owned() };
    assert_eq!(matches(proto::FlowFilter { interface: vec![interface], ..default() }), both);
    let syn = proto::TcpFlags { syn: true, ..Default::default() };
    assert_eq!(matches(proto::FlowFilter { tcp_flags: vec![syn], ..default() }), both);
    let reset = proto::TcpFlags { syn: true, rst: true, ..Default::default() };
    assert_eq!(matches(proto::FlowFilter { tcp_flags: vec![reset], ..default() }), (false, false));
}

#[test]
fn what_no_flow_here_has_matches_nothing() {
    let default = proto::FlowFilter::default;
    for filter in [
        proto::FlowFilter { encrypted: vec![true], ..default() },
        proto::FlowFilter { source_workload: vec![proto::Workload::default()], ..default() },
        proto::FlowFilter { trace_id: texts("1"), ..default() },
        proto::FlowFilter { source_ip_xlated: texts("10.0.0.1"), ..default() },
        proto::FlowFilter { destination_cluster_name: texts("east"), ..default() },
        proto::FlowFilter { node_labels: texts("zone=a"), ..default() },
        proto::FlowFilter {
            tcp_flags: vec![proto::TcpFlags { ns: true, ..Default::default() }],
            ..default()
        },
    ] {
        assert_eq!(matches(filter.clone()), (false, false), "{filter:?}");
    }
    let unencrypted = proto::FlowFilter { encrypted: vec![false], ..default() };
    assert_eq!(matches(unencrypted), (true, true));
}

#[test]
fn what_cannot_be_understood_is_refused_with_the_culprit() {
    let error = |filter| filters(&[filter]).unwrap_err().to_string();
    let default = proto::FlowFilter::default;
    let port = error(proto::FlowFilter { source_port: texts("https"), ..default() });
    assert!(port.contains("`https`"), "{port}");
    let regex = error(proto::FlowFilter { dns_query: texts("("), ..default() });
    assert!(regex.contains("`(`"), "{regex}");
    let cel = proto::flow_filter::Experimental { cel_expression: texts("_flow.reply") };
    let cel = error(proto::FlowFilter { experimental: Some(cel), ..default() });
    assert!(cel.contains("CEL") && cel.contains("_flow.reply"), "{cel}");
}

#[test]
fn a_request_holds_a_bounded_number_of_filters_and_patterns() {
    let many = vec![proto::FlowFilter::default(); FILTERS + 1];
    assert_eq!(filters(&many).unwrap_err(), FiltersError::TooMany(FILTERS + 1));
    assert!(filters(&many[1..]).is_ok());
    let patterns = vec!["a".to_owned(); PATTERNS];
    let full = proto::FlowFilter { dns_query: patterns, ..Default::default() };
    assert!(filters(std::slice::from_ref(&full)).is_ok());
    let more = proto::FlowFilter { http_url: texts("a"), ..Default::default() };
    assert_eq!(filters(&[full, more]).unwrap_err(), FiltersError::TooManyPatterns(PATTERNS + 1));
}
