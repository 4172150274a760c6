//! What may be said on connections that the kernel sends to the L7 proxy.

use model::{HttpRule, Requests};
use policy::L7;

use super::*;
use crate::L7Judgement;

const HTTP: &str = "rules: {http: [{method: GET}]}";

/// A client with these entries for its egress, which may ask for names.
fn bench(entries: &str) -> Bench {
    let mut bench = Bench::new();
    bench.pod("prod/db", &[("app", "db")], &["10.0.0.20"], None);
    bench.pod("prod/api", &[("app", "api")], &["10.0.0.21"], None);
    bench.policies(&format!(
        "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {{name: l7}}\n\
         spec:\n  endpointSelector: {{matchLabels: {{app: client}}}}\n  egress:\n{entries}\n"
    ));
    bench.commit();
    bench
}

impl Bench {
    fn converse(&self, to: &str) -> L7Judgement {
        let sets = |endpoint, address| self.leases[&endpoint].sets_of(address);
        self.snapshot.converse(CLIENT.parse().unwrap(), to.parse().unwrap(), sets)
    }

    /// The fields of the alternatives by address and by name.
    fn limits(&self, to: &str) -> (Vec<&'static str>, Vec<&'static str>) {
        let L7Judgement::Limited(_, alternatives, _) = self.converse(to) else {
            panic!("{:?}", self.converse(to))
        };
        let fields = |all: &[Arc<L7>]| all.iter().map(|own| own.field.field()).collect();
        (fields(&alternatives.by_address), fields(&alternatives.by_name))
    }

    /// Every bound endpoint's connections fare here as in the kernel.
    pub(super) fn check_conversations(&self, probes: &[SocketAddr]) {
        for (interface, entry) in &self.kernel.endpoints {
            let own = |(_, client): &(&IpAddr, &crate::snapshot::Client)| {
                client.endpoint == entry.endpoint
            };
            let Some((client, _)) = self.snapshot.clients.iter().find(own) else { continue };
            if matches!(entry.enforcement, Enforcement::Closed(_)) {
                continue;
            }
            for to in probes {
                let sets = |endpoint, address| self.leases[&endpoint].sets_of(address);
                let judged = self.snapshot.converse(*client, *to, sets);
                let frontend =
                    Frontend { address: to.ip(), protocol: Protocol::TCP, port: to.port() };
                let service = self.snapshot.frontends.get(&frontend);
                let ready = service.and_then(|own| self.snapshot.backends.get(own));
                let unready = service.is_some() && ready.is_none_or(|own| own.is_empty());
                let kernel = self.verdict(interface.0, &to.to_string(), Protocol::TCP);
                match judged {
                    L7Judgement::Unknown => panic!("{client} is known"),
                    L7Judgement::Refused(_) => {
                        assert!(unready || matches!(kernel, Err(_) | Ok(Verdict::Dns)), "{to}");
                    }
                    L7Judgement::Audited(_) => {
                        assert!(unready || kernel == Ok(Verdict::Unruled), "{to}");
                    }
                    // Where nothing asks for default deny, what backends have not in common passes.
                    L7Judgement::Anything(_) if service.is_some() => {
                        let kernel = kernel.unwrap();
                        assert!(kernel.is_direct() || kernel == Verdict::Proxy, "{to}");
                    }
                    L7Judgement::Anything(_) => assert!(kernel.unwrap().is_direct(), "{to}"),
                    L7Judgement::Limited(..) => assert_eq!(kernel, Ok(Verdict::Proxy), "{to}"),
                }
            }
        }
    }
}

#[test]
fn rules_of_all_levels_are_alternatives() {
    let bench = bench(&format!(
        "  - {{toCIDR: [203.0.113.0/24], toPorts: [{{ports: [{{port: '80', protocol: TCP}}], {HTTP}}}]}}
  - toPorts: [{{ports: [{{port: '80', protocol: TCP}}], serverNames: [a.com]}}]
  - {{toCIDR: [203.0.113.0/28], toPorts: [{{ports: [{{port: '80', protocol: TCP}}]}}]}}"
    ));
    assert_eq!(bench.limits("203.0.113.77:80"), (vec!["rules.http", "serverNames"], vec![]));
    assert_eq!(bench.limits("198.51.100.1:80"), (vec!["serverNames"], vec![]));
    let endpoint = bench.endpoint(7);
    assert_eq!(bench.converse("203.0.113.5:80"), L7Judgement::Anything(endpoint));
    assert_eq!(bench.converse("203.0.113.5:81"), L7Judgement::Refused(endpoint));
    let stranger = bench.snapshot.converse(
        "10.0.0.77".parse().unwrap(),
        "203.0.113.77:80".parse().unwrap(),
        |_, _| [None; 2],
    );
    assert_eq!(stranger, L7Judgement::Unknown);
}

