//! Explanations against packets: what `fqdnctl policy explain` says becomes of a connection does
//! become of it, asked of the daemon or of the manifests alone.

use hickory_proto::rr::RecordType;
use integration::{BACKEND, Daemon, Lab, Place, Reach, Resolver, ip};
use serde_json::{Value, json};

/// What every policy begins with; the client is `prod/backend`.
const HEADER: &str = "\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: rules, namespace: prod}
spec:
  endpointSelector: {matchLabels: {app: backend}}
";
const NAMES: &str = "  egress:
  - toEndpoints:
    - matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}
    toPorts:
    - ports: [{port: '53', protocol: ANY}]
      rules: {dns: [{matchPattern: '*.example.com'}]}
  - toFQDNs: [{matchPattern: '*.example.com'}]
    toPorts:
    - ports: [{port: '80', protocol: TCP}]
";

#[test]
fn what_is_explained_is_what_packets_meet() {
    let lab = Lab::cluster().unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    for rules in [
        "  egress: [{}]\n",
        "  egress: [{toEntities: [cluster]}]\n",
        "  egress: [{toEntities: [host, kube-apiserver]}]\n",
        "  egress: [{toEntities: [world]}]\n",
        "  egress: [{toEntities: [all]}]\n  egressDeny: [{toEntities: [remote-node]}]\n",
        "  egress: [{toEndpoints: [{matchLabels: {role: cache}}]}]\n",
        "  egress: [{toNodes: [{matchLabels: {role: gateway}}]}]\n",
        "  egress: [{toServices: [{k8sService: {serviceName: kubernetes, namespace: default}}]}]\n",
        "  egress: [{toCIDRSet: [{cidr: 0.0.0.0/0}, {cidr: '::/0'}]}]\n",
        "  egress: [{toCIDR: [203.0.113.0/24, '2001:db8:1::/64']}]\n  enableDefaultDeny: {egress: false}\n",
        "  egressDeny: [{toPorts: [{ports: [{port: '443', protocol: TCP}]}]}]\n",
    ] {
        daemon.settle("rules", || lab.policy("rules", &format!("{HEADER}{rules}")).unwrap());
        let places = lab.places();
        let said = |place: &Place| {
            let (_, addresses, port) = place;
            let verdicts = addresses.map(|to| explain(&daemon, &[], &to.to_string(), *port));
            assert_eq!(verdicts[0]["verdict"], verdicts[1]["verdict"], "{rules}: {place:?}");
            assert_eq!(verdicts[0]["changes"] == json!([]), passes(&verdicts[0]));
            passes(&verdicts[0])
        };
        let explained: Vec<&str> =
            places.iter().filter(|place| said(place)).map(|(name, ..)| *name).collect();
        // Nobody is at `unmanaged`, so there packets do not tell.
        let known = |names: Vec<&'static str>| {
            names.into_iter().filter(|name| *name != "unmanaged").collect::<Vec<_>>()
        };
        assert_eq!(known(explained), known(lab.pod(BACKEND).reaches(&places)), "{rules}");
    }
}

