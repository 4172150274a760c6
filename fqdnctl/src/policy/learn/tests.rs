use std::sync::LazyLock;

use hubble::json::Json;
use hubble::proto::flow::{DropReason, Flow, Verdict};
use serde_json::{Value, json};

use super::*;

const NAMESPACE: &str = "k8s:io.kubernetes.pod.namespace";

static SERVICES: LazyLock<Services> = LazyLock::new(|| {
    let port = |protocol: u8, port: u16, backends: Value| json!({"protocol": protocol, "port": port, "backends": backends});
    let coredns = |address: &str| {
        json!({"address": address, "labels": [
            "k8s:k8s-app=kube-dns", "k8s:pod-template-hash=77b", format!("{NAMESPACE}=kube-system"),
        ]})
    };
    let services = json!([
        {"namespace": "kube-system", "name": "kube-dns", "ports": [
            port(17, 53, json!([coredns("10.0.0.2:53"), coredns("10.0.0.3:53")])),
        ]},
        {"namespace": "default", "name": "kubernetes", "ports": [
            port(6, 443, json!([{"address": "192.0.2.1:6443", "labels": []}])),
        ]},
        {"namespace": "prod", "name": "legacy", "ports": [
            port(6, 80, json!([{"address": "192.0.2.9:8080", "labels": []}])),
        ]},
    ]);
    Services(serde_json::from_value(services).unwrap())
});

/// A flow of prod/web's that passed, with these fields.
fn flow(fields: Value) -> Flow {
    let mut flow = json!({
        "verdict": "FORWARDED",
        "traffic_direction": "EGRESS",
        "is_reply": false,
        "source": {
            "namespace": "prod", "pod_name": "web",
            "labels": ["k8s:app=web", "k8s:pod-template-hash=1", format!("{NAMESPACE}=prod")],
        },
    });
    let Value::Object(fields) = fields else { panic!("{fields} is no object") };
    flow.as_object_mut().unwrap().extend(fields);
    Flow::from_json(&flow.to_string()).unwrap()
}

fn lookup(name: &str, addresses: &[&str]) -> Flow {
    flow(json!({
        "destination_service": {"namespace": "kube-system", "name": "kube-dns"},
        "l4": {"UDP": {"destination_port": 53}},
        "l7": {"type": "RESPONSE", "dns": {"query": format!("{name}."), "ips": addresses}},
    }))
}

fn to_address(address: &str, port: u16) -> Flow {
    flow(json!({
        "IP": {"destination": address},
        "destination": {"labels": ["reserved:world-ipv4"]},
        "l4": {"TCP": {"destination_port": port}},
    }))
}

fn to_labels(labels: &[&str], l4: &Value) -> Flow {
    flow(json!({
        "IP": {"destination": "10.0.0.9"}, "destination": {"labels": labels}, "l4": l4,
    }))
}

fn learned(manner: Manner, flows: &[Flow]) -> (Lessons, Entries, String) {
    let subject = Subject::Pod { namespace: "prod".into(), name: "web".into() };
    let mut lessons = Lessons::new(subject, manner, 100);
    flows.iter().for_each(|flow| lessons.handle_flow(flow));
    let entries = lessons.entries(&SERVICES);
    let kind = lessons.kind.clone().unwrap();
    let policy = Head { name: "learned-web", kind: &kind }.policy(&entries).yaml();
    (lessons, entries, policy)
}

/// The entries of the policy that is learned, which is valid and needs no warning.
fn egress(manner: Manner, flows: &[Flow]) -> String {
    let (_, _, policy) = learned(manner, flows);
    let file: Arc<Path> = Arc::from(Path::new("learned"));
    let reports = policy::check(&file, &policy, policy::Options::default());
    assert_eq!(reports.len(), 1);
    assert!(reports[0].is_accepted() && reports[0].warnings.is_empty(), "{policy}\n{reports:?}");
    policy.split_once("  egress:\n").unwrap().1.to_owned()
}

