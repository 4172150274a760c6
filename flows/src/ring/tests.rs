use std::sync::Arc;

use super::*;
use crate::{Direction, EventKind, Side, Uuid, Verdict};

fn flow(time: u64, verdict: Verdict) -> Entry {
    Entry::Flow(Arc::new(Flow {
        time: Time::from_nanos(time),
        uuid: Uuid::new(0, time),
        verdict,
        drop_reason: None,
        event: EventKind::PolicyVerdict,
        direction: Some(Direction::Egress),
        is_reply: Some(false),
        source: Side::default(),
        destination: Side::default(),
        destination_service: None,
        l4: None,
        l7: None,
        allowed_by: Arc::default(),
        denied_by: Arc::default(),
        interface: None,
        proxy_port: None,
        node: "n".into(),
    }))
}

fn lost(time: u64, source: LossSource, count: u64) -> Entry {
    Entry::Lost(Lost { source, count, time: Time::from_nanos(time) })
}

/// A ring of at most three with flows at these times.
fn ring(times: impl IntoIterator<Item = u64>) -> Ring {
    let mut ring = Ring::new(Capacity::at_least(3));
    times.into_iter().for_each(|time| ring.push(flow(time, Verdict::Forwarded)));
    ring
}

/// The times of the flows behind a cursor; of what was lost, the number with a minus.
fn read(ring: &Ring, mut cursor: Cursor) -> Vec<i64> {
    std::iter::from_fn(|| ring.next(&mut cursor))
        .map(|entry| match entry {
            Entry::Flow(flow) => flow.time.as_nanos() as i64,
            Entry::Lost(lost) => -(lost.count as i64),
        })
        .collect()
}

#[test]
fn capacities_are_one_less_than_a_power_of_two() {
    let at_least = |count| Capacity::at_least(count).get();
    assert_eq!([0, 1, 2, 4095, 4096].map(at_least), [1, 1, 3, 4095, 8191]);
    assert_eq!([65_535, 65_536, usize::MAX].map(at_least), [65_535; 3]);
}

#[test]
fn the_oldest_gives_way_to_the_newest() {
    let ring = ring(1..=5);
    assert_eq!(read(&ring, ring.oldest()), [3, 4, 5]);
    assert_eq!((ring.len(), ring.flows()), (3, 5));
    assert_eq!(ring.oldest_time(), Some(Time::from_nanos(3)));
}

#[test]
fn a_reader_sees_each_entry_once_and_goes_on_where_it_was() {
    let mut ring = ring(1..=2);
    let mut cursor = ring.oldest();
    assert!(ring.next(&mut cursor).is_some());
    assert_eq!(read(&ring, cursor), [2]);
    let newest = ring.newest();
    assert_eq!(read(&ring, newest), Vec::<i64>::new());
    ring.push(flow(3, Verdict::Forwarded));
    assert_eq!(read(&ring, newest), [3]);
}

#[test]
fn a_reader_that_was_overtaken_learns_by_how_much() {
    let mut ring = ring(1..=3);
    let mut cursor = ring.oldest();
    ring.next(&mut cursor);
    (4..=6).for_each(|time| ring.push(flow(time, Verdict::Forwarded)));
    assert_eq!(read(&ring, cursor), [-2, 4, 5, 6]);
}

#[test]
fn what_was_lost_stands_between_the_flows_and_is_counted() {
    let mut ring = ring(1..=1);
    ring.push(lost(2, LossSource::Suppressed, 40));
    ring.push(lost(3, LossSource::Suppressed, 2));
    assert_eq!(read(&ring, ring.oldest()), [1, -40, -2]);
    assert_eq!(ring.lost(LossSource::Suppressed), 42);
    assert_eq!(ring.lost(LossSource::KernelRing), 0);
    assert_eq!(ring.flows(), 1);
}

#[test]
fn begins_at_a_time_or_at_the_last_flows_that_are_wanted() {
    let mut ring = Ring::new(Capacity::at_least(7));
    assert_eq!(read(&ring, ring.last(3, |_| true)), Vec::<i64>::new());
    for time in 1..=3 {
        ring.push(flow(time, Verdict::Dropped));
        ring.push(flow(time * 10, Verdict::Forwarded));
    }
    ring.push(lost(31, LossSource::KernelRing, 9));
    assert_eq!(read(&ring, ring.since(Time::from_nanos(30))), [30, -9]);
    assert_eq!(read(&ring, ring.since(Time::from_nanos(32))), Vec::<i64>::new());
    let dropped = |flow: &Flow| flow.verdict == Verdict::Dropped;
    assert_eq!(read(&ring, ring.last(2, dropped)), [2, 20, 3, 30, -9]);
    assert_eq!(read(&ring, ring.last(9, dropped)), [1, 10, 2, 20, 3, 30, -9]);
    assert_eq!(read(&ring, ring.last(0, dropped)), Vec::<i64>::new());
}
