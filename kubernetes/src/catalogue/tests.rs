//! Files in, inventories out.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use model::{Attachment, EndpointName, Prefix, Protocol};
use policy::PolicyKey;
use proptest::collection::{btree_set, vec};
use proptest::{prop_assert_eq, proptest};

use super::*;

mod cluster;

#[test]
fn a_pod_gets_its_namespaces_labels_and_its_own() {
    let inventory = read(&[
        (
            "ns.yaml",
            "
apiVersion: v1
kind: Namespace
metadata:
  name: prod
  labels: {team: a, kubernetes.io/metadata.name: lies}
",
        ),
        (
            "pod.yaml",
            "
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: prod
  uid: 0c1d
  labels: {app: web}
  annotations:
    fqdnd.io/interface: lxc1
    fqdnd.io/extra-sources: 10.9.0.0/16, 10.8.0.1
    other: kept out
spec:
  serviceAccountName: shop
  nodeName: n1
  containers:
  - name: a
    image: x
    ports:
    - {name: http, containerPort: 80}
    - {containerPort: 81}
  - name: b
    ports: [{name: http, containerPort: 8080, protocol: UDP}]
status:
  phase: Running
  podIP: 10.0.0.1
  podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]
",
        ),
    ]);
    assert_eq!(problems(&inventory), NONE);
    let pod = &inventory.pods[&name("prod", "web")];
    assert_eq!(
        labels(pod),
        [
            "k8s:app=web",
            "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=prod",
            "k8s:io.cilium.k8s.namespace.labels.team=a",
            "k8s:io.cilium.k8s.policy.cluster=default",
            "k8s:io.cilium.k8s.policy.serviceaccount=shop",
            "k8s:io.kubernetes.pod.namespace=prod",
        ]
    );
    assert_eq!(pod.uid, "0c1d");
    assert_eq!(pod.addresses, ["10.0.0.1", "fd00::1"].map(|text| text.parse::<IpAddr>().unwrap()));
    assert_eq!(
        pod.extra_sources,
        ["10.9.0.0/16", "10.8.0.1/32"].map(|text| text.parse::<Prefix>().unwrap())
    );
    assert_eq!(pod.attachment, Some(Attachment::Interface("lxc1".into())));
    assert!(!pod.host_network);
    let ports = [("http".to_owned(), vec![(Protocol::TCP, 80), (Protocol::UDP, 8080)])];
    assert_eq!(*pod.ports, ports.into());
}

#[test]
fn a_plain_host_needs_no_status_and_no_namespace() {
    let inventory = read(&[(
        "host.yaml",
        "
apiVersion: v1
kind: Pod
metadata:
  name: printer
  annotations:
    fqdnd.io/netns: /run/netns/printer
    fqdnd.io/addresses: 192.168.1.9, fd00::9
",
    )]);
    assert_eq!(problems(&inventory), NONE);
    let pod = &inventory.pods[&name("default", "printer")];
    assert_eq!(pod.attachment, Some(Attachment::Namespace("/run/netns/printer".into())));
    assert_eq!(
        pod.addresses,
        ["192.168.1.9", "fd00::9"].map(|text| text.parse::<IpAddr>().unwrap())
    );
    assert_eq!(
        labels(pod),
        [
            "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=default",
            "k8s:io.cilium.k8s.policy.cluster=default",
            "k8s:io.cilium.k8s.policy.serviceaccount=default",
            "k8s:io.kubernetes.pod.namespace=default",
        ]
    );
}

#[test]
fn a_pod_cannot_give_itself_another_namespaces_labels() {
    let inventory = read(&[(
        "a.yaml",
        "
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels:
    app: web
    io.kubernetes.pod.namespace: kube-system
    io.cilium.k8s.policy.serviceaccount: admin
",
    )]);
    let labels = labels(&inventory.pods[&name("default", "web")]);
    assert!(!labels.iter().any(|label| label.contains("kube-system") || label.contains("admin")));
    assert_eq!(
        warnings(&inventory),
        [
            "a.yaml:5:9: metadata.name: its label `io.cilium.k8s.policy.serviceaccount` is \
             ignored: only derived labels have such keys",
            "a.yaml:5:9: metadata.name: its label `io.kubernetes.pod.namespace` is ignored: only \
             derived labels have such keys",
        ]
    );
}