#[test]
fn what_passed_only_for_an_audit_is_learned_unless_a_rule_denies_it() {
    let audited = |flow: Flow, reason: DropReason| Flow {
        verdict: Verdict::Audit.into(),
        drop_reason_desc: reason.into(),
        ..flow
    };
    let flows = [
        audited(lookup("api.example.com", &["203.0.113.10"]), DropReason::PolicyDenied),
        audited(to_address("203.0.113.10", 443), DropReason::PolicyDenied),
        audited(to_address("198.51.100.7", 25), DropReason::PolicyDeny),
    ];
    let (lessons, _, policy) = learned(Manner::default(), &flows);
    assert_eq!(lessons.counts, lessons::Counts { learned: 2, ..Default::default() });
    assert!(policy.contains("- matchName: api.example.com  # 1\n"), "{policy}");
    assert!(policy.contains("- matchName: api.example.com  # 1 flow\n"), "{policy}");
    assert!(!policy.contains("198.51.100.7"), "{policy}");
}

#[test]
fn names_stand_for_addresses_and_each_line_says_how_often_it_was_seen() {
    let connection = || to_address("203.0.113.10", 443);
    // The lookup is told of after a connection to what it found.
    let flows = [
        connection(),
        lookup("API.example.com", &["203.0.113.10", "2001:db8::10"]),
        lookup("api.example.com", &["203.0.113.10"]),
        lookup("api.example.com.prod.svc.cluster.local", &[]),
        connection(),
        to_address("198.51.100.7", 443),
    ];
    let (lessons, _, policy) = learned(Manner::default(), &flows);
    assert_eq!(lessons.counts, lessons::Counts { learned: 6, ..Default::default() });
    egress(Manner::default(), &flows);
    assert_eq!(
        policy,
        "\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: learned-web
  namespace: prod
spec:
  endpointSelector:
    matchLabels:
      app: web
  egress:
  - toEndpoints:
    - matchLabels:  # 3 lookups
        k8s-app: kube-dns
        k8s:io.kubernetes.pod.namespace: kube-system
    toPorts:
    - ports:
      - port: \"53\"
        protocol: ANY
      rules:
        dns:
        - matchName: api.example.com  # 2
        - matchName: api.example.com.prod.svc.cluster.local  # 1
  - toFQDNs:
    - matchName: api.example.com  # 2 flows
    toPorts:
    - ports:
      - port: \"443\"
        protocol: TCP
  - toCIDR:
    - \"198.51.100.7/32\"  # 1 flow
    toPorts:
    - ports:
      - port: \"443\"
        protocol: TCP
"
    );
}

#[test]
fn destinations_in_the_cluster_are_named_by_what_lasts() {
    let tcp = |port: u16| json!({"TCP": {"destination_port": port}});
    let service = |namespace: &str, name: &str, port: u16| {
        flow(json!({
            "destination_service": {"namespace": namespace, "name": name}, "l4": tcp(port),
        }))
    };
    let db = |pod: &str| {
        let pod = format!("k8s:statefulset.kubernetes.io/pod-name={pod}");
        to_labels(&["k8s:app=db", &pod, &format!("{NAMESPACE}=prod")], &tcp(5432))
    };
    let flows = [
        db("db-0"),
        db("db-1"),
        to_labels(&["k8s:app=db", &format!("{NAMESPACE}=prod")], &json!({"ICMPv4": {"type": 8}})),
        to_labels(&["reserved:host", "reserved:kube-apiserver"], &tcp(6443)),
        service("default", "kubernetes", 443),
        service("prod", "legacy", 80),
    ];
    assert_eq!(
        egress(Manner::default(), &flows),
        r#"  - toEndpoints:
    - matchLabels:  # 1 flow
        app: db
    icmps:
    - fields:
      - family: IPv4
        type: 8
  - toEndpoints:
    - matchLabels:  # 2 flows
        app: db
    toPorts:
    - ports:
      - port: "5432"
        protocol: TCP
  - toServices:
    - k8sService:  # 1 flow
        serviceName: legacy
        namespace: prod
    toPorts:
    - ports:
      - port: "8080"
        protocol: TCP
  - toEntities:
    - kube-apiserver  # 2 flows
    toPorts:
    - ports:
      - port: "6443"
        protocol: TCP
"#
    );
}

