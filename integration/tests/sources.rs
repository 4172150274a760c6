//! Manifests as the daemon's source: what is written, changed and removed is in force within a
//! second, and what is broken harms nothing but itself.
//!
//! Each change is waited for up to a minute, and the time that it took is printed: a machine may be
//! busy with other things. What grows is written before what shrinks, so that where a change is seen
//! in what it opens, what it closes is waited for as well.

use std::{
    fs,
    net::{IpAddr, UdpSocket},
    time::{Duration, Instant},
};

use integration::{Daemon, Lab, LabOptions, Pod, Ports, Reach, ip, soon};

const CLIENT: &str = "default/client";
const PATIENCE: Duration = Duration::from_secs(60);

/// The echo service of one address, for the pods with this label.
fn echo_of(name: &str, app: &str, address: &str) -> String {
    format!(
        r#"apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: {name}
  namespace: default
spec:
  endpointSelector:
    matchLabels:
      app: {app}
  egress:
  - toCIDR: [{address}]
    toPorts:
    - ports:
      - port: "7"
        protocol: UDP
"#
    )
}

#[test]
fn a_policy_that_is_added_changed_or_removed_is_in_force_within_a_second() {
    let (lab, daemon) = begin();
    let client = lab.pod(CLIENT);
    let (one, two) = (ip("203.0.113.10"), ip("203.0.113.11"));
    assert_eq!(daemon.enforcement(CLIENT), "open");

    let added = silent_after(client, two, || {
        lab.policy("echo", &echo_of("echo", "client", "203.0.113.10/32")).unwrap();
    });
    println!("an added policy is in force after {added:?}");
    assert_eq!(client.echo(one), Reach::Open);

    let changed = answered_after(client, two, || {
        lab.policy("echo", &echo_of("echo", "client", "203.0.113.11/32")).unwrap();
    });
    println!("a changed policy is in force after {changed:?}");
    soon("the other address is closed", || client.echo(one) == Reach::Silent);

    // As an editor does that writes in place.
    let changed = answered_after(client, one, || {
        let file = lab.manifests().directory().join("policy-echo.yaml");
        fs::write(file, echo_of("echo", "client", "203.0.113.10/32")).unwrap();
    });
    println!("a policy changed in place is in force after {changed:?}");
    soon("the other address is closed", || client.echo(two) == Reach::Silent);

    let removed = answered_after(client, two, || lab.remove_policy("echo").unwrap());
    println!("a policy's removal is in force after {removed:?}");
    assert_eq!(daemon.enforcement(CLIENT), "open");
    assert_eq!(daemon.problems(), [""; 0]);
}

#[test]
fn a_broken_document_is_named_by_its_place_and_its_last_good_version_stays() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let good = echo_of("echo", "client", "203.0.113.10/32");
    lab.policy("echo", &good).unwrap();
    lab.policy("others", &echo_of("others", "other", "203.0.113.20/32")).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let (client, other) = (lab.pod(CLIENT), lab.pod("default/other"));

    for (broken, problem) in [
        (
            good.replace("toPorts", "toPort"),
            "policy-echo.yaml:12:5: spec.egress[0].toPort: is no field that is known here; did you mean toPorts?",
        ),
        (
            good.replace("203.0.113.10/32", "203.0.113.10/33"),
            "policy-echo.yaml:11:14: spec.egress[0].toCIDR[0]: ",
        ),
        (
            good.replace("\"7\"", "\"70000\""),
            "policy-echo.yaml:14:15: spec.egress[0].toPorts[0].ports[0].port: ",
        ),
        (good.replace("[203.0.113.10/32]", "[203.0.113.10/32"), "policy-echo.yaml:"),
    ] {
        lab.policy("echo", &broken).unwrap();
        soon("a problem is told", || daemon.problems().len() == 1);
        let told = daemon.problems().remove(0);
        println!("{told}");
        assert!(told.starts_with(problem), "{told:?} instead of {problem:?}");
        let status = daemon.ctl_json(&["status"]).unwrap();
        let stale = status["staleFiles"].as_array().unwrap();
        assert_eq!(stale.len(), 1);
        assert!(stale[0]["file"].as_str().unwrap().ends_with("/policy-echo.yaml"));
        assert_eq!(status["policies"], 2);
        assert_eq!(client.echo(ip("203.0.113.10")), Reach::Open);
        assert_eq!(client.echo(ip("203.0.113.20")), Reach::Silent);
        soon("a neighbour's policy", || other.echo(ip("203.0.113.20")) == Reach::Open);

        // The others are read as if nothing were wrong.
        let took = answered_after(other, ip("203.0.113.21"), || {
            lab.policy("others", &echo_of("others", "other", "203.0.113.21/32")).unwrap();
        });
        println!("a neighbour's change is in force after {took:?}");
        lab.policy("others", &echo_of("others", "other", "203.0.113.20/32")).unwrap();

        lab.policy("echo", &good).unwrap();
        soon("the problem is gone", || daemon.problems().is_empty());
        assert_eq!(daemon.ctl_json(&["status"]).unwrap()["staleFiles"], serde_json::json!([]));
    }
}