#[test]
fn a_finished_pod_gives_nothing_and_a_shared_address_is_told() {
    let pod = |name: &str, phase: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n\
             status: {{phase: {phase}, podIP: 10.0.0.1}}\n---\n"
        )
    };
    let text = [pod("a", "Succeeded"), pod("b", "Failed"), pod("c", "Running")].concat();
    let inventory = read(&[("a.yaml", &text)]);
    assert_eq!(names(inventory.pods.keys()), ["default/c"]);
    assert_eq!(warnings(&inventory), NONE);

    let text = [pod("c", "Running"), pod("d", "Pending")].concat();
    let inventory = read(&[("a.yaml", &text)]);
    assert_eq!(names(inventory.pods.keys()), ["default/c", "default/d"]);
    assert_eq!(
        warnings(&inventory),
        ["a.yaml:8:18: metadata.name: has the address 10.0.0.1, which is default/c's too"]
    );
}

#[test]
fn wrong_annotations_are_all_named_with_their_places() {
    let inventory = read(&[(
        "a.yaml",
        "
apiVersion: v1
kind: Pod
metadata:
  name: web
  annotations:
    fqdnd.io/interface: lxc1
    fqdnd.io/netns: /run/netns/web
    fqdnd.io/addresses: 10.0.0.1,ten
    fqdnd.io/extra-sources: 10.0.0.0/40
---
apiVersion: v1
kind: Pod
metadata:
  name: db
  annotations: {fqdnd.io/netns: run/netns/db}
spec: {hostNetwork: false}
---
apiVersion: v1
kind: Pod
metadata:
  name: log
  annotations: {fqdnd.io/interface: eth0}
spec: {hostNetwork: true}
",
    )]);
    assert!(inventory.pods.is_empty());
    assert_eq!(
        problems(&inventory),
        [
            "a.yaml:8:21: metadata.annotations[fqdnd.io/netns]: stands beside \
             `fqdnd.io/interface`; give one of the two",
            "a.yaml:9:25: metadata.annotations[fqdnd.io/addresses]: `ten` is not an IPv4 or IPv6 \
             address",
            "a.yaml:10:29: metadata.annotations[fqdnd.io/extra-sources]: `40` is not a prefix \
             length from 0 to 32",
            "a.yaml:16:33: metadata.annotations[fqdnd.io/netns]: `run/netns/db` is no absolute \
             path without `..`",
            "a.yaml:23:37: metadata.annotations[fqdnd.io/interface]: a pod in its node's network \
             has no interface of its own",
        ]
    );
}

