use std::sync::Arc;

use model::{EndpointName, Interface, Label, Labels, Name, Source};

use super::*;
use crate::{Dns, Http, Layer4, Layer7, MessageKind, Record, Service, Side, Time, Uuid, Who};

fn labels(all: &[&str]) -> Labels {
    all.iter()
        .map(|text| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            let (source, key) = Source::split(key);
            Label { key: key.to_owned(), source, value: value.to_owned() }
        })
        .collect()
}

fn side(address: &str, pod: Option<(&str, &str)>, carried: &[&str], names: &[&str]) -> Side {
    let pod = pod.map(|(namespace, name)| EndpointName {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    });
    let names: Vec<Name> = names.iter().map(|name| name.parse().unwrap()).collect();
    let who = Who { endpoint: None, identity: Some(Identity(300)), pod, labels: labels(carried) };
    Side { address: Some(address.parse().unwrap()), who: Arc::new(who), names: names.into() }
}

/// A SYN of `shop/web-7` to two names outside, dropped.
fn dropped() -> Flow {
    Flow {
        time: Time::from_nanos(1),
        uuid: Uuid::new(0, 7),
        verdict: Verdict::Dropped,
        drop_reason: Some(DropReason::PolicyDenied),
        event: EventKind::Drop,
        direction: Some(Direction::Egress),
        is_reply: None,
        source: side("10.1.0.7", Some(("shop", "web-7")), &["k8s:app=web", "k8s:tier=3"], &[]),
        destination: Side {
            who: Arc::new(Who {
                identity: Some(Identity::WORLD),
                labels: labels(&["reserved:world"]),
                ..Who::default()
            }),
            ..side("192.0.2.9", None, &[], &["api.example.com", "cdn_1.example.com"])
        },
        destination_service: Some(Arc::new(Service {
            namespace: "shop".into(),
            name: "db".into(),
        })),
        l4: Some(Layer4::Tcp {
            source_port: 40_000,
            destination_port: 443,
            flags: Some(TcpFlags(TcpFlags::SYN.0 | TcpFlags::ECE.0)),
        }),
        l7: None,
        allowed_by: Arc::default(),
        denied_by: Arc::default(),
        interface: Some((Interface(9), Some("veth9".into()))),
        proxy_port: None,
        node: "node-1.example".into(),
    }
}

fn asked(name: &str) -> Flow {
    let dns = Dns {
        query: name.parse().unwrap(),
        qtype: 28,
        rcode: Some(0),
        addresses: Box::default(),
        ttl: 0,
        cnames: Box::default(),
        cut: false,
        failure: None,
    };
    let l7 = Layer7 {
        kind: MessageKind::Response,
        latency: None,
        record: Record::Dns(dns),
        refused: None,
    };
    Flow {
        verdict: Verdict::Forwarded,
        drop_reason: None,
        event: EventKind::L7,
        l4: Some(Layer4::Udp { source_port: 53, destination_port: 40_000 }),
        l7: Some(Box::new(l7)),
        ..dropped()
    }
}

fn fetched(code: u16, url: &str) -> Flow {
    let http = Http {
        code: Some(code),
        method: "GET".into(),
        url: url.into(),
        protocol: "HTTP/1.1".into(),
        headers: vec![("X-Team".into(), "blue".into())],
    };
    let l7 = Layer7 {
        kind: MessageKind::Response,
        latency: None,
        record: Record::Http(http),
        refused: None,
    };
    Flow { event: EventKind::L7, l7: Some(Box::new(l7)), ..dropped() }
}

fn filter(change: impl FnOnce(&mut FilterSpec)) -> Filter {
    let mut spec = FilterSpec::default();
    change(&mut spec);
    Filter::new(&spec).unwrap()
}

fn error(change: impl FnOnce(&mut FilterSpec)) -> String {
    let mut spec = FilterSpec::default();
    change(&mut spec);
    Filter::new(&spec).unwrap_err().to_string()
}

