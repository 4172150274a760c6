//! Policies that are audited: what passes by them, what is told, and what holds all the same.

use super::*;
use crate::{L7Judgement, Unmatched};

const AUDITED: &str = ", annotations: {fqdnd.io/audit: 'true'}";

/// The client's policies, each with its annotations.
fn apply(bench: &mut Bench, policies: &[(&str, &str)]) {
    let documents = policies.iter().enumerate().map(|(number, (annotations, spec))| {
        format!(
            "---\napiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: \
             {{name: p{number}{annotations}}}\nspec:\n  endpointSelector: {{matchLabels: {{app: \
             client}}}}\n{spec}\n"
        )
    });
    bench.policies(&documents.collect::<String>());
    bench.commit();
}

fn bench(policies: &[(&str, &str)]) -> Bench {
    let mut bench = Bench::new();
    bench.pod("prod/db", &[("app", "db")], &["10.0.0.20"], None);
    apply(&mut bench, policies);
    bench
}

impl Bench {
    fn sent(&self, to: &str) -> Fate {
        self.fate(7, to, Protocol::TCP)
    }

    fn conversation(&self, to: &str) -> L7Judgement {
        let sets = |endpoint, address| self.leases[&endpoint].sets_of(address);
        self.snapshot.converse(CLIENT.parse().unwrap(), to.parse().unwrap(), sets)
    }
}

const GOES: Fate = Fate { way: Way::Direct, reason: None };

const RULES: &str = "  egress:
  - toCIDR: [203.0.113.0/24]
    toPorts: [{ports: [{port: '443', protocol: TCP}]}]
  - toEndpoints: [{matchLabels: {k8s-app: kube-dns}}]
    toPorts: [{ports: [{port: '5353'}, {port: '53'}], rules: {dns: [{matchPattern: '*.example.com'}]}}]
  - toCIDR: [198.51.100.0/24]
    toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{method: GET}]}}]
  egressDeny: [{toCIDR: [203.0.113.64/26]}]";

#[test]
fn what_an_audited_policy_would_drop_passes_and_is_told() {
    let bench = bench(&[(AUDITED, RULES)]);
    assert_eq!(bench.sent("203.0.113.9:443"), GOES);
    assert_eq!(bench.sent("203.0.113.9:80"), Fate::audited(DropReason::PolicyDenied));
    assert_eq!(bench.sent("203.0.113.65:443"), Fate::audited(DropReason::DenyRule));
    assert_eq!(bench.sent("203.0.113.65:80"), Fate::audited(DropReason::DenyRule));
    assert_eq!(bench.sent("10.0.0.20:5432"), Fate::audited(DropReason::PolicyDenied));
    assert_eq!(bench.sent("10.96.7.7:80"), Fate::audited(DropReason::NoService));
    assert_eq!(bench.sent("198.51.100.1:80").way, Way::L7Proxy);
    let quic = bench.fate(7, "198.51.100.1:80", Protocol::UDP);
    assert_eq!(quic, Fate::audited(DropReason::QuicNotInspected));
}

#[test]
fn names_and_requests_that_no_rule_allows_are_told_too() {
    let bench = bench(&[(AUDITED, RULES)]);
    let client = bench.endpoint(7);
    for server in ["10.0.0.53:5353", "10.96.0.10:53"] {
        assert_eq!(bench.judge(server, "a.example.com"), Judgement::Allowed(client));
        assert_eq!(bench.judge(server, "example.org"), Judgement::Audited(client));
    }
    assert_eq!(bench.judge("9.9.9.9:53", "a.example.com"), Judgement::Audited(client));
    assert_eq!(bench.judge("10.96.7.7:53", "a.example.com"), Judgement::Audited(client));
    let L7Judgement::Limited(_, alternatives, unmatched) = bench.conversation("198.51.100.1:80")
    else {
        panic!("rules for HTTP are read")
    };
    assert_eq!((alternatives.by_address.len(), unmatched), (1, Unmatched::Audited));
    assert_eq!(bench.conversation("198.51.100.1:81"), L7Judgement::Audited(client));
    assert_eq!(bench.conversation("203.0.113.9:443"), L7Judgement::Anything(client));
}

#[test]
fn a_name_that_an_audited_deny_rule_is_against_is_told() {
    let denied = "  egressDeny: [{toPorts: [{ports: [{port: '5353'}]}]}]";
    let bench = bench(&[(AUDITED, RULES), (AUDITED, denied)]);
    let asked = bench.judge("10.0.0.53:5353", "a.example.com");
    assert_eq!(asked, Judgement::Audited(bench.endpoint(7)));
    let sent = bench.fate(7, "10.0.0.53:5353", Protocol::UDP);
    assert_eq!(sent, Fate { way: Way::DnsProxy, reason: Some(DropReason::DenyRule) });
}

