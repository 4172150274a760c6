//! The wall clock's time, handed in by whoever knows it.

use std::time::Duration;

/// A point in time: nanoseconds since 1970 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The time `nanoseconds` after the start of 1970.
    pub const fn from_nanos(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since the start of 1970.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time since the start of 1970.
    pub const fn since_epoch(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}