#[test]
fn a_file_that_was_never_good_is_told_and_its_good_documents_are_not_taken_for_all() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let good = echo_of("echo", "client", "203.0.113.10/32");
    let broken = echo_of("second", "client", "nonsense");
    lab.policy("two", &format!("{good}---\n{broken}")).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let told = daemon.problems();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("policy-two.yaml:27:14: spec.egress[0].toCIDR[0]: "), "{told:?}");
    soon("the repaired file is read", || {
        lab.policy("two", &good).unwrap();
        daemon.problems().is_empty() && daemon.enforcement(CLIENT) == "enforced"
    });
}

#[test]
fn what_is_valid_and_not_enforced_is_told_by_its_field_and_opens_nothing() {
    let (lab, daemon) = begin_with(&["--l7-enabled", "false"]);
    let client = lab.pod(CLIENT);
    let rule = |rule: &str| {
        format!(
            "apiVersion: cilium.io/v2\n\
             kind: CiliumNetworkPolicy\n\
             metadata: {{name: later, namespace: default}}\n\
             spec:\n  endpointSelector: {{}}\n  egress:\n  \
             - toCIDR: [203.0.113.0/24]\n    toPorts:\n    \
               - ports: [{{port: \"80\", protocol: TCP}}]\n      {rule}\n"
        )
    };
    for (text, field, name) in [
        ("rules: {http: [{method: GET}]}", "spec.egress[0].toPorts[0].rules", "rules.http"),
        ("rules: {kafka: [{role: produce}]}", "spec.egress[0].toPorts[0].rules", "rules.kafka"),
        ("serverNames: [www.example.com]", "spec.egress[0].toPorts[0].serverNames", "serverNames"),
    ] {
        lab.policy("later", &rule(text)).unwrap();
        let warnings = || {
            let status = daemon.ctl_json(&["status"]).unwrap();
            status["warnings"].as_array().unwrap().clone()
        };
        soon("it is told", || warnings().iter().any(|warning| warning["field"] == field));
        let told = warnings().remove(0);
        println!("{told}");
        let message = format!("{name} is not enforced here, so these ports are not opened");
        assert_eq!(told["message"], message);
        assert_eq!((&told["line"], daemon.problems().len()), (&10.into(), 0));
        // It asks for default deny all the same, and for nothing to be open.
        soon("the rest of it is enforced", || daemon.enforcement(CLIENT) == "enforced");
        assert_eq!(client.connect(ip("203.0.113.10"), 80), Reach::Silent);
        lab.remove_policy("later").unwrap();
        soon("it is forgotten", || warnings().is_empty() && daemon.enforcement(CLIENT) == "open");
    }
}

