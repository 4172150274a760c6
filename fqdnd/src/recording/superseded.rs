//! How long flows that nobody has read may stay undescribed once what they are described by has been
//! superseded.
//!
//! Each holds the [grounds](super::grounds::Grounds) that were in force, and so the cluster as it was
//! then. Of these only so many are kept, and none for longer than a minute: flows that still need
//! them are described before they go.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use flows::Cursor;

/// How many are kept beside the ones in force. They share what did not change.
const KEPT: usize = 64;
/// For how long they are kept.
const FOR: Duration = Duration::from_secs(60);

/// Grounds that are in force no more, by the places before which flows may need them.
#[derive(Debug, Default)]
pub struct Superseded {
    /// With when they were superseded, the oldest first.
    waiting: VecDeque<(Instant, Cursor)>,
}

impl Superseded {
    /// Others are in force for flows behind a place.
    pub fn add(&mut self, place: Cursor, now: Instant) {
        self.waiting.push_back((now, place));
    }

    /// The place before which every flow has to be described now, if there is one.
    pub fn due(&mut self, now: Instant) -> Option<Cursor> {
        let mut due = None;
        while let Some(&(since, place)) = self.waiting.front()
            && (self.waiting.len() > KEPT || now.duration_since(since) > FOR)
        {
            due = Some(place);
            self.waiting.pop_front();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use flows::{Capacity, Entry, LossSource, Lost, Ring, Time};

    use super::*;

    /// Places in a ring, the first before its first entry.
    fn places(count: usize) -> Vec<Cursor> {
        let mut ring = Ring::new(Capacity::at_least(count));
        let lost = Lost { source: LossSource::DnsQueue, count: 1, time: Time::default() };
        let places = (0..count).map(|_| {
            let place = ring.newest();
            ring.push(Entry::Lost(lost));
            place
        });
        places.collect()
    }

    #[test]
    fn so_many_are_kept_and_the_oldest_go_first() {
        let (now, places) = (Instant::now(), places(KEPT + 3));
        let mut superseded = Superseded::default();
        places.iter().take(KEPT).for_each(|place| superseded.add(*place, now));
        assert_eq!(superseded.due(now), None);
        places.iter().skip(KEPT).for_each(|place| superseded.add(*place, now));
        assert_eq!(superseded.due(now), Some(places[2]));
        assert_eq!(superseded.due(now), None);
    }

    #[test]
    fn none_is_kept_for_hours_by_a_flow_that_nobody_reads() {
        let (now, places) = (Instant::now(), places(2));
        let mut superseded = Superseded::default();
        superseded.add(places[0], now);
        superseded.add(places[1], now + FOR / 2);
        assert_eq!(superseded.due(now + FOR), None);
        assert_eq!(superseded.due(now + FOR + FOR / 4), Some(places[0]));
        assert_eq!(superseded.due(now + FOR * 2), Some(places[1]));
    }
}