#[test]
fn what_is_enforced_beside_it_holds() {
    let enforced =
        "  egressDeny: [{toCIDR: [203.0.113.9/32]}]\n  enableDefaultDeny: {egress: false}";
    let mut bench = bench(&[(AUDITED, RULES), ("", enforced)]);
    assert_eq!(bench.sent("203.0.113.9:443"), Fate::dropped(DropReason::DenyRule));
    assert_eq!(bench.sent("203.0.113.10:80"), Fate::audited(DropReason::PolicyDenied));
    apply(&mut bench, &[(AUDITED, RULES), ("", "  egress: [{toCIDR: [192.0.2.0/24]}]")]);
    assert_eq!(bench.sent("192.0.2.1:80"), GOES);
    assert_eq!(bench.sent("203.0.113.9:443"), GOES);
    assert_eq!(bench.sent("203.0.113.9:80"), Fate::dropped(DropReason::PolicyDenied));
    assert_eq!(bench.sent("203.0.113.65:443"), Fate::audited(DropReason::DenyRule));
    assert_eq!(bench.sent("203.0.113.65:80"), Fate::dropped(DropReason::PolicyDenied));
    assert_eq!(bench.sent("10.96.7.7:80"), Fate::dropped(DropReason::NoService));
    assert!(!bench.ask("10.96.0.10:53", "example.org"));
}

#[test]
fn a_service_is_closed_by_an_enforced_deny_rule_for_one_of_its_backends() {
    let mut bench = bench(&[]);
    bench.pod("kube-system/more", &[("k8s-app", "kube-dns")], &["10.0.0.54"], None);
    bench.dns_service(&[DNS, "10.0.0.54"]);
    let only = "  egress: [{toCIDR: [203.0.113.0/24]}]";
    apply(&mut bench, &[(AUDITED, only)]);
    let asked = |bench: &Bench| bench.fate(7, "10.96.0.10:53", Protocol::UDP);
    assert_eq!(asked(&bench), Fate::audited(DropReason::PolicyDenied));
    let denied = "  egressDeny: [{toEndpoints: [{matchLabels: {k8s-app: kube-dns}}]}]";
    apply(&mut bench, &[(AUDITED, only), (AUDITED, denied)]);
    assert_eq!(asked(&bench), Fate::audited(DropReason::DenyRule));
    bench.pod(
        "kube-system/more",
        &[("k8s-app", "kube-dns"), ("role", "spare")],
        &["10.0.0.54"],
        None,
    );
    let one = "  egressDeny: [{toEndpoints: [{matchLabels: {role: spare}}]}]
  enableDefaultDeny: {egress: false}";
    apply(&mut bench, &[(AUDITED, only), ("", one)]);
    assert_eq!(asked(&bench), Fate::dropped(DropReason::DenyRule));
    assert!(!bench.ask("10.96.0.10:53", "a.example.com"));
    assert_eq!(bench.conversation("10.96.0.10:53"), L7Judgement::Refused(bench.endpoint(7)));
}

#[test]
fn what_is_denied_wherever_it_goes_goes_nowhere() {
    let denied = "  egressDeny: [{toPorts: [{ports: [{port: '53'}]}]}]
  enableDefaultDeny: {egress: false}";
    let mut bench = bench(&[(AUDITED, RULES), ("", denied)]);
    bench.dns_service(&[]);
    bench.commit();
    for (to, reason) in [
        ("10.96.7.7:53", DropReason::NoService),
        ("10.96.0.10:53", DropReason::DenyRule),
        ("203.0.113.9:53", DropReason::DenyRule),
    ] {
        assert_eq!(bench.sent(to), Fate::dropped(reason), "{to}");
        assert!(matches!(bench.judge(to, "a.example.com"), Judgement::Refused(_)), "{to}");
        assert!(matches!(bench.conversation(to), L7Judgement::Refused(_)), "{to}");
    }
    assert_eq!(bench.sent("10.96.7.7:80"), Fate::audited(DropReason::NoService));
}

