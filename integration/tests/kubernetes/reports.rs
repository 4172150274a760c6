//! What the cluster is told of its policies.

use std::time::Duration;

use kubernetes::crd::{self, Outcome};
use kubernetes::{Access, Cluster, Reports};
use serde_json::Value;

use crate::ground::{Ground, PATIENCE, policy, yaml};

async fn reporting(ground: &Ground, node: &str) -> Cluster {
    let mut cluster = Cluster::watch(ground.options()).await.unwrap();
    cluster.report(Reports { namespace: ground.namespace.clone(), node: node.to_owned() });
    cluster
}

fn condition(ground: &Ground, name: &str) -> Option<Value> {
    condition_of(ground, name, crd::VALID)
}

fn condition_of(ground: &Ground, name: &str, kind: &str) -> Option<Value> {
    let policies = ground.api().all("ciliumnetworkpolicies");
    let policy = policies.into_iter().find(|own| own["metadata"]["name"] == name)?;
    let conditions = policy["status"]["conditions"].as_array()?.clone();
    conditions.into_iter().find(|own| own["type"] == kind)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("{what} did not come"));
}

#[tokio::test]
async fn one_node_writes_what_became_of_each_policy_and_what_is_refused_is_an_event() {
    let ground = Ground::own().await;
    let namespace = ground.namespace.clone();
    ground.api().put(yaml(&policy(&namespace, "good", "203.0.113.1/32"))).unwrap();
    let broken = policy(&namespace, "bad", "203.0.113.1/32") + "    toEntities: [world]\n";
    ground.api().put(yaml(&broken)).unwrap();
    let (one, two) = (reporting(&ground, "one").await, reporting(&ground, "two").await);

    let status = |name: &str| condition(&ground, name).map(|own| own["status"].clone());
    until("the good one's", || status("good").is_some_and(|own| own == "True")).await;
    until("the bad one's", || status("bad").is_some_and(|own| own == "False")).await;
    let told = condition(&ground, "bad").unwrap();
    assert!(told["message"].as_str().unwrap().starts_with("spec.egress[0].toEntities: "), "{told}");
    until("the event", || !ground.api().all("events").is_empty()).await;
    let events = ground.api().all("events");
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["regarding"]["name"], "bad");
    assert_eq!(events[0]["reason"], "PolicyRefused");

    // Its repair is told too, and then nobody writes any more.
    ground.api().put(yaml(&policy(&namespace, "bad", "203.0.113.1/32"))).unwrap();
    until("the repaired one's", || status("bad").is_some_and(|own| own == "True")).await;
    let written = || ground.api().requests("PATCH", "/status");
    let quiet = async {
        let mut before = 0;
        while before != written() {
            before = written();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, quiet).await.expect("nobody writes any more");
    assert!(written() <= 4, "{} writes for three verdicts", written());
    drop((one, two));
}

#[tokio::test]
async fn a_status_or_an_event_that_is_refused_keeps_no_other_from_being_told() {
    let ground = Ground::own().await;
    let namespace = ground.namespace.clone();
    for name in ["a", "b", "c"] {
        let broken = policy(&namespace, name, "203.0.113.1/32") + "    toEntities: [world]\n";
        ground.api().put(yaml(&broken)).unwrap();
    }
    // As a webhook does, and a namespace that is going away.
    let refused = "/ciliumnetworkpolicies/a/status";
    ground.api().fault(|faults| {
        faults.refuse(refused, 422, None);
        faults.refuse("/events", 403, None);
    });
    let _node = reporting(&ground, "one").await;
    let status = |name: &str| condition(&ground, name).map(|own| own["status"].clone());
    until("the others", || {
        ["b", "c"].iter().all(|name| status(name).is_some_and(|own| own == "False"))
    })
    .await;
    assert!(status("a").is_none());
    ground.api().put(yaml(&policy(&namespace, "d", "203.0.113.1/32"))).unwrap();
    until("a later one", || status("d").is_some_and(|own| own == "True")).await;
    let asked = ground.api().requests("PATCH", refused);
    assert_eq!(asked, 1, "it is not asked again at once");

    // Another generation is another try.
    ground.api().fault(|faults| faults.refusals.clear());
    ground.api().put(yaml(&policy(&namespace, "a", "203.0.113.1/32"))).unwrap();
    until("the one that was refused", || status("a").is_some_and(|own| own == "True")).await;
}

#[tokio::test]
async fn the_longest_names_and_reasons_are_told_as_well() {
    let ground = Ground::own().await;
    let name = format!("{}.{}", "a".repeat(240), "b".repeat(12));
    let broken = policy(&ground.namespace, &name, "203.0.113.1/32");
    let broken = broken + &format!("    toEntities: [world]\n    {}: []\n", "ß".repeat(900));
    ground.apply(&broken).await;
    let _node = reporting(&ground, &"n".repeat(253)).await;
    until("its status", || condition(&ground, &name).is_some()).await;
    until("its event", || !ground.api().all("events").is_empty()).await;
    assert_eq!(ground.api().all("events")[0]["regarding"]["name"], name.as_str());
}

/// Has a node tell that all it knows is in force.
fn enforce(cluster: &Cluster) {
    let inventory = cluster.subscribe().borrow().clone();
    cluster.is_in_force(&inventory);
}

