//! The thread that takes what the programs and the proxies saw into the ring.
//!
//! It looks at their queues a few times a second and takes what is there, so that neither has to
//! wake anybody for a record. All that it does is behind the packets' and the queries' backs: if it
//! is too slow, queues fill, and what is lost is counted and told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bpf::EventRing;
use flows::{Cursor, Entry, Ring, Seen, Time};
use model::{Moment, Outcome, PacketEvent};
use tracing::{debug, error, warn};

use super::Flows;
use super::bell::Call;
use super::describe::Describer;
use super::directory::Directory;
use super::grounds::Grounds;
use super::losses::Losses;
use super::requests::Request;
use super::superseded::Superseded;
use crate::clock;
use crate::daemon::Shared;

/// How often queues are looked at while somebody watches, or much happens, or something changes.
const TICK: Duration = Duration::from_millis(50);
/// How often otherwise. Looking where nothing is takes 40 µs, most of it for waking up.
const IDLE: Duration = Duration::from_millis(500);
/// How many records in one look are much: an eighth of what fits into the programs' ring, which
/// rings for nobody.
const MUCH: usize = 1638;
/// How often counters of what was lost are read.
const COUNT: Duration = Duration::from_secs(1);
/// The most records taken of one queue at a time, so that the rest get their turn.
const BATCH: usize = 4096;
/// How many entries are taken from the ring at once to describe them.
const DESCRIBED: usize = 64;

/// The recording thread; ends when this is dropped.
pub struct Recorder {
    flows: Arc<Flows>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Begins to record.
    pub fn start(shared: &Arc<Shared>, flows: Arc<Flows>) -> Result<Self> {
        let ring = shared.datapath.events().context("the event ring cannot be opened")?;
        let counts = shared.datapath.counts().context("the event counters cannot be read")?;
        let losses = Losses::since(&counts);
        let (shared, recorded) = (Arc::clone(shared), Arc::clone(&flows));
        let thread = std::thread::Builder::new().name("fqdnd-flows".into());
        let thread = thread.spawn(move || Thread::new(shared, recorded, ring, losses).run());
        let thread = thread.context("the recording thread cannot be started")?;
        Ok(Self { flows, thread: Some(thread) })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.flows.bell.ring(Call::End);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the recording thread had ended");
        }
    }
}

struct Thread {
    shared: Arc<Shared>,
    flows: Arc<Flows>,
    ring: EventRing,
    describer: Describer,
    losses: Losses,
    counted: Instant,
    /// What was taken and is not in the ring yet, with when it happened.
    taken: Vec<(Moment, Entry)>,
    /// What flows were explained by when it was last seen to.
    grounds: Arc<Grounds>,
    superseded: Superseded,
    /// Every flow before this is described.
    described: Cursor,
}

impl Thread {
    fn new(shared: Arc<Shared>, flows: Arc<Flows>, ring: EventRing, losses: Losses) -> Self {
        let directory = Directory::new(Arc::clone(&shared), Arc::clone(&flows.unexplained));
        let grounds = Arc::clone(directory.grounds());
        Self {
            describer: Describer::new(&flows.node, directory, rand::random()),
            described: flows.look(Ring::oldest),
            shared,
            flows,
            ring,
            losses,
            counted: Instant::now(),
            taken: Vec::new(),
            grounds,
            superseded: Superseded::default(),
        }
    }

    fn run(mut self) {
        let mut is_busy = true;
        loop {
            let idle = if is_busy || self.flows.is_watched() { TICK } else { IDLE };
            if self.flows.bell.wait(idle, TICK) == Call::End {
                return;
            }
            let begun = self.flows.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let taken = self.take();
            self.flows.finished.send_replace(begun);
            // What has changed since concerns what happens from now on.
            is_busy = taken >= MUCH || !self.refresh();
        }
    }

    /// Takes what is in the queues into the ring; how much it was.
    fn take(&mut self) -> usize {
        let clock = Clock::read();
        self.take_packets(&clock);
        self.take_exchanges(&clock);
        self.take_requests(&clock);
        if self.counted.elapsed() >= COUNT {
            self.counted = Instant::now();
            self.take_losses(&clock);
        }
        let taken = self.taken.len();
        self.deliver();
        taken
    }

    fn take_packets(&mut self, clock: &Clock) {
        for _ in 0..BATCH {
            let Some(event) = self.ring.next() else { return };
            log(&event);
            let flow = self.describer.packet(&event, clock.time(event.at));
            self.taken.push((event.at, entry(flow)));
        }
    }

