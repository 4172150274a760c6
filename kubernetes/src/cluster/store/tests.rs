//! What lists say, in any order, and what comes of it.

use std::time::SystemTime;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cluster::object::Raw;

fn read(kind: Kind, object: &Value) -> Read {
    let raw: Raw = serde_json::from_str(&object.to_string()).unwrap();
    let mut read = raw.read(kind, policy::Options::default()).unwrap();
    read.kept = read.object.is_ok().then(|| raw.kept(kind)).flatten();
    read
}

/// Takes in what was kept.
fn restore(changes: Changes) -> Store {
    let mut store = Store::default();
    for ((kind, name), text) in changes {
        match text {
            Some(text) => put(&mut store, kind, &serde_json::from_str(&text).unwrap()),
            None => store.handle(kind, Update::Gone(name)),
        }
    }
    store.keep_as_restored();
    store.handle_sandboxes(Ok(Sandboxes::default()));
    store
}

fn put(store: &mut Store, kind: Kind, object: &Value) {
    store.handle(kind, Update::Put(Box::new(read(kind, object))));
}

fn gone(store: &mut Store, kind: Kind, name: &str) {
    let name = Name { namespace: Some("n".to_owned()), name: name.to_owned() };
    store.handle(kind, Update::Gone(name));
}

/// A store that has read every list, and a namespace.
fn begun() -> Store {
    let mut store = Store::default();
    for kind in Kind::ALL {
        assert!(store.inventory().is_none(), "{kind} was not read yet");
        store.handle(kind, Update::Listed(Some(Vec::new())));
    }
    assert!(store.inventory().is_none(), "the runtime's record was not read yet");
    store.handle_sandboxes(Ok(Sandboxes::default()));
    put(&mut store, Kind::Namespaces, &json!({"metadata": {"name": "n"}}));
    assert!(store.inventory().is_some());
    store
}

fn pod(name: &str, uid: &str, address: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "n", "uid": uid, "labels": {"app": name}},
        "status": {"podIPs": [{"ip": address}]}})
}

fn name(name: &str) -> EndpointName {
    EndpointName { namespace: "n".to_owned(), name: name.to_owned() }
}

fn policy(egress: &str) -> Value {
    json!({"metadata": {"name": "p", "namespace": "n"},
        "spec": {"endpointSelector": {}, "egress": [{"toCIDR": [egress]}]}})
}

#[test]
fn the_end_of_a_pod_here_does_not_take_away_its_successor_elsewhere() {
    let mut store = begun();
    put(&mut store, Kind::LocalPods, &pod("web-0", "1", "10.0.0.1"));
    // The lists are two: the new one may be told of before the old one's end is.
    put(&mut store, Kind::RemotePods, &pod("web-0", "2", "10.0.0.2"));
    assert_eq!(store.inventory().unwrap().pods[&name("web-0")].uid, "1");
    gone(&mut store, Kind::LocalPods, "web-0");
    let pods = store.inventory().unwrap().pods;
    assert_eq!(pods[&name("web-0")].uid, "2");
    assert_eq!(pods[&name("web-0")].attachment, None);
    gone(&mut store, Kind::RemotePods, "web-0");
    assert!(store.inventory().unwrap().pods.is_empty());
}

#[test]
fn a_new_pod_of_the_same_name_has_nothing_of_the_old_ones_record() {
    let mut store = begun();
    let record = |uid: &str, pod: &str| Ok(Sandboxes::one(uid, name(pod), "/run/netns/1".into()));
    put(&mut store, Kind::LocalPods, &pod("web-0", "1", "10.0.0.1"));
    assert_eq!(store.unbound(), 1);
    store.handle_sandboxes(record("1", "web-0"));
    assert_eq!(store.unbound(), 0);
    let bound =
        |store: &mut Store| store.inventory().unwrap().pods[&name("web-0")].attachment.is_some();
    assert!(bound(&mut store));
    put(&mut store, Kind::LocalPods, &pod("web-0", "2", "10.0.0.1"));
    assert!(!bound(&mut store));
    // While the record cannot be read, the last one stands.
    store.handle_sandboxes(record("2", "web-0"));
    store.handle_sandboxes(Err("the runtime is away".to_owned()));
    assert!(bound(&mut store));
    let told = store.inventory().unwrap().problems.remove(0).message;
    assert_eq!(told, "the runtime is away; what was read stands");
}