#[test]
fn wildcards_are_written_only_when_asked_for() {
    let flows = [
        lookup("a.example.com", &["203.0.113.1"]),
        lookup("b.example.com", &["203.0.113.2"]),
        to_address("203.0.113.1", 443),
        to_address("203.0.113.2", 443),
    ];
    assert!(!egress(Manner::default(), &flows).contains("matchPattern"));
    let wide = egress(Manner { wildcards: true, ..Manner::default() }, &flows);
    assert_eq!(wide.matches("- matchPattern: \"*.example.com\"  # 2").count(), 2, "{wide}");
    assert!(!wide.contains("matchName"), "{wide}");
}

#[test]
fn what_was_dropped_is_learned_only_when_asked_for_and_never_against_a_rule() {
    let dropped = |reason: &str, flow: Flow| {
        let mut flow: Value = serde_json::from_str(&flow.to_json()).unwrap();
        flow["verdict"] = json!("DROPPED");
        flow["drop_reason_desc"] = json!(reason);
        Flow::from_json(&flow.to_string()).unwrap()
    };
    let flows = [
        to_address("203.0.113.1", 443),
        dropped("POLICY_DENIED", to_address("203.0.113.2", 443)),
        dropped("POLICY_DENY", to_address("203.0.113.3", 443)),
    ];
    let (lessons, _, policy) = learned(Manner::default(), &flows);
    assert_eq!((lessons.counts.learned, lessons.counts.denied), (1, 1));
    assert!(!policy.contains("203.0.113.2"), "{policy}");
    let (_, _, policy) = learned(Manner { denied: true, ..Manner::default() }, &flows);
    assert!(policy.contains("203.0.113.2/32") && !policy.contains("203.0.113.3"), "{policy}");
}

#[test]
fn an_address_that_no_outside_name_brings_stands_for_itself() {
    let flows = [lookup("intranet.example.com", &["10.9.8.7"]), to_address("10.9.8.7", 443)];
    let (_, entries, policy) = learned(Manner::default(), &flows);
    assert_eq!(entries.guarded, ["10.9.8.7".parse().unwrap()].into());
    assert!(policy.contains("10.9.8.7/32") && !policy.contains("toFQDNs"), "{policy}");
    // The daemon is configured to learn it.
    let mut learned_there = flows[1].clone();
    learned_there.destination_names = vec!["intranet.example.com".to_owned()];
    let (_, entries, policy) = learned(Manner::default(), &[flows[0].clone(), learned_there]);
    assert!(entries.guarded.is_empty() && policy.contains("toFQDNs"), "{policy}");
}

#[test]
fn lookups_that_were_not_seen_leave_every_name_to_be_asked_for() {
    let packet = flow(json!({
        "destination_service": {"namespace": "kube-system", "name": "kube-dns"},
        "l4": {"UDP": {"destination_port": 53}},
    }));
    let (_, entries, policy) = learned(Manner::default(), std::slice::from_ref(&packet));
    assert_eq!(entries.unseen.len(), 1);
    assert!(policy.contains("- matchPattern: \"*\"  # 1\n"), "{policy}");
    // Where they were seen, the packet shows the same lookup.
    let (_, entries, policy) =
        learned(Manner::default(), &[packet, lookup("api.example.com", &[])]);
    assert!(entries.unseen.is_empty() && !policy.contains("matchPattern"), "{policy}");
}

