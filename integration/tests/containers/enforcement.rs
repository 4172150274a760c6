//! What holds for a pod from the moment its interface appears, whatever becomes of the runtime.

use integration::{PodNetwork, soon};

use crate::ground::{BESIDE, CLIENT, Ground, POLICY, WEB, yaml};

#[test]
fn a_container_behind_a_bridge_reaches_what_its_policy_names_from_its_first_packet_on() {
    a_pods_life(PodNetwork::Bridge);
}

#[test]
fn a_container_on_a_routed_veth_reaches_what_its_policy_names_from_its_first_packet_on() {
    a_pods_life(PodNetwork::PointToPoint);
}

fn a_pods_life(network: PodNetwork) {
    let ground = Ground::new(network, &[]);
    ground.api.put(yaml(POLICY)).unwrap();
    let first = ground.run(CLIENT, "uid-1");
    // Closed until the API server tells of it.
    ground.fetches_nothing(&first, WEB);
    ground.tell(CLIENT, "uid-1", &first);
    ground.becomes(CLIENT, "enforced");
    assert_eq!(ground.daemon.endpoint(CLIENT)["interface"], ground.interface(&first));
    // Not resolved yet.
    ground.fetches_nothing(&first, WEB);
    ground.fetches(&first, "www.example.com");
    ground.fetches(&first, WEB);
    ground.fetches_nothing(&first, BESIDE);
    let denied = ground.looks_up(&first, "www.example.org");
    assert!(denied.said.contains("REFUSED"), "{denied:?}");

    // Another pod of its name: it has nothing that the first one had.
    ground.api.delete("pods", Some("default"), "client").unwrap();
    ground.containerd.end(&first).unwrap();
    ground.becomes(CLIENT, "absent");
    let second = ground.run(CLIENT, "uid-2");
    // Closed until the API server tells of it.
    ground.fetches_nothing(&second, WEB);
    ground.tell(CLIENT, "uid-2", &second);
    ground.becomes(CLIENT, "enforced");
    assert_eq!(ground.daemon.endpoint(CLIENT)["interface"], ground.interface(&second));
    // What the first one resolved is not the second one's.
    ground.fetches_nothing(&second, WEB);
    ground.fetches(&second, "www.example.com");
    ground.fetches(&second, WEB);
}

#[test]
fn what_is_enforced_stands_while_the_runtime_is_away_and_its_pods_are_found_again() {
    let mut ground = Ground::new(PodNetwork::PointToPoint, &[]);
    ground.api.put(yaml(POLICY)).unwrap();
    let client = ground.run(CLIENT, "uid-1");
    ground.tell(CLIENT, "uid-1", &client);
    ground.becomes(CLIENT, "enforced");
    ground.fetches(&client, "www.example.com");

    let interface = ground.daemon.endpoint(CLIENT)["interface"].clone();
    ground.containerd.stop().unwrap();
    ground.lab.node().ip("link add hint type bridge\n").unwrap();
    let told = || ground.daemon.problems().iter().any(|own| own.contains("containerd.sock"));
    soon("it is told", told);
    assert_eq!(ground.daemon.enforcement(CLIENT), "enforced");
    ground.containerd.resume().unwrap();
    ground.fetches(&client, WEB);
    ground.fetches_nothing(&client, BESIDE);
    ground.lab.node().ip("link del hint\n").unwrap();
    soon("nothing is wrong", || ground.daemon.problems().is_empty());
    assert_eq!(ground.daemon.endpoint(CLIENT)["interface"], interface);
    let other = ground.run("default/other", "uid-2");
    ground.tell("default/other", "uid-2", &other);
    ground.becomes("default/other", "open");
    ground.fetches(&other, BESIDE);
}

#[test]
fn a_container_is_found_by_its_cgroup_where_the_runtime_is_not_asked() {
    let ground = Ground::new(PodNetwork::Bridge, &["--kubernetes-runtime", "cgroups"]);
    ground.api.put(yaml(POLICY)).unwrap();
    let client = ground.run(CLIENT, "uid-1");
    ground.tell(CLIENT, "uid-1", &client);
    ground.becomes(CLIENT, "enforced");
    assert_eq!(ground.daemon.endpoint(CLIENT)["interface"], ground.interface(&client));
    // Not resolved yet.
    ground.fetches_nothing(&client, WEB);
    ground.fetches(&client, "www.example.com");
}