#[test]
fn a_policy_that_breaks_stays_as_it_was_and_one_that_never_was_read_is_lost() {
    let mut store = begun();
    put(&mut store, Kind::NetworkPolicies, &policy("10.0.0.0/8"));
    let before = store.inventory().unwrap();
    put(&mut store, Kind::NetworkPolicies, &policy("ten"));
    let now = store.inventory().unwrap();
    assert_eq!(now.policies, before.policies);
    assert_eq!((now.problems.len(), now.lost.len()), (1, 0));
    let verdict = store.verdicts().values().next().unwrap().clone();
    assert_eq!(verdict.problems.len(), 1);
    assert!(verdict.message().starts_with("spec.egress[0].toCIDR[0]: "), "{}", verdict.message());

    let mut store = Store::default();
    store.handle_sandboxes(Ok(Sandboxes::default()));
    let broken = read(Kind::NetworkPolicies, &policy("ten"));
    store.handle(Kind::NetworkPolicies, Update::Listed(Some(vec![broken])));
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::NetworkPolicies) {
        store.handle(kind, Update::Listed(Some(Vec::new())));
    }
    assert_eq!(store.inventory().unwrap().lost.len(), 1);
    put(&mut store, Kind::NetworkPolicies, &policy("10.0.0.0/8"));
    assert!(store.inventory().unwrap().lost.is_empty());
}

#[test]
fn what_is_not_followed_is_told_since_when() {
    let mut store = begun();
    let state = WatchState::Interrupted { reason: "away".to_owned() };
    let since = SystemTime::UNIX_EPOCH;
    store.handle(Kind::Nodes, Update::Fares(Watched { objects: 0, state, since }));
    let problem = store.inventory().unwrap().problems.remove(0);
    assert_eq!(problem.file.to_str(), Some("nodes"));
    let message = "not followed since 1970-01-01T00:00:00Z: away; what was read stands";
    assert_eq!(problem.message, message);
}

/// What an earlier daemon kept, with one policy in force.
fn kept() -> Store {
    let mut store = begun();
    put(&mut store, Kind::NetworkPolicies, &policy("10.0.0.0/8"));
    restore(store.take_changes())
}

#[test]
fn what_was_kept_is_in_force_where_the_server_gives_no_lists_and_not_before() {
    let mut store = kept();
    assert!(store.inventory().is_none());
    assert!(!store.may_begin_as_kept(false) && store.may_begin_as_kept(true));
    let state = WatchState::Interrupted { reason: "refused".to_owned() };
    let refused = Watched { objects: 0, state, since: SystemTime::UNIX_EPOCH };
    store.handle(Kind::Secrets, Update::Fares(refused.clone()));
    assert!(!store.may_begin_as_kept(false), "a Secret is no list");
    store.handle(Kind::Nodes, Update::Fares(refused));
    assert!(store.may_begin_as_kept(false));
    store.begin_as_kept();
    assert_eq!(store.inventory().unwrap().policies.len(), 1);
    assert!(!Store::default().may_begin_as_kept(true), "nothing was kept");

    // What went while nobody watched goes with the first list that is read.
    store.handle(Kind::NetworkPolicies, Update::Listed(Some(Vec::new())));
    assert!(store.inventory().unwrap().policies.is_empty());
    assert_eq!(store.take_changes().into_values().collect::<Vec<_>>(), [None]);
}

