//! Policies that are only audited, at both proxies: what they are against passes and is told, until
//! they are enforced; and what was seen meanwhile makes a policy.

use std::{net::IpAddr, process::Stdio};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use integration::{LabOptions, ONE_NAME, Reach, Resolver, WebServer, ip, python, soon, take_over};
use serde_json::json;

use crate::{
    foreign::{script, websocket_server},
    ground::{CLIENT, Ground, PLAIN, WWW, policy, public},
    http::{ask, raw},
};

const LISTEN: &str = "127.0.0.1:9965";
const METRICS: [&str; 2] = ["--metrics-listen", LISTEN];
/// `secret.example.org`, of which no rule speaks.
const SECRET: &str = "192.0.2.12";

const RULES: &str = r#"  - toCIDR: [203.0.113.10/32]
    toPorts:
    - ports: [{port: "8080", protocol: TCP}]
      rules: {http: [{method: GET, path: "/v1/.*"}]}
"#;

/// A policy with the annotation that has it audited.
fn audited(policy: &str) -> String {
    let marked = policy.replace("name: l7,", r#"name: l7, annotations: {fqdnd.io/audit: "true"},"#);
    marked
        .replace("name: one-name\n", "name: one-name\n  annotations: {fqdnd.io/audit: \"true\"}\n")
}

/// What is served to Prometheus.
fn metric(ground: &Ground, name: &str) -> f64 {
    let mut curl = ground.lab.node().command("curl");
    let output = curl.args(["--silent", &format!("http://{LISTEN}/metrics")]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[test]
fn a_request_that_no_rule_allows_passes_is_told_and_is_refused_once_that_is_enforced() {
    let ground = Ground::bridged(&audited(&policy(RULES)), &METRICS);
    let url = |path: &str| format!("http://{WWW}:{PLAIN}{path}");
    let mut living = raw(&ground, ip(WWW), PLAIN);
    assert_eq!(ask(&mut living, "/v1/x"), 200);
    assert_eq!(ask(&mut living, "/v2/x"), 200);
    assert_eq!(ground.status(&["--request", "DELETE", &url("/v1/y")]), 200);
    assert_eq!(ground.web.requests(), ["GET /v1/x", "GET /v2/x", "DELETE /v1/y"]);
    let told = ground.told("/v2/x");
    assert_eq!((&told["verdict"], &told["l7"]["http"]["code"]), (&json!("AUDIT"), &json!(200)));
    assert!(told["Summary"].as_str().unwrap().ends_with("(request-denied)"), "{told}");
    assert_eq!(ground.told("/v1/x")["verdict"], "FORWARDED");
    let line = ground.daemon.ctl(&["observe", "--verdict", "audit", "--protocol", "http"]).unwrap();
    assert!(line.contains("http-response") && line.contains("AUDIT"), "{line}");
    let status = ground.daemon.ctl_json(&["status"]).unwrap();
    soon("the requests are counted", || {
        metric(&ground, r#"fqdnd_l7_requests_total{protocol="http",outcome="audited"}"#) == 2.0
    });
    assert_eq!(metric(&ground, r#"fqdnd_l7_audits_total{reason="request-denied"}"#), 2.0);
    assert_eq!((&status["audit"], &status["endpoints"]["audited"]), (&json!(false), &json!(1)));

    ground.change(&policy(RULES));
    assert_eq!(ask(&mut living, "/v2/x"), 403);
    assert_eq!(ask(&mut living, "/v1/x"), 200);
    assert_eq!(ground.status(&[&url("/v2/y")]), 403);
    // And back, on the same connection.
    ground.change(&audited(&policy(RULES)));
    assert_eq!(ask(&mut living, "/v2/x"), 200);
}

#[test]
fn http2_and_websockets_go_on_and_end_where_their_rules_are_enforced() {
    let ground = Ground::new(&audited(&policy(RULES)));
    let url = format!("http://{WWW}:{PLAIN}/v2/two");
    assert_eq!(ground.status(&["--http2-prior-knowledge", &url]), 200);
    ground.flow(&["--verdict", "audit", "--protocol", "http"], |flow| {
        flow["l7"]["http"]["protocol"] == "HTTP/2"
    });
    let web = ground.lab.outside("web").namespace();
    let _server = websocket_server(web.command(python()), 28_082);
    take_over(web, PLAIN, 28_082).unwrap();
    let talk = || {
        let client = ground.client().namespace().command(python());
        script(client, "websocket.py", &["talk", &format!("ws://{WWW}:{PLAIN}/chat"), "one"])
    };
    assert_eq!(talk(), json!({"answers": ["one"]}));
    let told = ground.told("101 (GET");
    assert_eq!(told["verdict"], "AUDIT");
    ground.change(&policy(RULES));
    assert_eq!(talk(), json!({"status": 403}));
}

#[test]
fn tls_for_a_name_that_no_rule_allows_passes_and_is_told() {
    let names = r#"  - toFQDNs: [{matchPattern: "*.example.com"}]
    toPorts:
    - ports: [{port: "443", protocol: TCP}]
      serverNames: ["www.example.com"]
"#;
    let ground = Ground::new(&audited(&policy(names)));
    let (_, certificate) = public(&["www.example.com"]);
    let web = ground.lab.outside("web").namespace();
    let _server = WebServer::start(web, 443, Some(&certificate)).unwrap();
    let address = ground.resolve("www.example.com").to_string();
    let shakes_hands = |arguments: &[&str]| {
        let mut client = ground.client().command("timeout");
        client.args(["20", "openssl", "s_client", "-connect", &format!("{address}:443")]);
        let output = client.args(arguments).stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("BEGIN CERTIFICATE")
    };
    let odd = [
        (&["-servername", "github.com"][..], "server-name-denied"),
        (&["-noservername"], "server-name-missing"),
    ];
    for (arguments, reason) in odd {
        assert!(shakes_hands(arguments), "{reason}");
        assert_eq!(ground.told(reason)["verdict"], "AUDIT");
    }
    assert!(shakes_hands(&["-servername", "www.example.com"]));
    ground.change(&policy(names));
    for (arguments, reason) in odd {
        assert!(!shakes_hands(arguments), "{reason}");
    }
    assert!(shakes_hands(&["-servername", "www.example.com"]));
}

#[test]
fn a_lookup_that_no_rule_allows_is_answered_and_told_and_opens_nothing() {
    let ground = Ground::with(LabOptions::default(), &audited(ONE_NAME), &METRICS);
    let (client, daemon) = (ground.client(), &ground.daemon);
    let udp = Resolver::new(ground.lab.dns_service()[0]);
    for resolver in [udp, udp.over_tcp(true)] {
        let answer = client.ask(resolver, "secret.example.org", RecordType::A);
        assert_eq!(answer.addresses, [ip(SECRET)]);
    }
    assert_eq!(client.connect(ip(SECRET), 80), Reach::Open);
    let told = ground.told("DNS Answer \"192.0.2.12\"");
    assert_eq!(
        (&told["verdict"], &told["l7"]["dns"]["query"]),
        (&json!("AUDIT"), &json!("secret.example.org."))
    );
    let packet = ground.flow(&["--verdict", "audit", "--to-ip", SECRET], |_| true);
    assert_eq!(packet["destination_names"], json!(["secret.example.org"]));
    assert_eq!(daemon.count("dns", "audited"), 2);
    assert_eq!(metric(&ground, r#"fqdnd_dns_verdicts_total{verdict="audited"}"#), 2.0);
    let cached = daemon.ctl_json(&["cache", "list"]).unwrap();
    assert_eq!(cached[0]["enforced"], false, "no selector matches: {cached}");
    assert_eq!(daemon.enforcement(CLIENT), "audited");
    let to = ["--to", "secret.example.org", "--port", "80/TCP"];
    let explain = [&["policy", "explain", "--from", CLIENT], &to[..]].concat();
    let explained = daemon.ctl_output(&explain).unwrap();
    let explained = String::from_utf8(explained.stdout).unwrap();
    assert!(explained.starts_with("audit (policy-denied): default/client to "), "{explained}");
    assert!(explained.contains("policies: default/one-name (audited)"), "{explained}");
    let shown = daemon.ctl(&["policy", "get", "default/one-name"]).unwrap();
    assert!(
        shown.lines().any(|line| line.starts_with("Enforced:") && line.ends_with("audited")),
        "{shown}"
    );

    ground.change(ONE_NAME);
    assert_eq!(client.ask(udp, "secret.example.org", RecordType::A).code, ResponseCode::Refused);
    assert_eq!(client.connect(ip(SECRET), 80), Reach::Silent);
    assert_eq!(daemon.enforcement(CLIENT), "enforced");
}

#[test]
fn a_node_that_audits_enforces_nothing_and_says_so_everywhere() {
    let limits = ["--query-limits-label-length", "8", "--audit"];
    let flags = [&METRICS[..], &limits].concat();
    let mut ground = Ground::with(LabOptions::default(), ONE_NAME, &flags);
    let (client, udp) = (ground.client(), Resolver::new(ground.lab.dns_service()[0]));
    assert_eq!(client.ask(udp, "secret.example.org", RecordType::A).addresses, [ip(SECRET)]);
    client.ask(udp, "long-label.example.com", RecordType::A);
    assert_eq!(ground.lab.questions().asked("long-label.example.com"), 1);
    assert_eq!(client.connect(ip(SECRET), 80), Reach::Open);
    let daemon = &ground.daemon;
    soon("it is counted", || daemon.audits(CLIENT).contains_key("policy-denied"));
    assert_eq!(daemon.drops(CLIENT), [].into());
    let says = "every policy is audited: nothing is enforced";
    assert!(daemon.log().contains(says), "{}", daemon.log());
    for command in ["status", "health"] {
        let told = daemon.ctl(&[command]).unwrap();
        assert!(told.contains(says), "{told}");
    }
    let status = daemon.ctl_json(&["status"]).unwrap();
    assert_eq!((&status["audit"], &status["endpoints"]["enforced"]), (&json!(true), &json!(0)));
    let over = status["limits"]["query-label-length-audited"].as_u64();
    assert_eq!(over, Some(1), "{status}");
    let endpoint = daemon.endpoint(CLIENT);
    assert_eq!(endpoint["enforcement"], "audited");
    assert_eq!(endpoint["auditedPolicies"], json!(["default/one-name"]));
    assert_eq!(metric(&ground, "fqdnd_audit"), 1.0);
    assert_eq!(metric(&ground, "fqdnd_audited_policies"), 1.0);

    // Without the key the same is enforced, on what was left in the kernel.
    ground.daemon.restart_with(&METRICS).unwrap();
    let client = ground.client();
    assert_eq!(client.ask(udp, "secret.example.org", RecordType::A).code, ResponseCode::Refused);
    assert_eq!(client.connect(ip(SECRET), 80), Reach::Silent);
    assert_eq!(metric(&ground, "fqdnd_audit"), 0.0);
}

#[test]
fn a_pod_that_is_not_known_yet_is_open_where_the_node_audits() {
    const OTHER: &str = "default/other";
    let unknown = ["--kubernetes-interfaces", "v*"];
    let flags = [&unknown[..], &["--audit"]].concat();
    let mut ground = Ground::with(LabOptions::default(), ONE_NAME, &flags);
    ground.daemon.settle("nobody knows of it", || {
        ground.lab.manifests().remove("pod-default-other").unwrap();
    });
    assert_eq!(ground.daemon.enforcement(OTHER), "absent");
    assert_eq!(ground.lab.pod(OTHER).connect(ip(WWW), PLAIN), Reach::Open);
    ground.daemon.restart_with(&unknown).unwrap();
    assert_eq!(ground.lab.pod(OTHER).connect(ip(WWW), PLAIN), Reach::Silent);
    ground.daemon.restart_with(&flags).unwrap();
    assert_eq!(ground.lab.pod(OTHER).connect(ip(WWW), PLAIN), Reach::Open);
}

#[test]
fn what_is_learned_while_a_policy_is_audited_lets_the_same_pass_when_it_is_enforced() {
    let nothing = policy("").replace("matchPattern: \"*\"", "matchName: nothing.example.com");
    let ground = Ground::new(&audited(&nothing));
    let places: [(IpAddr, u16); 3] = [(ip(WWW), 443), (ip(WWW), PLAIN), (ip("198.51.100.77"), 443)];
    let live = || {
        assert_eq!(ground.resolve("www.example.com"), ip(WWW));
        places.map(|(address, port)| ground.client().connect(address, port))
    };
    let before = live();
    let mut learned = String::new();
    soon("all of it is learned", || {
        let output = ground.daemon.ctl_output(&["policy", "learn", CLIENT]).unwrap();
        learned = String::from_utf8(output.stdout).unwrap();
        ["- matchName: www.example.com  # 1\n", "\"443\"", "\"8080\"", "198.51.100.77/32"]
            .iter()
            .all(|entry| learned.contains(entry))
    });
    ground.change(&learned);
    assert_eq!(ground.daemon.enforcement(CLIENT), "enforced");
    assert_eq!(live(), before);
    assert_eq!(before, [Reach::Open; 3]);
    assert_eq!(ground.client().connect(ip("198.51.100.78"), 443), Reach::Silent);
}