#[test]
fn flows_are_judged_again_where_what_was_audited_is_enforced_and_only_there() {
    let mut bench = bench(&[(AUDITED, RULES)]);
    let begun = bench.generation(7);
    apply(&mut bench, &[("", RULES)]);
    let enforced = bench.generation(7);
    assert!(enforced > begun);
    assert_eq!(bench.sent("203.0.113.9:80"), Fate::dropped(DropReason::PolicyDenied));
    apply(&mut bench, &[(AUDITED, RULES)]);
    assert_eq!(bench.generation(7), enforced, "nothing that passed is dropped");
    let without = RULES.split("  egressDeny").next().unwrap();
    apply(&mut bench, &[(AUDITED, without)]);
    assert_eq!(bench.generation(7), enforced, "a deny rule that was audited is gone");
    let more = "  egress: [{toEndpoints: [{matchLabels: {app: db}}]}]";
    apply(&mut bench, &[(AUDITED, without), (AUDITED, more)]);
    assert_eq!(bench.generation(7), enforced, "what passed all the same is allowed");
    apply(&mut bench, &[(AUDITED, without), (AUDITED, more), (AUDITED, "  egressDeny: [{}]")]);
    assert_eq!(bench.generation(7), enforced, "a deny rule is audited");
    apply(&mut bench, &[(AUDITED, without), (AUDITED, more), ("", "  egressDeny: [{}]")]);
    assert!(bench.generation(7) > enforced, "it is enforced");
}

#[test]
fn a_service_that_nothing_allows_is_judged_again_where_that_is_enforced() {
    let only = "  egress: [{toCIDR: [203.0.113.0/24]}]";
    let mut bench = bench(&[(AUDITED, only)]);
    let begun = bench.generation(7);
    let denied = "  egressDeny: [{toEndpoints: [{matchLabels: {k8s-app: kube-dns}}]}]
  enableDefaultDeny: {egress: false}";
    apply(&mut bench, &[(AUDITED, only), ("", denied)]);
    assert_eq!(bench.fate(7, "10.96.0.10:53", Protocol::UDP), Fate::dropped(DropReason::DenyRule));
    assert!(bench.generation(7) > begun);
}

#[test]
fn without_default_deny_rules_for_names_refuse_none() {
    let open = "  enableDefaultDeny: {egress: false}\n";
    let mut bench = bench(&[("", &format!("{open}{RULES}"))]);
    assert!(bench.ask("10.96.0.10:53", "a.example.com") && bench.ask("10.96.0.10:53", "a.org"));
    assert_eq!(bench.fate(7, "10.96.0.10:53", Protocol::UDP).way, Way::DnsProxy);
    apply(&mut bench, &[("", &format!("{open}{RULES}")), ("", "  egress: [{}]")]);
    assert!(bench.ask("10.96.0.10:53", "a.example.com") && !bench.ask("10.96.0.10:53", "a.org"));
}

#[test]
fn an_audited_policy_without_default_deny_drops_nothing_either() {
    let open = "  enableDefaultDeny: {egress: false}\n";
    let rules = format!("{open}{RULES}");
    let mut bench = bench(&[(AUDITED, &rules)]);
    let client = bench.endpoint(7);
    let quic = |bench: &Bench| bench.fate(7, "198.51.100.1:80", Protocol::UDP);
    bench.dns_service(&[]);
    bench.commit();
    assert_eq!(bench.sent("203.0.113.9:80"), GOES, "nothing would be dropped");
    assert_eq!(bench.sent("203.0.113.65:80"), Fate::audited(DropReason::DenyRule));
    assert_eq!(bench.sent("10.96.7.7:80"), Fate::audited(DropReason::NoService));
    assert_eq!(bench.sent("10.96.0.10:53"), Fate::audited(DropReason::PolicyDenied));
    assert_eq!(quic(&bench), Fate::audited(DropReason::QuicNotInspected));
    assert_eq!(bench.judge("10.96.7.7:53", "a.example.com"), Judgement::Audited(client));
    assert_eq!(bench.judge("10.0.0.53:5353", "a.org"), Judgement::Allowed(client));
    assert_eq!(bench.conversation("10.96.7.7:80"), L7Judgement::Audited(client));
    let read = bench.conversation("198.51.100.1:80");
    assert!(matches!(read, L7Judgement::Limited(_, _, Unmatched::Audited)), "{read:?}");
    let begun = bench.generation(7);
    apply(&mut bench, &[("", &rules)]);
    assert!(bench.generation(7) > begun);
    assert_eq!(bench.sent("10.96.7.7:80"), Fate::dropped(DropReason::NoService));
    assert_eq!(quic(&bench), Fate::dropped(DropReason::QuicNotInspected));
    let read = bench.conversation("198.51.100.1:80");
    assert!(matches!(read, L7Judgement::Limited(_, _, Unmatched::Refused)), "{read:?}");
}