#[test]
fn a_service_has_its_ready_backends_by_port_name() {
    let inventory = read(&[
        (
            "service.yaml",
            "
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, 'fd00:96::a']
  externalIPs: [192.0.2.10]
  ports:
  - {name: dns, port: 53, protocol: UDP, targetPort: dns}
  - {name: dns-tcp, port: 53}
status: {loadBalancer: {ingress: [{ip: 198.51.100.1}, {hostname: lb.example.com}]}}
",
        ),
        (
            "slices.json",
            r#"{"apiVersion": "v1", "kind": "List", "items": [
              {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
               "metadata": {"name": "kube-dns-a", "namespace": "kube-system",
                            "labels": {"kubernetes.io/service-name": "kube-dns"}},
               "addressType": "IPv4",
               "endpoints": [{"addresses": ["10.0.0.3"], "conditions": {"ready": true}},
                             {"addresses": ["10.0.0.2"], "conditions": {}},
                             {"addresses": ["10.0.0.4"], "conditions": {"ready": false}}],
               "ports": [{"name": "dns", "port": 1053, "protocol": "UDP"},
                         {"name": "dns-tcp", "port": 1054}]},
              {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
               "metadata": {"name": "kube-dns-b", "namespace": "kube-system",
                            "labels": {"kubernetes.io/service-name": "kube-dns"}},
               "addressType": "IPv6",
               "endpoints": [{"addresses": ["fd00::2"]}],
               "ports": [{"name": "dns", "port": 1053, "protocol": "UDP"},
                         {"name": "dns", "port": 99, "protocol": "TCP"}]},
              {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
               "metadata": {"name": "kube-dns-c", "namespace": "default",
                            "labels": {"kubernetes.io/service-name": "kube-dns"}},
               "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.9"]}],
               "ports": [{"name": "dns", "port": 1053, "protocol": "UDP"}]},
              {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
               "metadata": {"name": "kube-dns-d", "namespace": "kube-system",
                            "labels": {"kubernetes.io/service-name": "kube-dns"}},
               "addressType": "FQDN", "endpoints": [{"addresses": ["a.example.com"]}],
               "ports": [{"name": "dns", "port": 1053, "protocol": "UDP"}]}
            ]}"#,
        ),
    ]);
    assert_eq!(problems(&inventory), NONE);
    let service = &inventory.services[&name("kube-system", "kube-dns")];
    assert_eq!(
        service.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.96.0.10", "192.0.2.10", "198.51.100.1", "fd00:96::a"]
    );
    let ports: Vec<_> = service
        .ports
        .iter()
        .map(|port| {
            let backends: Vec<String> = port.backends.iter().map(ToString::to_string).collect();
            format!("{} {} {} {}", port.name, port.protocol, port.port, backends.join(" "))
        })
        .collect();
    assert_eq!(
        ports,
        [
            "dns UDP 53 10.0.0.2:1053 10.0.0.3:1053 [fd00::2]:1053",
            "dns-tcp TCP 53 10.0.0.2:1054 10.0.0.3:1054",
        ]
    );
}

#[test]
fn a_headless_service_has_no_addresses() {
    let inventory = read(&[(
        "a.yaml",
        "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, clusterIPs: [None], ports: [{port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: out}
spec: {type: ExternalName, externalName: db.example.com, externalIPs: [192.0.2.1]}
",
    )]);
    assert_eq!(problems(&inventory), NONE);
    assert_eq!(names(inventory.services.keys()), ["default/db", "default/out"]);
    assert!(inventory.services.values().all(|service| service.addresses.is_empty()));
}

#[test]
fn a_broken_document_is_placed_and_leaves_its_neighbours_alone() {
    let inventory = read(&[
        (
            "a.yaml",
            "
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{port: 70000}]}
---
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {ports: [{port: 70, protocol: tcp}]}
---
apiVersion: v1
kind: Service
metadata: {name: c}
",
        ),
        ("b.yaml", POLICY),
    ]);
    assert_eq!(names(inventory.services.keys()), ["default/c"]);
    assert_eq!(inventory.policies.len(), 1);
    assert_eq!(inventory.files[Path::new("a.yaml")], FileState::Broken);
    assert_eq!(inventory.files[Path::new("b.yaml")], FileState::Good);
    let problems = problems(&inventory);
    assert_eq!(problems.len(), 2);
    assert!(problems[0].starts_with("a.yaml:5:23: spec.ports[0].port: "), "{}", problems[0]);
    assert_eq!(problems[1], "a.yaml:10:37: spec.ports[0].protocol: `tcp` is not TCP, UDP or SCTP");
}

