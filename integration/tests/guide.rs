//! The examples of `examples/seed`, on real packets of both families: what each lets through, what
//! it does not, and what it warns of.

use std::fs;

use hickory_proto::{op::ResponseCode, rr::RecordType};
use integration::{BACKEND, Daemon, Lab, Pod, Ports, Reach, Resolver, ServiceSpec, ip};

/// Every place of the cluster, as [`Lab::places`] has them.
const EVERYWHERE: [&str; 9] = [
    "pod",
    "pod elsewhere",
    "host",
    "remote-node",
    "kube-apiserver",
    "API service",
    "health",
    "unmanaged",
    "world",
];
const NOTHING: [&str; 0] = [];
/// In the range of the examples, and in its part that one of them leaves out.
const RANGE: [&str; 1] = ["172.31.5.5"];
const EXCEPTION: &str = "172.31.20.9";

/// A cluster with one of the examples in force.
struct Guide {
    daemon: Daemon,
    lab: Lab,
}

impl Guide {
    fn new(example: &str) -> Guide {
        let lab = Lab::cluster().unwrap();
        lab.policy(example, &text(example)).unwrap();
        Guide { daemon: Daemon::start(&lab, &[]).unwrap(), lab }
    }

    fn client(&self) -> &Pod {
        self.lab.pod(BACKEND)
    }

    /// Where the client gets through to, of [`EVERYWHERE`].
    fn reached(&self) -> Vec<&'static str> {
        self.client().reaches(&self.lab.places())
    }

    /// What comes of connections to both addresses of a pod.
    fn to_pod(&self, path: &str, port: u16) -> [Reach; 2] {
        let both = self.lab.pod(path).addresses();
        self.client().connect_all(&both, port).try_into().unwrap()
    }

    /// The fields that the daemon warns of.
    fn warnings(&self) -> Vec<String> {
        let status = self.daemon.ctl_json(&["status"]).unwrap();
        let warnings = status["warnings"].as_array().unwrap().iter();
        warnings.map(|own| own["field"].as_str().unwrap().to_owned()).collect()
    }

    fn ask(&self, name: &str, tcp: bool) -> ResponseCode {
        let service = Resolver::new(self.lab.dns_service()[0]).over_tcp(tcp);
        self.client().ask(service, name, RecordType::A).code
    }
}

const OPEN: [Reach; 2] = [Reach::Open; 2];
const SILENT: [Reach; 2] = [Reach::Silent; 2];

#[test]
fn without_a_policy_everything_is_reached() {
    let lab = Lab::cluster().unwrap();
    let _daemon = Daemon::start(&lab, &[]).unwrap();
    let reached = lab.pod(BACKEND).reaches(&lab.places());
    let there = EVERYWHERE.into_iter().filter(|name| *name != "unmanaged");
    assert_eq!(reached, there.collect::<Vec<_>>(), "nobody has the address without a pod");
}

#[test]
fn an_endpoint_selector_selects_whom_default_deny_closes() {
    let guide = Guide::new("endpoint-selector");
    assert_eq!(guide.reached(), NOTHING);
    assert_eq!(guide.daemon.enforcement("prod/cache"), "open");
    assert_eq!(guide.warnings(), [""; 0]);
}

#[test]
fn to_endpoints_opens_pods_of_the_own_namespace() {
    let guide = Guide::new("to-endpoints");
    assert_eq!(guide.reached(), ["pod"]);
    assert_eq!(guide.to_pod("prod/cache", Ports::HTTP), OPEN);
    assert_eq!(guide.to_pod("prod/db", Ports::HTTP), SILENT);
}

#[test]
fn to_endpoints_opens_pods_of_the_namespace_that_is_named() {
    let guide = Guide::new("to-endpoints-namespace");
    assert_eq!(guide.reached(), ["pod"]);
    drop(guide);
    let lab = Lab::cluster().unwrap();
    let named = "io.kubernetes.pod.namespace: ";
    let other =
        text("to-endpoints-namespace").replace(&format!("{named}prod"), &format!("{named}staging"));
    lab.policy("other", &other).unwrap();
    let _daemon = Daemon::start(&lab, &[]).unwrap();
    assert_eq!(lab.pod(BACKEND).reaches(&lab.places()), ["pod elsewhere"]);
}

