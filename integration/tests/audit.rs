//! Audited policies on real packets: what they alone would drop passes, is told and counted; what
//! is enforced beside them holds; and a living connection meets the turn from one to the other.

use std::{collections::BTreeMap, time::Duration};

use hickory_proto::rr::RecordType;
use integration::{
    Daemon, Lab, LabOptions, ONE_NAME, Ports, Reach, Resolver, Topology, Transfer, begun, go_on,
    ip, soon,
};
use serde_json::Value;

const CLIENT: &str = "default/client";
const PATIENCE: Duration = Duration::from_secs(60);
/// A host of each family, in a range of its own each.
const WEB: [&str; 2] = ["203.0.113.10", "2001:db8:1::10"];
const CDN: [&str; 2] = ["198.51.100.10", "2001:db8:2::10"];
const ELSEWHERE: [&str; 2] = ["192.0.2.10", "2001:db8:bad::10"];

/// The client may go nowhere.
const NOWHERE: &str = "egress: [{}]";
/// It may go to the web hosts.
const TO_WEB: &str = "egress: [{toCIDR: [203.0.113.0/24, '2001:db8:1::/64']}]";
/// It may not go to these, and nothing else is said.
const NOT_TO_CDN: &str = "enableDefaultDeny: {egress: false}, \
    egressDeny: [{toCIDR: [198.51.100.0/24, '2001:db8:2::/64']}]";

/// A policy for the client; `audited`: by its annotation.
fn policy(name: &str, audited: bool, spec: &str) -> String {
    format!(
        "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: {name}, namespace: default, annotations: {{fqdnd.io/audit: '{audited}'}}}}
spec: {{endpointSelector: {{matchLabels: {{app: client}}}}, {spec}}}
"
    )
}

fn lab_of(topology: Topology, policies: &[(&str, bool, &str)]) -> Lab {
    let lab = Lab::new(LabOptions::with_topology(topology)).unwrap();
    for (name, audited, spec) in policies {
        lab.policy(name, &policy(name, *audited, spec)).unwrap();
    }
    lab
}

/// What comes of connections to a host's addresses.
fn connect(lab: &Lab, to: [&str; 2], port: u16) -> Vec<Reach> {
    lab.pod(CLIENT).connect_all(&to.map(ip), port)
}

fn transfers(lab: &Lab, to: [&str; 2]) -> [Transfer; 2] {
    to.map(|address| begun(lab.pod(CLIENT), ip(address)))
}

fn end(transfers: &[Transfer]) {
    for transfer in transfers {
        transfer.ends(PATIENCE).unwrap();
    }
}

fn counts(all: &[(&str, u64)]) -> BTreeMap<String, u64> {
    all.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect()
}

/// The flows from the client's packets to an address, oldest first: verdict and reason.
fn told(daemon: &Daemon, to: &str) -> Vec<(String, String)> {
    let filters = ["observe", "--all", "--from-pod", CLIENT, "--to-ip", to, "-o", "json"];
    let lines = daemon.ctl(&filters).unwrap();
    let entries = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let flows = entries.filter_map(|mut entry| Some(entry.get_mut("flow")?.take()));
    let text = |flow: &Value, key: &str| flow[key].as_str().unwrap_or_default().to_owned();
    flows.map(|flow| (text(&flow, "verdict"), text(&flow, "drop_reason_desc"))).collect()
}

#[test]
fn what_an_audited_default_deny_would_drop_passes_and_is_told() {
    for (topology, attach) in [(Topology::Routed, "tcx"), (Topology::Bridged, "clsact")] {
        let lab = lab_of(topology, &[("nowhere", true, NOWHERE)]);
        let daemon = Daemon::start(&lab, &["--bpf-attach", attach]).unwrap();
        let client = lab.pod(CLIENT);
        assert_eq!(connect(&lab, WEB, Ports::HTTP), [Reach::Open; 2]);
        assert_eq!(WEB.map(|address| client.echo(ip(address))), [Reach::Open; 2]);
        assert_eq!(WEB.map(|address| client.ping(ip(address))), [Reach::Open; 2]);
        let resolver = Resolver::new(lab.dns_service()[0]);
        let answer = client.ask(resolver, "www.example.com", RecordType::A);
        assert_eq!(answer.addresses, [ip("203.0.113.10")]);
        assert_eq!(daemon.audits(CLIENT), counts(&[("policy-denied", 7)]), "{topology:?}");
        assert_eq!(daemon.drops(CLIENT), counts(&[]));
        let audit = ("AUDIT".to_owned(), "POLICY_DENIED".to_owned());
        for address in WEB {
            soon("flows", || told(&daemon, address).len() == 3);
            assert_eq!(told(&daemon, address), vec![audit.clone(); 3]);
        }
    }
}