#[test]
fn what_a_broken_file_gave_before_stays_in_force_until_it_is_whole() {
    let mut catalogue = Catalogue::default();
    catalogue.set("a.yaml", &[POLICY, "---", &service("api")].concat(), 1);
    let whole = catalogue.inventory();
    assert_eq!((whole.policies.len(), whole.services.len()), (1, 1));

    let broken = [&POLICY.replace("matchName", "matchNam"), "---", &service("shop")].concat();
    catalogue.set("a.yaml", &broken, 2);
    let inventory = catalogue.inventory();
    assert_eq!(inventory.policies, whole.policies);
    assert_eq!(names(inventory.services.keys()), ["default/api", "default/shop"]);
    assert_eq!(inventory.files[Path::new("a.yaml")], FileState::Stale { last_good: at(1) });
    let problem = &problems(&inventory)[0];
    assert!(problem.starts_with("a.yaml:12:7: spec.egress[0].toFQDNs[0]"), "{problem}");

    catalogue.set("a.yaml", "]", 3);
    let inventory = catalogue.inventory();
    assert_eq!(inventory.policies, whole.policies);
    assert_eq!(names(inventory.services.keys()), ["default/api", "default/shop"]);
    assert_eq!(inventory.files[Path::new("a.yaml")], FileState::Stale { last_good: at(1) });

    catalogue.set("a.yaml", &service("shop"), 4);
    let inventory = catalogue.inventory();
    assert_eq!(
        (inventory.policies.len(), names(inventory.services.keys())),
        (0, vec!["default/shop".to_owned()])
    );
    assert_eq!(inventory.files[Path::new("a.yaml")], FileState::Good);

    catalogue.remove(Path::new("a.yaml"));
    let inventory = catalogue.inventory();
    assert!(inventory.services.is_empty() && inventory.files.is_empty());
}

#[test]
fn an_emptied_file_takes_nothing_away_and_one_of_comments_does() {
    let mut catalogue = Catalogue::default();
    catalogue.set("a.yaml", POLICY, 1);
    catalogue.set("a.yaml", "\n", 2);
    let inventory = catalogue.inventory();
    assert_eq!(inventory.policies.len(), 1);
    assert_eq!(
        problems(&inventory),
        ["a.yaml:1:1: is empty; what it gave before stays in force until it is removed"]
    );
    catalogue.set("a.yaml", "# no policies any more\n", 3);
    let inventory = catalogue.inventory();
    assert_eq!((inventory.policies.len(), problems(&inventory)), (0, Vec::new()));

    catalogue.set("b.yaml", "", 4);
    assert_eq!(problems(&catalogue.inventory()), NONE);
}

#[test]
fn of_two_objects_with_one_name_the_first_counts() {
    let other = POLICY.replace("www", "ftp");
    let inventory = read(&[("b.yaml", &other), ("a.yaml", POLICY)]);
    let key = PolicyKey { namespace: Some("prod".into()), name: "web".into() };
    let first = read(&[("a.yaml", POLICY)]);
    assert_eq!(inventory.policies[&key], first.policies[&key]);
    assert_eq!(
        problems(&inventory),
        [
            "b.yaml:5:9: metadata.name: the same object stands at a.yaml:5:9 already; that one counts"
        ]
    );

    let inventory = read(&[("a.yaml", &[POLICY, "---", &other].concat())]);
    assert_eq!(inventory.policies[&key], first.policies[&key]);
    assert_eq!(
        problems(&inventory),
        ["a.yaml:17:9: metadata.name: the same object stands at a.yaml:5:9 already; that one \
          counts"]
    );
}

#[test]
fn an_object_that_is_only_kept_yields_to_one_that_was_read() {
    let mut catalogue = Catalogue::default();
    catalogue.set("a.yaml", POLICY, 1);
    catalogue.set("a.yaml", "]", 2);
    catalogue.set("b.yaml", &POLICY.replace("www", "ftp"), 3);
    let inventory = catalogue.inventory();
    let fresh = read(&[("b.yaml", &POLICY.replace("www", "ftp"))]);
    assert_eq!(inventory.policies, fresh.policies);
    assert_eq!(problems(&inventory).len(), 1);
}

#[test]
fn other_kinds_are_skipped_with_a_note() {
    let inventory = read(&[(
        "a.yaml",
        "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
---
apiVersion: example.com/v1
kind: Pod
metadata: {name: other}
",
    )]);
    assert_eq!(problems(&inventory), NONE);
    assert!(inventory.pods.is_empty());
    assert_eq!(
        inventory.skipped.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "a.yaml:2: skipped Deployment `web` of apps/v1",
            "a.yaml:6: skipped Pod `other` of example.com/v1",
        ]
    );
}