#[tokio::test]
async fn a_policy_says_on_how_many_nodes_it_is_in_force_whoever_writes() {
    let ground = Ground::own().await;
    let names = ["one", "two", "three"];
    for node in names {
        let node = serde_json::json!({"name": node});
        let node = serde_json::json!({"apiVersion": "v1", "kind": "Node", "metadata": node});
        ground.api().put(node).unwrap();
    }
    let namespace = ground.namespace.clone();
    ground.api().put(yaml(&policy(&namespace, "web", "203.0.113.1/32"))).unwrap();
    let mut nodes = Vec::new();
    for node in names {
        nodes.push(reporting(&ground, node).await);
    }
    let enforced = |what: &str| {
        let condition = condition_of(&ground, "web", crd::ENFORCED)?;
        Some(condition[what].as_str().unwrap_or_default().to_owned())
    };
    nodes.iter().for_each(enforce);
    let says = |status: &str, message: &str| {
        enforced("status").is_some_and(|own| own == status)
            && enforced("message").is_some_and(|own| own == message)
    };
    until("all three", || says("True", "on 3 of 3 nodes")).await;

    // A change that one node does not come to, as one whose maps are full.
    ground.api().put(yaml(&policy(&namespace, "web", "203.0.113.2/32"))).unwrap();
    for node in &nodes {
        let mut inventory = node.subscribe();
        let changed = |now: &std::sync::Arc<kubernetes::Inventory>| {
            now.verdicts.values().any(|verdict| verdict.generation == 2)
        };
        inventory.wait_for(changed).await.unwrap();
    }
    nodes[1..].iter().for_each(enforce);
    until("two of three", || says("False", "on 2 of 3 nodes")).await;
    let written = ground.api().requests("PATCH", "/status");
    enforce(&nodes[0]);
    until("all three again", || says("True", "on 3 of 3 nodes")).await;
    assert!(ground.api().requests("PATCH", "/status") <= written + 2);

    // The one that writes goes, and another goes on; what a node enforces stays enforced.
    let lease = || {
        let leases = ground.api().all("leases");
        let lease = leases.into_iter().find(|own| own["metadata"]["name"] == "fqdnd-policies");
        lease.map(|own| own["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
    };
    let first = lease().unwrap();
    let at = names.iter().position(|own| *own == first).unwrap();
    drop(nodes.remove(at));
    until("another holds the lease", || lease().is_some_and(|own| own != first)).await;
    ground.api().put(yaml(&policy(&namespace, "web", "203.0.113.3/32"))).unwrap();
    for node in &nodes {
        let mut inventory = node.subscribe();
        let changed = |now: &std::sync::Arc<kubernetes::Inventory>| {
            now.verdicts.values().any(|verdict| verdict.generation == 3)
        };
        inventory.wait_for(changed).await.unwrap();
        enforce(node);
    }
    until("those that run", || says("False", "on 2 of 3 nodes")).await;
    ground.api().delete("nodes", None, &first).unwrap();
    until("those that there are", || says("True", "on 2 of 2 nodes")).await;
}

#[tokio::test]
async fn a_policy_that_is_audited_says_so_and_its_annotation_alone_ends_it() {
    let ground = Ground::own().await;
    let node = serde_json::json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "one"}});
    ground.api().put(node).unwrap();
    let enforced = policy(&ground.namespace, "web", "203.0.113.1/32");
    let audit = "name: web, annotations: {fqdnd.io/audit: 'true'},";
    ground.api().put(yaml(&enforced.replace("name: web,", audit))).unwrap();
    let cluster = reporting(&ground, "one").await;
    enforce(&cluster);
    let says = |reason: &str, message: &str| {
        condition_of(&ground, "web", crd::ENFORCED).is_some_and(|own| {
            (own["reason"].as_str(), own["message"].as_str()) == (Some(reason), Some(message))
        })
    };
    until("audited", || says("Audited", "audited on 1 of 1 nodes: it drops nothing")).await;

    ground.api().put(yaml(&enforced)).unwrap();
    let mut inventory = cluster.subscribe();
    let changed = |now: &std::sync::Arc<kubernetes::Inventory>| {
        now.verdicts.values().all(|verdict| !verdict.audited)
    };
    inventory.wait_for(changed).await.unwrap();
    enforce(&cluster);
    until("enforced", || says("Everywhere", "on 1 of 1 nodes")).await;
}

#[tokio::test]
async fn definitions_are_installed_once_and_ciliums_own_are_left_alone() {
    let ground = Ground::bare().await;
    let access = Access::Kubeconfig(ground.kubeconfig.clone());
    let outcomes = async || {
        let installed = crd::install(&access).await.unwrap();
        installed.into_iter().map(|own| own.outcome).collect::<Vec<_>>()
    };
    assert_eq!(outcomes().await, [Outcome::Created; 3]);
    assert_eq!(outcomes().await, [Outcome::Unchanged; 3]);

    let mut cilium = crd::definitions().remove(0);
    cilium["metadata"]["labels"] = serde_json::json!({crd::CILIUM: "1.31.12"});
    let mut old = crd::definitions().remove(2);
    old["metadata"]["labels"] = serde_json::json!({crd::CILIUM: "1.26.0"});
    old["spec"]["versions"][0]["name"] = "v2alpha1".into();
    ground.api().put(cilium).unwrap();
    ground.api().put(old).unwrap();
    assert_eq!(outcomes().await, [Outcome::LeftAlone, Outcome::Unchanged, Outcome::Unfit]);
}
