//! What a pod may look up and reach, on real packets: both families, both transports, both
//! topologies, both ways to attach, every way to the DNS server.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use integration::{
    Daemon, Lab, LabOptions, PodSpec, Ports, Reach, Resolver, Topology, fresh_pair, ip, soon,
};

const CLIENT: &str = "default/client";
const OTHER: &str = "default/other";

/// Both pods may look up fresh names and connect to port 80 of their addresses.
const FRESH: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: fresh, namespace: default}
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
        - matchPattern: "*.fresh.example"
  - toFQDNs:
    - matchPattern: "*.fresh.example"
    toPorts:
    - ports: [{port: "80", protocol: TCP}]
"#;

/// The client may look up everything under example.com, and connect to all of it.
const EXAMPLE_COM: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: example-com, namespace: default}
spec:
  endpointSelector:
    matchLabels: {app: client}
  egress:
  - toEndpoints:
    - matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}
    toPorts:
    - ports: [{port: "53", protocol: ANY}]
      rules:
        dns:
        - matchPattern: "**.example.com"
  - toFQDNs:
    - matchPattern: "**.example.com"
"#;

#[test]
fn routed_by_tcx() {
    judges_every_way_to_the_server(LabOptions::with_topology(Topology::Routed), "tcx");
}

#[test]
fn routed_by_clsact() {
    judges_every_way_to_the_server(LabOptions::with_topology(Topology::Routed), "clsact");
}

#[test]
fn bridged_by_tcx() {
    judges_every_way_to_the_server(LabOptions::with_topology(Topology::Bridged), "tcx");
}

#[test]
fn bridged_by_clsact() {
    judges_every_way_to_the_server(LabOptions::with_topology(Topology::Bridged), "clsact");
}

/// Where bridged packets bypass the IP hooks, the service's answers would not be translated back:
/// the DNS pod is asked directly.
#[test]
fn bridged_without_br_netfilter() {
    let bridged = LabOptions::with_topology(Topology::Bridged);
    judges_every_way_to_the_server(LabOptions { br_netfilter: false, ..bridged }, "tcx");
}

/// One name for each server and transport, with an address in each family.
fn judges_every_way_to_the_server(options: LabOptions, attach: &str) {
    let by_service = options.br_netfilter;
    let lab = Lab::new(options).unwrap();
    lab.policy("fresh", FRESH).unwrap();
    let daemon = Daemon::start(&lab, &["--bpf-attach", attach]).unwrap();
    assert_eq!(daemon.ctl_json(&["status"]).unwrap()["attachMode"], attach);
    let (client, other) = (lab.pod(CLIENT), lab.pod(OTHER));
    let service = lab.dns_service().into_iter().filter(|_| by_service);
    let servers: Vec<IpAddr> = service.chain(lab.dns_pod().addresses()).collect();
    let ways = servers.iter().flat_map(|&server| [(server, false), (server, true)]);
    let ways: Vec<(u32, Resolver)> =
        (0..).zip(ways.map(|(server, tcp)| Resolver::new(server).over_tcp(tcp))).collect();
    let addresses: Vec<IpAddr> = ways.iter().flat_map(|(number, _)| fresh_pair(*number)).collect();
    let count = addresses.len() as u64;

    assert_eq!(client.connect_all(&addresses, Ports::HTTP), silent(addresses.len()));
    let denied = at_least_denied(&daemon, CLIENT, count);

    for (number, resolver) in &ways {
        let name = format!("f{number}.fresh.example");
        for (address, kind) in
            fresh_pair(*number).into_iter().zip([RecordType::A, RecordType::AAAA])
        {
            let answer = client.ask(*resolver, &name, kind);
            let reach = client.connect(address, Ports::HTTP);
            assert_eq!((answer.addresses, reach), (vec![address], Reach::Open), "{resolver:?}");
        }
        let refused = client.ask(*resolver, "secret.example.org", RecordType::A);
        assert_eq!((refused.code, refused.addresses), (ResponseCode::Refused, vec![]));
    }
    assert_eq!(lab.questions().asked("secret.example.org"), 0);
    assert_eq!(lab.questions().total(), count);
    assert_eq!(at_least_denied(&daemon, CLIENT, count), denied, "after names were resolved");

    assert_eq!(other.connect_all(&addresses, Ports::HTTP), silent(addresses.len()));
    at_least_denied(&daemon, OTHER, count);
    assert_eq!(client.connect_all(&addresses, Ports::HTTP_ALT), silent(addresses.len()));
    at_least_denied(&daemon, CLIENT, denied + count);
}

