//! Services with what stands behind them, nodes, and groups of prefixes.

use model::Service;

use super::*;

#[test]
fn a_service_without_slices_has_the_ready_addresses_of_its_endpoints() {
    let inventory = read(&[(
        "a.yaml",
        "
apiVersion: v1
kind: Service
metadata: {name: db, labels: {tier: data}}
spec:
  type: NodePort
  clusterIP: 10.96.0.20
  selector: {app: db}
  ports:
  - {name: sql, port: 5432, targetPort: postgres, nodePort: 30432}
  - {name: admin, port: 80, protocol: TCP}
---
apiVersion: v1
kind: Endpoints
metadata: {name: db}
subsets:
- addresses: [{ip: 10.0.0.7}, {ip: 'fd00::7', targetRef: {kind: Pod, name: db-0}}]
  notReadyAddresses: [{ip: 10.0.0.8}]
  ports: [{name: sql, port: 15432}, {name: sql, port: 9, protocol: UDP}]
- addresses: [{ip: 10.0.0.9}]
  ports: [{name: sql, port: 25432}]
",
    )]);
    assert_eq!(problems(&inventory), NONE);
    let service = &inventory.services[&name("default", "db")];
    assert_eq!(
        service.labels.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["k8s:tier=data"]
    );
    assert!(service.selects_pods && service.external_name.is_none());
    assert_eq!(
        ports(service),
        ["sql TCP 5432 node 30432: 10.0.0.7:15432 10.0.0.9:25432 [fd00::7]:15432", "admin TCP 80:",]
    );
    assert_eq!(backends(service), ["10.0.0.7", "10.0.0.9", "fd00::7"]);
}

#[test]
fn slices_count_before_endpoints_even_when_none_of_theirs_is_ready() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {selector: {app: db}, ports: [{port: 5432}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: db}
subsets: [{addresses: [{ip: 10.0.0.7}], ports: [{port: 5432}]}]
";
    let slice = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-x, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.8], conditions: {ready: false}}]
ports: [{port: 5432}]
";
    let mut catalogue = Catalogue::default();
    catalogue.set("a.yaml", text, 1);
    assert_eq!(backends(&catalogue.inventory().services[&name("default", "db")]), ["10.0.0.7"]);
    catalogue.set("b.yaml", slice, 2);
    assert_eq!(backends(&catalogue.inventory().services[&name("default", "db")]), NONE);
    catalogue.remove(Path::new("b.yaml"));
    assert_eq!(backends(&catalogue.inventory().services[&name("default", "db")]), ["10.0.0.7"]);
}

