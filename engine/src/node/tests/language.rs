//! Entities, nodes, services, named ports, exceptions and denials, from text to verdict.

use model::{CidrGroup, ClusterNode, Source};

use super::*;

const REMOTE: &str = "192.0.2.11";
const API: &str = "192.0.2.200";

/// A cluster with another node, an API server outside, and a service of one pod.
fn bench(egress: &str) -> Bench {
    let mut bench = Bench::new();
    bench.pod("prod/db", &[("app", "db")], &["10.0.0.20"], None);
    let node = |name: &str, address: &str, role: &str| ClusterNode {
        name: name.into(),
        labels: [Label {
            key: "role".into(),
            source: Source::Other("node".into()),
            value: role.into(),
        }]
        .into_iter()
        .collect(),
        addresses: vec![address.parse().unwrap()],
        health_addresses: vec![format!("{address}0").parse().unwrap()],
        pod_prefixes: Vec::new(),
    };
    bench.inventory.nodes.insert("here".into(), node("here", "10.0.0.1", "worker").into());
    bench.inventory.nodes.insert("there".into(), node("there", REMOTE, "gateway").into());
    bench.service("default/kubernetes", "10.96.0.1", 443, &[&format!("{API}:6443")]);
    bench.service("prod/db", "10.96.0.20", 5432, &["10.0.0.20:15432"]);
    bench.rules(egress);
    bench.commit();
    bench
}

impl Bench {
    pub(super) fn service(&mut self, name: &str, address: &str, port: u16, backends: &[&str]) {
        let (namespace, own) = name.split_once('/').unwrap();
        let name = EndpointName { namespace: namespace.into(), name: own.into() };
        let backends: Vec<SocketAddr> = backends.iter().map(|own| own.parse().unwrap()).collect();
        let service = Service {
            name: name.clone(),
            labels: [Label::kubernetes("app", own)].into_iter().collect(),
            selects_pods: true,
            external_name: None,
            addresses: vec![address.parse().unwrap()],
            backends: backends.iter().map(SocketAddr::ip).collect(),
            ports: vec![ServicePort {
                name: String::new(),
                protocol: Protocol::TCP,
                port,
                node_port: Some(30_000 + port),
                backends,
            }],
        };
        self.inventory.services.insert(name, Arc::new(service));
    }

    /// One policy for the client with this text under `spec`.
    fn rules(&mut self, spec: &str) {
        let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
        self.policies(&format!(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: rules, \
             namespace: default}}\nspec:\n  endpointSelector: {{matchLabels: {{app: client}}}}\n\
             {indented}"
        ));
    }

    /// Which of the places of this cluster the client may reach by TCP.
    fn reached(&self) -> Vec<&'static str> {
        let places = [
            ("host", "10.0.0.1:22"),
            ("remote-node", "192.0.2.11:22"),
            ("kube-apiserver", "192.0.2.200:6443"),
            ("health", "192.0.2.110:4240"),
            ("pod", "10.0.0.20:15432"),
            ("unknown pod", "10.0.0.99:80"),
            ("world", "203.0.113.1:443"),
            ("world-ipv6", "[2001:db8::1]:443"),
        ];
        let open = places.iter().filter(|(_, place)| self.tcp(place) == Ok(Verdict::Allow));
        open.map(|(name, _)| *name).collect()
    }
}

fn entity(name: &str) -> Vec<&'static str> {
    bench(&format!("egress: [{{toEntities: [{name}]}}]")).reached()
}

#[test]
fn each_entity_is_what_it_says() {
    assert_eq!(entity("host"), ["host"]);
    assert_eq!(entity("remote-node"), ["remote-node"]);
    assert_eq!(entity("kube-apiserver"), ["kube-apiserver"]);
    assert_eq!(entity("world"), ["kube-apiserver", "world", "world-ipv6"]);
    assert_eq!(entity("world-ipv4"), ["kube-apiserver", "world"]);
    assert_eq!(entity("world-ipv6"), ["world-ipv6"]);
    assert_eq!(entity("unmanaged"), ["unknown pod"]);
    assert_eq!(entity("health"), ["health"]);
    assert_eq!(entity("none"), Vec::<&str>::new());
    assert_eq!(entity("all").len(), 8);
}