#[test]
fn a_refusal_is_nxdomain_where_that_is_configured() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("fresh", FRESH).unwrap();
    let daemon = Daemon::start(&lab, &["--dns-refusal", "nxdomain"]).unwrap();
    for server in lab.dns_service() {
        for tcp in [false, true] {
            let resolver = Resolver::new(server).over_tcp(tcp);
            let refused = lab.pod(CLIENT).ask(resolver, "secret.example.org", RecordType::A);
            assert_eq!(refused.code, ResponseCode::NXDomain);
        }
    }
    assert_eq!(lab.questions().total(), 0);
    assert_eq!(daemon.drops(CLIENT), BTreeMap::new());
}

#[test]
fn a_pod_that_no_policy_selects_is_left_alone_and_its_lookups_bypass_the_proxy() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("fresh", FRESH).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let backend = lab.pod("prod/backend");
    assert_eq!(backend.connect_all(&fresh_pair(7), Ports::HTTP_ALT), [Reach::Open, Reach::Open]);
    let answer = backend.ask(service(&lab), "secret.example.org", RecordType::A);
    assert_eq!(answer.addresses, [ip("192.0.2.12")]);
    assert_eq!(daemon.enforcement("prod/backend"), "open");
    assert_eq!(daemon.count("dns", "udp-queries"), 0);
}

#[test]
fn a_pattern_opens_what_it_matches_and_nothing_else() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("wildcard", &example("wildcard.yaml")).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let client = lab.pod(CLIENT);
    let allowed = [
        ("any.apps.example.com", "203.0.113.30"),
        ("raw.githubusercontent.com", "203.0.113.70"),
        ("uploads.github.com", "203.0.113.62"),
    ];
    for (name, address) in allowed {
        let answer = client.ask(service(&lab), name, RecordType::A);
        assert_eq!(answer.addresses, [ip(address)], "{name}");
        assert_eq!(client.connect(ip(address), Ports::GREET), Reach::Open, "{name}");
    }
    let refused = [
        "apps.example.com",
        "two.one.apps.example.com",
        "githubusercontent.com",
        "api.github.com",
        "github.com",
        "any.apps.example.com.evil.example.org",
    ];
    for name in refused {
        let answer = client.ask(service(&lab), name, RecordType::A);
        assert_eq!(answer.code, ResponseCode::Refused, "{name}");
        assert_eq!(lab.questions().asked(name), 0, "{name}");
    }
    let learned = allowed.map(|(name, address)| (format!("{name}."), ip(address)));
    assert_eq!(daemon.learned(CLIENT), BTreeSet::from(learned));
}

#[test]
fn the_addresses_at_the_end_of_a_chain_belong_to_the_name_in_the_question() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("example-com", EXAMPLE_COM).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let client = lab.pod(CLIENT);
    let chains = [
        (RecordType::A, ["198.51.100.10", "198.51.100.11"]),
        (RecordType::AAAA, ["2001:db8:2::10", "2001:db8:2::11"]),
    ];
    for (kind, expected) in chains {
        let expected = expected.map(ip);
        let answer = client.ask(service(&lab), "shop.example.com", kind);
        assert_eq!(answer.addresses, expected);
        assert_eq!(client.connect_all(&expected, Ports::GREET), [Reach::Open, Reach::Open]);
    }
    let names: BTreeSet<_> = daemon.learned(CLIENT).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, BTreeSet::from(["shop.example.com.".to_owned()]));
    // The chain's own names are no question that the policy allows.
    let refused = client.ask(service(&lab), "pop1.example.net", RecordType::A);
    assert_eq!(refused.code, ResponseCode::Refused);
    for name in ["loop.example.com", "dangling.example.com"] {
        client.ask(service(&lab), name, RecordType::A);
    }
    assert_eq!(daemon.learned(CLIENT).len(), 4);
}

