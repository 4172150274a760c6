//! How long queries take, in stages, counted by size.
//!
//! Each thread has counts of its own that nobody else writes, so that counting takes no lock, no
//! allocation and no word with another processor. Whoever reads them adds them up.

use std::array;

use model::Moment;

use crate::stats::Counter;

/// The upper bounds of the buckets, in nanoseconds: from 1 µs to 5 s.
pub const LATENCY_BOUNDS: [u64; 21] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
];
/// One bucket for each bound, and one for what is over all of them.
const BUCKETS: usize = LATENCY_BOUNDS.len() + 1;

/// A part of a query's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Judging it.
    Policy,
    /// From there until its answer had come and was read.
    Upstream,
    /// From there until the kernel held the answer's addresses.
    KernelWrite,
    /// From the batch that brought a query which went upstream, until what its client gets for it
    /// is ready to leave.
    Total,
}

/// How many times lie between two bounds, and how long they are together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// How many there are.
    pub count: u64,
    /// Their sum in nanoseconds.
    pub nanos: u64,
}

/// The times of one stage, one bucket for each of [`LATENCY_BOUNDS`] and one for what is longer.
pub type Latency = [Bucket; BUCKETS];

/// The times of all stages on one thread.
#[derive(Debug, Default)]
pub(crate) struct Latencies([Histogram; Stage::ALL.len()]);

#[derive(Debug, Default)]
struct Histogram {
    counts: [Counter; BUCKETS],
    nanos: [Counter; BUCKETS],
}

impl Stage {
    /// All stages.
    pub const ALL: [Self; 4] = [Self::Policy, Self::Upstream, Self::KernelWrite, Self::Total];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Upstream => "upstream",
            Self::KernelWrite => "kernel-write",
            Self::Total => "total",
        }
    }
}

impl Latencies {
    /// Counts a stage that began and ended then.
    pub fn count(&self, stage: Stage, begun: Moment, ended: Moment) {
        let nanos = ended.as_nanos().saturating_sub(begun.as_nanos());
        let bucket = LATENCY_BOUNDS.partition_point(|bound| *bound < nanos);
        let own = &self.0[stage as usize];
        own.counts[bucket].count();
        own.nanos[bucket].add(nanos);
    }

    /// The times of one stage up to now.
    pub fn read(&self, stage: Stage) -> Latency {
        let own = &self.0[stage as usize];
        array::from_fn(|at| Bucket { count: own.counts[at].read(), nanos: own.nanos[at].read() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_under_the_least_bound_that_it_does_not_exceed() {
        let latencies = Latencies::default();
        let count = |nanos: u64| {
            let begun = Moment::from_nanos(7);
            latencies.count(Stage::Policy, begun, Moment::from_nanos(7 + nanos));
        };
        for nanos in [0, 1_000, 1_001, 5_000_000_000, 5_000_000_001, 9_000_000_000] {
            count(nanos);
        }
        let found = latencies.read(Stage::Policy);
        assert_eq!(found[0], Bucket { count: 2, nanos: 1_000 });
        assert_eq!(found[1], Bucket { count: 1, nanos: 1_001 });
        assert_eq!(found[20], Bucket { count: 1, nanos: 5_000_000_000 });
        assert_eq!(found[21], Bucket { count: 2, nanos: 14_000_000_001 });
        assert_eq!(found.iter().map(|bucket| bucket.count).sum::<u64>(), 6);
        assert_eq!(latencies.read(Stage::Total), Latency::default());
    }

    #[test]
    fn a_clock_that_goes_back_makes_no_long_time() {
        let latencies = Latencies::default();
        latencies.count(Stage::Total, Moment::from_nanos(9), Moment::from_nanos(7));
        assert_eq!(latencies.read(Stage::Total)[0], Bucket { count: 1, nanos: 0 });
    }
}
