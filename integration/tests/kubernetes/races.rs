//! Pods that come, go and come again in any order.

use model::EndpointName;
use serde_json::{Value, json};

use crate::ground::{Ground, NODE};

fn pod(name: &str, uid: &str, node: Option<&str>, address: Option<&str>) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "n", "uid": uid, "labels": {"app": name}},
        "spec": {"containers": []},
        "status": {"phase": "Running"},
    });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = node.into();
    }
    if let Some(address) = address {
        pod["status"]["podIPs"] = json!([{"ip": address}]);
    }
    pod
}

fn name(name: &str) -> EndpointName {
    EndpointName { namespace: "n".into(), name: name.into() }
}

async fn ground() -> Ground {
    let ground = Ground::own().await;
    ground
        .api()
        .put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}))
        .unwrap();
    ground
}

#[tokio::test]
async fn a_pod_that_is_bound_to_a_node_passes_from_one_list_to_the_other() {
    let ground = ground().await;
    ground.api().put(pod("a", "1", None, None)).unwrap();
    let mut watched = ground.watch().await;
    assert_eq!(watched.now().pods.get(&name("a")).unwrap().uid, "1");
    ground.api().put(pod("a", "1", Some(NODE), Some("10.0.0.1"))).unwrap();
    let addressed = |now: &kubernetes::Inventory| {
        now.pods.get(&name("a")).is_some_and(|pod| !pod.addresses.is_empty())
    };
    watched.until("its address", addressed).await;
    ground.api().delete("pods", Some("n"), "a").unwrap();
    watched.until("its end", |now| now.pods.is_empty()).await;
}

#[tokio::test]
async fn a_pod_of_the_same_name_elsewhere_is_another_with_its_own_uid_and_address() {
    let ground = ground().await;
    ground.api().put(pod("web-0", "1", Some(NODE), Some("10.0.0.1"))).unwrap();
    let mut watched = ground.watch().await;
    for round in 0..10 {
        let (uid, node) = (format!("{}", round + 2), if round % 2 == 0 { "there" } else { NODE });
        ground.api().delete("pods", Some("n"), "web-0").unwrap();
        let address = format!("10.0.0.{}", round + 2);
        ground.api().put(pod("web-0", &uid, Some(node), Some(&address))).unwrap();
        let is_new = |now: &kubernetes::Inventory| {
            now.pods.get(&name("web-0")).is_some_and(|pod| {
                pod.uid == uid && pod.addresses == [address.parse::<std::net::IpAddr>().unwrap()]
            })
        };
        watched.until("the new pod", is_new).await;
    }
}

#[tokio::test]
async fn an_address_that_passes_to_another_pod_is_never_both_once_the_old_one_is_gone() {
    let ground = ground().await;
    ground.api().put(pod("old", "1", Some("there"), Some("10.0.0.1"))).unwrap();
    let mut watched = ground.watch().await;
    // The new one is told of before the end of the old one is.
    ground.api().put(pod("new", "2", Some("there"), Some("10.0.0.1"))).unwrap();
    watched.until("the new pod", |now| now.pods.contains_key(&name("new"))).await;
    ground.api().delete("pods", Some("n"), "old").unwrap();
    let now = watched.until("the old one's end", |now| !now.pods.contains_key(&name("old"))).await;
    assert_eq!(now.pods.len(), 1);

    // A finished pod has no address any more, though its object stays.
    let mut finished = pod("new", "2", Some("there"), Some("10.0.0.1"));
    finished["status"]["phase"] = "Succeeded".into();
    ground.api().put(finished).unwrap();
    watched.until("the finished pod to go", |now| now.pods.is_empty()).await;
}

#[tokio::test]
async fn a_pod_whose_namespace_is_not_known_waits_for_its_labels() {
    let ground = Ground::own().await;
    ground.api().put(pod("a", "1", Some("there"), Some("10.0.0.1"))).unwrap();
    let mut watched = ground.watch().await;
    assert!(watched.now().pods.is_empty());
    ground
        .api()
        .put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": {"x": "y"}}}))
        .unwrap();
    let now = watched.until("the pod", |now| !now.pods.is_empty()).await;
    let labels = &now.pods.get(&name("a")).unwrap().labels;
    let label = "k8s:io.cilium.k8s.namespace.labels.x=y";
    assert!(labels.iter().any(|own| own.to_string() == label));
}
