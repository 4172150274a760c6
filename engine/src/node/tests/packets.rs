//! How packets and queries fare by what a revision wrote.

use super::*;

#[test]
fn an_endpoint_that_no_policy_selects_is_open() {
    let mut bench = Bench::new();
    bench.commit();
    assert_eq!(bench.kernel.endpoints[&Interface(7)].enforcement, Enforcement::Open);
    assert_eq!(bench.tcp("203.0.113.1:443"), Ok(Verdict::Allow));
}

#[test]
fn what_no_rule_allows_is_denied() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    bench.commit();
    assert_eq!(bench.tcp("203.0.113.1:443"), Err(DropReason::PolicyDenied));
    assert_eq!(bench.tcp("10.0.0.1:22"), Err(DropReason::PolicyDenied));
    assert_eq!(bench.tcp("198.51.100.9:22"), Ok(Verdict::Allow));
    assert_eq!(bench.verdict(8, "203.0.113.1:443", Protocol::TCP), Ok(Verdict::Allow));
}

#[test]
fn a_resolved_address_is_allowed_to_the_endpoint_that_asked_alone() {
    let mut bench = Bench::new();
    bench.pod("default/other", &[("app", "client")], &["10.0.0.3"], Some(9));
    bench.policies(POLICY);
    bench.commit();
    bench.learn(CLIENT, "www.example.com", "203.0.113.1", Moment::from_secs(1));
    assert_eq!(bench.tcp("203.0.113.1:443"), Ok(Verdict::Allow));
    assert_eq!(bench.tcp("203.0.113.1:80"), Err(DropReason::PolicyDenied));
    assert_eq!(bench.verdict(9, "203.0.113.1:443", Protocol::TCP), Err(DropReason::PolicyDenied));
    let (first, second) =
        (bench.kernel.endpoints[&Interface(7)], bench.kernel.endpoints[&Interface(9)]);
    assert_eq!(first.enforcement, second.enforcement, "the same rules share a table");
}

#[test]
fn dns_goes_to_the_proxy_by_backend_and_by_cluster_ip() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    bench.commit();
    let udp = |to| bench.verdict(7, to, Protocol::UDP);
    assert_eq!(udp("10.0.0.53:5353"), Ok(Verdict::Dns));
    assert_eq!(udp("10.96.0.10:53"), Ok(Verdict::Dns));
    assert_eq!(udp("10.96.0.10:80"), Err(DropReason::NoService));
    assert_eq!(udp("10.96.0.11:53"), Err(DropReason::NoService));
    assert!(bench.ask("10.96.0.10:53", "www.example.com"));
    assert!(bench.ask("10.0.0.53:5353", "www.example.com"));
    assert!(!bench.ask("10.96.0.10:53", "www.example.org"));
    assert!(!bench.ask("9.9.9.9:53", "www.example.com"));
}

#[test]
fn a_frontend_is_denied_with_one_denied_backend_and_with_none_ready() {
    let mut bench = Bench::new();
    bench.pod("default/fake", &[("app", "fake")], &["10.0.0.66"], None);
    bench.dns_service(&[DNS, "10.0.0.66"]);
    bench.policies(POLICY);
    bench.commit();
    assert_eq!(bench.verdict(7, "10.96.0.10:53", Protocol::UDP), Err(DropReason::PolicyDenied));
    assert!(!bench.ask("10.96.0.10:53", "www.example.com"));

    bench.dns_service(&[]);
    bench.commit();
    assert_eq!(bench.verdict(7, "10.96.0.10:53", Protocol::UDP), Err(DropReason::PolicyDenied));
    assert!(!bench.ask("10.96.0.10:53", "www.example.com"));
}

#[test]
fn a_resolved_address_gives_no_right_to_a_pod_or_node() {
    let mut bench = Bench::new();
    bench.pod("default/db", &[("app", "db")], &["203.0.113.9"], None);
    bench.policies(POLICY);
    bench.commit();
    bench.learn(CLIENT, "evil.example.com", "203.0.113.9", Moment::from_secs(1));
    bench.learn(CLIENT, "evil.example.com", "10.0.0.1", Moment::from_secs(1));
    assert_eq!(bench.tcp("203.0.113.9:443"), Err(DropReason::PolicyDenied));
    assert_eq!(bench.tcp("10.0.0.1:443"), Err(DropReason::PolicyDenied));
}

#[test]
fn a_closed_interface_drops_everything() {
    let mut bench = Bench::new();
    bench.inventory.bindings.closed.insert(Interface(30));
    bench.commit();
    assert_eq!(
        bench.verdict(30, "203.0.113.1:443", Protocol::TCP),
        Err(DropReason::EndpointConflict)
    );
}

#[test]
fn an_address_that_two_pods_claim_is_nobodys() {
    let mut bench = Bench::new();
    bench.pod("default/twin", &[("app", "twin")], &[DNS], None);
    bench.policies(POLICY);
    bench.commit();
    assert_eq!(bench.verdict(7, "10.0.0.53:5353", Protocol::UDP), Err(DropReason::PolicyDenied));
}

#[test]
fn what_was_enforced_and_may_be_missing_is_closed_and_nothing_else_is() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    bench.commit();
    let (table, generation) = (bench.table(bench.endpoint(7)).id(), bench.generation(7));
    bench.inventory.pending = [(Interface(7), Some(table)), (Interface(40), None)].into();
    bench.commit();
    assert_eq!(bench.verdict(7, "10.0.0.53:5353", Protocol::UDP), Ok(Verdict::Dns));
    assert_eq!(bench.verdict(40, "1.1.1.1:1", Protocol::UDP), Err(DropReason::EndpointPending));

    bench.inventory.policies.clear();
    let plan = bench.node.plan(&bench.inventory).unwrap();
    let problems: Vec<String> = plan.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "pod default/client: is closed: what was enforced on it may stand in what cannot be \
             read",
            "interface 40: is closed: its pod and policies may stand in what cannot be read",
        ]
    );
    bench.commit();
    assert_eq!(bench.tcp("203.0.113.1:443"), Err(DropReason::EndpointPending));
    assert!(!bench.ask("10.96.0.10:53", "www.example.com"));
    assert!(bench.generation(7) > generation);
    assert_eq!(bench.verdict(8, "203.0.113.1:443", Protocol::TCP), Ok(Verdict::Allow));

    bench.policies(POLICY);
    bench.inventory.pending = [(Interface(7), None)].into();
    bench.commit();
    assert_eq!(bench.tcp("203.0.113.1:443"), Err(DropReason::EndpointPending));
    assert!(!bench.kernel.endpoints.contains_key(&Interface(40)));
    bench.inventory.pending.clear();
    bench.commit();
    assert!(bench.ask("10.96.0.10:53", "www.example.com"));
}