/// Which of these values a flow is found by, if each is the only thing asked for.
fn found<T: Clone>(
    flow: &Flow,
    values: &[T],
    field: impl Fn(&mut FilterSpec) -> &mut Vec<T>,
) -> Vec<bool> {
    let finds = |value: &T| filter(|spec| field(spec).push(value.clone())).matches(flow);
    values.iter().map(finds).collect()
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn a_filter_that_asks_for_nothing_matches_everything() {
    assert!(Filter::default().matches(&dropped()));
    assert!(!filter(|spec| spec.nothing = true).matches(&dropped()));
}

#[test]
fn all_fields_must_hold_and_of_each_one_value() {
    let of = |port: &str, verdict| {
        filter(|spec| {
            spec.destination_port = texts(&["80", port]);
            spec.verdict = vec![Verdict::Redirected, verdict];
        })
    };
    assert!(of("443", Verdict::Dropped).matches(&dropped()));
    assert!(!of("443", Verdict::Forwarded).matches(&dropped()));
    assert!(!of("81", Verdict::Dropped).matches(&dropped()));
}

#[test]
fn of_several_filters_one_must_match_and_none_of_those_that_deny() {
    let tcp = || filter(|spec| spec.protocol = texts(&["tcp"]));
    let dns = || filter(|spec| spec.protocol = texts(&["dns"]));
    let admits = |allow: Vec<Filter>, deny: Vec<Filter>| {
        let filters = Filters { allow, deny };
        (filters.admit(&dropped()), filters.admit(&asked("a.example")))
    };
    assert_eq!(admits(vec![], vec![]), (true, true));
    assert_eq!(admits(vec![tcp()], vec![]), (true, false));
    assert_eq!(admits(vec![tcp(), dns()], vec![]), (true, true));
    assert_eq!(admits(vec![tcp(), dns()], vec![dns()]), (true, false));
    assert_eq!(admits(vec![], vec![tcp(), dns()]), (false, false));
}

#[test]
fn finds_addresses_alone_and_under_prefixes() {
    let values = texts(&["192.0.2.9", "192.0.2.0/24", "192.0.2.8", "2001:db8::/32"]);
    let by = |spec: fn(&mut FilterSpec) -> &mut Vec<String>| found(&dropped(), &values, spec);
    assert_eq!(by(|spec| &mut spec.destination_ip), [true, true, false, false]);
    assert_eq!(by(|spec| &mut spec.source_ip), [false; 4]);
    let nowhere = Flow { destination: Side::default(), ..dropped() };
    let everything = texts(&["0.0.0.0/0", "::/0"]);
    assert_eq!(found(&nowhere, &everything, |spec| &mut spec.destination_ip), [false; 2]);
}

#[test]
fn finds_pods_and_services_by_namespace_and_the_start_of_their_name() {
    let values = texts(&["shop/web-7", "shop/web-", "shop/", "shop/eb", "web-7", "default/web"]);
    let by = |flow: &Flow| found(flow, &values, |spec| &mut spec.source_pod);
    assert_eq!(by(&dropped()), [true, true, true, false, false, false]);
    let home = Flow { source: side("10.0.0.1", Some(("default", "web-7")), &[], &[]), ..dropped() };
    assert_eq!(by(&home), [false, false, false, false, true, true]);
    assert_eq!(found(&dropped(), &values, |spec| &mut spec.destination_pod), [false; 6]);
    let anywhere = texts(&["/", "/web-", "/eb"]);
    assert_eq!(found(&dropped(), &anywhere, |spec| &mut spec.source_pod), [true, true, false]);
    assert_eq!(found(&dropped(), &anywhere, |spec| &mut spec.destination_pod), [false; 3]);
    let services = texts(&["shop/d", "shop/", "d"]);
    let by = found(&dropped(), &services, |spec| &mut spec.destination_service);
    assert_eq!(by, [true, true, false]);
    assert_eq!(found(&dropped(), &services, |spec| &mut spec.source_service), [false; 3]);
}

#[test]
fn finds_names_by_patterns_that_match_the_whole_of_one() {
    let values = texts(&[
        "api.example.com",
        "API.Example.Com.",
        "*.example.com",
        "cdn*com",
        "example.com",
        "api",
        "*",
        "api?example.com",
    ]);
    let by = |values: &[String]| found(&dropped(), values, |spec| &mut spec.destination_fqdn);
    assert_eq!(by(&values[..7]), [true, true, true, true, false, false, true]);
    assert_eq!(
        error(|spec| spec.destination_fqdn = values[7..].to_vec()),
        "`api?example.com` is no pattern for names: letters, digits, `-`, `_`, `.` and `*` may \
         be in it"
    );
}

#[test]
fn finds_labels_by_selectors() {
    let values = texts(&[
        "",
        "app",
        "k8s:app=web",
        "app == web,tier in (2, 3)",
        "tier>2,tier<4",
        "!canary, app!=db",
        "app notin (db,cache)",
        "reserved:app=web",
        "app=db",
        "!app",
        "tier>3",
        "app in (db)",
        "canary=",
    ]);
    let by = found(&dropped(), &values, |spec| &mut spec.source_label);
    assert_eq!(by, [vec![true; 7], vec![false; 6]].concat());
    let world = texts(&["reserved:world", "world", "k8s:world"]);
    let by = found(&dropped(), &world, |spec| &mut spec.destination_label);
    assert_eq!(by, [true, true, false]);
}

#[test]
fn finds_pods_by_their_cluster() {
    let carried = ["k8s:io.cilium.k8s.policy.cluster=default"];
    let flow = Flow { source: side("10.1.0.7", None, &carried, &[]), ..dropped() };
    let names = texts(&["default", "def", ""]);
    let found = |pick: fn(&mut FilterSpec) -> &mut Vec<String>| found(&flow, &names, pick);
    assert_eq!(found(|spec| &mut spec.source_cluster), [true, false, false]);
    assert_eq!(found(|spec| &mut spec.destination_cluster), [false; 3]);
}

#[test]
fn finds_ports_protocols_and_flags() {
    let flow = dropped();
    let ports = texts(&["443", "40000"]);
    assert_eq!(found(&flow, &ports, |spec| &mut spec.destination_port), [true, false]);
    assert_eq!(found(&flow, &ports, |spec| &mut spec.source_port), [false, true]);
    let names = texts(&["TCP", "udp", "sctp", "icmp", "icmpv4", "ICMPv6", "dns", "http", "kafka"]);
    let of = |flow: &Flow| {
        let by = found(flow, &names, |spec| &mut spec.protocol);
        let hit = names.iter().zip(by).filter(|(_, hit)| *hit);
        hit.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of(&flow), "TCP");
    assert_eq!(of(&asked("a.")), "udp dns");
    assert_eq!(of(&fetched(200, "/")), "TCP http");
    let icmp = Flow { l4: Some(Layer4::IcmpV6 { kind: 128, code: 0 }), ..dropped() };
    assert_eq!(of(&icmp), "icmp ICMPv6");
    let flags = [TcpFlags::SYN, TcpFlags(66), TcpFlags(18), TcpFlags(0)];
    assert_eq!(found(&flow, &flags, |spec| &mut spec.tcp_flags), [true, true, false, true]);
    assert_eq!(found(&asked("a."), &flags, |spec| &mut spec.tcp_flags), [false; 4]);
}

#[test]
fn finds_verdicts_reasons_events_and_directions() {
    let flow = dropped();
    let verdicts = [Verdict::Dropped, Verdict::Forwarded];
    assert_eq!(found(&flow, &verdicts, |spec| &mut spec.verdict), [true, false]);
    let reasons = [DropReason::PolicyDenied, DropReason::NoService];
    assert_eq!(found(&flow, &reasons, |spec| &mut spec.drop_reason), [true, false]);
    assert_eq!(found(&asked("a."), &reasons, |spec| &mut spec.drop_reason), [false; 2]);
    let event = |kind, reasons: Option<&[DropReason]>| EventPattern {
        kind,
        reasons: reasons.map(<[_]>::to_vec),
    };
    let events = [
        event(None, None),
        event(Some(EventKind::Drop), None),
        event(Some(EventKind::L7), None),
        event(Some(EventKind::Drop), Some(&reasons)),
        event(Some(EventKind::Drop), Some(&reasons[1..])),
        event(Some(EventKind::Drop), Some(&[])),
    ];
    let by = found(&flow, &events, |spec| &mut spec.event);
    assert_eq!(by, [true, true, false, true, false, false]);
    let directions = [Direction::Egress, Direction::Ingress];
    assert_eq!(found(&flow, &directions, |spec| &mut spec.direction), [true, false]);
    let nowhere = Flow { direction: None, ..flow };
    assert_eq!(found(&nowhere, &directions, |spec| &mut spec.direction), [false; 2]);
}

#[test]
fn a_drop_whose_travel_is_not_known_is_no_reply_and_anything_else_neither() {
    let by = |flow: &Flow| found(flow, &[true, false], |spec| &mut spec.reply);
    assert_eq!(by(&dropped()), [false, true]);
    assert_eq!(by(&asked("a.")), [false, false]);
    assert_eq!(by(&Flow { is_reply: Some(true), ..asked("a.") }), [true, false]);
}

#[test]
fn finds_identities_families_nodes_interfaces_and_uuids() {
    let flow = dropped();
    let identities = [Identity(300), Identity::WORLD];
    assert_eq!(found(&flow, &identities, |spec| &mut spec.source_identity), [true, false]);
    assert_eq!(found(&flow, &identities, |spec| &mut spec.destination_identity), [false, true]);
    assert_eq!(found(&flow, &[true, false], |spec| &mut spec.ipv6), [false, true]);
    let nodes = texts(&["node-1.example", "node-*", "default/", "default/node*", "other/", "node"]);
    let by = found(&flow, &nodes, |spec| &mut spec.node_name);
    assert_eq!(by, [true, true, true, true, false, false]);
    let named = |name: &str| Some(name.to_owned());
    let interfaces =
        [(Some(9), None), (None, named("veth9")), (Some(9), named("eth0")), (Some(8), None)];
    let by = found(&flow, &interfaces, |spec| &mut spec.interface);
    assert_eq!(by, [true, true, false, false]);
    let uuids = [flow.uuid.to_string(), "7".to_owned()];
    assert_eq!(found(&flow, &uuids, |spec| &mut spec.uuid), [true, false]);
}

#[test]
fn finds_what_proxies_read() {
    let queries = texts(&["example", "^a[.]example[.]$", "^example"]);
    let flow = asked("a.example");
    assert_eq!(found(&flow, &queries, |spec| &mut spec.dns_query), [true, true, false]);
    assert_eq!(found(&dropped(), &queries, |spec| &mut spec.dns_query), [false; 3]);
    let flow = fetched(404, "http://h.example/a/b?c=/d");
    let codes = texts(&["404", "4+", "40+", "400", "5+"]);
    let by = found(&flow, &codes, |spec| &mut spec.http_status_code);
    assert_eq!(by, [true, true, true, false, false]);
    let paths = texts(&["^/a", "/b$", "example", "d"]);
    let by = found(&flow, &paths, |spec| &mut spec.http_path);
    assert_eq!(by, [true, true, false, false]);
    assert_eq!(found(&flow, &paths, |spec| &mut spec.http_url), [false, false, true, true]);
    let methods = texts(&["get", "POST"]);
    assert_eq!(found(&flow, &methods, |spec| &mut spec.http_method), [true, false]);
    let headers = [("x-team".to_owned(), "blue".to_owned()), ("x-team".into(), "red".into())];
    assert_eq!(found(&flow, &headers, |spec| &mut spec.http_header), [true, false]);
    assert_eq!(found(&dropped(), &codes, |spec| &mut spec.http_status_code), [false; 5]);
}

#[test]
fn refuses_what_it_does_not_understand_and_names_it() {
    let is_named = |message: String, culprit: &str| assert!(message.contains(culprit), "{message}");
    is_named(error(|spec| spec.source_ip = texts(&["10.0.0"])), "`10.0.0` is no address");
    is_named(error(|spec| spec.source_ip = texts(&["10.0.0.0/33"])), "`10.0.0.0/33` is no prefix");
    is_named(error(|spec| spec.source_pod = texts(&[""])), "is not of the form");
    for text in ["=", "()", "app in x", "app in (x", "any:k8s:x", "a b", "tier>x", "a,", "!"] {
        is_named(error(|spec| spec.source_label = texts(&[text])), "is no label selector");
    }
    is_named(error(|spec| spec.source_port = texts(&["65536"])), "`65536` is no port");
    is_named(error(|spec| spec.protocol = texts(&["quic"])), "protocol `quic` is not known");
    is_named(error(|spec| spec.dns_query = texts(&["("])), "`(` is no regular expression");
    is_named(error(|spec| spec.dns_query = texts(&["(a{500}){500}"])), "size limit");
    for text in ["4", "600", "40x", "404+", "+"] {
        is_named(error(|spec| spec.http_status_code = texts(&[text])), "is no HTTP status code");
    }
    for text in ["", "a/b/c"] {
        is_named(error(|spec| spec.node_name = texts(&[text])), "is not of the form [CLUSTER/]");
    }
}