#[test]
fn rules_by_name_hold_for_what_the_pod_resolved_and_are_told_apart() {
    let mut bench = bench(
        "  - {toFQDNs: [{matchName: a.com}], toPorts: [{ports: [{port: '443', protocol: TCP}], serverNames: [a.com]}]}
  - {toFQDNs: [{matchName: b.com}], toPorts: [{ports: [{port: '443', protocol: TCP}]}]}
  - {toCIDR: [203.0.113.7/32], toPorts: [{ports: [{port: '443', protocol: TCP}], rules: {http: [{}]}}]}",
    );
    let endpoint = bench.endpoint(7);
    assert_eq!(bench.converse("203.0.113.9:443"), L7Judgement::Refused(endpoint));
    bench.learn(CLIENT, "a.com.", "203.0.113.9", Moment::ZERO);
    bench.learn(CLIENT, "a.com.", "203.0.113.7", Moment::ZERO);
    assert_eq!(bench.limits("203.0.113.9:443"), (vec![], vec!["serverNames"]));
    assert_eq!(bench.limits("203.0.113.7:443"), (vec!["rules.http"], vec!["serverNames"]));
    bench.learn(CLIENT, "b.com.", "203.0.113.9", Moment::ZERO);
    assert_eq!(bench.converse("203.0.113.9:443"), L7Judgement::Anything(endpoint));
    assert_eq!(bench.tcp("203.0.113.9:443"), Ok(Verdict::Allow));
}

#[test]
fn a_service_lets_be_said_what_all_its_backends_do() {
    let rule = |app: &str, said: &str| {
        format!(
            "  - {{toEndpoints: [{{matchLabels: {{app: {app}}}}}], toPorts: [{{ports: [{{port: \
             '8080', protocol: TCP}}]{said}}}]}}\n"
        )
    };
    let with = |entries: String| {
        let mut bench = bench(&entries);
        bench.service("prod/both", "10.96.0.30", 80, &["10.0.0.20:8080", "10.0.0.21:8080"]);
        bench.commit();
        let judged = bench.converse("10.96.0.30:80");
        let kernel = bench.tcp("10.96.0.30:80");
        let fields = match judged {
            L7Judgement::Limited(_, all, _) => all.by_address.len(),
            L7Judgement::Refused(_)
            | L7Judgement::Audited(_)
            | L7Judgement::Anything(_)
            | L7Judgement::Unknown => 0,
        };
        (kernel, fields)
    };
    let http = format!(", {HTTP}");
    let kafka = ", rules: {kafka: [{}]}";
    let (one, two) = (|said: &str| rule("db", said), |said: &str| rule("api", said));
    assert_eq!(with(one(&http) + &two("")), (Ok(Verdict::Proxy), 1));
    assert_eq!(with(one(&http) + &two(&http)), (Ok(Verdict::Proxy), 1));
    assert_eq!(with(one(&http) + &two(&http) + &two(kafka)), (Ok(Verdict::Proxy), 1));
    assert_eq!(with(one(&http) + &two(kafka)), (Ok(Verdict::Proxy), 0), "nothing in common");
    assert_eq!(with(one(&http)), (Err(DropReason::PolicyDenied), 0));
    assert_eq!(with(one("") + &two("")), (Ok(Verdict::Allow), 0));
}

#[test]
fn without_default_deny_rules_for_what_is_said_refuse_nothing() {
    let mut bench = bench("  - {}");
    bench.policies(
        "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: l7}\n\
         spec:\n  endpointSelector: {matchLabels: {app: client}}\n  enableDefaultDeny: \
         {egress: false}\n  egress: [{toCIDR: [203.0.113.0/24], toPorts: [{rules: {http: [{method: GET}]}}]}]",
    );
    bench.commit();
    let L7Judgement::Limited(_, alternatives, _) = bench.converse("203.0.113.9:80") else {
        panic!("what is said is read, and changed as the rules say")
    };
    let methods: Vec<_> = alternatives.by_address.iter().map(|own| &own.rule.requests).collect();
    let any = Requests::Http(vec![HttpRule::default()]);
    let get = HttpRule { method: Some("GET".to_owned()), ..HttpRule::default() };
    assert_eq!(methods, [&Requests::Http(vec![get]), &any]);
    assert_eq!(bench.converse("203.0.113.9:81"), L7Judgement::Anything(bench.endpoint(7)));
    assert_eq!(bench.tcp("203.0.113.9:81"), Ok(Verdict::Unruled));
    let udp = |to| bench.verdict(7, to, Protocol::UDP);
    assert_eq!(udp("203.0.113.9:80"), Ok(Verdict::Proxy), "it could be QUIC");
}
