//! The policy language field by field, on real packets of both families. What `guide.rs` shows is
//! not shown again.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use hickory_proto::rr::RecordType;
use integration::{
    BACKEND, Capture, Daemon, Lab, Packet, Pod, PodSpec, Ports, Reach, Resolver, ServiceSpec,
    Transfer, ip, soon,
};

const PATIENCE: Duration = Duration::from_secs(60);
const NOTHING: [&str; 0] = [];
const OPEN: [Reach; 2] = [Reach::Open; 2];
const SILENT: [Reach; 2] = [Reach::Silent; 2];
/// The world of [`Lab::places`], and another address of the same networks.
const WORLD: [&str; 2] = ["203.0.113.10", "2001:db8:1::10"];
const FURTHER: [&str; 2] = ["203.0.113.200", "2001:db8:1::200"];
/// What every rule about the world's own networks begins with.
const NETWORKS: &str = "egress:\n- toCIDR: [203.0.113.0/24, '2001:db8:1::/64']\n";

/// A cluster whose client is closed at first.
struct Bench {
    daemon: Daemon,
    lab: Lab,
}

impl Bench {
    fn new(rules: &str) -> Bench {
        let lab = Lab::cluster().unwrap();
        lab.policy("rules", &policy(rules)).unwrap();
        Bench { daemon: Daemon::start(&lab, &[]).unwrap(), lab }
    }

    /// Gives the client other rules: the text of `spec`, less whom it selects.
    fn rules(&self, rules: &str) {
        self.document(&policy(rules));
    }

    fn document(&self, text: &str) {
        self.daemon.settle("other rules", || self.lab.policy("rules", text).unwrap());
    }

    fn service(&self, spec: &ServiceSpec) {
        self.daemon.settle("another service", || self.lab.service(spec).unwrap());
    }

    fn client(&self) -> &Pod {
        self.lab.pod(BACKEND)
    }

    fn reached(&self) -> Vec<&'static str> {
        self.client().reaches(&self.lab.places())
    }

    fn to(&self, addresses: &[&str; 2], port: u16) -> [Reach; 2] {
        self.to_all(addresses.map(ip), port)
    }

    fn to_pod(&self, path: &str, port: u16) -> [Reach; 2] {
        self.to_all(self.lab.pod(path).addresses(), port)
    }

    fn to_all(&self, addresses: [IpAddr; 2], port: u16) -> [Reach; 2] {
        self.client().connect_all(&addresses, port).try_into().unwrap()
    }

    fn echo(&self, addresses: [&str; 2]) -> [Reach; 2] {
        addresses.map(|address| self.client().echo(ip(address)))
    }

    fn ping(&self, addresses: [&str; 2]) -> [Reach; 2] {
        addresses.map(|address| self.client().ping(ip(address)))
    }

    /// Whether a packet of the client's, which ends with `marker`, leaves the node.
    fn leaves(&self, packet: &Packet, marker: &[u8]) -> bool {
        let (capture, before) = (Capture::start(self.lab.router()).unwrap(), self.denied());
        packet.send(self.client().namespace()).unwrap();
        let mut outcome = None;
        soon("a packet's fate", || {
            if self.denied() > before {
                outcome = Some(false);
            } else if capture.until(marker, Duration::from_millis(50)).is_ok() {
                outcome = Some(true);
            }
            outcome.is_some()
        });
        outcome.unwrap()
    }

    fn denied(&self) -> u64 {
        self.daemon.dropped(BACKEND, "policy-denied")
    }

    fn resolve(&self, name: &str) {
        let resolver = Resolver::new(self.lab.dns_service()[0]);
        for kind in [RecordType::A, RecordType::AAAA] {
            let answer = self.client().ask(resolver, name, kind);
            assert_eq!(answer.addresses.len(), 1, "{name}");
        }
    }
}

