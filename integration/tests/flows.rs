//! What is recorded of packets and questions, and that what is not is counted: by the real daemon,
//! as its own client shows it.

use std::{net::IpAddr, path::Path, thread, time::Duration};

use hickory_proto::rr::RecordType;
use integration::{
    Daemon, Flood, FloodKind, Lab, LabOptions, Load, Reach, Resolver, soon, wait_until,
};
use serde_json::Value;

const CLIENT: &str = "default/client";
const FLOODER: &str = "prod/backend";
const POLICIES: &str = r#"apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: names, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toEndpoints:
    - matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}
    toPorts:
    - ports: [{port: "53", protocol: ANY}]
      rules:
        dns:
        - matchPattern: "**.fresh.example"
        - matchPattern: "**.example.com"
        - matchPattern: "**.example.net"
  - toFQDNs:
    - matchPattern: "**.fresh.example"
    - matchPattern: "*.example.com"
    toPorts:
    - ports: [{port: "80", protocol: TCP}, {port: "443", protocol: TCP}]
---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: never}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egressDeny:
  - toCIDR: [203.0.113.12/32]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: nothing, namespace: prod}
spec:
  endpointSelector: {matchLabels: {app: backend}}
  egress: [{}]
  egressDeny:
  - toEntities: [world]
"#;

#[test]
fn a_first_packet_is_a_flow_with_names_labels_and_the_line_that_allows_it() {
    let (lab, daemon) = begin(&[]);
    let client = lab.pod(CLIENT);
    let www = ask(&lab, "www.example.com");
    // Many packets, and one flow.
    assert_eq!(client.connect(www, 80), Reach::Open);
    let of = ["--from-pod", CLIENT, "--port", "80", "--verdict", "forwarded"];
    let flow = &flows(&daemon, &of, 1)[0];
    assert_eq!(flow["traffic_direction"], "EGRESS");
    assert_eq!(flow["Type"], "L3_L4");
    assert_eq!(flow["is_reply"], false);
    assert_eq!(flow["IP"]["destination"], www.to_string());
    assert_eq!(flow["l4"]["TCP"]["destination_port"], 80);
    assert_eq!(flow["l4"]["TCP"]["flags"], serde_json::json!({"SYN": true}));
    assert_eq!(flow["destination_names"], serde_json::json!(["www.example.com"]));
    assert_eq!(flow["source"]["pod_name"], "client");
    assert!(texts(&flow["source"]["labels"]).contains(&"k8s:app=client".to_owned()), "{flow}");
    assert_eq!(texts(&flow["destination"]["labels"]), ["reserved:world-ipv4"]);
    assert_eq!(flow["interface"]["name"], client.host_interface());
    let [policy] = policies(flow, "egress_allowed_by").try_into().unwrap();
    assert_eq!(policy, format!("default/names {}", line_of("port: \"80\"")));
}

#[test]
fn a_drop_says_why_and_which_policy_denies_it() {
    let (lab, daemon) = begin(&[]);
    let client = lab.pod(CLIENT);
    let (www, payments) = (ask(&lab, "www.example.com"), ask(&lab, "payments.example.com"));
    assert_ne!(client.connect(www, 81), Reach::Open);
    assert_ne!(client.connect(payments, 80), Reach::Open);
    let dropped = ["--from-pod", CLIENT, "--verdict", "drop", "--direction", "egress"];
    let by_default = some(&daemon, &[&dropped[..], &["--port", "81"]].concat());
    assert_eq!(by_default["drop_reason_desc"], "POLICY_DENIED");
    assert_eq!(by_default["destination_names"], serde_json::json!(["www.example.com"]));
    assert_eq!(policies(&by_default, "egress_denied_by"), [""; 0]);
    let by_rule = some(&daemon, &[&dropped[..], &["--to-fqdn", "pay*.example.com"]].concat());
    assert_eq!(by_rule["drop_reason_desc"], "POLICY_DENY");
    let place = line_of("toCIDR: [203.0.113.12/32]");
    assert_eq!(policies(&by_rule, "egress_denied_by"), [format!("never {place}")]);
    assert!(by_rule["Summary"].as_str().unwrap().contains("deny-rule"), "{by_rule}");
}