#[test]
fn the_cluster_is_pods_and_nodes_and_its_api_server() {
    let reached = entity("cluster");
    let expected = ["host", "remote-node", "kube-apiserver", "health", "pod", "unknown pod"];
    assert_eq!(reached, expected);
}

#[test]
fn nodes_are_selected_by_their_labels() {
    let by_role = |role: &str| {
        bench(&format!("egress: [{{toNodes: [{{matchLabels: {{role: {role}}}}}]}}]")).reached()
    };
    assert_eq!(by_role("gateway"), ["remote-node"]);
    assert_eq!(by_role("worker"), Vec::<&str>::new(), "this node is no remote one");
}

#[test]
fn a_service_stands_for_its_ready_backends() {
    let rule = "egress: [{toServices: [{k8sService: {serviceName: db, namespace: prod}}]}]";
    let mut bench = bench(rule);
    assert_eq!(bench.tcp("10.96.0.20:5432"), Ok(Verdict::Allow));
    assert_eq!(bench.tcp("10.0.0.20:15432"), Ok(Verdict::Allow));
    assert_eq!(bench.tcp("192.0.2.11:35432"), Ok(Verdict::Allow), "its port at every node");
    assert_eq!(bench.tcp("192.0.2.11:22"), Err(DropReason::PolicyDenied));
    assert_eq!(bench.tcp("10.96.0.1:443"), Err(DropReason::PolicyDenied));

    bench.pod("prod/db", &[("app", "db")], &["10.0.0.21"], None);
    bench.service("prod/db", "10.96.0.20", 5432, &["10.0.0.21:15432"]);
    bench.commit();
    assert_eq!(bench.tcp("10.0.0.21:15432"), Ok(Verdict::Allow));
    assert_eq!(bench.tcp("10.0.0.20:15432"), Err(DropReason::PolicyDenied));
}

#[test]
fn a_service_without_ready_backends_is_opened_by_rules_for_it_alone() {
    let unready = |rule: &str| {
        let mut bench = bench(rule);
        bench.service("prod/db", "10.96.0.20", 5432, &[]);
        bench.commit();
        bench.tcp("10.96.0.20:5432")
    };
    let service = "egress: [{toServices: [{k8sService: {serviceName: db, namespace: prod}}]}]";
    assert_eq!(unready(service), Ok(Verdict::Allow));
    for other in ["toEntities: [cluster]", "toEntities: [all]", "toEndpoints: [{}]"] {
        let denied = Err(DropReason::PolicyDenied);
        assert_eq!(unready(&format!("egress: [{{{other}}}]")), denied, "{other}");
    }
    let both = format!(
        "{service}\negressDeny: [{{toServices: [{{k8sServiceSelector: {{selector: {{}}}}}}]}}]"
    );
    assert_eq!(unready(&both), Err(DropReason::PolicyDenied));
}

#[test]
fn a_new_pod_leaves_endpoints_alone_whose_rules_say_nothing_else_of_it() {
    let mut bench = bench(
        "egress:\n- toFQDNs: [{matchPattern: '*.example.com'}]\n- toEndpoints: [{matchLabels: \
         {app: db, k8s:io.kubernetes.pod.namespace: prod}}]\n- toPorts: [{ports: [{port: '443'}]}]",
    );
    let before = bench.generation(7);
    bench.pod("prod/db-2", &[("app", "db")], &["10.0.0.21"], None);
    bench.pod("prod/web", &[("app", "web")], &["203.0.113.200"], None);
    bench.commit();
    assert_eq!(bench.generation(7), before);
    // What was the database's may not be met at another's address.
    bench.pod("prod/db", &[("app", "db")], &["10.0.0.22"], None);
    bench.pod("prod/web", &[("app", "web")], &["10.0.0.20"], None);
    bench.commit();
    assert!(bench.generation(7) > before);
}

#[test]
fn an_address_that_leaves_the_world_is_told_for_the_sake_of_leases() {
    let mut bench = bench("egress: [{toFQDNs: [{matchPattern: '*.example.com'}]}]");
    bench.pod("prod/web", &[("app", "web")], &["203.0.113.200"], None);
    let plan = bench.node.plan(&bench.inventory).unwrap();
    assert_eq!(plan.enclosed, [Prefix::host("203.0.113.200".parse().unwrap())].into());
}

