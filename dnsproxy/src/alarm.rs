//! One timer for what a worker must do although no packet comes.
//!
//! A wait with an end arms a timer and disarms it again, twice for every query where queries come
//! one by one, and on a virtual machine that is a way out to its host. So the timer is set only
//! when something is due before it rings; it may then ring for what is settled already.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use model::Moment;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// A timer that makes its descriptor readable.
pub(crate) struct Alarm {
    timer: TimerFd,
    /// When it rings.
    at: Moment,
}

impl Alarm {
    /// One that does not ring yet.
    pub fn new() -> nix::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        Ok(Self { timer, at: Moment::MAX })
    }

    /// Makes sure that it rings by `due`.
    pub fn ring_by(&mut self, due: Moment) -> nix::Result<()> {
        if due >= self.at {
            return Ok(());
        }
        // Zero would disarm it.
        let since_boot = due.since(Moment::ZERO).max(Duration::from_nanos(1));
        let time = TimeSpec::from_duration(since_boot);
        self.timer.set(Expiration::OneShot(time), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        self.at = due;
        Ok(())
    }

    /// Takes note that it has rung. Setting it anew makes its descriptor quiet.
    pub const fn heard(&mut self) {
        self.at = Moment::MAX;
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::clock;

    fn rings_within(alarm: &Alarm, millis: u16) -> bool {
        let mut fds = [PollFd::new(alarm.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(millis)).unwrap() > 0
    }

    #[test]
    fn rings_by_the_earliest_moment_asked_for_and_is_quiet_when_set_anew() {
        let mut alarm = Alarm::new().unwrap();
        let now = clock::now();
        alarm.ring_by(now + Duration::from_millis(5)).unwrap();
        alarm.ring_by(now + Duration::from_secs(100)).unwrap();
        assert!(rings_within(&alarm, 10_000));
        alarm.heard();
        alarm.ring_by(now + Duration::from_secs(100)).unwrap();
        assert!(!rings_within(&alarm, 0));
        alarm.ring_by(Moment::ZERO).unwrap();
        assert!(rings_within(&alarm, 10_000));
    }
}