#[test]
fn a_namespaces_label_decides_whom_a_policy_selects() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let example = include_str!("../../examples/default-deny.yaml");
    lab.policy("default-deny", example).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let backend = lab.pod("prod/backend");
    assert_eq!(daemon.enforcement("prod/backend"), "open");

    let namespaces = lab.manifests().directory().join("namespaces.yaml");
    let before = fs::read_to_string(&namespaces).unwrap();
    let mut labels = String::new();
    for document in before.split("---\n") {
        let closed = document.contains("name: \"prod\"");
        let more = if closed { "    egress: closed\n" } else { "" };
        labels.push_str(&format!("---\n{document}{more}"));
    }
    let took = silent_after(backend, ip("203.0.113.10"), || {
        lab.manifests().write("namespaces", &labels).unwrap();
    });
    println!("a namespace's new label is in force after {took:?}");
    soon("it is enforced", || daemon.enforcement("prod/backend") == "enforced");
    assert_eq!(daemon.enforcement(CLIENT), "open");

    let took = answered_after(backend, ip("203.0.113.10"), || {
        lab.manifests().write("namespaces", &before).unwrap();
    });
    println!("a namespace's lost label is in force after {took:?}");
    assert_eq!(daemon.problems(), [""; 0]);
}

#[test]
fn a_pods_changed_labels_change_what_is_enforced_on_it_and_who_may_reach_it() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let to_gold = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: to-gold, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toEndpoints:
    - matchLabels: {tier: gold}
"#;
    lab.policy("to-gold", to_gold).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let (client, other) = (lab.pod(CLIENT), lab.pod("default/other"));
    assert_eq!(client.echo(other.addresses()[0]), Reach::Silent);

    let manifest = lab.manifests().directory().join("pod-default-other.yaml");
    let before = fs::read_to_string(&manifest).unwrap();
    let after = before.replace("    \"app\": \"other\"\n", "    \"tier\": \"gold\"\n");
    assert_ne!(before, after);
    let number = daemon.endpoint("default/other")["id"].clone();
    for (text, address) in [(&after, other.addresses()[0]), (&after, other.addresses()[1])] {
        let took = answered_after(client, address, || {
            lab.manifests().write("pod-default-other", text).unwrap();
        });
        println!("a pod's new label is in force after {took:?}");
    }
    assert_eq!(daemon.endpoint("default/other")["id"], number, "it is the same endpoint");
    let took = silent_after(client, other.addresses()[0], || {
        lab.manifests().write("pod-default-other", &before).unwrap();
    });
    println!("a pod's lost label is in force after {took:?}");
}

fn begin() -> (Lab, Daemon) {
    begin_with(&["--log-level", "debug"])
}

fn begin_with(options: &[&str]) -> (Lab, Daemon) {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let daemon = Daemon::start(&lab, options).unwrap();
    (lab, daemon)
}

/// How long after a change the echo service answers the pod.
fn answered_after(pod: &Pod, address: IpAddr, change: impl FnOnce()) -> Duration {
    let socket = echo_socket(pod, address);
    change();
    let start = Instant::now();
    while !echoes(&socket) {
        assert!(start.elapsed() < PATIENCE, "{address} does not answer");
    }
    start.elapsed()
}

/// How long after a change the echo service still answers the pod, which it does before.
fn silent_after(pod: &Pod, address: IpAddr, change: impl FnOnce()) -> Duration {
    let socket = echo_socket(pod, address);
    soon("an answer before the change", || echoes(&socket));
    change();
    let start = Instant::now();
    let mut last = Duration::ZERO;
    while start.elapsed() < last + Duration::from_millis(500) {
        if echoes(&socket) {
            last = start.elapsed();
        }
        assert!(last < PATIENCE, "{address} still answers");
    }
    last
}

fn echo_socket(pod: &Pod, address: IpAddr) -> UdpSocket {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = pod.namespace().run(|| UdpSocket::bind(any)).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    socket.connect((address, Ports::ECHO)).unwrap();
    socket
}

fn echoes(socket: &UdpSocket) -> bool {
    let mut buffer = [0; 8];
    socket.send(b"?").is_ok() && socket.recv(&mut buffer).is_ok()
}
