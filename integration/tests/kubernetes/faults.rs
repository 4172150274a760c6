//! What goes wrong between a node and its API server.
//!
//! Whatever it is, what was read stands, the inventory says why nothing new comes, and once it is
//! over everything that happened meanwhile is there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kubernetes::{Cluster, Inventory, Kind, WatchState};
use policy::PolicyKey;

use crate::ground::{Ground, PATIENCE, Watched, policy, yaml};

#[tokio::test]
async fn a_watch_that_is_cut_goes_on_where_it_stopped() {
    let (ground, mut watched) = begin().await;
    let lists = ground.api().requests("GET", "ciliumnetworkpolicies?&limit");
    for number in 2..6 {
        ground.api().cut();
        put(&ground, number);
        watched.until("what happened meanwhile", |now| has(now, number)).await;
    }
    watched.until_live().await;
    let again = ground.api().requests("GET", "ciliumnetworkpolicies?&limit");
    assert_eq!(lists, again, "nothing was read anew");
    assert_eq!(watched.now().policies.len(), 5);
}

#[tokio::test]
async fn a_forgotten_version_is_read_anew_whichever_way_the_server_says_so() {
    let (ground, mut watched) = begin().await;
    for (number, as_code) in [(2, false), (3, true)] {
        ground.api().fault(|faults| {
            faults.gone_as_code = as_code;
            faults.away = true;
        });
        ground.api().delete("ciliumnetworkpolicies", Some("apps"), &name(number - 1)).unwrap();
        put(&ground, number);
        ground.api().compact();
        ground.api().fault(|faults| faults.away = false);
        let now = watched.until("the newest policy", |now| has(now, number)).await;
        assert_eq!(now.policies.len(), 1, "what went meanwhile is gone");
        watched.until_live().await;
    }
}

#[tokio::test]
async fn a_server_that_has_just_begun_and_remembers_nothing_is_no_fault_of_its_own() {
    let (ground, mut watched) = begin().await;
    ground.api().fault(|faults| faults.away = true);
    watched.until_interrupted(Kind::NetworkPolicies, "").await;
    // Until it was tried again, and again not in vain.
    tokio::time::sleep(Duration::from_secs(2)).await;
    put(&ground, 2);
    ground.api().compact();
    ground.api().fault(|faults| faults.away = false);
    let told = AtomicBool::new(false);
    let is_told = |now: &Inventory| match &now.watched[&Kind::NetworkPolicies].state {
        WatchState::Interrupted { reason } => reason.contains("too old"),
        WatchState::Listing | WatchState::Live => false,
    };
    let holds = |now: &Inventory| {
        told.fetch_or(is_told(now), Ordering::Relaxed);
        has(now, 2)
    };
    watched.until("what happened meanwhile", holds).await;
    assert!(!told.into_inner(), "it was read at once");
}

#[tokio::test]
async fn lists_come_page_by_page_and_in_any_order_and_a_page_that_expired_begins_anew() {
    let ground = Ground::own().await;
    (1..=7).for_each(|number| put(&ground, number));
    ground.api().fault(|faults| {
        faults.page = 2;
        faults.shuffled = true;
    });
    let watched = ground.watch().await;
    assert_eq!(watched.now().policies.len(), 7);
    assert!(ground.api().requests("GET", "continue=page-") >= 3);
    drop(watched);

    // Every second page is refused at first: nothing is published of half a list.
    ground.api().fault(|faults| faults.refuse("continue=", 410, None));
    let options = ground.options();
    let begun = tokio::spawn(Cluster::watch(options));
    let asked = ground.api().requests("GET", "continue=");
    while ground.api().requests("GET", "continue=") < asked + 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!begun.is_finished());
    ground.api().fault(|faults| faults.refusals.clear());
    let cluster = tokio::time::timeout(PATIENCE, begun).await.unwrap().unwrap().unwrap();
    assert_eq!(cluster.subscribe().borrow().policies.len(), 7);
}

#[tokio::test]
async fn refusals_are_told_with_their_reason_and_waited_out() {
    let (ground, mut watched) = begin().await;
    let kind = Kind::NetworkPolicies;
    for (number, code, retry_after, part) in [
        (2, 429, Some(1), "too many requests"),
        (3, 500, None, "(500)"),
        (4, 403, None, "is forbidden"),
        (5, 503, Some(1), "(503)"),
    ] {
        ground.api().fault(|faults| faults.refuse("/ciliumnetworkpolicies", code, retry_after));
        ground.api().cut();
        let reason = watched.until_interrupted(kind, part).await;
        println!("{code}: {reason}");
        put(&ground, number);
        let before = watched.now();
        assert!(!has(&before, number) && has(&before, number - 1));
        ground.api().fault(|faults| faults.refusals.clear());
        watched.until("what happened meanwhile", |now| has(now, number)).await;
        watched.until_live().await;
    }
}

#[tokio::test]
async fn a_server_that_asks_to_wait_is_not_asked_again_before() {
    let (ground, mut watched) = begin().await;
    ground.api().fault(|faults| faults.refuse("/ciliumnetworkpolicies", 429, Some(3600)));
    ground.api().cut();
    watched.until_interrupted(Kind::NetworkPolicies, "too many requests").await;
    let asked = ground.api().requests("GET", "/ciliumnetworkpolicies");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(ground.api().requests("GET", "/ciliumnetworkpolicies"), asked);
}

