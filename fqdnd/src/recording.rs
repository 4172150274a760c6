//! What was seen on the node, for whoever looks: a ring of flows, and word of new ones.
//!
//! The [`Recorder`] alone adds to it, from a thread of its own. Whoever looks locks the ring for a
//! moment and can keep neither a DNS worker nor a packet waiting. While nobody looks, next to nothing
//! is done for a flow: it is described when it is first read.

mod allowance;
mod bell;
mod budget;
mod conversations;
mod describe;
mod directory;
mod exchanges;
mod grounds;
mod losses;
mod policies;
mod recorder;
mod requests;
mod superseded;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flows::{Entry, LossSource, Ring};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::debug;

pub use bell::{Bell, Call};
pub use budget::Budget;
pub use exchanges::Exchanges;
pub use recorder::Recorder;
pub use requests::Requests;

/// How long whoever looks waits for what is in the queues, at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// The node's flows.
pub struct Flows {
    ring: Mutex<Ring>,
    added: watch::Sender<()>,
    exchanges: Exchanges,
    requests: Requests,
    bell: Arc<Bell>,
    /// How many looks at the queues were begun, and finished.
    begun: AtomicU64,
    finished: watch::Sender<u64>,
    /// Flows without the policies that decided, because explaining took too much time.
    unexplained: Arc<AtomicU64>,
    node: Arc<str>,
    started: Instant,
}

impl Flows {
    /// No flows yet, and nothing noted.
    pub fn new(
        ring: Ring,
        exchanges: Exchanges,
        requests: Requests,
        bell: Arc<Bell>,
        node: &str,
    ) -> Self {
        Self {
            ring: Mutex::new(ring),
            added: watch::Sender::new(()),
            exchanges,
            requests,
            bell,
            begun: AtomicU64::new(0),
            finished: watch::Sender::new(0),
            unexplained: Arc::default(),
            node: node.into(),
            started: Instant::now(),
        }
    }

    /// Where DNS workers leave what they have seen.
    pub fn exchanges(&self) -> &Exchanges {
        &self.exchanges
    }

    /// Where the L7 proxy's records are left.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// What flows are described by has changed.
    pub fn changed(&self) {
        self.bell.ring(Call::Soon);
    }

    /// Returns when what happened before is in the ring; if nobody records any more, soon.
    pub async fn catch_up(&self) {
        let mut finished = self.finished.subscribe();
        let wanted = self.begun.load(Ordering::SeqCst) + 1;
        self.bell.ring(Call::Now);
        let caught_up = timeout(PATIENCE, finished.wait_for(|number| *number >= wanted)).await;
        if caught_up.is_err() {
            debug!("flows are recorded late, or not any more");
        }
    }

    /// Looks at the ring, which is locked meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&Ring) -> T) -> T {
        look(&self.lock())
    }

    /// Changes whenever flows were added. As long as somebody has it, they come without delay.
    pub fn added(&self) -> watch::Receiver<()> {
        self.added.subscribe()
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// For how long flows have been recorded.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn is_watched(&self) -> bool {
        self.added.receiver_count() > 0
    }

    fn add(&self, entries: impl Iterator<Item = Entry>) {
        let mut ring = self.lock();
        entries.for_each(|entry| ring.push(entry));
        drop(ring);
        self.added.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // A ring is whole after each push.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many flows there were and are, and what was lost, by the name that people read.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let (mut counts, lost) = self.look(|ring| {
            let counts = [
                ("recorded", ring.flows()),
                ("held", ring.len() as u64),
                ("capacity", ring.capacity().get() as u64),
            ];
            let counts: BTreeMap<String, u64> =
                counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
            let recorded = LossSource::ALL.into_iter().filter(|own| *own != LossSource::Ring);
            (counts, recorded.map(|source| (source, ring.lost(source))).collect::<Vec<_>>())
        });
        counts
            .extend(lost.into_iter().map(|(own, count)| (format!("lost-{}", own.as_str()), count)));
        let unexplained = self.unexplained.load(Ordering::Relaxed);
        counts.insert("without-policies".to_owned(), unexplained);
        counts
    }
}
