//! Destinations see the pod's own address, where that is asked for: by every way back.

use std::net::IpAddr;

use integration::{LabOptions, ServiceSpec, WebServer};

use crate::ground::{Ground, PLAIN, WWW, WWW6, policy};

const RULES: &str = r#"  - toCIDR: [203.0.113.0/24, "2001:db8:1::/64"]
    toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{path: /yes}]}}]
  - toEndpoints: [{matchLabels: {app: other}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{path: /yes}]}}]
"#;
const FLAGS: [&str; 2] = ["--l7-upstream-address", "pod"];

/// Who a destination says that it was asked by.
fn asker(ground: &Ground, host: &str, port: u16) -> String {
    let (status, body) = ground.curl(&[&format!("http://{host}:{port}/yes")]);
    assert_eq!(status, 200, "{host}: {body}");
    let (_, from) = body.lines().next().unwrap().rsplit_once(' ').unwrap();
    from.to_owned()
}

#[test]
fn outside_hosts_services_and_other_pods_see_the_pod() {
    let ground = Ground::with(LabOptions::default(), &policy(RULES), &FLAGS);
    let other = ground.lab.pod("default/other");
    let _inside = WebServer::start(other.namespace(), PLAIN, None).unwrap();
    let service = ServiceSpec::new("default/web", &["10.96.0.77", "fd00:96::77"]);
    let backends: [IpAddr; 2] = other.addresses();
    let service = service.port("TCP", 80, PLAIN).backends(&backends);
    ground.daemon.settle("a service", || ground.lab.service(&service).unwrap());
    let [v4, v6] = ground.client().addresses().map(|own| own.to_string());
    // Out of the cluster, the node translates it like all that pods send.
    let (node4, node6) = ground.lab.node_addresses();
    assert_eq!(asker(&ground, WWW, PLAIN), node4.to_string());
    assert_eq!(asker(&ground, &format!("[{WWW6}]"), PLAIN), node6.to_string());
    assert_eq!(asker(&ground, &other.ipv4().to_string(), PLAIN), v4);
    assert_eq!(asker(&ground, &format!("[{}]", other.ipv6()), PLAIN), v6);
    assert_eq!(asker(&ground, "10.96.0.77", 80), v4);
    assert_eq!(ground.status(&[&format!("http://{WWW}:{PLAIN}/no")]), 403);
}

#[test]
fn through_a_bridge_too_but_for_neighbours_on_it_which_see_the_node() {
    let ground = Ground::bridged(&policy(RULES), &FLAGS);
    let other = ground.lab.pod("default/other");
    let _inside = WebServer::start(other.namespace(), PLAIN, None).unwrap();
    let client = ground.client().ipv4().to_string();
    assert_eq!(ground.status(&[&format!("http://{WWW}:{PLAIN}/yes")]), 200);
    // Their answers would go straight to the pod.
    assert_ne!(asker(&ground, &other.ipv4().to_string(), PLAIN), client);
}