#[test]
fn a_denial_beats_every_allow_and_cuts_what_lives() {
    let bench = Bench::new("egress: [{toEntities: [all]}]");
    let web = ip(WORLD[0]);
    let transfer = Transfer::start(bench.client().namespace(), web).unwrap();
    transfer.goes_on().unwrap();
    bench.rules(
        "egress: [{toEntities: [all]}]
egressDeny:
- toEndpoints: [{matchLabels: {role: cache}}]
- toCIDR: [203.0.113.10/32, '2001:db8:1::10/128']
- toEntities: [host]
  toPorts: [{ports: [{port: \"443\", protocol: TCP}]}]",
    );
    let cut = transfer.ends(PATIENCE).unwrap();
    println!("a living connection ended {cut:?} after its denial");
    assert_eq!(
        bench.reached(),
        ["pod elsewhere", "remote-node", "kube-apiserver", "API service", "health"]
    );
    assert_eq!(bench.to(&FURTHER, Ports::HTTP), OPEN);
    let host = bench.lab.node_addresses();
    assert_eq!(bench.to_all([host.0.into(), host.1.into()], Ports::HTTP), OPEN);
}

#[test]
fn a_denial_without_destinations_closes_its_port_everywhere() {
    let bench = Bench::new(
        "egress: [{toEntities: [all]}]
egressDeny: [{toPorts: [{ports: [{port: \"443\", protocol: TCP}]}]}]",
    );
    // The API server's port is another one, at the service's address too.
    assert_eq!(bench.reached(), ["kube-apiserver", "API service"]);
    assert_eq!(bench.to(&WORLD, Ports::HTTP), OPEN);
}

#[test]
fn every_entity_together_is_all_there_is() {
    let bench = Bench::new("egress: [{toEntities: [all]}]");
    assert_eq!(bench.reached().len(), bench.lab.places().len() - 1, "nobody is at `unmanaged`");
    assert_eq!((bench.echo(WORLD), bench.ping(WORLD)), (OPEN, OPEN));
    assert_eq!(bench.denied(), 0);
}

#[test]
fn nodes_are_selected_by_their_labels() {
    let by_role =
        |role: &str| format!("egress: [{{toNodes: [{{matchLabels: {{role: {role}}}}}]}}]");
    let bench = Bench::new(&by_role("gateway"));
    assert_eq!(bench.reached(), ["remote-node"]);
    bench.rules(&by_role("nobody"));
    assert_eq!(bench.reached(), NOTHING);
}

#[test]
fn selectors_take_every_operator() {
    let by = |expression: &str| {
        format!("egress: [{{toEndpoints: [{{matchExpressions: [{{{expression}}}]}}]}}]")
    };
    let cases = [
        ("key: app, operator: In, values: [db, redis]", vec!["db", "redis"]),
        ("key: app, operator: NotIn, values: [db, redis, backend]", vec!["cache", "kafka"]),
        ("key: tier, operator: Exists", vec!["redis"]),
        ("key: tier, operator: DoesNotExist", vec!["cache", "db", "kafka"]),
        ("key: \"k8s:app\", operator: In, values: [db]", vec!["db"]),
        ("key: \"any:app\", operator: In, values: [db]", vec!["db"]),
    ];
    let bench = Bench::new("egress: [{}]");
    let place = |name: &'static str| (name, bench.lab.pod(&format!("prod/{name}")).addresses(), 80);
    let pods = ["cache", "db", "kafka", "redis"].map(place);
    for (expression, mut expected) in cases {
        bench.rules(&by(expression));
        expected.sort_unstable();
        assert_eq!(bench.client().reaches(&pods), expected, "{expression}");
        assert_eq!(bench.to_pod("staging/cache", 80), SILENT, "{expression}");
    }
}

#[test]
fn a_namespace_is_chosen_by_its_own_labels() {
    let bench = Bench::new(
        "egress: [{toEndpoints: [{matchLabels: \
         {io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name: staging}}]}]",
    );
    assert_eq!(bench.reached(), ["pod elsewhere"]);
}

#[test]
fn a_named_port_is_each_pods_own() {
    let bench = Bench::new(
        "egress:
- toEndpoints: [{}]
  toPorts: [{ports: [{port: postgres, protocol: TCP}, {port: echo, protocol: UDP}]}]",
    );
    assert_eq!(bench.to_pod("prod/db", 5432), OPEN);
    assert_eq!(bench.to_pod("prod/db", 443), SILENT);
    assert_eq!(bench.to_pod("prod/redis", 5432), SILENT);
    let db = bench.lab.pod("prod/db").addresses();
    assert_eq!(db.map(|own| bench.client().echo(own)), OPEN);
    assert_eq!(bench.to_pod("prod/db", Ports::ECHO), SILENT, "the name is for UDP");
}

#[test]
fn ports_are_ranges_and_zero_is_all_of_them() {
    let ports = |list: &str| format!("{NETWORKS}  toPorts: [{{ports: [{list}]}}]");
    let bench = Bench::new(&ports("{port: \"80\", endPort: 443, protocol: TCP}"));
    let ports_of_world = [("7", 7), ("80", 80), ("443", 443), ("8080", 8_080)]
        .map(|(name, port)| (name, WORLD.map(ip), port));
    let opened = || bench.client().reaches(&ports_of_world);
    assert_eq!(opened(), ["80", "443"]);
    assert_eq!(bench.echo(WORLD), SILENT);

    bench.rules(&ports("{port: \"0\", protocol: TCP}"));
    assert_eq!(opened(), ["7", "80", "443", "8080"]);
    assert_eq!((bench.echo(WORLD), bench.ping(WORLD)), (SILENT, SILENT));

    bench.rules(&ports("{port: \"7\", protocol: ANY}"));
    assert_eq!(opened(), ["7"]);
    assert_eq!((bench.echo(WORLD), bench.ping(WORLD)), (OPEN, SILENT));

    bench.rules(&ports("{port: \"7\"}"));
    assert_eq!((opened(), bench.echo(WORLD)), (vec!["7"], OPEN), "no protocol is any");

    bench.rules(&ports("{port: \"0\", protocol: ANY}"));
    assert_eq!(opened(), ["7", "80", "443", "8080"]);
    assert_eq!((bench.echo(WORLD), bench.ping(WORLD)), (OPEN, SILENT), "ANY is not ICMP");

    bench.rules("egress:\n- toCIDR: [203.0.113.0/24, '2001:db8:1::/64']\n  toPorts: [{ports: []}]");
    assert_eq!(opened(), NOTHING);
}

#[test]
fn sctp_is_judged_as_tcp_and_udp_are() {
    let ports = |list: &str| format!("{NETWORKS}  toPorts: [{{ports: [{list}]}}]");
    let bench = Bench::new(&ports("{port: \"9\", protocol: SCTP}"));
    let sent = |port: u16| {
        let own = bench.client().addresses();
        let mut sent = own.into_iter().zip(WORLD).map(|(own, to)| {
            // Initial TSNs of their own, so that each is told from all others.
            let tsn = [0xf9, u8::from(own.is_ipv4()), port.to_be_bytes()[0], port.to_be_bytes()[1]];
            bench.leaves(&sctp_init(own, ip(to), port, tsn), &tsn)
        });
        [sent.next().unwrap(), sent.next().unwrap()]
    };
    assert_eq!((sent(9), sent(10)), ([true; 2], [false; 2]));
    assert_eq!(bench.to(&WORLD, 9), SILENT);
    bench.rules(&ports("{port: \"11\", protocol: ANY}"));
    assert_eq!((sent(11), sent(12)), ([true; 2], [false; 2]));
    bench.rules(&ports("{port: \"13\", protocol: TCP}"));
    assert_eq!(sent(13), [false; 2]);
}

#[test]
fn icmp_is_allowed_by_family_and_type() {
    let icmps = |fields: &str| format!("{NETWORKS}  icmps: [{{fields: [{fields}]}}]");
    let bench = Bench::new(&icmps("{type: 8}"));
    assert_eq!(bench.ping(WORLD), [Reach::Open, Reach::Silent], "IPv4, where no family is named");
    assert_eq!((bench.to(&WORLD, 80), bench.echo(WORLD)), (SILENT, SILENT));
    bench.rules(&icmps("{family: IPv6, type: EchoRequest}"));
    assert_eq!(bench.ping(WORLD), [Reach::Silent, Reach::Open]);
    bench.rules(&icmps("{type: EchoRequest}, {family: IPv6, type: 128}"));
    assert_eq!(bench.ping(WORLD), OPEN);
    assert_eq!(bench.ping(["192.0.2.10", "2001:db8:bad::10"]), SILENT, "of another network");

    let timestamp = |marker: &[u8; 12]| {
        let message = [&[13, 0, 0, 0, 0, 1, 0, 1][..], marker].concat();
        Packet::new(bench.client().addresses()[0], ip(WORLD[0]), Packet::ICMP, &message)
    };
    assert!(!bench.leaves(&timestamp(b"timestamps 1"), b"timestamps 1"));
    bench.rules(&icmps("{type: Timestamp}"));
    assert!(bench.leaves(&timestamp(b"timestamps 2"), b"timestamps 2"));
    assert_eq!(bench.ping(WORLD), SILENT);
}

#[test]
fn a_service_is_met_at_its_addresses_its_nodes_and_its_backends() {
    let bench =
        Bench::new("egress: [{toServices: [{k8sService: {serviceName: db, namespace: prod}}]}]");
    let (cluster, pod) = (["10.96.0.60", "fd00:96::60"], bench.lab.pod("prod/db").addresses());
    let spec = ServiceSpec::new("prod/db", &cluster).selecting("app", "db");
    let spec = spec.port("TCP", 15_432, 5432).node_port(30_432).backends(&pod);
    assert_eq!(bench.to_all(pod, 5432), SILENT);
    bench.service(&spec);
    let node = bench.lab.node_addresses();
    let node = [node.0.into(), node.1.into()];
    assert_eq!(bench.to(&cluster, 15_432), OPEN);
    assert_eq!(bench.to_all(node, 30_432), OPEN);
    assert_eq!(bench.to_all(pod, 5432), OPEN);
    assert_eq!(bench.to(&cluster, 443), SILENT, "no port of the service's");
    assert_eq!(bench.to_all(node, 443), SILENT, "the node itself");
    assert_eq!(bench.to_pod("prod/redis", 5432), SILENT);

    let to_ports = |port: u16| {
        format!(
            "egress:\n- toServices: [{{k8sServiceSelector: {{selector: {{matchLabels: \
             {{app: db}}}}, namespace: prod}}}}]\n  \
             toPorts: [{{ports: [{{port: \"{port}\", protocol: TCP}}]}}]"
        )
    };
    bench.rules(&to_ports(5432));
    assert_eq!((bench.to(&cluster, 15_432), bench.to_all(pod, 5432)), (OPEN, OPEN));
    assert_eq!(bench.to_all(pod, 443), SILENT);
    bench.rules(&to_ports(15_432));
    assert_eq!(bench.to(&cluster, 15_432), SILENT, "ports are the backends'");

    bench.rules("egress: [{toServices: [{k8sService: {serviceName: db, namespace: prod}}]}]");
    bench.service(&spec.backends(&[]).not_ready(&pod));
    // The service is allowed itself; the node says that nobody is behind it.
    assert_eq!(
        bench.to(&cluster, 15_432),
        [Reach::Refused; 2],
        "{:?}",
        bench.daemon.drops(BACKEND)
    );
    assert_eq!(bench.to_all(pod, 5432), SILENT);
    bench.rules("egress: [{toEndpoints: [{matchLabels: {app: db}}]}]");
    assert_eq!((bench.to(&cluster, 15_432), bench.to_all(pod, 5432)), (SILENT, OPEN));
}

#[test]
fn a_service_passes_where_rules_for_pods_let_every_backend_pass() {
    let rules = |port: u16| {
        format!(
            "egress:\n- toEndpoints: [{{matchLabels: {{app: db}}}}]\n  \
             toPorts: [{{ports: [{{port: \"{port}\", protocol: TCP}}]}}]"
        )
    };
    let bench = Bench::new(&rules(5432));
    let cluster = ["10.96.0.61", "fd00:96::61"];
    let [db, redis] = ["prod/db", "prod/redis"].map(|path| bench.lab.pod(path).addresses());
    let spec = ServiceSpec::new("prod/store", &cluster).selecting("store", "yes");
    let spec = spec.port("TCP", 80, 5432);
    bench.service(&spec.clone().backends(&db));
    assert_eq!(bench.to(&cluster, 80), OPEN);
    bench.rules(&rules(80));
    assert_eq!(bench.to(&cluster, 80), SILENT);
    bench.rules(&rules(5432));
    bench.service(&spec.backends(&[db, redis].concat()));
    assert_eq!(bench.to(&cluster, 80), SILENT, "one backend is not allowed");
}

/// The address may be one of the world or of a node: who stands behind it is what counts.
#[test]
fn no_address_of_a_service_is_a_way_round_to_a_backend_that_is_denied() {
    let bench = Bench::new("egress: [{toEntities: [world, host, remote-node]}]");
    let (cluster, outside) =
        (["10.96.0.63", "fd00:96::63"], ["203.0.113.10", "2001:db8:1::10"].map(ip));
    let (node4, node6) = bench.lab.node_addresses();
    let node = [node4.into(), node6.into()];
    assert_eq!(bench.to_all(outside, 443), OPEN);
    let backends = bench.lab.pod("prod/db").addresses();
    let spec = ServiceSpec::new("prod/db", &cluster).selecting("app", "db");
    let spec = spec.also_at(&["203.0.113.10", "2001:db8:1::10"]).port("TCP", 443, 5432);
    let spec = spec.node_port(30_432).backends(&backends);
    bench.service(&spec);
    let everywhere = |port: u16| {
        [bench.to(&cluster, port), bench.to_all(outside, port), bench.to_all(node, 30_432)]
    };
    assert_eq!(everywhere(443), [SILENT; 3]);
    bench.rules("egress: [{toEndpoints: [{matchLabels: {app: db}}]}]");
    assert_eq!(everywhere(443), [OPEN; 3]);
}

#[test]
fn headless_services_and_services_without_selectors_are_their_backends() {
    let bench = Bench::new(
        "egress: [{toServices: [{k8sService: {serviceName: headless, namespace: prod}}, \
         {k8sService: {serviceName: by-hand, namespace: prod}}]}]",
    );
    let db = bench.lab.pod("prod/db").addresses();
    let headless = ServiceSpec::new("prod/headless", &[]).selecting("app", "db");
    bench.service(&headless.port("TCP", 5432, 5432).backends(&db));
    assert_eq!(bench.to_all(db, 5432), OPEN);
    let (cluster, outside) = (["10.96.0.62", "fd00:96::62"], WORLD.map(ip));
    let by_hand = ServiceSpec::new("prod/by-hand", &cluster).port("TCP", 80, 8080);
    bench.service(&by_hand.backends(&outside));
    assert_eq!((bench.to(&cluster, 80), bench.to_all(outside, 8080)), (OPEN, OPEN));
    assert_eq!(bench.to(&FURTHER, 8080), SILENT);
}

#[test]
fn an_external_name_is_what_it_resolves_to() {
    let bench = Bench::new(
        "egress:
- toEndpoints: [{matchLabels: {k8s-app: kube-dns}}]
  toPorts: [{ports: [{port: \"53\"}], rules: {dns: [{matchPattern: \"*\"}]}}]
- toServices: [{k8sService: {serviceName: shop, namespace: prod}}]
  toPorts: [{ports: [{port: \"443\", protocol: TCP}]}]",
    );
    bench.service(&ServiceSpec::new("prod/shop", &[]).external("www.example.com"));
    assert_eq!(bench.to(&WORLD, 443), SILENT, "before the name is resolved");
    bench.resolve("www.example.com");
    assert_eq!((bench.to(&WORLD, 443), bench.to(&WORLD, 80)), (OPEN, SILENT));
    bench.resolve("api.example.com");
    assert_eq!(bench.to(&["203.0.113.11", "2001:db8:1::11"], 443), SILENT);
}

#[test]
fn another_backend_is_enforced_at_once_and_the_old_one_cut() {
    let bench = Bench::new(
        "egress: [{toServices: [{k8sService: {serviceName: moving, namespace: prod}}]}]",
    );
    let cluster = ["10.96.0.63", "fd00:96::63"];
    let spec = ServiceSpec::new("prod/moving", &cluster).port("TCP", 80, 80);
    bench.service(&spec.clone().backends(&WORLD.map(ip)));
    assert_eq!((bench.to(&cluster, 80), bench.to(&FURTHER, 80)), (OPEN, SILENT));
    let transfer = Transfer::start(bench.client().namespace(), ip(WORLD[0])).unwrap();
    transfer.goes_on().unwrap();
    bench.lab.service(&spec.backends(&FURTHER.map(ip))).unwrap();
    let at_once = |address: &str| {
        let to = SocketAddr::new(ip(address), 80);
        TcpStream::connect_timeout(&to, Duration::from_millis(100)).is_ok()
    };
    soon("a change of backends enforced", || {
        bench.client().namespace().run(|| FURTHER.iter().all(|own| at_once(own))).unwrap()
    });
    transfer.ends(PATIENCE).unwrap();
    assert_eq!((bench.to(&cluster, 80), bench.to(&WORLD, 80)), (OPEN, SILENT));
}

#[test]
fn groups_of_prefixes_are_followed_by_name_and_by_label() {
    let bench = Bench::new("egress: [{toCIDRSet: [{cidrGroupRef: partners}]}]");
    let group = |prefixes: &str| {
        let text = format!(
            "apiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\nmetadata:\n  name: partners\n  \
             labels: {{trust: some}}\nspec:\n  externalCIDRs: [{prefixes}]\n"
        );
        bench.daemon.settle("a group's prefixes", || {
            bench.lab.manifests().write("partners", &text).unwrap();
        });
    };
    assert_eq!(bench.to(&WORLD, 80), SILENT);
    group("203.0.113.10/32, '2001:db8:1::10/128'");
    assert_eq!((bench.to(&WORLD, 80), bench.to(&FURTHER, 80)), (OPEN, SILENT));
    group("203.0.113.200/32, '2001:db8:1::200/128'");
    assert_eq!((bench.to(&WORLD, 80), bench.to(&FURTHER, 80)), (SILENT, OPEN));
    bench.rules(
        "egress: [{toCIDRSet: [{cidrGroupSelector: {matchLabels: {trust: some}}, \
         except: [203.0.113.200/32]}]}]",
    );
    assert_eq!(bench.to(&FURTHER, 80), [Reach::Silent, Reach::Open]);
    bench.daemon.settle("no group", || bench.lab.manifests().remove("partners").unwrap());
    assert_eq!(bench.to(&FURTHER, 80), SILENT);
}

#[test]
fn an_address_is_what_its_prefix_and_its_name_allow_together() {
    let bench = Bench::new(
        "egress:
- toEndpoints: [{matchLabels: {k8s-app: kube-dns}}]
  toPorts: [{ports: [{port: \"53\"}], rules: {dns: [{matchName: www.example.com}]}}]
- toCIDR: [203.0.113.0/24, '2001:db8:1::/64']
  toPorts: [{ports: [{port: \"80\", protocol: TCP}]}]
- toFQDNs: [{matchName: www.example.com}]
  toPorts: [{ports: [{port: \"443\", protocol: TCP}]}]",
    );
    assert_eq!((bench.to(&WORLD, 80), bench.to(&WORLD, 443)), (OPEN, SILENT));
    bench.resolve("www.example.com");
    assert_eq!((bench.to(&WORLD, 80), bench.to(&WORLD, 443)), (OPEN, OPEN));
    assert_eq!(bench.to(&FURTHER, 443), SILENT);
}

#[test]
fn without_default_deny_only_denials_close() {
    let off = "enableDefaultDeny: {egress: false}\n";
    let bench = Bench::new(&format!("{off}egress: [{{toEntities: [host]}}]"));
    assert_eq!(bench.reached().len(), 8);
    let denials = "egressDeny: [{toEntities: [world]}]";
    bench.rules(&format!("{off}{denials}"));
    assert_eq!(bench.reached(), ["pod", "pod elsewhere", "host", "remote-node", "health"]);
    bench.rules(denials);
    assert_eq!(bench.reached(), NOTHING);
}

#[test]
fn a_policy_more_lets_living_connections_be_and_one_less_cuts_what_it_allowed() {
    let bench = Bench::new(
        "egress:
- toEndpoints: [{matchLabels: {k8s-app: kube-dns}}]
  toPorts: [{ports: [{port: \"53\"}], rules: {dns: [{matchPattern: \"*\"}]}}]
- toCIDR: [203.0.113.200/32, '2001:db8:1::200/128']",
    );
    let kept = Transfer::start(bench.client().namespace(), ip(FURTHER[0])).unwrap();
    let before = bench.daemon.endpoint(BACKEND);
    let more = policy("egress: [{toFQDNs: [{matchName: www.example.com}]}]");
    let more = more.replace("name: rules", "name: more");
    bench.daemon.settle("a policy more", || bench.lab.policy("more", &more).unwrap());
    bench.resolve("www.example.com");
    assert_eq!((bench.to(&WORLD, 443), bench.to(&FURTHER, 443)), (OPEN, OPEN));
    let cut = Transfer::start(bench.client().namespace(), ip(WORLD[0])).unwrap();
    let now = bench.daemon.endpoint(BACKEND);
    assert_eq!((&now["table"], &now["generation"]), (&before["table"], &before["generation"]));

    bench.daemon.settle("a policy less", || bench.lab.remove_policy("more").unwrap());
    cut.ends(PATIENCE).unwrap();
    assert_eq!((bench.to(&WORLD, 443), bench.to(&FURTHER, 443)), (SILENT, OPEN));
    kept.goes_on().unwrap();
    assert_eq!(bench.daemon.endpoint(BACKEND)["table"], before["table"]);
}

#[test]
fn several_specs_of_a_document_are_one_policy() {
    let bench = Bench::new("egress: [{}]");
    let mut text = header("CiliumNetworkPolicy", "rules") + "specs:\n";
    for egress in ["toEntities: [host]", "toEndpoints: [{matchLabels: {role: cache}}]"] {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "- endpointSelector: {{matchLabels: {{app: backend}}}}\n  egress: [{{{egress}}}]"
        );
    }
    bench.document(&text);
    assert_eq!(bench.reached(), ["pod", "host"]);
}

#[test]
fn a_clusterwide_policy_selects_and_reaches_pods_of_every_namespace() {
    let lab = Lab::cluster().unwrap();
    let text = "apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: pods}
spec:
  endpointSelector: {matchExpressions: [{key: app, operator: In, values: [backend, cache]}]}
  egress: [{toEndpoints: [{}]}]
";
    lab.policy("pods", text).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    assert_eq!(lab.pod(BACKEND).reaches(&lab.places()), ["pod", "pod elsewhere"]);
    let path = "staging/cache";
    assert_eq!(lab.pod(path).reaches(&lab.places()), ["pod", "pod elsewhere"]);
    assert_eq!(daemon.enforcement("prod/db"), "open");
}

#[test]
fn a_pod_that_comes_and_goes_is_a_destination_while_it_is_there() {
    let mut bench = Bench::new("egress: [{toEndpoints: [{matchLabels: {role: late}}]}]");
    bench.lab.add_pod(PodSpec::new("prod/late").label("role", "late")).unwrap();
    let both = bench.lab.pod("prod/late").addresses();
    soon("a new pod reached", || bench.to_all(both, 80) == OPEN);
    bench.lab.remove_pod("prod/late").unwrap();
    let before = bench.denied();
    soon("a pod that went denied", || bench.to_all(both, 80) != OPEN && bench.denied() > before);
}

/// A policy of the client's with this text under `spec`.
fn policy(rules: &str) -> String {
    let mut text = header("CiliumNetworkPolicy", "rules");
    text.push_str("spec:\n  endpointSelector: {matchLabels: {app: backend}}\n");
    rules.lines().for_each(|line| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {line}");
    });
    text
}

fn header(kind: &str, name: &str) -> String {
    format!("apiVersion: cilium.io/v2\nkind: {kind}\nmetadata: {{name: {name}, namespace: prod}}\n")
}

/// The first packet of an association, which ends with its initial TSN.
fn sctp_init(from: IpAddr, to: IpAddr, port: u16, tsn: [u8; 4]) -> Packet {
    let mut payload = 40_000_u16.to_be_bytes().to_vec();
    payload.extend(port.to_be_bytes());
    payload.extend([0; 8]);
    payload.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1]);
    payload.extend(tsn);
    Packet::new(from, to, Packet::SCTP, &payload)
}