    fn take_exchanges(&mut self, clock: &Clock) {
        let Self { flows, describer, taken, .. } = self;
        for exchange in flows.exchanges.take(BATCH) {
            let at = exchange.at;
            taken.push((at, entry(describer.exchange(exchange, clock.time(at)))));
        }
    }

    fn take_requests(&mut self, clock: &Clock) {
        let Self { flows, describer, taken, .. } = self;
        for Request { at, access } in flows.requests.take(BATCH) {
            let flows = describer.requests(access, clock.time(at));
            taken.extend(flows.map(|flow| (at, entry(flow))));
        }
    }

    fn take_losses(&mut self, clock: &Clock) {
        let counts = match self.shared.datapath.counts() {
            Ok(counts) => counts,
            Err(error) => {
                warn!(%error, "it is not known how many packet events were lost");
                return;
            }
        };
        let time = clock.time(clock.boot);
        let (queries, requests) = (self.flows.exchanges.left_out(), self.flows.requests.left_out());
        let found = self.losses.look(&counts, queries, requests, time);
        self.taken.extend(found.into_iter().map(|entry| (clock.boot, entry)));
    }

    /// Puts what was taken into the ring, in the order in which it happened.
    fn deliver(&mut self) {
        if !self.taken.is_empty() {
            self.taken.sort_by_key(|(at, _)| *at);
            self.flows.add(self.taken.drain(..).map(|(_, entry)| entry));
        }
    }

    /// Takes in what has changed; whether that was possible.
    fn refresh(&mut self) -> bool {
        let directory = &mut self.describer.directory;
        let is_fresh = directory.refresh();
        let now = Instant::now();
        if !Arc::ptr_eq(&self.grounds, directory.grounds()) {
            self.grounds = Arc::clone(directory.grounds());
            self.superseded.add(self.flows.look(Ring::newest), now);
        }
        if let Some(place) = self.superseded.due(now) {
            self.describe_before(place);
        }
        is_fresh
    }

    /// Describes the flows before a place that nobody has read.
    fn describe_before(&mut self, place: Cursor) {
        let cursor = &mut self.described;
        loop {
            let batch: Vec<Entry> = self.flows.look(|ring| {
                let next = || (*cursor < place).then(|| ring.next(cursor)).flatten();
                std::iter::from_fn(next).take(DESCRIBED).collect()
            });
            if batch.is_empty() {
                return;
            }
            batch.iter().for_each(Entry::describe);
        }
    }
}

fn entry(flow: Seen) -> Entry {
    Entry::Flow(Arc::new(flow))
}

impl Drop for Thread {
    fn drop(&mut self) {
        // Nobody waits for another look.
        self.flows.finished.send_replace(u64::MAX);
        if std::thread::panicking() {
            error!("flows are not recorded any more: policies and lookups go on without");
        }
    }
}

/// What both clocks said at one moment.
struct Clock {
    boot: Moment,
    wall: Time,
}

impl Clock {
    fn read() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = Time::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        Self { boot: clock::now(), wall }
    }

    /// What the wall clock said at a moment, had it been set as it is now.
    fn time(&self, at: Moment) -> Time {
        let wall = i128::from(self.wall.as_nanos()) - i128::from(self.boot.as_nanos());
        let time = wall + i128::from(at.as_nanos());
        Time::from_nanos(u64::try_from(time).unwrap_or(0))
    }
}

fn log(event: &PacketEvent) {
    let Outcome::Dropped(reason) = event.outcome else { return };
    let endpoint = event.endpoint.map(|endpoint| endpoint.0);
    let interface = event.interface;
    match &event.packet {
        Some(packet) => debug!(
            endpoint,
            %interface,
            %reason,
            source = %packet.source,
            destination = %packet.destination,
            protocol = %packet.protocol,
            identity = packet.identity.map(tracing::field::display),
            "packet dropped"
        ),
        None => debug!(endpoint, %interface, %reason, "packet dropped"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_become_times_of_the_wall_clock_as_it_is_set_now() {
        let clock = Clock { boot: Moment::from_secs(100), wall: Time::from_nanos(5_000_000_000) };
        assert_eq!(clock.time(Moment::from_secs(98)), Time::from_nanos(3_000_000_000));
        assert_eq!(clock.time(Moment::from_secs(101)), Time::from_nanos(6_000_000_000));
        assert_eq!(clock.time(Moment::from_secs(90)), Time::from_nanos(0));
    }
}
