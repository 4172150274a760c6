//! Random policies as documents: JSON, which is YAML too.

use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};

/// One to four policies, the first of which selects the client.
pub fn any() -> impl Strategy<Value = Vec<String>> {
    vec(policy(), 1..5).prop_map(|specs| {
        let documents = specs.into_iter().enumerate();
        documents.map(|(number, own)| text(number, &own)).collect()
    })
}

/// What a policy is made of.
#[derive(Debug)]
struct Parts {
    clusterwide: bool,
    audited: bool,
    spec: Value,
}

fn text(number: usize, Parts { clusterwide, audited, spec }: &Parts) -> String {
    let (kind, mut metadata) = if *clusterwide {
        ("CiliumClusterwideNetworkPolicy", json!({"name": format!("p{number}")}))
    } else {
        ("CiliumNetworkPolicy", json!({"name": format!("p{number}"), "namespace": "default"}))
    };
    if *audited {
        metadata["annotations"] = json!({"fqdnd.io/audit": "true"});
    }
    let document = json!({
        "apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "spec": spec,
    });
    document.to_string()
}

fn policy() -> impl Strategy<Value = Parts> {
    let rules = (vec(allow(), 0..4), vec(deny(), 0..3));
    let marks = (prop::bool::weighted(0.3), prop::bool::weighted(0.4), prop::bool::weighted(0.15));
    (marks, rules).prop_map(|((clusterwide, audited, off), (egress, denied))| {
        let mut spec = json!({
            "endpointSelector": {"matchLabels": {"app": "client"}},
            "egress": if egress.is_empty() { vec![json!({})] } else { egress },
        });
        if !denied.is_empty() {
            spec["egressDeny"] = denied.into();
        }
        if off {
            spec["enableDefaultDeny"] = json!({"egress": false});
        }
        Parts { clusterwide, audited, spec }
    })
}

fn allow() -> impl Strategy<Value = Value> {
    let names = select(vec![
        json!({"matchName": "a.example"}),
        json!({"matchPattern": "*.example"}),
        json!({"matchPattern": "**.b.example"}),
        json!({"matchPattern": "*"}),
    ]);
    let names = vec(names, 1..3).prop_map(|names| json!({"toFQDNs": names}));
    let peers = prop_oneof![3 => peers(), 1 => names];
    let opened = prop_oneof![4 => ports(), 2 => questions(), 2 => requests()];
    (peers, option::weighted(0.8, opened)).prop_map(joined)
}

fn deny() -> impl Strategy<Value = Value> {
    // A denial of everything leaves nothing to see; so it is rare.
    (peers(), option::weighted(0.9, ports())).prop_map(joined)
}

/// A rule of these peers and these ports.
fn joined((mut rule, ports): (Value, Option<Value>)) -> Value {
    if let (Some(rule), Some(Value::Object(ports))) = (rule.as_object_mut(), ports) {
        rule.extend(ports);
    }
    rule
}

fn peers() -> impl Strategy<Value = Value> {
    let entity = select(vec![
        "all",
        "world",
        "world-ipv4",
        "world-ipv6",
        "cluster",
        "host",
        "remote-node",
        "kube-apiserver",
        "health",
        "unmanaged",
        "none",
        "init",
        "ingress",
    ]);
    let prefix = select(vec![
        "0.0.0.0/0",
        "203.0.113.0/24",
        "203.0.113.5/32",
        "192.0.2.0/24",
        "10.0.0.0/8",
        "::/0",
        "2001:db8::/32",
        "2001:db8:1::/64",
        "2001:db8:1::5/128",
    ]);
    let set = select(vec![
        json!({"cidr": "203.0.113.0/24", "except": ["203.0.113.5/32"]}),
        json!({"cidr": "0.0.0.0/0", "except": ["203.0.113.0/24", "192.0.2.9/32"]}),
        json!({"cidr": "2001:db8::/32", "except": ["2001:db8:1::/64"]}),
        json!({"cidr": "203.0.113.5/32"}),
        json!({"cidrGroupRef": "partners"}),
        json!({"cidrGroupRef": "nobody"}),
        json!({"cidrGroupSelector": {"matchLabels": {"trust": "some"}},
            "except": ["203.0.113.5/32"]}),
    ]);
    let service = select(vec![
        json!({"k8sService": {"serviceName": "inside", "namespace": "other"}}),
        json!({"k8sService": {"serviceName": "outside", "namespace": "default"}}),
        json!({"k8sService": {"serviceName": "named", "namespace": "default"}}),
        json!({"k8sServiceSelector": {"selector": {"matchLabels": {"tier": "x"}}}}),
        json!({"k8sServiceSelector": {"selector": {}, "namespace": "default"}}),
    ]);
    let node = select(vec![
        json!({"matchLabels": {"role": "gateway"}}),
        json!({"matchExpressions": [{"key": "role", "operator": "Exists"}]}),
    ]);
    prop_oneof![
        2 => Just(json!({})),
        3 => vec(selector(), 0..3).prop_map(|own| json!({"toEndpoints": own})),
        3 => vec(entity, 1..3).prop_map(|own| json!({"toEntities": own})),
        2 => vec(prefix, 1..3).prop_map(|own| json!({"toCIDR": own})),
        2 => vec(set, 1..3).prop_map(|own| json!({"toCIDRSet": own})),
        2 => vec(service, 1..3).prop_map(|own| json!({"toServices": own})),
        1 => vec(node, 1..2).prop_map(|own| json!({"toNodes": own})),
    ]
}