#[test]
fn an_audited_policy_is_named_by_what_passes_because_of_it() {
    let lab = Lab::cluster().unwrap();
    let audited =
        HEADER.replace("name: rules,", "name: rules, annotations: {fqdnd.io/audit: 'true'},");
    assert_ne!(audited, HEADER);
    let rules =
        "  egress: [{toCIDR: [203.0.113.0/24]}]\n  egressDeny: [{toCIDR: [203.0.113.200/32]}]\n";
    lab.policy("rules", &format!("{audited}{rules}")).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let directory = lab.manifests().directory().display().to_string();
    for (to, verdict, reason) in [
        ("203.0.113.10", "allow", "allow-rule"),
        ("203.0.113.200", "audit", "deny-rule"),
        ("192.0.2.77", "audit", "policy-denied"),
    ] {
        for more in [&[][..], &["--manifests", &directory]] {
            let said = explain(&daemon, more, to, 80);
            assert_eq!((&said["verdict"], &said["reason"]), (&json!(verdict), &json!(reason)));
            assert_eq!(
                (&said["defaultDeny"], &said["enforced"]),
                (&json!("audited"), &json!(false))
            );
            assert_eq!(said["audited"], json!(["prod/rules"]));
        }
    }
    assert_eq!(lab.pod(BACKEND).connect(ip("203.0.113.200"), 80), Reach::Open);
    let text = daemon
        .ctl(&["policy", "explain", "--from", BACKEND, "--to", "203.0.113.200", "--port", "80/TCP"])
        .unwrap();
    for part in ["audit (deny-rule)", "would be denied by prod/rules", "prod/rules (audited)"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_a_pod_has_resolved_counts_for_it() {
    let lab = Lab::cluster().unwrap();
    lab.policy("rules", &format!("{HEADER}{NAMES}")).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let before = explain(&daemon, &[], "203.0.113.10", 80);
    assert_eq!((&before["verdict"], &before["reason"]), (&json!("deny"), &json!("policy-denied")));
    let answer =
        |name| lab.pod(BACKEND).ask(Resolver::new(lab.dns_service()[0]), name, RecordType::A);
    answer("www.example.com");
    assert_eq!(lab.pod(BACKEND).connect(ip("203.0.113.10"), 80), Reach::Open);
    let after = explain(&daemon, &[], "203.0.113.10", 80);
    assert_eq!((&after["verdict"], &after["reason"]), (&json!("allow"), &json!("allow-rule")));
    let rule = &after["rules"][0];
    assert_eq!((&rule["line"], &rule["policy"]), (&json!(12), &json!("prod/rules")));
    assert!(rule["file"].as_str().unwrap().ends_with("rules.yaml"), "{rule}");
    let by_name = explain(&daemon, &[], "www.example.com", 80);
    assert_eq!(by_name["destinations"][0]["address"], "203.0.113.10");
    assert_eq!(by_name["lookup"]["verdict"], "redirect");
    let other = daemon
        .ctl_json(&[
            "policy",
            "explain",
            "--from",
            "prod/cache",
            "--to",
            "203.0.113.10",
            "--port",
            "80/TCP",
        ])
        .unwrap();
    assert_eq!(other["reason"], "no-policy");
    let text = daemon
        .ctl(&["policy", "explain", "--from", BACKEND, "--to", "203.0.113.10", "--port", "80/TCP"])
        .unwrap();
    assert!(text.contains("12 |   - toFQDNs: [{matchPattern: '*.example.com'}]"), "{text}");
}

#[test]
fn the_manifests_alone_say_what_the_daemon_says() {
    let lab = Lab::cluster().unwrap();
    lab.policy("rules", &format!("{HEADER}{NAMES}")).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let directory = lab.manifests().directory().display().to_string();
    let (node4, node6) = lab.node_addresses();
    let host = format!("{node4},{node6}");
    let offline = ["--manifests", &directory, "--host-addresses", &host];
    for (_, [address, _], port) in lab.places() {
        let to = address.to_string();
        assert_eq!(explain(&daemon, &offline, &to, port), explain(&daemon, &[], &to, port));
    }
    for to in ["www.example.com", "example.org", "entity:world", "entity:host", "prod/db"] {
        assert_eq!(explain(&daemon, &offline, to, 80), explain(&daemon, &[], to, 80), "{to}");
    }
}

#[test]
fn the_smallest_change_lets_the_connection_pass() {
    let lab = Lab::cluster().unwrap();
    let denied =
        format!("{HEADER}  egress:\n  - toEndpoints: [{{matchLabels: {{app: nobody}}}}]\n");
    lab.policy("rules", &denied).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    for (name, [address, _], port) in lab.places() {
        if name == "unmanaged" {
            continue;
        }
        let client = lab.pod(BACKEND);
        assert_eq!(client.connect(address, port), Reach::Silent, "{name}");
        let explanation = explain(&daemon, &[], &address.to_string(), port);
        let change = &explanation["changes"][0];
        assert_eq!((&change["kind"], &change["field"]), (&json!("add"), &json!("spec.egress")));
        let yaml = change["yaml"].as_str().unwrap();
        let entry: String = yaml.lines().map(|line| format!("  {line}\n")).collect();
        daemon.settle(name, || lab.policy("rules", &format!("{denied}{entry}")).unwrap());
        assert_eq!(client.connect(address, port), Reach::Open, "{name}:\n{yaml}");
        daemon.settle("no change", || lab.policy("rules", &denied).unwrap());
    }
}

#[test]
fn what_is_in_force_is_listed_with_what_is_not_enforced_and_what_selects_nothing() {
    let lab = Lab::cluster().unwrap();
    lab.policy("rules", &format!("{HEADER}{NAMES}")).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    lab.pod(BACKEND).ask(Resolver::new(lab.dns_service()[0]), "www.example.com", RecordType::A);
    let policy = daemon.ctl_json(&["policy", "get", "prod/rules"]).unwrap();
    assert_eq!(policy["endpoints"], json!([{"namespace": "prod", "name": "backend"}]));
    assert_eq!((&policy["rules"][0]["allows"], &policy["unenforced"]), (&json!(2), &json!([])));

    let selectors = daemon.ctl_json(&["policy", "selectors"]).unwrap();
    let named = |field: &str| {
        let mut all = selectors.as_array().unwrap().iter();
        all.find(|own| own["field"] == field).unwrap_or_else(|| panic!("{field}: {selectors}"))
    };
    assert_eq!(named("toFQDNs")["names"], json!(["www.example.com."]));
    assert_eq!(named("toEndpoints")["identities"].as_array().unwrap().len(), 1);

    let identities = daemon.ctl_json(&["identity", "list"]).unwrap();
    let number = daemon.endpoint(BACKEND)["identity"].clone();
    let own = identities.as_array().unwrap().iter().find(|own| own["identity"] == number).unwrap();
    assert!(own["meaning"].as_array().unwrap().contains(&json!("k8s:app=backend")), "{own}");
    assert_eq!(daemon.ctl_json(&["endpoint", "get", BACKEND]).unwrap()["identity"], number);

    let unenforced = "  egress:
  - toEndpoints: [{matchLabels: {app: nobody}}]
  - toEntities: [world]
    toPorts:
    - ports: [{port: '80', protocol: TCP}]
      listener: {name: own, envoyConfig: {name: web}}
";
    daemon.settle("other rules", || lab.policy("rules", &format!("{HEADER}{unenforced}")).unwrap());
    integration::soon("the audit", || {
        messages(&daemon, "warnings")
            .iter()
            .any(|own| own.contains("selects nothing that is there"))
    });
    let unenforced = messages(&daemon, "unenforced");
    assert_eq!(unenforced, ["listener is not enforced here, so these ports are not opened"]);
    let text = daemon.ctl(&["status"]).unwrap();
    assert!(text.contains("\nNot enforced\n") && text.contains("\nWarnings\n"), "{text}");
}

fn messages(daemon: &Daemon, list: &str) -> Vec<String> {
    let status = daemon.ctl_json(&["status"]).unwrap();
    let all = status[list].as_array().unwrap().iter();
    all.map(|own| own["message"].as_str().unwrap().to_owned()).collect()
}

fn explain(daemon: &Daemon, options: &[&str], to: &str, port: u16) -> Value {
    let port = format!("{port}/TCP");
    let question = ["policy", "explain", "--from", BACKEND, "--to", to, "--port", &port];
    daemon.ctl_json(&[&question[..], options].concat()).unwrap()
}

fn passes(explanation: &Value) -> bool {
    explanation["verdict"] == "allow"
}
