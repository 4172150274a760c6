use flows::LossSource;

use super::*;
use crate::proto::flow::{FlowFilter, Verdict};
use crate::proto::observer::get_flows_request::Experimental;
use crate::samples::{Recorded, dropped, entry, forwarded, lost};

/// The seconds of the entries that a request gets of drops at the odd seconds from 1 to 6, and of
/// packets that pass at the even ones.
async fn gets(request: &GetFlowsRequest) -> Vec<u64> {
    let flow = |second| if second % 2 == 1 { dropped(second) } else { forwarded(second) };
    gets_of(&Recorded::new(15, (1..=6).map(|second| entry(flow(second)))), request).await
}

async fn gets_of(recorded: &Recorded, request: &GetFlowsRequest) -> Vec<u64> {
    let query = Query::new(request).unwrap();
    let asked = recorded.look(Ring::newest);
    let mut cursor = query.start(recorded, asked, asked).await;
    let all = std::iter::from_fn(|| recorded.look(|ring| ring.next(&mut cursor)));
    let wanted = all.filter(|entry| query.admits(entry));
    let limit = query.limit().map_or(usize::MAX, |limit| limit as usize);
    wanted.take(limit).map(|entry| entry.time().as_nanos() / 1_000_000_000).collect()
}

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn drops() -> Vec<FlowFilter> {
    vec![FlowFilter { verdict: vec![Verdict::Dropped.into()], ..Default::default() }]
}

#[tokio::test]
async fn without_a_number_the_whole_past_is_asked_for() {
    assert_eq!(gets(&GetFlowsRequest::default()).await, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn flows_are_counted_after_filtering() {
    let request = GetFlowsRequest { number: 2, whitelist: drops(), ..Default::default() };
    assert_eq!(gets(&request).await, [3, 5]);
    assert_eq!(gets(&GetFlowsRequest { first: true, ..request }).await, [1, 3]);
}

#[tokio::test]
async fn the_last_are_found_however_many_others_came_since() {
    let mut entries: Vec<_> = [1, 2].map(|second| entry(dropped(second))).into();
    entries.extend((3..=500).map(|second| entry(forwarded(second))));
    entries.insert(300, lost(300, LossSource::KernelRing, 1));
    let recorded = Recorded::new(1023, entries);
    let last = |number| GetFlowsRequest { number, whitelist: drops(), ..Default::default() };
    assert_eq!(gets_of(&recorded, &last(1)).await, [2, 300]);
    assert_eq!(gets_of(&recorded, &last(9)).await, [1, 2, 300]);
    let since = GetFlowsRequest { since: at(2), ..last(9) };
    assert_eq!(gets_of(&recorded, &since).await, [2, 300]);
}

#[tokio::test]
async fn a_deny_list_leaves_flows_out() {
    let request = GetFlowsRequest { number: 2, blacklist: drops(), ..Default::default() };
    assert_eq!(gets(&request).await, [4, 6]);
}

#[tokio::test]
async fn times_bound_what_is_counted() {
    let between = GetFlowsRequest { since: at(2), until: at(4), ..Default::default() };
    assert_eq!(gets(&between).await, [2, 3, 4]);
    assert_eq!(gets(&GetFlowsRequest { number: 1, ..between.clone() }).await, [4]);
    assert_eq!(gets(&GetFlowsRequest { number: 1, first: true, ..between }).await, [2]);
}

#[tokio::test]
async fn following_begins_with_what_comes_unless_more_is_asked_for() {
    let follow = GetFlowsRequest { follow: true, ..Default::default() };
    assert!(gets(&follow).await.is_empty());
    assert_eq!(gets(&GetFlowsRequest { number: 1, ..follow.clone() }).await, [6]);
    assert_eq!(gets(&GetFlowsRequest { since: at(5), ..follow }).await, [5, 6]);
}

#[tokio::test]
async fn following_begins_when_it_was_asked_for_though_the_ring_learns_of_it_later() {
    let follow = GetFlowsRequest { follow: true, ..Default::default() };
    let query = Query::new(&follow).unwrap();
    let recorded = Recorded::new(15, [entry(dropped(1))]);
    let asked = recorded.look(Ring::newest);
    recorded.add([2, 3].map(|second| entry(dropped(second))));
    let mut cursor = query.start(&*recorded, asked, recorded.look(Ring::newest)).await;
    let first = recorded.look(|ring| ring.next(&mut cursor)).unwrap();
    assert_eq!(first, entry(dropped(2)));
}

#[test]
fn a_follower_is_through_when_its_time_is_over() {
    let request = GetFlowsRequest { follow: true, until: at(4), ..Default::default() };
    let query = Query::new(&request).unwrap();
    assert!(!query.ends_before(&entry(dropped(4))));
    assert!(query.ends_before(&entry(dropped(5))));
    let past = Query::new(&GetFlowsRequest { follow: false, ..request }).unwrap();
    assert!(!past.ends_before(&entry(dropped(5))), "entries of the past are not in exact order");
}

#[test]
fn losses_are_told_whatever_is_filtered() {
    let request = GetFlowsRequest { whitelist: drops(), since: at(3), ..Default::default() };
    let query = Query::new(&request).unwrap();
    assert!(query.admits(&lost(3, LossSource::KernelRing, 1)));
    assert!(!query.admits(&lost(2, LossSource::KernelRing, 1)));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let both = GetFlowsRequest { first: true, follow: true, number: 1, ..Default::default() };
    assert_eq!(Query::new(&both).unwrap_err(), QueryError::FirstAndFollow);
    let nanos = Some(Timestamp { seconds: 1, nanos: 1_000_000_000 });
    let time = GetFlowsRequest { since: nanos, ..Default::default() };
    assert_eq!(Query::new(&time).unwrap_err(), QueryError::Time("since"));
}

#[tokio::test]
async fn times_out_of_range_are_the_nearest_that_there_are() {
    let old = GetFlowsRequest { since: at(i64::MIN), until: at(i64::MAX), ..Default::default() };
    assert_eq!(gets(&old).await.len(), 6);
}

#[test]
#[expect(deprecated, reason = "older clients put it there")]
fn a_field_mask_counts_where_older_clients_put_it_and_is_refused_where_it_is_none() {
    let mask = |path: &str| Some(prost_types::FieldMask { paths: vec![path.to_owned()] });
    let now = GetFlowsRequest { field_mask: mask("verdict"), ..Default::default() };
    let experimental = Some(Experimental { field_mask: mask("verdict") });
    let older = GetFlowsRequest { experimental, ..Default::default() };
    assert!(Query::new(&now).unwrap().mask.is_some());
    assert_eq!(Query::new(&now).unwrap().mask, Query::new(&older).unwrap().mask);
    let wrong = GetFlowsRequest { field_mask: mask("colour"), ..Default::default() };
    let error = Query::new(&wrong).unwrap_err().to_string();
    assert_eq!(error, "`colour` in the field mask is no field of a flow");
}