#[test]
fn every_address_of_a_large_answer_is_open() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("example-com", EXAMPLE_COM).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let client = lab.pod(CLIENT);
    let forty = client.ask(service(&lab), "forty.many.example.com", RecordType::A);
    assert!(!forty.truncated && forty.size > 512, "{forty:?}");
    assert_eq!(client.connect_all(&forty.addresses, Ports::GREET), [Reach::Open; 40]);

    let name = "huge.many.example.com";
    let cut = client.ask(service(&lab), name, RecordType::AAAA);
    assert!(cut.truncated, "{cut:?}");
    let whole = client.ask(service(&lab).over_tcp(true), name, RecordType::AAAA);
    assert!(!whole.truncated && whole.size > 4_096, "{whole:?}");
    let open = vec![Reach::Open; whole.addresses.len()];
    assert_eq!(client.connect_all(&whole.addresses, Ports::GREET), open);
    let learned = daemon.learned(CLIENT);
    assert_eq!(learned.len(), 40 + whole.addresses.len());
}

#[test]
fn dig_follows_a_truncated_answer_and_curl_a_name() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("example-com", EXAMPLE_COM).unwrap();
    let _daemon = Daemon::start(&lab, &[]).unwrap();
    let client = lab.pod(CLIENT);
    let dig = client.command("dig").args(["+short", "huge.many.example.com"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&dig.stdout).lines().count(), 250, "{dig:?}");
    let curl = client.command("curl").args(["-sS", "http://www.example.com/"]).output().unwrap();
    let said = String::from_utf8_lossy(&curl.stdout);
    assert!(said.starts_with("web at "), "{curl:?}");
}

#[test]
fn addresses_in_hints_are_open_as_those_of_the_name() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("example-com", EXAMPLE_COM).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let client = lab.pod(CLIENT);
    let hints = ["203.0.113.41", "203.0.113.42", "2001:db8:1::41"].map(ip);
    assert_eq!(client.connect_all(&hints, Ports::GREET), silent(3));
    client.ask(service(&lab), "svc.example.com", RecordType::HTTPS);
    assert_eq!(client.connect_all(&hints, Ports::GREET), [Reach::Open; 3]);
    client.ask(service(&lab), "_8443._foo.svc.example.com", RecordType::SVCB);
    assert_eq!(client.connect(ip("203.0.113.43"), Ports::GREET_ALT), Reach::Open);
    let learned = daemon.learned(CLIENT);
    assert_eq!(learned.len(), 4, "{learned:?}");
    assert!(learned.contains(&("_8443._foo.svc.example.com.".into(), ip("203.0.113.43"))));
}

/// The pod `default/prober` may ask a resolver outside.
fn with_a_resolver_outside(flags: &[&str]) -> (Lab, Daemon) {
    let lab = Lab::new(LabOptions::default().pod(PodSpec::new("default/prober"))).unwrap();
    lab.policy("outside-resolver", &example("outside-resolver.yaml")).unwrap();
    let daemon = Daemon::start(&lab, flags).unwrap();
    (lab, daemon)
}

#[test]
fn a_resolver_outside_teaches_where_anybody_may_and_where_the_clusters_own_are_not_known() {
    let (lab, mut daemon) = with_a_resolver_outside(&["--learning-from", "any"]);
    let prober = lab.pod("default/prober");
    let resolve = |name: &str| prober.ask(Resolver::new(ip("9.9.9.9")), name, RecordType::A);
    let www = resolve("www.example.com").addresses;
    assert_eq!(prober.connect_all(&www, Ports::GREET), [Reach::Open]);

    daemon.restart_with(&[]).unwrap();
    resolve("api.example.com");
    assert_eq!(daemon.learned("default/prober").len(), 1, "of one name, before the restart");
    daemon.settle("the cluster's DNS is gone", || {
        lab.manifests().remove("service-kube-dns").unwrap();
        lab.manifests().remove("pod-kube-system-coredns").unwrap();
    });
    soon("the resolver teaches again", || {
        resolve("api.example.com");
        daemon.learned("default/prober").len() == 2
    });
    daemon.restart_with(&["--learning-from", "trusted"]).unwrap();
    resolve("short.example.com");
    assert_eq!(daemon.learned("default/prober").len(), 2);
}

#[test]
fn beside_the_clusters_own_a_resolver_outside_is_answered_and_teaches_nothing() {
    let (lab, daemon) = with_a_resolver_outside(&[]);
    let prober = lab.pod("default/prober");
    for server in ["9.9.9.9", "2620:fe::9"].map(ip) {
        for tcp in [false, true] {
            let resolver = Resolver::new(server).over_tcp(tcp);
            let answer = prober.ask(resolver, "www.example.com", RecordType::A);
            assert_eq!(answer.addresses, [ip("203.0.113.10")]);
        }
    }
    assert_eq!(prober.connect(ip("203.0.113.10"), Ports::GREET), Reach::Silent);
    assert_eq!(daemon.learned("default/prober"), BTreeSet::new());
    assert_eq!(
        (daemon.count("dns", "answers-not-learned"), daemon.count("dns", "learned")),
        (4, 0)
    );
    let told = daemon.log().matches("a server that is not trusted is asked").count();
    assert_eq!(told, 2, "once for each server");
}