#[test]
fn what_is_enforced_beside_audited_policies_holds() {
    let lab = lab_of(
        Topology::Routed,
        &[
            ("to-web", true, TO_WEB),
            ("not-to-cdn", false, NOT_TO_CDN),
            ("not-elsewhere", true, "egressDeny: [{toCIDR: [192.0.2.0/24, '2001:db8:bad::/64']}]"),
        ],
    );
    let daemon = Daemon::start(&lab, &[]).unwrap();
    assert_eq!(connect(&lab, WEB, Ports::HTTP), [Reach::Open; 2]);
    assert_eq!((daemon.audits(CLIENT), daemon.drops(CLIENT)), (counts(&[]), counts(&[])));
    assert_eq!(connect(&lab, CDN, Ports::HTTP), [Reach::Silent; 2]);
    assert_eq!(daemon.drops(CLIENT), counts(&[("deny-rule", 2)]));
    assert_eq!(connect(&lab, ELSEWHERE, Ports::HTTP), [Reach::Open; 2]);
    assert_eq!(daemon.audits(CLIENT), counts(&[("deny-rule", 2)]));

    // Default deny is enforced as soon as one policy that is asks for it; the audited ones go on
    // allowing what they allow.
    let enforced = policy("nowhere", false, NOWHERE);
    daemon.settle("default deny", || lab.policy("nowhere", &enforced).unwrap());
    assert_eq!(connect(&lab, WEB, Ports::HTTP), [Reach::Open; 2]);
    assert_eq!(connect(&lab, ELSEWHERE, Ports::HTTP), [Reach::Silent; 2]);
    let drops = counts(&[("deny-rule", 2), ("policy-denied", 2)]);
    assert_eq!((daemon.drops(CLIENT), daemon.audits(CLIENT)), (drops, counts(&[("deny-rule", 2)])));
}

#[test]
fn connections_live_through_an_audit_and_end_with_it_where_nothing_allows_them() {
    for (topology, attach) in [(Topology::Routed, "clsact"), (Topology::Bridged, "tcx")] {
        let lab = lab_of(topology, &[("to-web", false, TO_WEB)]);
        let daemon = Daemon::start(&lab, &["--bpf-attach", attach]).unwrap();
        let allowed = transfers(&lab, WEB);
        assert_eq!(connect(&lab, CDN, Ports::HTTP), [Reach::Silent; 2]);

        let audited = policy("to-web", true, TO_WEB);
        daemon.settle("the audit", || lab.policy("to-web", &audited).unwrap());
        let denied = transfers(&lab, CDN);
        go_on(&allowed);
        assert_eq!(daemon.audits(CLIENT), counts(&[("policy-denied", 2)]));

        let enforced = policy("to-web", false, TO_WEB);
        daemon.settle("enforcement", || lab.policy("to-web", &enforced).unwrap());
        end(&denied);
        go_on(&allowed);
        assert_eq!(connect(&lab, CDN, Ports::HTTP), [Reach::Silent; 2]);
        assert_eq!(daemon.audits(CLIENT), counts(&[("policy-denied", 2)]));
        soon("flows", || {
            let mut verdicts: Vec<String> =
                told(&daemon, CDN[0]).into_iter().map(|(verdict, _)| verdict).collect();
            verdicts.dedup();
            verdicts == ["DROPPED", "AUDIT", "DROPPED"]
        });
    }
}

