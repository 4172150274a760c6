//! How often something happens: counted one by one, or read from a counter that only grows.
//!
//! Both are of one size, whatever happens, and both say what was over the same span of time.

use std::collections::VecDeque;
use std::time::Duration;

/// The span that rates are averaged over, in seconds.
pub(super) const SPAN: u64 = 10;

/// Events that come one by one, each with its time.
#[derive(Clone, Debug, Default)]
pub(super) struct Rate {
    /// The newest seconds, each at its number modulo the span.
    seconds: [u64; SPAN as usize],
    newest: u64,
}

/// A counter that is read once in a while.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    readings: VecDeque<(Duration, u64)>,
}

impl Rate {
    /// Counts events of a second; those from before the span are past.
    pub fn count(&mut self, second: u64, events: u64) {
        let from = (self.newest + 1).max(second.saturating_sub(SPAN - 1));
        for passed in from..=second {
            self.seconds[(passed % SPAN) as usize] = 0;
        }
        self.newest = self.newest.max(second);
        if second + SPAN > self.newest {
            self.seconds[(second % SPAN) as usize] += events;
        }
    }

    /// Events a second.
    pub fn per_second(&self, now: u64) -> f64 {
        let first = self.newest.saturating_sub(SPAN - 1).max(now.saturating_sub(SPAN - 1));
        let counted: u64 =
            (first..=self.newest).map(|second| self.seconds[(second % SPAN) as usize]).sum();
        counted as f64 / SPAN as f64
    }

    /// Whether nothing has happened for a whole span.
    pub fn is_idle(&self, now: u64) -> bool {
        self.per_second(now) == 0.0
    }
}

impl Meter {
    /// Takes in what the counter says now. One that says less than before has begun anew, and so
    /// has a clock.
    pub fn read(&mut self, now: Duration, count: u64) {
        if self.readings.back().is_some_and(|&(time, before)| count < before || now < time) {
            self.readings.clear();
        }
        self.readings.pop_back_if(|(time, _)| *time == now);
        self.readings.push_back((now, count));
        let span = Duration::from_secs(SPAN);
        let is_past = |&(time, _): &(Duration, u64)| time + span <= now;
        while self.readings.get(1).is_some_and(is_past) || self.readings.len() > MOST_READINGS {
            self.readings.pop_front();
        }
    }

    /// Events a second, once there are two readings.
    pub fn per_second(&self) -> f64 {
        match (self.readings.front(), self.readings.back()) {
            (Some((from, before)), Some((to, now))) if to > from => {
                (now - before) as f64 / (*to - *from).as_secs_f64()
            }
            (_, _) => 0.0,
        }
    }
}

/// How many readings are kept, however often the counter is read.
const MOST_READINGS: usize = 101;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_mean_over_the_span() {
        let mut rate = Rate::default();
        rate.count(1000, 5);
        rate.count(1003, 15);
        assert_eq!(rate.per_second(1003), 2.0);
        assert_eq!(rate.per_second(1009), 2.0);
        assert_eq!(rate.per_second(1010), 1.5);
        assert!(rate.is_idle(1013));
    }

    #[test]
    fn events_come_late_but_not_after_a_whole_span() {
        let mut rate = Rate::default();
        rate.count(1009, 1);
        rate.count(1000, 1);
        rate.count(999, 8);
        assert_eq!(rate.per_second(1009), 0.2);
        rate.count(1019, 1);
        assert_eq!(rate.per_second(1019), 0.1);
        rate.count(5000, 1);
        assert_eq!(rate.per_second(5000), 0.1);
    }

    #[test]
    fn a_meter_needs_two_readings_and_forgets_old_ones() {
        let at = |seconds, count, meter: &mut Meter| {
            meter.read(Duration::from_secs(seconds), count);
            meter.per_second()
        };
        let mut meter = Meter::default();
        assert_eq!(at(100, 1_000_000, &mut meter), 0.0);
        assert_eq!(at(102, 1_000_010, &mut meter), 5.0);
        assert_eq!(at(110, 1_000_010, &mut meter), 1.0);
        assert_eq!(at(112, 1_000_010, &mut meter), 0.0);
    }

    #[test]
    fn a_counter_that_begins_anew_is_measured_anew() {
        let mut meter = Meter::default();
        for (seconds, count) in [(100, 50), (101, 60), (102, 3), (103, 5)] {
            meter.read(Duration::from_secs(seconds), count);
        }
        assert_eq!(meter.per_second(), 2.0);
    }
}