#[test]
fn a_question_of_dns_is_a_flow_with_its_answer_or_its_refusal() {
    let (lab, daemon) = begin(&[]);
    let client = lab.pod(CLIENT);
    let resolver = Resolver::new(lab.dns_service()[0]);
    client.ask(resolver, "shop.example.com", RecordType::AAAA);
    client.ask(resolver, "nowhere.example.com", RecordType::A);
    client.ask(resolver.over_tcp(true), "github.com", RecordType::A);
    let asked = |name: &str| {
        let pattern = format!("^{}[.]$", name.replace('.', "[.]"));
        let of = ["--from-pod", CLIENT, "--type", "l7", "--dns-query", &pattern];
        flows(&daemon, &of, 1).remove(0)
    };
    let answered = asked("shop.example.com");
    assert_eq!(answered["verdict"], "FORWARDED");
    assert_eq!(answered["destination_service"]["name"], "kube-dns");
    let dns = &answered["l7"]["dns"];
    assert_eq!(texts(&dns["qtypes"]), ["AAAA"]);
    let chain = ["storefront.example.com.", "edge.example.net.", "pop1.example.net."];
    assert_eq!(texts(&dns["cnames"]), chain);
    assert!(!texts(&dns["ips"]).is_empty(), "{dns}");
    assert!(dns["ttl"].as_u64().unwrap() > 0, "{dns}");
    assert!(answered["l7"]["latency_ns"].is_string(), "{answered}");
    let place = line_of("port: \"53\"");
    assert_eq!(policies(&answered, "egress_allowed_by"), [format!("default/names {place}")]);
    assert_eq!(asked("nowhere.example.com")["l7"]["dns"]["rcode"], 3);
    let refused = asked("github.com");
    assert_eq!(refused["verdict"], "DROPPED");
    assert_eq!(refused["drop_reason_desc"], "POLICY_DENIED");
    assert_eq!(refused["l7"]["type"], "REQUEST");
    assert!(refused["l4"]["TCP"].is_object(), "{refused}");
    // The packet that carried the first question is a flow of its own.
    let redirected = ["--from-pod", CLIENT, "--verdict", "redirected", "--protocol", "udp"];
    let redirected = some(&daemon, &redirected);
    assert_eq!(redirected["destination_service"]["namespace"], "kube-system");
}

#[test]
fn flows_that_are_read_late_tell_of_the_pod_the_names_and_the_policy_of_their_time() {
    let (mut lab, daemon) = begin(&[]);
    let www = ask(&lab, "www.example.com");
    assert_eq!(lab.pod(CLIENT).connect(www, 80), Reach::Open);
    // Nobody reads them until everything is another.
    let without_names = POLICIES.split_once("---").unwrap().1;
    daemon.settle("another policy", || lab.policy("all", without_names).unwrap());
    daemon.settle("no policy", || lab.remove_policy("all").unwrap());
    daemon.settle("no pod", || lab.remove_pod(CLIENT).unwrap());

    let connection = &flows(&daemon, &["--from-pod", CLIENT, "--port", "80"], 1)[0];
    assert_eq!(connection["destination_names"], serde_json::json!(["www.example.com"]));
    assert!(texts(&connection["source"]["labels"]).contains(&"k8s:app=client".to_owned()));
    let port = format!("default/names {}", line_of("port: \"80\""));
    assert_eq!(policies(connection, "egress_allowed_by"), [port]);
    let question = some(&daemon, &["--from-pod", CLIENT, "--type", "l7"]);
    let dns = format!("default/names {}", line_of("port: \"53\""));
    assert_eq!(policies(&question, "egress_allowed_by"), [dns]);
    assert_eq!(question["destination_service"]["name"], "kube-dns");
}

#[test]
fn a_question_whose_server_is_silent_is_a_flow_that_says_so() {
    let (lab, daemon) = begin(&["--dns-upstream-timeout", "1s"]);
    let client = lab.pod(CLIENT);
    lab.cut("kube-system/coredns").unwrap();
    client.ask(Resolver::new(lab.dns_service()[0]), "www.example.com", RecordType::A);
    let failed = some(&daemon, &["--from-pod", CLIENT, "--verdict", "error"]);
    assert_eq!(failed["l7"]["dns"]["rcode"], 2);
    assert!(failed["Summary"].as_str().unwrap().contains("upstream-"), "{failed}");
}