#[test]
fn many_problems_of_one_file_are_counted_not_kept() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: A}\n---\n".repeat(250);
    let inventory = read(&[("a.yaml", &text)]);
    assert_eq!(inventory.problems.len(), 101);
    assert!(problems(&inventory).contains(&"a.yaml:1:1: 150 more problems in this file".into()));
}

proptest! {
    #[test]
    fn any_order_of_changes_gives_what_the_obvious_model_gives(
        steps in vec((0..3usize, 0..4u8, btree_set(0..4u8, 0..4)), 1..20)
    ) {
        let mut catalogue = Catalogue::default();
        let mut model: [Vec<(u8, BTreeSet<u8>)>; 3] = Default::default();
        for (step, (file, kind, names)) in steps.into_iter().enumerate() {
            let path = ["a.yaml", "b.yaml", "c.yaml"][file];
            match kind {
                REMOVED => catalogue.remove(Path::new(path)),
                kind => catalogue.set(path, &file_of(kind, step, &names), 0),
            }
            if kind == REMOVED {
                model[file].clear();
            } else {
                model[file].push((kind, names.clone()));
            }
            let services = catalogue.inventory().services;
            let found = services.keys().map(|key| key.name.clone()).collect::<BTreeSet<_>>();
            prop_assert_eq!(found, model.iter().flat_map(|file| in_force(file)).collect());
        }
    }

    #[test]
    fn no_text_makes_reading_panic(text in "(?s)([a-z:{}\\[\\] \n\"'-]{0,6}|kind|Pod|apiVersion|v1|metadata){0,40}") {
        let mut catalogue = Catalogue::default();
        catalogue.set("a.yaml", &text, 0);
        catalogue.inventory();
    }
}

/// What a step of the random test does to a file; other numbers write it whole.
const REMOVED: u8 = 0;
/// It is written with a broken document at its end.
const BROKEN: u8 = 1;

/// The services that a file has in force after all that was written to it: those of its last
/// whole version and of every broken one since.
fn in_force(history: &[(u8, BTreeSet<u8>)]) -> BTreeSet<String> {
    let whole = history.iter().rposition(|(kind, _)| *kind != BROKEN).unwrap_or(0);
    history[whole..].iter().flat_map(|(_, names)| names).map(|name| format!("s{name}")).collect()
}

fn file_of(kind: u8, step: usize, names: &BTreeSet<u8>) -> String {
    let services = names.iter().map(|name| format!("---{}", service(&format!("s{name}"))));
    let broken = if kind == BROKEN { "---\nkind: [" } else { "" };
    services.chain([format!("# {step}\n{broken}")]).collect()
}

const NONE: [&str; 0] = [];

const POLICY: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: web
  namespace: prod
spec:
  endpointSelector:
    matchLabels: {app: web}
  egress:
  - toFQDNs:
    - matchName: www.example.com
";

fn service(name: &str) -> String {
    format!("\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n")
}

impl Catalogue {
    fn set(&mut self, path: &str, text: &str, seconds: u64) {
        let file: Arc<Path> = Path::new(path).into();
        self.replace(&file, Reading::new(&file, text, policy::Options::default()), at(seconds));
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn read(files: &[(&str, &str)]) -> Inventory {
    let mut catalogue = Catalogue::default();
    for (path, text) in files {
        catalogue.set(path, text, 0);
    }
    catalogue.inventory()
}

fn name(namespace: &str, name: &str) -> EndpointName {
    EndpointName { namespace: namespace.into(), name: name.into() }
}

fn names<'a>(names: impl Iterator<Item = &'a EndpointName>) -> Vec<String> {
    names.map(ToString::to_string).collect()
}

fn labels(pod: &model::Pod) -> Vec<String> {
    pod.labels.iter().map(ToString::to_string).collect()
}

fn problems(inventory: &Inventory) -> Vec<String> {
    inventory.problems.iter().map(ToString::to_string).collect()
}

fn warnings(inventory: &Inventory) -> Vec<String> {
    inventory.warnings.iter().map(ToString::to_string).collect()
}