fn policy_with_secrets(terminating: &str, originating: &str) -> Value {
    let ports = json!([{"port": "443", "protocol": "TCP"}]);
    let tls = |name: &str| json!({"secret": {"name": name, "namespace": "n"}});
    let mut policy = policy("10.0.0.0/8");
    policy["spec"]["egress"][0]["toPorts"] = json!([{"ports": ports,
        "terminatingTLS": tls(terminating), "originatingTLS": tls(originating)}]);
    policy
}

#[test]
fn secrets_fare_as_the_worst_of_them_and_one_that_nobody_names_is_none_of_them() {
    let mut store = begun();
    put(&mut store, Kind::NetworkPolicies, &policy_with_secrets("a", "b"));
    let named: Vec<_> = store.named_secrets().keys().cloned().collect();
    assert_eq!(named, [name("a"), name("b")]);
    let since = SystemTime::UNIX_EPOCH;
    let fares = |state| Watched { objects: 0, state, since };
    let refused = fares(WatchState::Interrupted { reason: "forbidden".to_owned() });
    let live = fares(WatchState::Live);
    store.handle(Kind::Secrets, Update::SecretFares(name("a"), refused.clone()));
    store.handle(Kind::Secrets, Update::SecretFares(name("b"), live.clone()));
    let shown = |store: &mut Store| {
        let now = store.inventory().unwrap();
        now.watched.get(&Kind::Secrets).map(|own| own.state.clone())
    };
    assert_eq!(shown(&mut store), Some(refused.state.clone()));

    put(&mut store, Kind::NetworkPolicies, &policy_with_secrets("b", "b"));
    store.forget_secret(&name("a"));
    assert_eq!(shown(&mut store), Some(live.state));
    // Its watch had said this before it was given up.
    store.handle(Kind::Secrets, Update::SecretFares(name("a"), refused));
    let secret = json!({"metadata": {"name": "a", "namespace": "n"}, "data": {"x": "eA=="}});
    put(&mut store, Kind::Secrets, &secret);
    assert_eq!(shown(&mut store), Some(WatchState::Live));
    assert!(store.inventory().unwrap().secrets.is_empty());

    put(&mut store, Kind::NetworkPolicies, &policy("10.0.0.0/8"));
    store.forget_secret(&name("b"));
    assert_eq!(shown(&mut store), None);
}

#[test]
fn a_policy_that_broke_while_nobody_watched_stays_as_it_was_kept_and_another_of_its_name_is_none() {
    for (uid, in_force) in [("1", 1), ("2", 0)] {
        let of = |uid: &str, egress: &str| {
            let mut policy = policy(egress);
            policy["metadata"]["uid"] = uid.into();
            policy
        };
        let mut store = begun();
        put(&mut store, Kind::NetworkPolicies, &of("1", "10.0.0.0/8"));
        let mut store = restore(store.take_changes());
        let listed = vec![read(Kind::NetworkPolicies, &of(uid, "ten"))];
        store.handle(Kind::NetworkPolicies, Update::Listed(Some(listed)));
        store.begin_as_kept();
        let now = store.inventory().unwrap();
        assert_eq!((now.policies.len(), now.problems.len()), (in_force, 1));
        // It is known that the new one never was in force.
        assert!(now.lost.is_empty());
    }
}

