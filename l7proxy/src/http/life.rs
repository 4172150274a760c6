//! When a connection's time is over: nothing went on for too long, or it was told to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How busy a connection is.
#[derive(Debug)]
pub(super) struct Life {
    patience: Duration,
    in_flight: AtomicUsize,
    begun: AtomicU64,
    ending: AtomicBool,
    told: Notify,
}

/// A request that is not answered whole.
#[derive(Debug)]
pub(super) struct Busy(Arc<Life>);

impl Life {
    pub fn new(patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            patience,
            in_flight: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            ending: AtomicBool::new(false),
            told: Notify::new(),
        })
    }

    /// A request begins.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Tells the connection to end once what goes on is done.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
        self.told.notify_one();
    }

    /// Waits until it was told to end, or nothing went on for so long, or up to twice as long.
    pub async fn over(&self) {
        let mut seen = u64::MAX;
        while !self.ending.load(Ordering::Relaxed) {
            let begun = self.begun.load(Ordering::Relaxed);
            if self.in_flight.load(Ordering::Relaxed) == 0 && begun == seen {
                return;
            }
            seen = begun;
            tokio::select! {
                () = tokio::time::sleep(self.patience) => {}
                () = self.told.notified() => {}
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.begun.fetch_add(1, Ordering::Relaxed);
    }
}
