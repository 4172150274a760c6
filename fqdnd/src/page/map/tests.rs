//! What is drawn of which flows.

use std::sync::Arc;

use ::flows::{EventKind, LossSource, Lost, Side, Uuid, Who};
use model::{DropReason, EndpointId, EndpointName, Label, Labels, Source};

use super::*;
use crate::page::party::Kind;

fn pod(name: &str) -> Side {
    let pod = EndpointName { namespace: "default".into(), name: name.into() };
    let who = Who { endpoint: Some(EndpointId(1)), pod: Some(pod), ..Who::default() };
    Side { who: Arc::new(who), ..Side::default() }
}

fn outside(address: &str, names: &[&str]) -> Side {
    let names = names.iter().map(|name| name.parse().unwrap()).collect();
    Side { address: Some(address.parse().unwrap()), names, ..Side::default() }
}

fn flow(source: Side, destination: Side, verdict: Verdict) -> Flow {
    Flow {
        time: Time::from_nanos(2_000_000),
        uuid: Uuid::new(0, 0),
        verdict,
        drop_reason: (verdict == Verdict::Dropped).then_some(DropReason::PolicyDenied),
        event: EventKind::PolicyVerdict,
        direction: Some(Direction::Egress),
        is_reply: Some(false),
        source,
        destination,
        destination_service: None,
        l4: Some(Layer4::Tcp { source_port: 40_000, destination_port: 443, flags: None }),
        l7: None,
        allowed_by: [].into(),
        denied_by: [].into(),
        interface: None,
        proxy_port: None,
        node: "n".into(),
    }
}

fn draw(flows: impl IntoIterator<Item = Flow>) -> Map {
    let mut sketch = Sketch::default();
    flows.into_iter().for_each(|flow| sketch.add(&Entry::Flow(Arc::new(flow.into()))));
    sketch.finish()
}

fn destinations(map: &Map) -> Vec<&str> {
    map.edges.iter().map(|edge| &*edge.destination.name).collect()
}

#[test]
fn flows_between_the_same_two_are_one_edge_by_the_name_that_was_resolved() {
    let web = || outside("203.0.113.10", &["www.example.com."]);
    let map = draw([
        flow(pod("client"), web(), Verdict::Forwarded),
        flow(pod("client"), web(), Verdict::Dropped),
        flow(pod("client"), outside("203.0.113.12", &[]), Verdict::Dropped),
    ]);
    assert_eq!(destinations(&map), ["www.example.com", "203.0.113.12"]);
    let edge = &map.edges[0];
    let source = Party { kind: Kind::Pod, name: "default/client".into() };
    assert_eq!((&edge.source, edge.destination.kind), (&source, Kind::Name));
    assert_eq!((edge.counts.allowed, edge.counts.dropped, edge.last), (1, 1, 2));
    assert_eq!(edge.ports, BTreeSet::from(["443/TCP".to_owned()]));
    assert_eq!(edge.reasons, BTreeMap::from([("policy-denied".to_owned(), 1)]));
    assert_eq!((map.flows, map.since), (3, Some(2)));
}

#[test]
fn what_passes_because_it_is_audited_is_counted_apart() {
    let audited = Flow {
        drop_reason: Some(DropReason::PolicyDenied),
        ..flow(pod("client"), pod("server"), Verdict::Audit)
    };
    let edge = &draw([audited, flow(pod("client"), pod("server"), Verdict::Forwarded)]).edges[0];
    assert_eq!((edge.counts.allowed, edge.counts.audited, edge.counts.dropped), (1, 1, 0));
    assert_eq!(edge.reasons, BTreeMap::from([("policy-denied".to_owned(), 1)]));
}

#[test]
fn what_was_seen_at_both_ends_and_what_comes_back_counts_once() {
    let egress = flow(pod("client"), pod("server"), Verdict::Forwarded);
    let ingress = Flow { direction: Some(Direction::Ingress), ..egress.clone() };
    let reply = Flow { is_reply: Some(true), ..egress.clone() };
    assert_eq!(draw([egress, ingress, reply]).edges[0].counts.sum(), 1);
}

#[test]
fn many_made_up_destinations_hide_neither_those_that_were_reached_nor_another_pod() {
    let noise = (0..200u8).map(|last| {
        flow(pod("scanner"), outside(&format!("198.51.100.{last}"), &[]), Verdict::Dropped)
    });
    let others = [("scanner", "api.example."), ("quiet", "www.example.")]
        .map(|(from, name)| flow(pod(from), outside("203.0.113.10", &[name]), Verdict::Forwarded));
    let map = draw(noise.chain(others));
    let drawn = destinations(&map);
    assert_eq!(drawn.len(), DESTINATIONS + 3);
    assert!(drawn.contains(&"api.example") && drawn.contains(&"www.example"), "{drawn:?}");
    let rest = map.edges.iter().find(|edge| edge.destination.kind == Kind::Others).unwrap();
    assert_eq!((&*rest.destination.name, rest.counts.dropped), ("188 others", 188));
}

#[test]
fn who_has_a_place_in_the_cluster_is_known_by_it() {
    let labelled = |label: &str| {
        let labels = Labels::from_iter([Label {
            source: Source::Reserved,
            key: label.into(),
            value: String::new(),
        }]);
        let who = Who { labels, ..Who::default() };
        Side { who: Arc::new(who), ..outside("172.20.0.2", &[]) }
    };
    let map = draw(
        ["host", "world-ipv4"]
            .map(|label| flow(labelled(label), pod("server"), Verdict::Forwarded)),
    );
    let names: Vec<&str> = map.edges.iter().map(|edge| &*edge.source.name).collect();
    assert_eq!(names, ["172.20.0.2", "host"]);
}

#[test]
fn sources_that_are_not_drawn_and_flows_that_were_lost_are_told() {
    let mut sketch = Sketch::default();
    for number in 0..SOURCES + 3 {
        let flow = flow(pod(&format!("pod-{number}")), pod("server"), Verdict::Forwarded);
        sketch.add(&Entry::Flow(Arc::new(flow.into())));
    }
    let lost = Lost { source: LossSource::Suppressed, count: 9, time: Time::default() };
    sketch.add(&Entry::Lost(lost));
    let map = sketch.finish();
    assert_eq!((map.edges.len(), map.more_sources, map.lost), (SOURCES, 3, 9));
}
