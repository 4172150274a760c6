//! What a pod may carry out in the names that it asks for: nothing where a rule spells names out,
//! and within limits, if there are any, where a pattern allows them.

use std::{net::UdpSocket, time::Instant};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use integration::{Daemon, Lab, LabOptions, Pod, Resolver, query, soon};

const CLIENT: &str = "default/client";
const OTHER: &str = "default/other";
const OVER: &str = "an endpoint asks too much under patterns";

/// One name is spelled out, those of two zones are allowed by patterns.
const POLICY: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: exfiltration, namespace: default}
spec:
  endpointSelector:
    matchExpressions:
    - {key: app, operator: In, values: [client, other]}
  egress:
  - toEndpoints:
    - matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}
    toPorts:
    - ports: [{port: "53", protocol: ANY}]
      rules:
        dns:
        - matchName: www.example.com
        - matchPattern: "*.example.com"
        - matchPattern: "*.fresh.example"
"#;

/// Three names in a window that no test outlives, and short labels.
const LIMITS: [&str; 6] = [
    "--query-limits-distinct-names",
    "3",
    "--query-limits-window",
    "1h",
    "--query-limits-label-length",
    "8",
];
const LONG: &str = "bytes-carried-out.fresh.example";

#[test]
fn limits_hold_for_names_under_patterns_and_not_for_those_that_are_spelled_out() {
    let (lab, daemon) = begin(&LIMITS);
    let (client, other) = (lab.pod(CLIENT), lab.pod(OTHER));
    let udp = Resolver::new(lab.dns_service()[0]);
    let (good, refused) = (ResponseCode::NoError, ResponseCode::Refused);
    let code = |pod: &Pod, name: &str| {
        let ways = [(udp, RecordType::A), (udp.over_tcp(true), RecordType::AAAA)];
        let [one, two] = ways.map(|(resolver, kind)| pod.ask(resolver, name, kind).code);
        assert_eq!(one, two, "{name}: over UDP and TCP");
        one
    };
    assert_eq!(code(client, LONG), refused);
    for number in 0..3 {
        assert_eq!(code(client, &format!("f{number}.fresh.example")), good);
    }
    for number in 3..6 {
        assert_eq!(code(client, &format!("f{number}.fresh.example")), refused);
    }
    assert_eq!(code(client, "api.example.com"), refused, "of another pattern");
    assert_eq!(code(client, "F0.Fresh.Example"), good, "of the window's names");
    assert_eq!(code(client, "www.example.com"), good, "spelled out");
    assert_eq!(code(other, "f3.fresh.example"), good, "another endpoint's");
    for name in [LONG, "f4.fresh.example", "f5.fresh.example", "api.example.com"] {
        assert_eq!(lab.questions().asked(name), 0, "{name}");
    }

    let counted = |limit| (daemon.count("limits", limit), counted_of(&daemon, CLIENT, limit));
    assert_eq!(counted("query-label-length"), (2, 2));
    assert_eq!(counted("query-distinct-names"), (8, 8));
    assert_eq!(daemon.count("dns", "over-query-limit"), 10);
    assert_eq!(counted_of(&daemon, OTHER, "query-distinct-names"), 0);
    let shown = daemon.ctl(&["endpoint", "get", CLIENT]).unwrap();
    assert!(shown.contains("query-distinct-names=8"), "{shown}");
    assert_eq!(daemon.log().matches(OVER).count(), 2, "each limit is told of once");
    assert!(!daemon.log().contains("bytes-carried-out"), "and no name is");
}

#[test]
fn in_audit_what_is_over_a_limit_passes_and_is_counted() {
    let (lab, daemon) = begin(&[&LIMITS[..], &["--query-limits-mode", "audit"]].concat());
    let resolver = Resolver::new(lab.dns_service()[0]);
    let names: Vec<String> = (0..5).map(|number| format!("f{number}.fresh.example")).collect();
    for name in names.iter().map(String::as_str).chain([LONG]) {
        lab.pod(CLIENT).ask(resolver, name, RecordType::A);
        assert_eq!(lab.questions().asked(name), 1, "{name}");
    }
    for (limit, count) in [("query-distinct-names-audited", 2), ("query-label-length-audited", 1)] {
        assert_eq!(daemon.count("limits", limit), count);
        assert_eq!(counted_of(&daemon, CLIENT, limit), count);
    }
    assert_eq!(daemon.count("dns", "over-query-limit"), 0);
    assert_eq!(daemon.log().matches(OVER).count(), 2);
}

#[test]
fn a_flood_of_queries_gets_its_burst_and_its_rate_through() {
    const SENT: u64 = 60;
    let (lab, daemon) = begin(&["--query-limits-rate", "1", "--query-limits-burst", "4"]);
    let (client, other) = (lab.pod(CLIENT), lab.pod(OTHER));
    let server = lab.dns_service()[0];
    let begun = Instant::now();
    let socket = client.namespace().run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    for number in 0..SENT as u16 {
        let name = format!("f{number}.fresh.example");
        socket.send_to(&query(number, &name, 1, 1), (server, 53)).unwrap();
    }
    let judged = || daemon.count("dns", "allowed") + daemon.count("dns", "over-query-limit");
    soon("all are judged", || judged() == SENT);
    let allowed = daemon.count("dns", "allowed");
    let most = 4 + begun.elapsed().as_secs() + 1;
    assert!((4..=most).contains(&allowed), "{allowed} of at most {most}");
    assert_eq!(daemon.count("limits", "query-rate"), SENT - allowed);
    assert_eq!(counted_of(&daemon, CLIENT, "query-rate"), SENT - allowed);
    let resolver = Resolver::new(server);
    for _ in 0..10 {
        let answer = client.ask(resolver, "www.example.com", RecordType::A);
        assert_eq!(answer.code, ResponseCode::NoError, "spelled out");
    }
    assert_eq!(other.ask(resolver, "f1.fresh.example", RecordType::A).code, ResponseCode::NoError);
}

fn begin(flags: &[&str]) -> (Lab, Daemon) {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("exfiltration", POLICY).unwrap();
    let daemon = Daemon::start(&lab, flags).unwrap();
    (lab, daemon)
}

fn counted_of(daemon: &Daemon, endpoint: &str, limit: &str) -> u64 {
    daemon.endpoint(endpoint)["overLimits"][limit].as_u64().unwrap_or(0)
}