#[test]
fn the_ports_of_a_rule_for_services_are_the_backends() {
    let rule = |port: &str| {
        format!(
            "egress:\n- toServices: [{{k8sServiceSelector: {{selector: {{matchLabels: \
             {{app: db}}}}}}}}]\n  toPorts: [{{ports: [{{port: \"{port}\", protocol: TCP}}]}}]"
        )
    };
    let by_backend = bench(&rule("15432"));
    assert_eq!(by_backend.tcp("10.96.0.20:5432"), Ok(Verdict::Allow));
    let by_frontend = bench(&rule("5432"));
    assert_eq!(by_frontend.tcp("10.96.0.20:5432"), Err(DropReason::PolicyDenied));
}

#[test]
fn a_named_port_is_each_pod_s_own() {
    let rule =
        "egress:\n- toEntities: [cluster]\n  toPorts: [{ports: [{port: postgres, protocol: TCP}]}]";
    let mut bench = bench(rule);
    assert_eq!(bench.tcp("10.0.0.20:15432"), Err(DropReason::PolicyDenied));
    let name = EndpointName { namespace: "prod".into(), name: "db".into() };
    let pod = Arc::make_mut(bench.inventory.pods.get_mut(&name).unwrap());
    Arc::make_mut(&mut pod.ports).insert("postgres".into(), vec![(Protocol::TCP, 15432)]);
    bench.commit();
    assert_eq!(bench.tcp("10.0.0.20:15432"), Ok(Verdict::Allow));
    assert_eq!(bench.tcp("10.0.0.20:5432"), Err(DropReason::PolicyDenied));
}

#[test]
fn an_exception_takes_away_from_its_own_entry_only() {
    let both = bench(
        "egress:\n- toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.0/28]}]\n\
         - toCIDR: [203.0.113.8/29]",
    );
    assert_eq!(both.tcp("203.0.113.77:80"), Ok(Verdict::Allow));
    assert_eq!(both.tcp("203.0.113.1:80"), Err(DropReason::PolicyDenied));
    assert_eq!(both.tcp("203.0.113.9:80"), Ok(Verdict::Allow));
}

#[test]
fn a_group_of_prefixes_is_followed_as_it_changes() {
    let mut bench = bench("egress: [{toCIDRSet: [{cidrGroupRef: partners}]}]");
    assert_eq!(bench.tcp("203.0.113.1:80"), Err(DropReason::PolicyDenied));
    let group = CidrGroup {
        name: "partners".into(),
        labels: Labels::default(),
        prefixes: vec!["203.0.113.0/24".parse().unwrap()],
    };
    bench.inventory.cidr_groups.insert("partners".into(), group.into());
    bench.commit();
    assert_eq!(bench.tcp("203.0.113.1:80"), Ok(Verdict::Allow));
}

#[test]
fn a_denial_beats_what_a_name_or_a_service_allows() {
    let rule = "egress:\n- toFQDNs: [{matchPattern: \"*\"}]\n- toEntities: [cluster]\n\
                egressDeny:\n- toCIDR: [203.0.113.0/24]\n  toPorts: [{ports: [{port: \"25\", protocol: TCP}]}]\n\
                - toEndpoints: [{matchLabels: {app: db, k8s:io.kubernetes.pod.namespace: prod}}]";
    let mut bench = bench(rule);
    bench.learn(CLIENT, "mail.example", "203.0.113.5", Moment::from_secs(1));
    assert_eq!(bench.tcp("203.0.113.5:25"), Err(DropReason::PolicyDenied));
    assert_eq!(bench.tcp("203.0.113.5:26"), Ok(Verdict::Allow));
    assert_eq!(bench.tcp("10.96.0.20:5432"), Err(DropReason::PolicyDenied));
    assert_eq!(bench.tcp("10.0.0.1:22"), Ok(Verdict::Allow));
}

#[test]
fn no_prefix_of_a_rule_reaches_into_the_cluster_s_ranges() {
    let bench = bench("egress: [{toCIDR: [10.0.0.64/26, 10.96.0.0/24, 10.0.0.0/8]}]");
    assert_eq!(bench.tcp("10.0.0.99:80"), Err(DropReason::PolicyDenied));
    assert_eq!(bench.tcp("10.96.0.77:80"), Err(DropReason::NoService));
    assert_eq!(bench.tcp("10.1.2.3:80"), Ok(Verdict::Allow));
}
