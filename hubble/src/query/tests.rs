use flows::{Capacity, LossSource};

use super::*;
use crate::proto::flow::{FlowFilter, Verdict};
use crate::proto::observer::get_flows_request::Experimental;
use crate::samples::{dropped, entry, forwarded, lost};

/// Drops at the odd seconds from 1 to 6, and packets that pass at the even ones.
fn ring() -> Ring {
    let mut ring = Ring::new(Capacity::at_least(15));
    for second in 1..=6 {
        let flow = if second % 2 == 1 { dropped(second) } else { forwarded(second) };
        ring.push(entry(flow));
    }
    ring
}

/// The seconds of the entries that a request gets of the past.
fn gets(request: &GetFlowsRequest) -> Vec<u64> {
    let (query, ring) = (Query::new(request).unwrap(), ring());
    let mut cursor = query.start(&ring);
    let all = std::iter::from_fn(|| ring.next(&mut cursor));
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

#[test]
fn without_a_number_the_whole_past_is_asked_for() {
    assert_eq!(gets(&GetFlowsRequest::default()), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn flows_are_counted_after_filtering() {
    let request = GetFlowsRequest { number: 2, whitelist: drops(), ..Default::default() };
    assert_eq!(gets(&request), [3, 5]);
    assert_eq!(gets(&GetFlowsRequest { first: true, ..request }), [1, 3]);
}

#[test]
fn a_deny_list_leaves_flows_out() {
    let request = GetFlowsRequest { number: 2, blacklist: drops(), ..Default::default() };
    assert_eq!(gets(&request), [4, 6]);
}

#[test]
fn times_bound_what_is_counted() {
    let between = GetFlowsRequest { since: at(2), until: at(4), ..Default::default() };
    assert_eq!(gets(&between), [2, 3, 4]);
    assert_eq!(gets(&GetFlowsRequest { number: 1, ..between.clone() }), [4]);
    assert_eq!(gets(&GetFlowsRequest { number: 1, first: true, ..between }), [2]);
}

#[test]
fn following_begins_with_what_comes_unless_more_is_asked_for() {
    let follow = GetFlowsRequest { follow: true, ..Default::default() };
    assert!(gets(&follow).is_empty());
    assert_eq!(gets(&GetFlowsRequest { number: 1, ..follow.clone() }), [6]);
    assert_eq!(gets(&GetFlowsRequest { since: at(5), ..follow }), [5, 6]);
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

#[test]
fn times_out_of_range_are_the_nearest_that_there_are() {
    let old = GetFlowsRequest { since: at(i64::MIN), until: at(i64::MAX), ..Default::default() };
    assert_eq!(gets(&old).len(), 6);
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