#[test]
fn the_world_is_what_lies_outside() {
    let guide = Guide::new("world");
    // An API server on an address of its own is in the world, too.
    assert_eq!(guide.reached(), ["kube-apiserver", "API service", "world"]);
    assert_eq!(guide.client().echo(ip("203.0.113.10")), Reach::Open);
    assert_eq!(guide.client().echo(guide.lab.pod("prod/db").addresses()[0]), Reach::Silent);
}

#[test]
fn the_cluster_is_every_pod_and_node_and_the_api_server() {
    let guide = Guide::new("cluster");
    let inside: Vec<_> =
        EVERYWHERE.into_iter().filter(|name| !["unmanaged", "world"].contains(name)).collect();
    assert_eq!(guide.reached(), inside);
}

#[test]
fn the_api_server_is_reached_at_its_service_and_at_its_own_address() {
    let guide = Guide::new("kube-apiserver");
    assert_eq!(guide.reached(), ["kube-apiserver", "API service"]);
}

#[test]
fn each_of_the_six_entities_is_what_it_says() {
    let expected = [
        ("host", vec!["host"]),
        ("remote-node", vec!["remote-node"]),
        ("health", vec!["health"]),
        ("kube-apiserver", vec!["kube-apiserver", "API service"]),
        ("world", vec!["kube-apiserver", "API service", "world"]),
        ("cluster", EVERYWHERE[..7].to_vec()),
    ];
    let lab = Lab::cluster().unwrap();
    let entity = |name: &str| {
        let policy = text("world").replace("- world", &format!("- {name}"));
        lab.policy("entity", &policy).unwrap();
    };
    entity("none");
    let daemon = Daemon::start(&lab, &[]).unwrap();
    assert_eq!(lab.pod(BACKEND).reaches(&lab.places()), NOTHING);
    for (name, places) in expected {
        daemon.settle(name, || entity(name));
        assert_eq!(lab.pod(BACKEND).reaches(&lab.places()), places, "{name}");
    }
}

#[test]
fn to_services_opens_what_stands_behind_the_service() {
    let lab = Lab::cluster().unwrap();
    let backends = ["203.0.113.50", "2001:db8:1::50"].map(ip);
    let service = ["10.96.0.50", "fd00:96::50"];
    let spec = ServiceSpec::new("prod/external-api", &service).port("TCP", 443, 8443);
    lab.service(&spec.backends(&backends)).unwrap();
    lab.policy("to-services", &text("to-services")).unwrap();
    let _daemon = Daemon::start(&lab, &[]).unwrap();
    let client = lab.pod(BACKEND);
    assert_eq!(client.connect_all(&service.map(ip), 443), OPEN);
    assert_eq!(client.connect_all(&backends, 8443), OPEN);
    assert_eq!(client.connect_all(&service.map(ip), 80), SILENT);
    assert_eq!(client.reaches(&lab.places()), NOTHING);
}

#[test]
fn to_cidr_opens_a_range() {
    let guide = Guide::new("to-cidr");
    assert_eq!(guide.client().connect_all(&RANGE.map(ip), 3306), [Reach::Open]);
    assert_eq!(guide.client().echo(ip(RANGE[0])), Reach::Open);
    assert_eq!(guide.client().ping(ip(RANGE[0])), Reach::Open);
    assert_eq!(guide.client().connect(ip(EXCEPTION), 3306), Reach::Open);
    assert_eq!(guide.reached(), NOTHING);
}

#[test]
fn to_cidr_set_leaves_an_exception_out() {
    let guide = Guide::new("to-cidr-set");
    assert_eq!(guide.client().connect_all(&RANGE.map(ip), 3306), [Reach::Open]);
    assert_eq!(guide.client().connect(ip(EXCEPTION), 3306), Reach::Silent);
    assert_eq!(guide.client().ping(ip(EXCEPTION)), Reach::Silent);
    assert_eq!(guide.reached(), NOTHING);
}