/// One thing that happens to the objects of a cluster.
#[derive(Clone, Debug)]
enum Step {
    Pod { here: bool, number: u8, uid: u8, address: u8 },
    PodGone { here: bool, number: u8 },
    Namespace { team: u8 },
    Slice { number: u8, service: u8, backend: u8 },
    SliceGone { number: u8 },
    Service { number: u8, port: u8 },
    ServiceGone { number: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let few = 0_u8..3;
    prop_oneof![
        (any::<bool>(), few.clone(), few.clone(), 1_u8..9)
            .prop_map(|(here, number, uid, address)| Step::Pod { here, number, uid, address }),
        (any::<bool>(), few.clone()).prop_map(|(here, number)| Step::PodGone { here, number }),
        few.clone().prop_map(|team| Step::Namespace { team }),
        (few.clone(), few.clone(), 1_u8..9).prop_map(|(number, service, backend)| Step::Slice {
            number,
            service,
            backend
        }),
        few.clone().prop_map(|number| Step::SliceGone { number }),
        (few.clone(), 1_u8..9).prop_map(|(number, port)| Step::Service { number, port }),
        few.prop_map(|number| Step::ServiceGone { number }),
    ]
}

/// What the cluster has: each list as it is now.
type Lists = BTreeMap<Kind, BTreeMap<String, Value>>;

fn carry_out(step: &Step, store: &mut Store, lists: &mut Lists) {
    let mut change = |kind: Kind, name: String, object: Option<Value>| match object {
        Some(object) => {
            put(store, kind, &object);
            lists.entry(kind).or_default().insert(name, object);
        }
        None => {
            gone(store, kind, &name);
            lists.entry(kind).or_default().remove(&name);
        }
    };
    let list = |here: &bool| if *here { Kind::LocalPods } else { Kind::RemotePods };
    match step {
        Step::Pod { here, number, uid, address } => {
            let name = format!("pod-{number}");
            let object = pod(&name, &uid.to_string(), &format!("10.0.0.{address}"));
            change(list(here), name, Some(object));
        }
        Step::PodGone { here, number } => change(list(here), format!("pod-{number}"), None),
        Step::Namespace { team } => {
            let labels = json!({"team": team.to_string()});
            let object = json!({"metadata": {"name": "n", "labels": labels}});
            change(Kind::Namespaces, "n".to_owned(), Some(object));
        }
        Step::Slice { number, service, backend } => {
            let labels = json!({"kubernetes.io/service-name": format!("service-{service}")});
            let metadata =
                json!({"name": format!("slice-{number}"), "namespace": "n", "labels": labels});
            let endpoints = json!([{"addresses": [format!("10.1.0.{backend}")]}]);
            let object =
                json!({"metadata": metadata, "endpoints": endpoints, "ports": [{"port": 80}]});
            change(Kind::EndpointSlices, format!("slice-{number}"), Some(object));
        }
        Step::SliceGone { number } => {
            change(Kind::EndpointSlices, format!("slice-{number}"), None);
        }
        Step::Service { number, port } => {
            let metadata = json!({"name": format!("service-{number}"), "namespace": "n"});
            let object = json!({"metadata": metadata, "spec": {"ports": [{"port": port}]}});
            change(Kind::Services, format!("service-{number}"), Some(object));
        }
        Step::ServiceGone { number } => {
            change(Kind::Services, format!("service-{number}"), None);
        }
    }
}

proptest! {
    /// Whatever happened, and in whatever order, the inventory is what the lists say as they are.
    #[test]
    fn following_gives_what_reading_anew_gives(steps in prop::collection::vec(step(), 0..60)) {
        let mut store = begun();
        let mut lists = Lists::from([(
            Kind::Namespaces,
            BTreeMap::from([("n".to_owned(), json!({"metadata": {"name": "n"}}))]),
        )]);
        for step in &steps {
            carry_out(step, &mut store, &mut lists);
        }
        let mut restored = restore(store.take_changes());
        prop_assert!(restored.may_begin_as_kept(true));
        restored.begin_as_kept();
        let mut fresh = Store::default();
        fresh.handle_sandboxes(Ok(Sandboxes::default()));
        for kind in Kind::ALL {
            let objects = lists.get(&kind).into_iter().flat_map(BTreeMap::values);
            let read = objects.map(|object| read(kind, object)).collect();
            fresh.handle(kind, Update::Listed(Some(read)));
        }
        let (followed, read) = (store.inventory().unwrap(), fresh.inventory().unwrap());
        let restored = restored.inventory().unwrap();
        prop_assert_eq!(&followed.pods, &read.pods);
        prop_assert_eq!(&followed.services, &read.services);
        prop_assert_eq!(restored.pods, read.pods);
        prop_assert_eq!(restored.services, read.services);
    }
}