#[test]
fn a_service_without_a_selector_has_what_is_written_in_its_slices() {
    let inventory = read(&[(
        "a.yaml",
        "
apiVersion: v1
kind: Service
metadata: {name: legacy}
spec: {clusterIP: 10.96.0.30, selector: {}, ports: [{port: 443, nodePort: 0}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: legacy-1, labels: {kubernetes.io/service-name: legacy}}
addressType: IPv4
endpoints: [{addresses: [203.0.113.5]}]
ports: [{name: '', port: 8443}]
",
    )]);
    assert_eq!(problems(&inventory), NONE);
    let service = &inventory.services[&name("default", "legacy")];
    assert!(!service.selects_pods);
    assert_eq!(ports(service), [" TCP 443: 203.0.113.5:8443"]);
    assert_eq!(backends(service), ["203.0.113.5"]);
}

#[test]
fn a_headless_service_without_ports_has_backends_all_the_same() {
    let inventory = read(&[(
        "a.yaml",
        "
apiVersion: v1
kind: Service
metadata: {name: peers}
spec: {clusterIP: None, selector: {app: peer}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: peers-1, labels: {kubernetes.io/service-name: peers}}
addressType: IPv6
endpoints: [{addresses: ['fd00::3']}, {addresses: ['fd00::2']}, {addresses: ['fd00::3']}]
",
    )]);
    assert_eq!(problems(&inventory), NONE);
    assert_eq!(backends(&inventory.services[&name("default", "peers")]), ["fd00::2", "fd00::3"]);
}

#[test]
fn an_external_name_is_all_that_such_a_service_is() {
    let inventory = read(&[(
        "a.yaml",
        "
apiVersion: v1
kind: Service
metadata: {name: out}
spec:
  type: ExternalName
  externalName: DB.example.com.
  clusterIP: 10.96.0.40
  selector: {app: x}
  ports: [{port: 443}]
---
apiVersion: v1
kind: Endpoints
metadata: {name: out}
subsets: [{addresses: [{ip: 10.0.0.7}], ports: [{port: 443}]}]
---
apiVersion: v1
kind: Service
metadata: {name: nowhere}
spec: {type: ExternalName}
---
apiVersion: v1
kind: Service
metadata: {name: odd}
spec: {type: ExternalName, externalName: '*.example.com'}
---
apiVersion: v1
kind: Service
metadata: {name: usual}
spec: {clusterIP: 10.96.0.41, externalName: left.example.com}
",
    )]);
    let service = &inventory.services[&name("default", "out")];
    assert_eq!(service.external_name, Some("db.example.com".parse().unwrap()));
    assert!(!service.selects_pods);
    assert!(service.addresses.is_empty() && service.backends.is_empty());
    assert_eq!(ports(service), [" TCP 443:"]);
    assert_eq!(inventory.services[&name("default", "usual")].external_name, None);
    assert_eq!(
        problems(&inventory),
        [
            "a.yaml:20:7: spec.externalName: must be set: the service is of type ExternalName",
            "a.yaml:25:42: spec.externalName: `*.example.com` is no host's name: at most 253 \
             letters, digits, `-` and `.`",
        ]
    );
}

#[test]
fn a_node_has_labels_of_its_own_source_its_addresses_and_its_ranges() {
    let inventory = read(&[(
        "nodes.yaml",
        "
apiVersion: v1
kind: Node
metadata:
  name: worker-1
  labels: {kubernetes.io/os: linux, node-role.kubernetes.io/worker: ''}
  annotations:
    network.cilium.io/ipv4-health-ip: 10.1.0.77
    io.cilium.network.ipv6-health-ip: 'fd00:1::77'
spec:
  podCIDR: 10.1.0.0/24
  podCIDRs: [10.1.0.0/24, 'fd00:1::/64']
status:
  addresses:
  - {type: InternalIP, address: 192.168.0.11}
  - {type: InternalIP, address: 'fd00:a::11'}
  - {type: ExternalIP, address: 203.0.113.11}
  - {type: ExternalIP, address: 192.168.0.11}
  - {type: Hostname, address: worker-1}
  - {type: ExternalDNS, address: worker-1.example.com}
---
apiVersion: v1
kind: Node
metadata: {name: fresh}
",
    )]);
    assert_eq!(problems(&inventory), NONE);
    let node = &inventory.nodes["worker-1"];
    assert_eq!(node.name, "worker-1");
    assert_eq!(
        node.labels.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["node:kubernetes.io/os=linux", "node:node-role.kubernetes.io/worker"]
    );
    assert_eq!(
        node.addresses,
        ["192.168.0.11", "fd00:a::11", "203.0.113.11"].map(|text| text.parse::<IpAddr>().unwrap())
    );
    assert_eq!(
        node.health_addresses,
        ["10.1.0.77", "fd00:1::77"].map(|text| text.parse::<IpAddr>().unwrap())
    );
    assert_eq!(
        node.pod_prefixes,
        ["10.1.0.0/24", "fd00:1::/64"].map(|text| text.parse::<Prefix>().unwrap())
    );
    let fresh = &inventory.nodes["fresh"];
    assert!(fresh.labels.is_empty() && fresh.addresses.is_empty());
}

#[test]
fn a_node_that_cannot_be_read_is_placed() {
    let inventory = read(&[(
        "a.yaml",
        "
apiVersion: v1
kind: Node
metadata: {name: a}
status:
  addresses:
  - {type: Hostname, address: a}
  - {type: InternalIP, address: ten}
---
apiVersion: v1
kind: Node
metadata: {name: b}
spec:
  podCIDRs: [10.1.0.0]
---
apiVersion: v1
kind: Node
metadata:
  name: c
  annotations: {network.cilium.io/ipv4-health-ip: ten}
",
    )]);
    assert!(inventory.nodes.is_empty());
    assert_eq!(
        problems(&inventory),
        [
            "a.yaml:8:5: status.addresses[1]: `ten` is not an IPv4 or IPv6 address",
            "a.yaml:14:14: spec.podCIDRs[0]: `10.1.0.0` has no `/`; write `10.1.0.0/32` for this \
             address alone",
            "a.yaml:20:51: metadata.annotations[network.cilium.io/ipv4-health-ip]: `ten` is not an \
             IPv4 or IPv6 address",
        ]
    );
}

#[test]
fn groups_of_prefixes_are_read_in_both_versions() {
    let inventory = read(&[(
        "groups.yaml",
        "
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: partners, labels: {zone: eu}}
spec: {externalCIDRs: [198.51.100.0/24, 'fd00:5::1/64', 203.0.113.77/24, 198.51.100.0/24]}
---
apiVersion: cilium.io/v2alpha1
kind: CiliumCIDRGroup
metadata: {name: none}
spec: {externalCIDRs: []}
---
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: bare}
spec: {externalCIDRs: [10.0.0.0/8, 192.0.2.1]}
---
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: lacking}
spec: {}
---
apiVersion: cilium.io/v2alpha1
kind: CiliumCIDRGroup
metadata: {name: partners}
spec: {externalCIDRs: []}
",
    )]);
    assert_eq!(inventory.cidr_groups.keys().collect::<Vec<_>>(), ["none", "partners"]);
    let group = &inventory.cidr_groups["partners"];
    assert_eq!(group.labels.iter().map(ToString::to_string).collect::<Vec<_>>(), ["k8s:zone=eu"]);
    assert_eq!(
        group.prefixes,
        ["198.51.100.0/24", "203.0.113.0/24", "fd00:5::/64"]
            .map(|text| text.parse::<Prefix>().unwrap())
    );
    assert!(inventory.cidr_groups["none"].prefixes.is_empty());
    let problems = problems(&inventory);
    assert_eq!(
        problems[0],
        "groups.yaml:15:36: spec.externalCIDRs[1]: `192.0.2.1` has no `/`; write `192.0.2.1/32` \
         for this address alone"
    );
    assert!(problems[1].starts_with("groups.yaml:20:7: spec"), "{}", problems[1]);
    assert!(problems[1].contains("externalCIDRs"), "{}", problems[1]);
    assert!(problems[2].contains("stands at groups.yaml:4:18 already"), "{}", problems[2]);
    assert_eq!(problems.len(), 3);
}

#[test]
fn a_group_may_not_have_any_number_of_prefixes() {
    let prefixes: String =
        (0..65_537).map(|n| format!("10.{}.{}.0/24,", n / 256, n % 256)).collect();
    let head = "apiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\nmetadata: {name: a}\n";
    let text = format!("{head}spec: {{externalCIDRs: [{}]}}\n", prefixes.replace("10.256", "11.0"));
    let inventory = read(&[("a.yaml", &text)]);
    assert_eq!(
        problems(&inventory),
        ["a.yaml:4:23: spec.externalCIDRs: has more than 65536 prefixes"]
    );
}

fn ports(service: &Service) -> Vec<String> {
    let ports = service.ports.iter().map(|port| {
        let node = port.node_port.map_or_else(String::new, |port| format!(" node {port}"));
        let backends: String = port.backends.iter().map(|own| format!(" {own}")).collect();
        format!("{} {} {}{node}:{backends}", port.name, port.protocol, port.port)
    });
    ports.collect()
}

fn backends(service: &Service) -> Vec<String> {
    service.backends.iter().map(ToString::to_string).collect()
}