fn selector() -> impl Strategy<Value = Value> {
    let key = || select(vec!["a", "b", "k8s:a", "any:b"]);
    let values = || vec(select(vec!["x", "y"]), 1..3);
    let expression = prop_oneof![
        (key(), select(vec!["In", "NotIn"]), values())
            .prop_map(|(key, op, values)| json!({"key": key, "operator": op, "values": values})),
        (key(), select(vec!["Exists", "DoesNotExist"]))
            .prop_map(|(key, op)| json!({"key": key, "operator": op})),
    ];
    let namespace = option::weighted(0.4, select(vec!["default", "other"]));
    (vec(expression, 0..3), namespace).prop_map(|(mut all, namespace)| {
        if let Some(namespace) = namespace {
            let key = "k8s:io.kubernetes.pod.namespace";
            all.push(json!({"key": key, "operator": "In", "values": [namespace]}));
        }
        json!({"matchExpressions": all})
    })
}

fn ports() -> impl Strategy<Value = Value> {
    let protocol = || select(vec!["TCP", "UDP", "SCTP", "ANY"]);
    let port = prop_oneof![
        4 => (select(vec!["7", "53", "80", "443", "8080", "0"]), protocol())
            .prop_map(|(port, protocol)| json!({"port": port, "protocol": protocol})),
        2 => (select(vec![(50, 90), (1, 65_535), (443, 443), (8_000, 8_191)]), protocol())
            .prop_map(|((first, last), protocol)| {
                json!({"port": format!("{first}"), "endPort": last, "protocol": protocol})
            }),
        2 => (select(vec!["web", "echo"]), protocol())
            .prop_map(|(name, protocol)| json!({"port": name, "protocol": protocol})),
        1 => select(vec!["7", "443"]).prop_map(|port| json!({"port": port})),
    ];
    let icmp = select(vec![
        json!({"type": 8}),
        json!({"type": "Timestamp", "family": "IPv4"}),
        json!({"type": 128, "family": "IPv6"}),
        json!({"type": 139, "family": "IPv6"}),
    ]);
    prop_oneof![
        4 => vec(vec(port, 0..3), 0..3).prop_map(|items| {
            let items: Vec<_> = items.into_iter().map(|own| json!({"ports": own})).collect();
            json!({"toPorts": items})
        }),
        1 => vec(icmp, 1..3).prop_map(|fields| json!({"icmps": [{"fields": fields}]})),
    ]
}

/// Rules for what is said over TCP, at ports where other rules say other things.
fn requests() -> impl Strategy<Value = Value> {
    let ports =
        vec![json!({"port": "443", "protocol": "TCP"}), json!({"port": "web", "protocol": "TCP"})];
    let wide = json!({"port": "50", "endPort": 8191, "protocol": "TCP"});
    let ports = select([ports, vec![wide]].concat());
    let said = select(vec![
        json!({"rules": {"http": [{"method": "GET"}]}}),
        json!({"rules": {"kafka": [{"role": "produce"}]}}),
        json!({"serverNames": ["*.example"]}),
    ]);
    (ports, said).prop_map(|(port, mut item)| {
        item["ports"] = json!([port]);
        json!({"toPorts": [item]})
    })
}

/// Rules for DNS, at its own port or at others.
fn questions() -> impl Strategy<Value = Value> {
    let ports = option::of((select(vec!["53", "80", "7"]), select(vec!["UDP", "TCP", "ANY"])));
    ports.prop_map(|ports| {
        let mut item = json!({"rules": {"dns": [{"matchPattern": "*.example"}]}});
        if let Some((port, protocol)) = ports {
            item["ports"] = json!([{"port": port, "protocol": protocol}]);
        }
        json!({"toPorts": [item]})
    })
}