#[test]
fn a_flood_of_drops_leaves_another_pods_lookups_and_flows_whole_and_every_drop_counted() {
    const PACKETS: u32 = 50_000;
    const LOOKUPS: u32 = 200;
    let (lab, daemon) = begin(&[]);
    let (client, flooder) = (lab.pod(CLIENT), lab.pod(FLOODER));
    let load = Load { clients: 1, lookups: LOOKUPS, ..Load::new(lab.dns_service()[0]) };
    let (flooded, report) = thread::scope(|scope| {
        let load = scope.spawn(|| load.run(client.namespace()).unwrap());
        let flood = Flood {
            kind: FloodKind::Syn,
            ipv6: false,
            packets: PACKETS,
            seed: 5,
            within: &[203, 0, 113],
        };
        (flood.send(flooder).unwrap(), load.join().unwrap())
    });
    println!("{flooded:?}, {report}");
    assert!(report.is_clean(), "{report}");
    let dropped = flooded.sent - flooded.lost;
    soon("every drop is counted", || daemon.drops(FLOODER).values().sum::<u64>() == dropped);

    let of_client = ["--from-pod", CLIENT, "--verdict", "forwarded"];
    for kind in [["--type", "l7"], ["--port", "443"]] {
        flows(&daemon, &[&of_client[..], &kind].concat(), LOOKUPS as usize);
    }
    // What was not recorded is told as lost, to the packet.
    let told = || {
        let of_flooder = ["observe", "--all", "-o", "json", "--from-pod", FLOODER];
        let entries = entries(&daemon, &of_flooder);
        let lost =
            entries.iter().filter_map(|entry| entry["lost_events"]["num_events_lost"].as_str());
        let lost: u64 = lost.map(|count| count.parse::<u64>().unwrap()).sum();
        let recorded = entries.iter().filter(|entry| entry["flow"]["verdict"] == "DROPPED").count();
        (recorded as u64, lost)
    };
    soon("every drop is recorded or told as lost", || {
        let (recorded, lost) = told();
        recorded + lost == dropped
    });
    let (recorded, lost) = told();
    println!("{recorded} drops recorded, {lost} told as lost");
    assert!(recorded >= 200 && lost > 0);
    let status = daemon.ctl_json(&["status"]).unwrap();
    assert_eq!(status["flows"]["lost-endpoint-budget"], lost);
    assert_eq!(status["flows"]["lost-dns-queue"], 0);
}

#[test]
fn nothing_is_recorded_where_that_is_not_wanted() {
    let (lab, daemon) = begin(&["--flows-enabled", "false"]);
    let client = lab.pod(CLIENT);
    let www = ask(&lab, "www.example.com");
    assert_ne!(client.connect(www, 81), Reach::Open);
    assert!(daemon.dropped(CLIENT, "policy-denied") > 0);
    let status = daemon.ctl_json(&["status"]).unwrap();
    assert_eq!(status["flows"], serde_json::json!({}));
    assert!(daemon.ctl(&["observe"]).is_err());
    let events = status["limits"].as_object().unwrap().keys();
    assert!(!events.into_iter().any(|limit| limit.contains("events")), "{status}");
}

fn begin(flags: &[&str]) -> (Lab, Daemon) {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("all", POLICIES).unwrap();
    let daemon = Daemon::start(&lab, flags).unwrap();
    assert_eq!(daemon.problems(), [""; 0]);
    (lab, daemon)
}

fn ask(lab: &Lab, name: &str) -> IpAddr {
    let resolver = Resolver::new(lab.dns_service()[0]);
    lab.pod(CLIENT).ask(resolver, name, RecordType::A).addresses[0]
}

/// What `fqdnctl` prints, one object a line.
fn entries(daemon: &Daemon, arguments: &[&str]) -> Vec<Value> {
    let text = daemon.ctl(arguments).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn all(daemon: &Daemon, filters: &[&str]) -> Vec<Value> {
    let arguments = [&["observe", "--all", "-o", "json"], filters].concat();
    let flows = entries(daemon, &arguments).into_iter().map(|mut entry| entry["flow"].take());
    flows.filter(|flow| !flow.is_null()).collect()
}

/// The flows that match, as soon as there are so many; there must not be more.
fn flows(daemon: &Daemon, filters: &[&str], count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    let waited = wait_until("flows", Duration::from_secs(60), || {
        found = all(daemon, filters);
        found.len() >= count
    });
    assert!(waited.is_ok() && found.len() == count, "{filters:?}: {}: {found:#?}", found.len());
    found
}

/// The first flow that matches.
fn some(daemon: &Daemon, filters: &[&str]) -> Value {
    let mut found = None;
    soon(&format!("a flow: {filters:?}"), || {
        found = all(daemon, filters).into_iter().next();
        found.is_some()
    });
    found.unwrap()
}

fn texts(list: &Value) -> Vec<String> {
    let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// The policies in a field of a flow, as `NAMESPACE/NAME LINE`.
fn policies(flow: &Value, field: &str) -> Vec<String> {
    let all = flow[field].as_array().into_iter().flatten().map(|policy| {
        let labels = texts(&policy["labels"]);
        let place = labels.iter().find_map(|label| label.strip_prefix("fqdnd:file=")).unwrap();
        let (file, line) = place.rsplit_once(':').unwrap();
        assert_eq!(Path::new(file).file_stem().unwrap(), "policy-all", "{policy}");
        let namespace = policy["namespace"].as_str().filter(|own| !own.is_empty());
        let gap = if namespace.is_some() { "/" } else { "" };
        let name = policy["name"].as_str().unwrap();
        format!("{}{gap}{name} {line}", namespace.unwrap_or_default())
    });
    all.collect()
}

/// The line of the policies in which a port rule or a peer stands.
fn line_of(text: &str) -> usize {
    1 + POLICIES.lines().position(|line| line.contains(text)).unwrap()
}
