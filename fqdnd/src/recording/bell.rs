//! How the recording thread is told that it should look.
//!
//! Nobody rings for a single record: the thread looks by itself from time to time, and whoever fills
//! a queue rings once, when it is half full. Ringing waits for nothing.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the thread is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Nothing.
    #[default]
    None,
    /// What it goes by has changed.
    Soon,
    /// A queue fills, or somebody waits for what is in it.
    Now,
    /// Nothing is recorded any more.
    End,
}

/// Where the thread waits.
#[derive(Debug, Default)]
pub struct Bell {
    call: Mutex<Call>,
    rung: Condvar,
}

impl Bell {
    /// Tells the thread, unless it has been told more.
    pub fn ring(&self, call: Call) {
        let mut told = self.lock();
        if call > *told {
            *told = call;
            self.rung.notify_one();
        }
    }

    /// Waits for `idle` at most; for `soon` at most from when somebody says that it should be soon.
    pub fn wait(&self, idle: Duration, soon: Duration) -> Call {
        let mut told = self.wait_while(self.lock(), idle, Call::None);
        if *told == Call::Soon {
            told = self.wait_while(told, soon, Call::Soon);
        }
        // The end is told once.
        if *told == Call::End { Call::End } else { mem::take(&mut *told) }
    }

    fn wait_while<'a>(
        &self,
        told: MutexGuard<'a, Call>,
        time: Duration,
        call: Call,
    ) -> MutexGuard<'a, Call> {
        let waited = self.rung.wait_timeout_while(told, time, |told| *told <= call);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, Call> {
        // There is nothing in it that could be left half done.
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(5);

    #[test]
    fn what_was_rung_before_is_heard_and_the_more_urgent_counts() {
        let bell = Bell::default();
        assert_eq!(bell.wait(SHORT, LONG), Call::None);
        bell.ring(Call::Now);
        bell.ring(Call::Soon);
        assert_eq!(bell.wait(LONG, LONG), Call::Now);
        assert_eq!(bell.wait(SHORT, LONG), Call::None);
    }

    #[test]
    fn soon_is_later_than_now_and_the_end_stays() {
        let bell = Arc::new(Bell::default());
        bell.ring(Call::Soon);
        let begun = Instant::now();
        assert_eq!(bell.wait(LONG, SHORT), Call::Soon);
        assert!(begun.elapsed() >= SHORT);
        bell.ring(Call::Soon);
        let ringing = Arc::clone(&bell);
        let ringing = thread::spawn(move || ringing.ring(Call::End));
        assert_eq!(bell.wait(LONG, LONG), Call::End);
        assert_eq!(bell.wait(LONG, LONG), Call::End);
        ringing.join().unwrap();
    }
}
