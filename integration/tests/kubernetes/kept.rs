//! A start while the API server is away: what it gave before is in force.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kubernetes::{Cluster, ClusterOptions, Kind};
use policy::PolicyKey;

use crate::ground::{Ground, PATIENCE, Watched, policy, yaml};

fn put(ground: &Ground, name: &str, prefix: &str) {
    ground.api().put(yaml(&policy("apps", name, prefix))).unwrap();
}

fn key(name: &str) -> PolicyKey {
    PolicyKey { namespace: Some("apps".into()), name: name.into() }
}

fn options(ground: &Ground) -> ClusterOptions {
    ClusterOptions { state: Some(ground.directory.path().to_owned()), ..ground.options() }
}

async fn watch(ground: &Ground) -> Watched {
    let start = Cluster::watch(options(ground));
    Watched::new(tokio::time::timeout(PATIENCE, start).await.expect("it is read").unwrap())
}

fn journal(ground: &Ground) -> PathBuf {
    ground.directory.path().join("cluster/journal")
}

/// Waits until the journal's text fulfils this.
async fn kept(path: &Path, what: &str, holds: impl Fn(&str) -> bool) {
    let start = Instant::now();
    while !holds(&fs::read_to_string(path).unwrap_or_default()) {
        assert!(start.elapsed() < PATIENCE, "{what} is not kept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A ground whose server is away, and of which one policy was kept.
async fn begin() -> Ground {
    let ground = Ground::own().await;
    put(&ground, "one", "203.0.113.1/32");
    let watched = watch(&ground).await;
    kept(&journal(&ground), "the policy", |text| text.contains("203.0.113.1/32")).await;
    drop(watched);
    ground.api().fault(|faults| faults.away = true);
    ground
}

#[tokio::test]
async fn a_start_without_the_server_has_in_force_what_it_gave_before_and_then_what_it_gives() {
    let ground = begin().await;
    let mut watched = watch(&ground).await;
    let before = watched.now();
    assert!(before.policies.contains_key(&key("one")));
    assert_eq!((before.nodes.len(), before.lost.len()), (1, 0));
    watched.until_interrupted(Kind::NetworkPolicies, "").await;

    put(&ground, "two", "203.0.113.2/32");
    ground.api().delete("ciliumnetworkpolicies", Some("apps"), "one").unwrap();
    ground.api().fault(|faults| faults.away = false);
    let changed = |now: &kubernetes::Inventory| {
        now.policies.contains_key(&key("two")) && !now.policies.contains_key(&key("one"))
    };
    watched.until("what happened meanwhile", changed).await;
    let now = watched.until_live().await;
    assert!(now.problems.is_empty(), "{:?}", now.problems);

    // That is kept in its place.
    kept(&journal(&ground), "the change", |text| text.contains("203.0.113.2/32")).await;
    drop(watched);
    ground.api().fault(|faults| faults.away = true);
    let watched = watch(&ground).await;
    assert!(changed(&watched.now()), "{:?}", watched.now().policies);
}

#[tokio::test]
async fn a_server_that_answers_nothing_is_not_waited_for_where_what_it_gave_was_kept() {
    let ground = begin().await;
    ground.api().fault(|faults| {
        faults.away = false;
        faults.delay = 2 * PATIENCE;
    });
    let mut watched = watch(&ground).await;
    assert!(watched.now().policies.contains_key(&key("one")));
    ground.api().fault(|faults| faults.delay = Duration::ZERO);
    put(&ground, "two", "203.0.113.2/32");
    ground.api().cut();
    let told = |now: &kubernetes::Inventory| now.policies.contains_key(&key("two"));
    watched.until("what is new", told).await;
}

#[tokio::test]
async fn a_policy_that_broke_while_nobody_watched_is_in_force_as_it_was() {
    let ground = begin().await;
    let broken = policy("apps", "one", "203.0.113.1/32") + "    toEntities: [world]\n";
    ground.api().put(yaml(&broken)).unwrap();
    ground.api().fault(|faults| faults.away = false);
    let watched = watch(&ground).await;
    let now = watched.now();
    assert!(now.policies.contains_key(&key("one")) && now.lost.is_empty());
    assert_eq!(now.problems[0].field, "spec.egress[0].toEntities");
}

#[tokio::test]
async fn what_was_kept_and_cannot_be_read_is_as_if_nothing_were() {
    let ground = begin().await;
    let text = fs::read_to_string(journal(&ground)).unwrap();
    fs::write(journal(&ground), text.replace("203.0.113.1/32", "203.0.113.7/32")).unwrap();
    let begun = tokio::spawn(Cluster::watch(options(&ground)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!begun.is_finished());
    ground.api().fault(|faults| faults.away = false);
    let cluster = tokio::time::timeout(PATIENCE, begun).await.unwrap().unwrap().unwrap();
    assert!(cluster.subscribe().borrow().policies.contains_key(&key("one")));
    kept(&journal(&ground), "all of it anew", |text| text.contains("203.0.113.1/32")).await;
}

#[tokio::test]
async fn the_one_that_takes_over_keeps_what_changed_since() {
    let ground = Ground::own().await;
    put(&ground, "one", "203.0.113.1/32");
    let first = watch(&ground).await;
    kept(&journal(&ground), "the policy", |text| text.contains("203.0.113.1/32")).await;
    // Both follow the server, and one of them writes.
    let second = watch(&ground).await;
    ground.api().delete("ciliumnetworkpolicies", Some("apps"), "one").unwrap();
    put(&ground, "two", "203.0.113.2/32");
    kept(&journal(&ground), "the change", |text| text.contains("203.0.113.2/32")).await;
    drop(first);
    put(&ground, "three", "203.0.113.3/32");
    kept(&journal(&ground), "a later one", |text| text.contains("203.0.113.3/32")).await;
    drop(second);
    ground.api().fault(|faults| faults.away = true);
    let names: Vec<String> =
        watch(&ground).await.now().policies.keys().map(|key| key.name.clone()).collect();
    assert_eq!(names, ["three", "two"]);
}
