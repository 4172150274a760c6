//! The newest flows of a node, as many as fit, for any number of readers.
//!
//! The oldest entry gives way to the newest. A reader holds a [`Cursor`] of its own and costs the
//! ring nothing; one that was overtaken learns how many entries it missed. What could not be
//! recorded is an entry too, in its place between the flows.
//!
//! Nothing here looks into a flow: one that leaves unread was never described.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::{Seen, Time};

/// How many entries a ring holds: one less than a power of two, as Hubble counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capacity(usize);

/// The place between the entries that a reader has seen and those that it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(u64);

/// What stands in the ring, or would.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A flow.
    Flow(Arc<Seen>),
    /// Flows that were not recorded, or that this reader came too late for.
    Lost(Lost),
}

/// Flows that nobody, or one reader, will see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Where they were lost.
    pub source: LossSource,
    /// How many.
    pub count: u64,
    /// When it was noticed.
    pub time: Time,
}

/// Where flows get lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LossSource {
    /// Their endpoint had used up its budget of events.
    Suppressed,
    /// The programs' ring was full.
    KernelRing,
    /// The queue between the DNS proxy and the recorder was full.
    DnsQueue,
    /// The queue between the L7 proxy and the recorder was full.
    L7Queue,
    /// They left this ring before the reader came to them.
    Ring,
}

/// The newest entries.
#[derive(Debug)]
pub struct Ring {
    capacity: Capacity,
    entries: VecDeque<Entry>,
    /// How many entries have left.
    left: u64,
    /// How many flows were ever added.
    flows: u64,
    lost: [u64; LossSource::ALL.len()],
}

impl Capacity {
    /// The least.
    pub const MIN: Self = Self(1);
    /// What a node has if nothing else is said.
    pub const DEFAULT: Self = Self(4095);
    /// The greatest.
    pub const MAX: Self = Self(65_535);

    /// The least capacity of at least `count`; the greatest where there is none.
    pub const fn at_least(count: usize) -> Self {
        let mut capacity = Self::MIN.0;
        while capacity < count && capacity < Self::MAX.0 {
            capacity = capacity * 2 + 1;
        }
        Self(capacity)
    }

    /// The number of entries.
    pub const fn get(self) -> usize {
        self.0
    }
}

impl LossSource {
    /// All sources.
    pub const ALL: [Self; 5] =
        [Self::Suppressed, Self::KernelRing, Self::DnsQueue, Self::L7Queue, Self::Ring];

    /// The source's name as people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Suppressed => "endpoint-budget",
            Self::KernelRing => "kernel-ring",
            Self::DnsQueue => "dns-queue",
            Self::L7Queue => "l7-queue",
            Self::Ring => "ring",
        }
    }
}

impl Entry {
    /// When it happened or was noticed.
    pub fn time(&self) -> Time {
        match self {
            Self::Flow(flow) => flow.time(),
            Self::Lost(lost) => lost.time,
        }
    }

    /// Has the flow described, if it is one.
    pub fn describe(&self) {
        match self {
            Self::Flow(flow) => flow.describe(),
            Self::Lost(_) => {}
        }
    }
}

impl Cursor {
    /// Before the entry that this is behind; where there is none, the same place.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Ring {
    /// An empty ring. It takes memory as it fills.
    pub fn new(capacity: Capacity) -> Self {
        let lost = [0; LossSource::ALL.len()];
        Self { capacity, entries: VecDeque::new(), left: 0, flows: 0, lost }
    }

    /// Adds an entry; the oldest gives way if there is no room.
    pub fn push(&mut self, entry: Entry) {
        match &entry {
            Entry::Flow(_) => self.flows += 1,
            Entry::Lost(lost) => self.lost[lost.source as usize] += lost.count,
        }
        if self.entries.len() == self.capacity.get() {
            self.entries.pop_front();
            self.left += 1;
        }
        self.entries.push_back(entry);
    }

    /// The entry behind the cursor, which moves on; none if the reader has seen them all. What the
    /// reader came too late for is told first.
    pub fn next(&self, cursor: &mut Cursor) -> Option<Entry> {
        if cursor.0 < self.left {
            let count = self.left - cursor.0;
            cursor.0 = self.left;
            let time = self.entries.front().map_or(Time::default(), Entry::time);
            return Some(Entry::Lost(Lost { source: LossSource::Ring, count, time }));
        }
        let at = usize::try_from(cursor.0 - self.left).ok()?;
        let entry = self.entries.get(at)?;
        cursor.0 += 1;
        Some(entry.clone())
    }

    /// Before the oldest entry.
    pub fn oldest(&self) -> Cursor {
        Cursor(self.left)
    }

    /// Behind the newest entry.
    pub fn newest(&self) -> Cursor {
        Cursor(self.left + self.entries.len() as u64)
    }

    /// Before the first of the newest entries that are not older than `time`.
    pub fn since(&self, time: Time) -> Cursor {
        let newer = self.entries.iter().rev().take_while(|entry| entry.time() >= time).count();
        Cursor(self.newest().0 - newer as u64)
    }

    /// The entry before the cursor, which moves back; none if there is none any more.
    pub fn previous(&self, cursor: &mut Cursor) -> Option<Entry> {
        let before = cursor.0.checked_sub(1)?;
        let at = usize::try_from(before.checked_sub(self.left)?).ok()?;
        let entry = self.entries.get(at)?;
        cursor.0 = before;
        Some(entry.clone())
    }

    /// How many entries it holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many entries it can hold.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// How many flows were ever recorded.
    pub fn flows(&self) -> u64 {
        self.flows
    }

    /// How many flows were lost at a source. What readers came too late for is theirs to count.
    pub fn lost(&self, source: LossSource) -> u64 {
        self.lost[source as usize]
    }

    /// The time of the oldest entry.
    pub fn oldest_time(&self) -> Option<Time> {
        self.entries.front().map(Entry::time)
    }
}

#[cfg(test)]
mod tests;