#[test]
fn a_deny_rule_that_becomes_enforced_ends_what_it_covers() {
    let lab = lab_of(Topology::Routed, &[("not-to-cdn", true, NOT_TO_CDN)]);
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let covered = transfers(&lab, CDN);
    let others = transfers(&lab, ELSEWHERE);
    assert_eq!(daemon.audits(CLIENT), counts(&[("deny-rule", 2)]));
    let enforced = policy("not-to-cdn", false, NOT_TO_CDN);
    daemon.settle("enforcement", || lab.policy("not-to-cdn", &enforced).unwrap());
    end(&covered);
    go_on(&others);
    assert!(daemon.dropped(CLIENT, "deny-rule") > 0);
    assert_eq!(daemon.audits(CLIENT), counts(&[("deny-rule", 2)]));
}

#[test]
fn lookups_pass_by_a_proxy_that_is_gone_and_go_to_it_when_it_is_back() {
    for (topology, attach) in [(Topology::Routed, "tcx"), (Topology::Bridged, "clsact")] {
        let lab = Lab::new(LabOptions::with_topology(topology)).unwrap();
        let mut daemon = Daemon::start(&lab, &["--bpf-attach", attach, "--audit"]).unwrap();
        daemon.settle("the policy", || lab.policy("one-name", ONE_NAME).unwrap());
        let client = lab.pod(CLIENT);
        let ask = |server: usize, name: &str| {
            let resolver = Resolver::new(lab.dns_service()[server]);
            client.ask(resolver, name, RecordType::A).addresses
        };
        daemon.kill9().unwrap();
        for server in [0, 1] {
            assert_eq!(ask(server, "www.example.com"), [ip("203.0.113.10")], "{topology:?}");
        }
        daemon.restart().unwrap();
        assert_eq!(daemon.audits(CLIENT), counts(&[("proxy-unavailable", 2)]));
        assert_eq!(daemon.learned(CLIENT).len(), 0);
        assert_eq!(ask(0, "www.example.com"), [ip("203.0.113.10")]);
        let www = ("www.example.com.".to_owned(), ip("203.0.113.10"));
        assert_eq!(daemon.learned(CLIENT), [www].into());
        assert_eq!(connect(&lab, WEB, Ports::HTTP), [Reach::Open; 2]);
        let audits = counts(&[("policy-denied", 1), ("proxy-unavailable", 2)]);
        assert_eq!(daemon.audits(CLIENT), audits, "the address that was not looked up");
        assert_eq!(daemon.drops(CLIENT), counts(&[]));
    }
}

#[test]
fn a_node_that_audits_drops_nothing_until_it_enforces() {
    let policies = [("to-web", false, TO_WEB), ("not-to-cdn", false, NOT_TO_CDN)];
    let lab = lab_of(Topology::Routed, &policies);
    let mut daemon = Daemon::start(&lab, &["--audit"]).unwrap();
    let allowed = transfers(&lab, WEB);
    let denied = [transfers(&lab, CDN), transfers(&lab, ELSEWHERE)];
    let audits = counts(&[("deny-rule", 2), ("policy-denied", 2)]);
    assert_eq!((daemon.audits(CLIENT), daemon.drops(CLIENT)), (audits.clone(), counts(&[])));

    // Without the daemon as with it, and again after it.
    daemon.kill9().unwrap();
    assert_eq!(connect(&lab, CDN, Ports::GREET), [Reach::Open; 2]);
    daemon.restart().unwrap();
    denied.iter().for_each(|own| go_on(own));
    let audits = counts(&[("deny-rule", 4), ("policy-denied", 2)]);
    assert_eq!((daemon.audits(CLIENT), daemon.drops(CLIENT)), (audits, counts(&[])));

    daemon.restart_with(&[]).unwrap();
    denied.iter().for_each(|own| end(own));
    go_on(&allowed);
    assert_eq!(connect(&lab, CDN, Ports::GREET), [Reach::Silent; 2]);

    daemon.restart_with(&["--audit"]).unwrap();
    assert_eq!(connect(&lab, CDN, Ports::GREET), [Reach::Open; 2]);
    go_on(&allowed);
}