#[test]
fn to_ports_opens_one_port_and_protocol() {
    let guide = Guide::new("to-ports");
    assert_eq!(guide.client().connect(ip(RANGE[0]), 3306), Reach::Open);
    assert_eq!(guide.client().connect(ip(RANGE[0]), 443), Reach::Silent);
    assert_eq!(guide.client().echo(ip(RANGE[0])), Reach::Silent);
}

#[test]
fn https_to_the_world_is_one_port_of_it() {
    let guide = Guide::new("world-https");
    // The service's own port is 443, but that of the server behind it is 6443.
    assert_eq!(guide.reached(), ["world"]);
    assert_eq!(guide.client().connect(ip("203.0.113.10"), Ports::HTTP), Reach::Silent);
}

#[test]
fn requests_are_the_proxys_to_judge() {
    let guide = Guide::new("http");
    assert_eq!(guide.reached(), ["world"], "the proxy takes the connection");
    let rules = "spec.egress[0].toPorts[0].rules";
    assert_eq!(guide.warnings(), [rules.to_owned(), format!("{rules}.http[0].path")]);
}

#[test]
fn topics_are_the_proxys_to_judge() {
    let guide = Guide::new("kafka");
    assert_eq!(guide.to_pod("prod/kafka", 9092), OPEN);
    assert_eq!(guide.reached(), NOTHING);
    assert_eq!(guide.warnings(), ["spec.egress[0].toPorts[0].rules"]);
}

#[test]
fn questions_are_asked_though_the_rule_names_neither_port_nor_namespace() {
    let guide = Guide::new("dns");
    assert_eq!(
        [false, true].map(|tcp| guide.ask("www.example.com", tcp)),
        [ResponseCode::NoError, ResponseCode::NoError]
    );
    assert_eq!(guide.daemon.count("dns", "udp-queries"), 1);
    assert_eq!(guide.to_pod("kube-system/coredns", Ports::HTTP), SILENT);
    assert_eq!(guide.reached(), NOTHING, "a name that is resolved is not yet open");
    assert_eq!(guide.warnings(), ["spec.egress[0].toEndpoints", "spec.egress[0].toPorts[1].rules"]);
}

#[test]
fn a_whole_policy_of_production_opens_what_it_should_and_nothing_else() {
    let guide = Guide::new("production");
    assert_eq!(guide.ask("api.stripe.com", false), ResponseCode::NoError);
    assert_eq!(guide.ask("anything.fresh.example", false), ResponseCode::NoError);
    assert_eq!(guide.to_pod("prod/db", 5432), OPEN);
    assert_eq!(guide.to_pod("prod/redis", 6379), OPEN);
    assert_eq!(guide.daemon.drops(BACKEND).len(), 0);

    assert_eq!(guide.to_pod("prod/db", 6379), SILENT);
    assert_eq!(guide.to_pod("prod/redis", 5432), SILENT);
    assert_eq!(guide.reached(), ["world"], "the proxy takes the connection");
    let before = guide.daemon.dropped(BACKEND, "policy-denied");
    let payments = ["203.0.113.80", "2001:db8:1::80"].map(ip);
    assert_eq!(guide.client().connect_all(&payments, 80), SILENT);
    assert_eq!(guide.daemon.dropped(BACKEND, "policy-denied"), before + 2);
    let tcp = Resolver::new(guide.lab.dns_service()[0]).over_tcp(true);
    let tcp = tcp.with_timeout(std::time::Duration::from_millis(500));
    let asked = guide.client().namespace().run(|| tcp.ask("api.stripe.com", RecordType::A));
    assert!(asked.unwrap().is_err(), "the rule is for UDP");
    assert_eq!(guide.warnings(), ["spec.egress[0].toEndpoints", "spec.egress[3].toPorts[0].rules"]);
}

fn text(example: &str) -> String {
    let path = format!("{}/../examples/seed/{example}.yaml", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