#[test]
fn a_refused_lookup_does_not_open_the_server_it_was_meant_for() {
    let redirected = |port: u16| {
        flow(json!({
            "verdict": "REDIRECTED",
            "destination_service": {"namespace": "kube-system", "name": "kube-dns"},
            "l4": {"UDP": {"destination_port": port}},
        }))
    };
    let mut refused = lookup("evil.example.org", &[]);
    refused.set_verdict(Verdict::Dropped);
    refused.set_drop_reason_desc(DropReason::PolicyDenied);
    let reached = to_address("203.0.113.1", 443);
    let flows = [redirected(53), redirected(5353), refused, reached];
    let (lessons, entries, policy) = learned(Manner::default(), &flows);
    assert_eq!((lessons.counts.learned, lessons.counts.denied), (1, 1));
    assert!(entries.lookups.is_empty(), "{policy}");
    assert_eq!(entries.connections.len(), 1, "{policy}");
    let policy = egress(Manner { denied: true, ..Manner::default() }, &flows);
    assert!(policy.contains("- matchName: evil.example.org  # 1"), "{policy}");
}

#[test]
fn connections_that_the_l7_proxy_judged_are_counted() {
    let mut judged = to_address("203.0.113.1", 80);
    judged.set_verdict(Verdict::Redirected);
    let counts = learned(Manner::default(), &[judged, to_address("203.0.113.1", 443)]).0.counts;
    assert_eq!((counts.learned, counts.judged), (2, 1));
}

#[test]
fn flows_of_others_replies_and_inbound_connections_teach_nothing() {
    let with = |key: &str, value: Value| {
        let mut flow: Value =
            serde_json::from_str(&to_address("203.0.113.1", 443).to_json()).unwrap();
        flow[key] = value;
        Flow::from_json(&flow.to_string()).unwrap()
    };
    let other = json!({"namespace": "prod", "pod_name": "web-2", "labels": ["k8s:app=web"]});
    let flows = [
        with("source", other),
        with("is_reply", json!(true)),
        with("traffic_direction", json!("INGRESS")),
        with("l7", json!({"type": "REQUEST", "http": {"method": "GET"}})),
        to_address("203.0.113.1", 443),
    ];
    assert_eq!(learned(Manner::default(), &flows).0.counts.learned, 1);
}

#[test]
fn what_no_policy_can_say_or_has_room_for_is_counted() {
    let strange = flow(json!({"IP": {"destination": "203.0.113.1"}}));
    let many = (0..200u8).map(|own| to_address(&format!("203.0.113.{own}"), 443));
    let flows: Vec<Flow> =
        [strange, lookup("a b.example.com", &[])].into_iter().chain(many).collect();
    let counts = learned(Manner::default(), &flows).0.counts;
    assert_eq!((counts.unsayable, counts.learned, counts.left_out), (2, 100, 100));
}

#[test]
fn more_ports_than_an_item_may_have_become_several_items() {
    let flows: Vec<Flow> = (1..=41).map(|port| to_address("203.0.113.1", port)).collect();
    assert_eq!(egress(Manner::default(), &flows).matches("- ports:").count(), 2);
}

#[test]
fn the_preparation_is_a_policy_that_denies_nothing() {
    let labels = ["k8s:app=web".to_owned(), format!("{NAMESPACE}=prod")];
    let kind = Kind::read(&labels).unwrap();
    let text = Head { name: "seen-web", kind: &kind }.preparation().yaml();
    let file: Arc<Path> = Arc::from(Path::new("seen"));
    let report = policy::check(&file, &text, policy::Options::default()).remove(0);
    assert!(report.is_accepted() && report.warnings.is_empty(), "{text}\n{report:?}");
    assert!(report.policy.unwrap().rules.iter().all(|rule| !rule.default_deny));
}

#[test]
fn selectors_are_pairs() {
    let read = |text: &str| selector(text).map(|own| own.0);
    let pairs = BTreeMap::from([("app".to_owned(), "web".to_owned()), ("tier".into(), "x".into())]);
    assert_eq!(read("k8s:app=web, tier==x").unwrap(), pairs);
    for wrong in ["", "app", "=web", "app!=web", "app in (a)"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}
