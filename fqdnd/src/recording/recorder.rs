//! The thread that makes flows of what the programs and the DNS workers saw.
//!
//! It looks at their queues a few times a second and takes what is there, so that neither has to
//! wake anybody. All that it does is behind the packets' and the queries' backs: if it is too slow,
//! queues fill, and what is lost is counted and told.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bpf::EventRing;
use flows::{Entry, Time};
use model::{Moment, Outcome, PacketEvent};
use tracing::{debug, error, warn};

use super::Flows;
use super::describe::Describer;
use super::directory::Directory;
use super::losses::Losses;
use super::policies::Explainer;
use crate::clock;
use crate::daemon::Shared;

/// How often queues are looked at. Looking where nothing is takes 40 µs, most of it for waking up.
const TICK: Duration = Duration::from_millis(50);
/// How often counters of what was lost are read.
const COUNT: Duration = Duration::from_secs(1);
/// The most records taken of one queue at a time, so that the rest get their turn.
const BATCH: usize = 4096;

/// The recording thread; ends when this is dropped.
pub struct Recorder {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Begins to record.
    pub fn start(shared: &Arc<Shared>, flows: Arc<Flows>) -> Result<Self> {
        let ring = shared.datapath.events().context("the event ring cannot be opened")?;
        let counts = shared.datapath.counts().context("the event counters cannot be read")?;
        let losses = Losses::since(&counts);
        let (stop, stopped) = mpsc::channel();
        let shared = Arc::clone(shared);
        let thread = std::thread::Builder::new().name("fqdnd-flows".into());
        let thread = thread.spawn(move || {
            Thread::new(shared, flows, ring, losses).run(&stopped);
        });
        let thread = thread.context("the recording thread cannot be started")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop = None;
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
}

impl Thread {
    fn new(shared: Arc<Shared>, flows: Arc<Flows>, ring: EventRing, losses: Losses) -> Self {
        let directory = Directory::new(Arc::clone(&shared));
        let explainer = Explainer::new(Arc::clone(&shared));
        let describer = Describer::new(Arc::clone(&flows), directory, explainer, rand::random());
        let (counted, taken) = (Instant::now(), Vec::new());
        Self { shared, flows, ring, describer, losses, counted, taken }
    }

    fn run(mut self, stopped: &mpsc::Receiver<()>) {
        while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            let clock = Clock::read();
            self.take_packets(&clock);
            self.take_exchanges(&clock);
            self.take_requests(&clock);
            if self.counted.elapsed() >= COUNT {
                self.counted = Instant::now();
                self.take_losses(&clock);
            }
            self.deliver();
            // What has changed since concerns what happens from now on.
            self.describer.directory.refresh();
            self.describer.explainer.refresh();
        }
    }

    fn take_packets(&mut self, clock: &Clock) {
        for _ in 0..BATCH {
            let Some(event) = self.ring.next() else { return };
            log(&event);
            let flow = self.describer.packet(&event, clock.time(event.at));
            self.taken.push((event.at, Entry::Flow(Arc::new(flow))));
        }
    }

    fn take_exchanges(&mut self, clock: &Clock) {
        let Self { flows, describer, taken, .. } = self;
        for exchange in flows.exchanges.take(BATCH) {
            let flow = describer.exchange(&exchange, clock.time(exchange.at));
            taken.push((exchange.at, Entry::Flow(Arc::new(flow))));
        }
    }

    fn take_requests(&mut self, clock: &Clock) {
        let Self { flows, describer, taken, .. } = self;
        for request in flows.requests.take(BATCH) {
            for flow in describer.requests(&request, clock.time(request.at)) {
                taken.push((request.at, Entry::Flow(Arc::new(flow))));
            }
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
}

impl Drop for Thread {
    fn drop(&mut self) {
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