#[tokio::test]
async fn a_token_that_expired_is_read_anew_from_its_file() {
    let (ground, mut watched) = begin().await;
    ground.api().fault(|faults| faults.tokens = vec!["another".to_owned()]);
    ground.api().cut();
    watched.until_interrupted(Kind::NetworkPolicies, "Unauthorized").await;
    put(&ground, 2);
    assert!(!has(&watched.now(), 2));
    std::fs::write(ground.directory.path().join("token"), "another").unwrap();
    watched.until("what happened meanwhile", |now| has(now, 2)).await;
    watched.until_live().await;
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_waited_for() {
    let ground = Ground::own().await;
    put(&ground, 1);
    ground.api().fault(|faults| faults.away = true);
    let begun = tokio::spawn(Cluster::watch(ground.options()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!begun.is_finished());
    ground.api().fault(|faults| faults.away = false);
    let cluster = tokio::time::timeout(PATIENCE, begun).await.unwrap().unwrap().unwrap();
    assert!(has(&cluster.subscribe().borrow(), 1));
}

#[tokio::test]
async fn a_server_that_goes_later_changes_nothing_and_is_told_since_when() {
    let (ground, mut watched) = begin().await;
    ground.api().fault(|faults| faults.away = true);
    let reason = watched.until_interrupted(Kind::NetworkPolicies, "").await;
    println!("away: {reason}");
    let at = |now: &Inventory| now.watched[&Kind::NetworkPolicies].since;
    let since = at(&watched.now());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let now = watched.now();
    assert_eq!(at(&now), since, "more of the same is the same interruption");
    assert!(has(&now, 1) && now.nodes.len() == 1);
    put(&ground, 2);
    ground.api().fault(|faults| faults.away = false);
    watched.until("what happened meanwhile", |now| has(now, 2)).await;
    watched.until_live().await;
}

#[tokio::test]
async fn slow_answers_are_waited_for() {
    let ground = Ground::own().await;
    put(&ground, 1);
    ground.api().fault(|faults| faults.delay = Duration::from_millis(300));
    let watched = ground.watch().await;
    assert!(has(&watched.now(), 1));
}

#[tokio::test]
async fn definitions_that_are_missing_are_waited_for_and_what_they_would_hold_counts_as_lost() {
    let ground = Ground::bare().await;
    let mut watched = ground.watch().await;
    let now = watched.now();
    let lost: Vec<_> = now.lost.iter().filter_map(|path| path.to_str()).collect();
    assert_eq!(
        lost,
        ["ciliumcidrgroups", "ciliumclusterwidenetworkpolicies", "ciliumnetworkpolicies"]
    );
    let part = "the cluster has no such kind of objects";
    watched.until_interrupted(Kind::NetworkPolicies, part).await;
    for definition in kubernetes::crd::definitions() {
        ground.api().put(definition).unwrap();
    }
    put(&ground, 1);
    let now = watched.until("a policy", |now| has(now, 1)).await;
    println!("{:?}", now.watched[&Kind::NetworkPolicies]);
    watched.until("nothing to be lost", |now| now.lost.is_empty()).await;
    watched.until_live().await;

    // What was in force when they went stays.
    ground
        .api()
        .delete("customresourcedefinitions", None, "ciliumnetworkpolicies.cilium.io")
        .unwrap();
    ground.api().cut();
    watched.until_interrupted(Kind::NetworkPolicies, part).await;
    assert!(has(&watched.now(), 1));
}

async fn begin() -> (Ground, Watched) {
    let ground = Ground::own().await;
    put(&ground, 1);
    let mut watched = ground.watch().await;
    watched.until_live().await;
    (ground, watched)
}

fn name(number: u32) -> String {
    format!("p{number}")
}

fn put(ground: &Ground, number: u32) {
    ground.api().put(yaml(&policy("apps", &name(number), "203.0.113.1/32"))).unwrap();
}

fn has(now: &Inventory, number: u32) -> bool {
    now.policies.contains_key(&PolicyKey { namespace: Some("apps".into()), name: name(number) })
}

#[tokio::test]
async fn a_list_that_was_never_read_is_no_list_that_is_empty() {
    let ground = Ground::own().await;
    put(&ground, 1);
    ground.api().fault(|faults| faults.refuse("/nodes", 403, None));
    let begun = tokio::spawn(Cluster::watch(ground.options()));
    let asked = || ground.api().requests("GET", "/nodes") > 2;
    while !asked() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!begun.is_finished());
    ground.api().fault(|faults| faults.refusals.clear());
    let cluster = tokio::time::timeout(PATIENCE, begun).await.unwrap().unwrap().unwrap();
    let mut inventory = cluster.subscribe();
    assert_eq!(inventory.borrow().nodes.len(), 1);
    let is_live = |now: &std::sync::Arc<Inventory>| {
        now.watched.get(&Kind::Nodes).is_some_and(|own| own.state == WatchState::Live)
    };
    tokio::time::timeout(PATIENCE, inventory.wait_for(is_live)).await.unwrap().unwrap();
}
