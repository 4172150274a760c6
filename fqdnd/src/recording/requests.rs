//! The way from the L7 proxy to the recorder: what was asked of destinations, in a queue that is
//! never waited for. What does not fit in, or is over its endpoint's budget, is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use l7proxy_core::control::Access;
use model::Moment;

use super::bell::{Bell, Call};
use super::budget::Budget;
use super::losses::LeftOut;
use crate::clock;

/// How many records wait.
const ROOM: usize = 8192;

/// What was asked of destinations and is not recorded yet.
pub struct Requests {
    queue: ArrayQueue<Request>,
    budget: Budget,
    bell: Arc<Bell>,
    suppressed: AtomicU64,
    lost: AtomicU64,
}

/// What was asked of a destination.
pub struct Request {
    /// When the record came.
    pub at: Moment,
    /// What it says.
    pub access: Access,
}

impl Requests {
    /// Nothing was asked yet. Who takes it out hears `bell`.
    pub fn new(budget: Budget, bell: Arc<Bell>) -> Self {
        let (suppressed, lost) = Default::default();
        Self { queue: ArrayQueue::new(ROOM), budget, bell, suppressed, lost }
    }

    /// Takes down what was asked.
    pub fn note(&self, access: Access) {
        let at = clock::now();
        if !self.budget.take(access.endpoint, at) {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        } else if self.queue.push(Request { at, access }).is_err() {
            self.lose(1);
        } else if self.queue.len() == ROOM / 2 {
            self.bell.ring(Call::Now);
        }
    }

    /// So many were lost on their way here.
    pub fn lose(&self, count: u64) {
        self.lost.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes at most `limit` out.
    pub fn take(&self, limit: usize) -> impl Iterator<Item = Request> {
        std::iter::from_fn(|| self.queue.pop()).take(limit)
    }

    /// How many were left out.
    pub fn left_out(&self) -> LeftOut {
        let [suppressed, lost] =
            [&self.suppressed, &self.lost].map(|count| count.load(Ordering::Relaxed));
        LeftOut { suppressed, lost }
    }
}
