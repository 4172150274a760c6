use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{Direction, EventKind, Flow, Side, Uuid, Verdict};

fn flow(time: u64) -> Flow {
    Flow {
        time: Time::from_nanos(time),
        uuid: Uuid::new(0, time),
        verdict: Verdict::Forwarded,
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
    }
}

fn entry(time: u64) -> Entry {
    Entry::Flow(Arc::new(flow(time).into()))
}

fn lost(time: u64, source: LossSource, count: u64) -> Entry {
    Entry::Lost(Lost { source, count, time: Time::from_nanos(time) })
}

/// A ring of at most three with flows at these times.
fn ring(times: impl IntoIterator<Item = u64>) -> Ring {
    let mut ring = Ring::new(Capacity::at_least(3));
    times.into_iter().for_each(|time| ring.push(entry(time)));
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
    ring.push(entry(3));
    assert_eq!(read(&ring, newest), [3]);
}

#[test]
fn a_reader_that_was_overtaken_learns_by_how_much() {
    let mut ring = ring(1..=3);
    let mut cursor = ring.oldest();
    ring.next(&mut cursor);
    (4..=6).for_each(|time| ring.push(entry(time)));
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
fn begins_at_a_time() {
    let mut ring = Ring::new(Capacity::at_least(7));
    assert_eq!(read(&ring, ring.since(Time::default())), Vec::<i64>::new());
    [1, 10, 2, 20].into_iter().for_each(|time| ring.push(entry(time)));
    ring.push(lost(21, LossSource::KernelRing, 9));
    assert_eq!(read(&ring, ring.since(Time::from_nanos(20))), [20, -9]);
    assert_eq!(read(&ring, ring.since(Time::from_nanos(22))), Vec::<i64>::new());
    assert_eq!(read(&ring, ring.since(Time::from_nanos(1))), [1, 10, 2, 20, -9]);
}

#[test]
fn a_reader_can_go_back_to_the_oldest_and_no_further() {
    let mut ring = ring(1..=3);
    let mut cursor = ring.newest();
    let mut back = |ring: &Ring| ring.previous(&mut cursor).map(|entry| entry.time().as_nanos());
    assert_eq!([back(&ring), back(&ring)], [Some(3), Some(2)]);
    ring.push(entry(4));
    assert_eq!([back(&ring), back(&ring)], [None, None]);
    assert_eq!(read(&ring, cursor), [2, 3, 4]);
}

/// A flow that counts how often it is described.
fn counted(time: u64, count: &Arc<AtomicUsize>) -> Entry {
    let count = Arc::clone(count);
    Entry::Flow(Arc::new(Seen::new(Time::from_nanos(time), move || {
        count.fetch_add(1, Ordering::Relaxed);
        flow(time)
    })))
}

#[test]
fn what_leaves_unread_is_never_described_and_what_is_read_by_many_once() {
    let described = Arc::new(AtomicUsize::new(0));
    let mut ring = ring([]);
    (1..=5).for_each(|time| ring.push(counted(time, &described)));
    assert_eq!((ring.flows(), ring.oldest_time()), (5, Some(Time::from_nanos(3))));
    let mut cursor = ring.since(Time::from_nanos(4));
    let (again, mut first) = (ring.next(&mut cursor).unwrap(), ring.newest());
    assert_eq!(described.load(Ordering::Relaxed), 0);
    ring.previous(&mut first);
    let Some(Entry::Flow(seen)) = ring.previous(&mut first) else { panic!("no flow") };
    assert_eq!(seen.uuid, flow(4).uuid);
    assert_eq!(Entry::Flow(seen), again);
    assert_eq!(described.load(Ordering::Relaxed), 1);
    drop(ring);
    assert_eq!(Arc::strong_count(&described), 1, "what it takes to describe a flow goes with it");
}
