use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use model::Interface;

use super::*;
use crate::node::{LinkEvent, LinkKind, PeerNamespace};
use crate::sandbox::{Pod, in_own_namespace, ip, ip_output};

type Snapshots = watch::Receiver<Arc<Node>>;

/// Waits for what should take less than a second, and says how long it took.
async fn until(what: &str, snapshots: &mut Snapshots, is_so: impl Fn(&Node) -> bool) -> Arc<Node> {
    let start = Instant::now();
    let waiting = snapshots.wait_for(|node| is_so(node));
    let node = tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .unwrap_or_else(|_| panic!("never seen: {what}"))
        .expect("the watch goes on")
        .clone();
    println!("{what}: {:?}", start.elapsed());
    node
}

async fn watching() -> (Watcher, Snapshots) {
    let watcher = watch(WatchOptions::default()).await.unwrap();
    let snapshots = watcher.snapshots();
    (watcher, snapshots)
}

fn index(node: &Node, name: &str) -> Interface {
    node.link_named(name).unwrap().index
}

#[test]
fn the_first_snapshot_is_whole() {
    in_own_namespace(|| async {
        ip("link add v0 type veth peer name v1");
        ip("address add 192.0.2.1/24 dev v0");
        ip("address add 2001:db8::1/64 dev v0 nodad");
        let (_watcher, snapshots) = watching().await;
        let node = snapshots.borrow();
        let names: BTreeSet<_> = node.links().map(|link| link.name.as_str()).collect();
        assert_eq!(names, BTreeSet::from(["lo", "v0", "v1"]));
        let own: Vec<_> = node.addresses().iter().map(ToString::to_string).collect();
        assert_eq!(own, ["192.0.2.1", "2001:db8::1"]);
        let peer = node.link_named("v0").unwrap().peer().unwrap();
        assert_eq!(peer.namespace, PeerNamespace::Here);
        assert_eq!(Interface(peer.index), index(&node, "v1"));
    });
}

#[test]
fn links_appear_change_their_name_and_go() {
    in_own_namespace(|| async {
        let (_watcher, mut snapshots) = watching().await;
        let start = Instant::now();
        ip("link add v0 type veth peer name v1");
        let node = until("appears", &mut snapshots, |n| n.link_named("v0").is_some()).await;
        println!("from before `ip link add` until it is seen: {:?}", start.elapsed());
        let v0 = index(&node, "v0");
        assert!(!node.link(v0).unwrap().up);

        ip("link set v0 name pod-a");
        until("renamed", &mut snapshots, |n| n.link(v0).is_some_and(|l| l.name == "pod-a")).await;
        ip("link set pod-a up");
        let later = until("up", &mut snapshots, |n| n.link(v0).is_some_and(|l| l.up)).await;
        assert!(matches!(node.difference(&later)[..],
            [LinkEvent::Changed { ref after, .. }] if after.index == v0));

        ip("link del pod-a");
        until("gone", &mut snapshots, |n| n.link(v0).is_none()).await;
    });
}

#[test]
fn a_port_knows_its_bridge_and_leaving_it_is_not_going() {
    in_own_namespace(|| async {
        ip("link add cni0 type bridge");
        ip("link add v0 type veth peer name v1");
        let (_watcher, mut snapshots) = watching().await;
        let v0 = index(&snapshots.borrow(), "v0");
        ip("link set v0 master cni0");
        let node = until("a port", &mut snapshots, |n| n.bridge_of(v0).is_some()).await;
        assert_eq!(node.bridge_of(v0).unwrap().kind, LinkKind::Bridge);
        ip("link set v0 nomaster");
        let node = until("no port", &mut snapshots, |n| n.bridge_of(v0).is_none()).await;
        assert!(node.link(v0).is_some());
    });
}

#[test]
fn addresses_come_and_go() {
    in_own_namespace(|| async {
        ip("link add v0 type veth peer name v1");
        let (_watcher, mut snapshots) = watching().await;
        for address in ["192.0.2.7/32", "2001:db8::7/128"] {
            let bare = address.split('/').next().unwrap().parse().unwrap();
            ip(&format!("address add {address} dev v0"));
            until(address, &mut snapshots, |n| n.addresses().contains(&bare)).await;
            ip(&format!("address del {address} dev v0"));
            until("taken away", &mut snapshots, |n| n.addresses().is_empty()).await;
        }
    });
}

#[test]
fn the_peers_namespace_is_known_although_nothing_is_said_of_it() {
    in_own_namespace(|| async {
        ip("link add v0 type veth peer name v1");
        let (_watcher, mut snapshots) = watching().await;
        let v0 = index(&snapshots.borrow(), "v0");
        let pod = Pod::new();
        ip(&format!("link set v1 netns {}", pod.tid()));
        let away = |n: &Node| {
            let peer = n.link(v0).and_then(crate::Link::peer);
            peer.is_some_and(|peer| peer.namespace != PeerNamespace::Here)
        };
        until("the peer has moved", &mut snapshots, away).await;
        drop(pod);
        until("gone with its pod", &mut snapshots, |n| n.link(v0).is_none()).await;
    });
}

#[test]
fn an_index_used_again_at_once_is_seen_as_another_device() {
    in_own_namespace(|| async {
        ip("link add v0 index 77 type veth peer name v1");
        let (_watcher, mut snapshots) = watching().await;
        let before = snapshots.borrow_and_update().clone();
        ip("link del v0");
        ip("link add v0 index 77 type veth peer name v1");
        let born = before.link(Interface(77)).unwrap().incarnation;
        let again = |n: &Node| n.link(Interface(77)).is_some_and(|l| l.incarnation != born);
        until("another one", &mut snapshots, again).await;
    });
}

#[test]
fn after_an_overflow_the_snapshot_is_what_the_kernel_has() {
    in_own_namespace(|| async {
        ip("link add gone type bridge");
        ip("link add stays type bridge");
        let watcher = watch(WatchOptions { receive_buffer: 4096 }).await.unwrap();
        let mut snapshots = watcher.snapshots();
        let before = snapshots.borrow_and_update().clone();
        // The runtime has one thread, and this is it: the watcher reads nothing meanwhile.
        ip("link del gone");
        for number in 0..60 {
            ip(&format!("link add d{number} type bridge"));
        }
        ip("address add 192.0.2.9/32 dev d59");
        let last = "192.0.2.9".parse().unwrap();
        let after = until("caught up", &mut snapshots, |n| n.addresses().contains(&last)).await;

        assert!(watcher.overflows() > 0, "the buffer was too large for this test");
        let listed = ip_output("-o link show");
        assert_eq!(after.links().count(), listed.lines().count());
        let events = before.difference(&after);
        assert!(matches!(&events[0], LinkEvent::Gone(link) if link.name == "gone"));
        assert_eq!(events.len(), 61, "{events:?}");
        let stays = after.link_named("stays").unwrap();
        assert_eq!(stays.incarnation, before.link_named("stays").unwrap().incarnation);
    });
}
