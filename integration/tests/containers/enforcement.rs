//! What holds for a pod from the moment its interface appears, whatever becomes of the runtime.

use integration::{PodNetwork, WWW, soon};

use crate::ground::{BESIDE, CLIENT, Node, WEB, becomes, yaml};

#[test]
fn a_container_behind_a_bridge_reaches_what_its_policy_names_from_its_first_packet_on() {
    a_pods_life(PodNetwork::Bridge);
}

#[test]
fn a_container_on_a_routed_veth_reaches_what_its_policy_names_from_its_first_packet_on() {
    a_pods_life(PodNetwork::PointToPoint);
}

fn a_pods_life(network: PodNetwork) {
    let node = Node::new(network);
    let daemon = node.daemon(&[]);
    node.api.put(yaml(WWW)).unwrap();
    let first = node.run(CLIENT, "uid-1");
    // Closed until the API server tells of it.
    node.fetches_nothing(&first, WEB);
    node.tell(CLIENT, "uid-1", &first);
    becomes(&daemon, CLIENT, "enforced");
    assert_eq!(daemon.endpoint(CLIENT)["interface"], node.interface(&first));
    // Not resolved yet.
    node.fetches_nothing(&first, WEB);
    node.fetches(&first, "www.example.com");
    node.fetches(&first, WEB);
    node.fetches_nothing(&first, BESIDE);
    let denied = node.looks_up(&first, "www.example.org");
    assert!(denied.said.contains("REFUSED"), "{denied:?}");

    // Another pod of its name: it has nothing that the first one had.
    node.api.delete("pods", Some("default"), "client").unwrap();
    node.runtime.end(&first).unwrap();
    becomes(&daemon, CLIENT, "absent");
    let second = node.run(CLIENT, "uid-2");
    // Closed until the API server tells of it.
    node.fetches_nothing(&second, WEB);
    node.tell(CLIENT, "uid-2", &second);
    becomes(&daemon, CLIENT, "enforced");
    assert_eq!(daemon.endpoint(CLIENT)["interface"], node.interface(&second));
    // What the first one resolved is not the second one's.
    node.fetches_nothing(&second, WEB);
    node.fetches(&second, "www.example.com");
    node.fetches(&second, WEB);
}

#[test]
fn a_pod_whose_sandbox_is_made_anew_is_enforced_on_its_new_interface() {
    let node = Node::new(PodNetwork::PointToPoint);
    let daemon = node.daemon(&[]);
    node.api.put(yaml(WWW)).unwrap();
    let first = node.run(CLIENT, "uid-1");
    node.tell(CLIENT, "uid-1", &first);
    becomes(&daemon, CLIENT, "enforced");
    let before = daemon.endpoint(CLIENT)["interface"].clone();
    node.fetches(&first, "www.example.com");

    // As after the sandbox's end: the pod is the same, and the kubelet tells of its new addresses
    // last.
    node.runtime.end(&first).unwrap();
    let second = node.run(CLIENT, "uid-1");
    let interface = node.interface(&second);
    assert_ne!(before, interface);
    soon("it is bound anew", || {
        let endpoints = daemon.ctl_json(&["endpoint", "list"]).unwrap();
        let mut endpoints = endpoints.as_array().unwrap().iter();
        endpoints.any(|own| own["name"] == "client" && own["interface"] == interface)
    });
    node.tell(CLIENT, "uid-1", &second);
    becomes(&daemon, CLIENT, "enforced");
    node.fetches(&second, "www.example.com");
    node.fetches_nothing(&second, BESIDE);
}

#[test]
fn what_is_enforced_stands_while_the_runtime_is_away_and_its_pods_are_found_again() {
    let mut node = Node::new(PodNetwork::PointToPoint);
    let daemon = node.daemon(&[]);
    node.api.put(yaml(WWW)).unwrap();
    let client = node.run(CLIENT, "uid-1");
    node.tell(CLIENT, "uid-1", &client);
    becomes(&daemon, CLIENT, "enforced");
    node.fetches(&client, "www.example.com");

    let interface = daemon.endpoint(CLIENT)["interface"].clone();
    node.runtime.stop().unwrap();
    node.lab.node().ip("link add hint type bridge\n").unwrap();
    let socket = node.runtime.socket();
    let socket = socket.to_str().unwrap();
    let told = || daemon.problems().iter().any(|own| own.contains(socket));
    soon("it is told", told);
    let told = daemon.problems();
    let reason = format!("{socket}: No such file");
    assert!(told.iter().any(|own| own.contains(&reason)), "{told:?}");
    assert_eq!(daemon.enforcement(CLIENT), "enforced");
    node.runtime.resume().unwrap();
    node.fetches(&client, WEB);
    node.fetches_nothing(&client, BESIDE);
    node.lab.node().ip("link del hint\n").unwrap();
    soon("nothing is wrong", || daemon.problems().is_empty());
    assert_eq!(daemon.endpoint(CLIENT)["interface"], interface);
    let other = node.run("default/other", "uid-2");
    node.tell("default/other", "uid-2", &other);
    becomes(&daemon, "default/other", "open");
    node.fetches(&other, BESIDE);
}

#[test]
fn a_container_is_found_by_its_cgroup_where_the_runtime_is_not_asked() {
    let node = Node::new(PodNetwork::Bridge);
    node.api.put(yaml(WWW)).unwrap();
    // Older than the container, and of the node's network: CRI-O can be told to keep its monitors
    // there.
    let mut monitor = node.lab.node().command("sleep").arg("1000").spawn().unwrap();
    let client = node.run(CLIENT, "uid-1");
    node.runtime.admit(&node.uid("uid-1"), monitor.id()).unwrap();
    node.tell(CLIENT, "uid-1", &client);
    let daemon = node.daemon(&["--kubernetes-runtime", "cgroups"]);
    becomes(&daemon, CLIENT, "enforced");
    assert_eq!(daemon.endpoint(CLIENT)["interface"], node.interface(&client));
    // Not resolved yet.
    node.fetches_nothing(&client, WEB);
    node.fetches(&client, "www.example.com");
    monitor.kill().unwrap();
    monitor.wait().unwrap();
}