#[test]
fn a_resolver_outside_that_is_trusted_teaches_as_the_clusters_own() {
    let (lab, daemon) = with_a_resolver_outside(&["--learning-resolvers", "9.9.9.9,2620:fe::/48"]);
    let prober = lab.pod("default/prober");
    let names = ["www", "api", "payments", "short"].map(|name| format!("{name}.example.com"));
    let ways = ["9.9.9.9", "2620:fe::9"]
        .map(ip)
        .into_iter()
        .flat_map(|server| [false, true].map(|tcp| Resolver::new(server).over_tcp(tcp)));
    let log = lab.outside("resolver").questions().unwrap();
    for (resolver, name) in ways.zip(&names) {
        for kind in [RecordType::A, RecordType::AAAA] {
            let answer = prober.ask(resolver, name, kind);
            let open = vec![Reach::Open; 1];
            assert_eq!(prober.connect_all(&answer.addresses, Ports::GREET), open, "{name}");
        }
        assert_eq!(log.asked(name), 2);
        for refused in ["secret.example.org", "any.apps.example.com"] {
            let answer = prober.ask(resolver, refused, RecordType::A);
            assert_eq!(answer.code, ResponseCode::Refused, "{refused}");
            assert_eq!(log.asked(refused), 0);
        }
    }
    // Another server, and another port of this one, are closed; so is the cluster's own.
    let patience = std::time::Duration::from_millis(500);
    for server in [ip("9.9.9.10"), lab.dns_service()[0]] {
        let resolver = Resolver::new(server).with_timeout(patience);
        let answer = prober.namespace().run(|| resolver.ask(&names[0], RecordType::A));
        assert!(answer.unwrap().is_err());
    }
    assert_eq!(prober.connect(ip("9.9.9.9"), Ports::HTTP), Reach::Silent);
    at_least_denied(&daemon, "default/prober", 3);
    assert_eq!(lab.questions().total(), 0);
}

#[test]
fn a_rule_by_prefix_needs_no_name_and_datagrams_are_judged_as_connections_are() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let policy = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: prefixes, namespace: default}
spec:
  endpointSelector:
    matchLabels: {app: client}
  egress:
  - toCIDR: [203.0.113.0/28, "2001:db8:1::/124"]
    toPorts:
    - ports: [{port: "7", protocol: UDP}, {port: "80", protocol: TCP}]
"#;
    lab.policy("prefixes", policy).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let client = lab.pod(CLIENT);
    let inside = ["203.0.113.15", "2001:db8:1::f"].map(ip);
    let outside = ["203.0.113.16", "2001:db8:1::10"].map(ip);
    assert_eq!(client.connect_all(&inside, Ports::HTTP), [Reach::Open; 2]);
    assert_eq!(inside.map(|address| client.echo(address)), [Reach::Open; 2]);
    assert_eq!(client.connect_all(&inside, Ports::ECHO), [Reach::Silent; 2]);
    assert_eq!(client.connect_all(&outside, Ports::HTTP), [Reach::Silent; 2]);
    assert_eq!(outside.map(|address| client.echo(address)), [Reach::Silent; 2]);
    soon("six drops", || daemon.dropped(CLIENT, "policy-denied") >= 6);
    at_least_denied(&daemon, CLIENT, 6);
}

fn silent(count: usize) -> Vec<Reach> {
    vec![Reach::Silent; count]
}

/// How many packets of a pod were dropped: all because no rule allows them, and at least `count`. A
/// client on a busy machine sends its SYN again before it gives up.
fn at_least_denied(daemon: &Daemon, pod: &str, count: u64) -> u64 {
    let drops = daemon.drops(pod);
    let denied = drops.get("policy-denied").copied().unwrap_or(0);
    assert!(drops.len() == 1 && denied >= count, "{count} of {drops:?}");
    denied
}

fn service(lab: &Lab) -> Resolver {
    Resolver::new(lab.dns_service()[0])
}

fn example(file: &str) -> String {
    let path = format!("{}/../examples/{file}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
