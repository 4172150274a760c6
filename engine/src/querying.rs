//! How much an endpoint may ask for under patterns.
//!
//! A pattern lets whoever owns the names below it be told what a pod writes into them. Limits on
//! the rate of such queries, on the length of their labels and on how many different names there
//! are bound what gets out in that way. Names that a rule spells out carry nothing, and are not
//! counted.
//!
//! A query allocates nothing: what a window remembers has its room from the beginning.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::time::Duration;

use model::{Moment, NameRef};
use rustc_hash::FxHashSet;

/// The limits of every endpoint; what is none is not limited.
#[derive(Clone, Debug)]
pub struct QueryLimits {
    /// How many queries in a time.
    pub rate: Option<Rate>,
    /// The longest label, in bytes.
    pub label_length: Option<u8>,
    /// How many different names in a time.
    pub distinct_names: Option<DistinctNames>,
    /// Makes the numbers by which names are told apart. Pods must not know its key: they could
    /// make names that have the same number.
    pub hasher: RandomState,
}

/// Queries in the long run, and at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Queries a second.
    pub per_second: NonZeroU32,
    /// Queries at once, after a time without any.
    pub burst: NonZeroU32,
}

/// Different names in a window of time. Names that were let through in the window go on passing
/// until its end; then a new one begins with the next query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DistinctNames {
    /// How many.
    pub count: u32,
    /// The window's length.
    pub window: Duration,
}

/// A limit that a query may be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QueryLimit {
    /// A label is too long.
    LabelLength,
    /// Too many queries.
    Rate,
    /// Too many different names.
    DistinctNames,
}

/// What one endpoint has asked under patterns.
#[derive(Clone, Debug)]
pub struct Meter {
    /// When its whole burst is there again.
    rested: Moment,
    window_end: Moment,
    /// The numbers of the names in the window.
    names: FxHashSet<u64>,
}

impl QueryLimits {
    /// Whether anything is limited.
    pub fn limit_anything(&self) -> bool {
        self.rate.is_some() || self.label_length.is_some() || self.distinct_names.is_some()
    }
}

impl QueryLimit {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::LabelLength, Self::Rate, Self::DistinctNames];

    /// The limit's name as people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LabelLength => "query-label-length",
            Self::Rate => "query-rate",
            Self::DistinctNames => "query-distinct-names",
        }
    }
}

impl fmt::Display for QueryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Meter {
    /// Of an endpoint that has asked nothing yet.
    pub fn new(limits: &QueryLimits) -> Self {
        let names = limits.distinct_names.map_or(0, |own| own.count as usize);
        Self {
            rested: Moment::ZERO,
            window_end: Moment::ZERO,
            names: FxHashSet::with_capacity_and_hasher(names, rustc_hash::FxBuildHasher),
        }
    }

    /// Counts a query under a pattern. One that is over a limit counts for nothing else.
    pub fn handle_query(
        &mut self,
        limits: &QueryLimits,
        name: NameRef<'_>,
        now: Moment,
    ) -> Result<(), QueryLimit> {
        let is_long = |most: u8| name.labels().any(|label| label.len() > usize::from(most));
        if limits.label_length.is_some_and(is_long) {
            return Err(QueryLimit::LabelLength);
        }
        if limits.rate.is_some_and(|rate| !self.spend(rate, now)) {
            return Err(QueryLimit::Rate);
        }
        let number = || limits.hasher.hash_one(name);
        if limits.distinct_names.is_some_and(|own| !self.remember(own, number(), now)) {
            return Err(QueryLimit::DistinctNames);
        }
        Ok(())
    }

    /// Takes one query of the burst, if there is any left.
    fn spend(&mut self, rate: Rate, now: Moment) -> bool {
        let one = Duration::from_secs(1) / rate.per_second.get();
        let rested = self.rested.max(now) + one;
        let fits = rested.since(now) <= one * rate.burst.get();
        if fits {
            self.rested = rested;
        }
        fits
    }

    /// Makes a name one of the window's, if it is not and there is room.
    fn remember(&mut self, limit: DistinctNames, number: u64, now: Moment) -> bool {
        if now >= self.window_end {
            self.names.clear();
            self.window_end = now + limit.window;
        }
        if self.names.contains(&number) {
            return true;
        }
        let fits = self.names.len() < limit.count as usize;
        if fits {
            self.names.insert(number);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use model::Name;

    use super::*;

    fn none() -> QueryLimits {
        let hasher = RandomState::new();
        QueryLimits { rate: None, label_length: None, distinct_names: None, hasher }
    }

    /// What becomes of queries for these names, at so many milliseconds after the boot.
    fn ask<const N: usize>(
        meter: &mut Meter,
        limits: &QueryLimits,
        queries: [(u64, &str); N],
    ) -> [Option<QueryLimit>; N] {
        queries.map(|(at, name)| {
            let name: Name = name.parse().unwrap();
            meter.handle_query(limits, name.as_ref(), Moment::from_nanos(at * 1_000_000)).err()
        })
    }

    #[test]
    fn nothing_is_limited_unless_something_is() {
        let limits = none();
        assert!(!limits.limit_anything());
        let long = "a".repeat(63);
        assert_eq!(ask(&mut Meter::new(&limits), &limits, [(0, &long), (0, "b")]), [None; 2]);
    }

    #[test]
    fn a_label_may_be_as_long_as_the_limit() {
        let limits = QueryLimits { label_length: Some(4), ..none() };
        let mut meter = Meter::new(&limits);
        let over = Some(QueryLimit::LabelLength);
        let queries = [(0, "four.four."), (0, "fifth.a."), (0, "a.fifth."), (0, ".")];
        assert_eq!(ask(&mut meter, &limits, queries), [None, over, over, None]);
    }

    #[test]
    fn the_rate_is_held_after_a_burst_and_the_burst_comes_back() {
        let (per_second, burst) = (NonZeroU32::new(10).unwrap(), NonZeroU32::new(3).unwrap());
        let limits = QueryLimits { rate: Some(Rate { per_second, burst }), ..none() };
        let mut meter = Meter::new(&limits);
        let over = Some(QueryLimit::Rate);
        let at_once = [(1000, "a"); 4];
        assert_eq!(ask(&mut meter, &limits, at_once), [None, None, None, over]);
        let queries = [(1099, "a"), (1100, "a"), (1150, "a"), (1200, "a")];
        assert_eq!(ask(&mut meter, &limits, queries), [over, None, over, None]);
        let at_once = [(9000, "a"); 4];
        assert_eq!(ask(&mut meter, &limits, at_once), [None, None, None, over]);
    }

    #[test]
    fn names_of_the_window_go_on_passing_and_further_ones_wait_for_the_next() {
        let own = DistinctNames { count: 2, window: Duration::from_secs(1) };
        let limits = QueryLimits { distinct_names: Some(own), ..none() };
        let mut meter = Meter::new(&limits);
        let over = Some(QueryLimit::DistinctNames);
        let queries = [(5000, "a"), (5000, "b"), (5001, "c"), (5002, "A"), (5999, "c")];
        assert_eq!(ask(&mut meter, &limits, queries), [None, None, over, None, over]);
        let queries = [(6000, "c"), (6000, "b"), (6001, "a")];
        assert_eq!(ask(&mut meter, &limits, queries), [None, None, over]);
    }

    #[test]
    fn a_window_has_its_room_from_the_beginning() {
        let own = DistinctNames { count: 1000, window: Duration::from_secs(1) };
        let limits = QueryLimits { distinct_names: Some(own), ..none() };
        let mut meter = Meter::new(&limits);
        let room = meter.names.capacity();
        for number in 0..3000 {
            ask(&mut meter, &limits, [(number / 2, &format!("n{number}"))]);
        }
        assert_eq!(meter.names.capacity(), room);
        assert!(meter.names.len() <= 1000);
    }

    #[test]
    fn what_is_over_one_limit_counts_for_no_other() {
        let one = NonZeroU32::MIN;
        let own = DistinctNames { count: 1, window: Duration::from_secs(9) };
        let limits = QueryLimits {
            rate: Some(Rate { per_second: one, burst: one }),
            label_length: Some(2),
            distinct_names: Some(own),
            ..none()
        };
        let mut meter = Meter::new(&limits);
        let queries = [(0, "long"), (0, "a"), (1, "b"), (1000, "b"), (2000, "a")];
        let [long, rate, names] = QueryLimit::ALL.map(Some);
        assert_eq!(ask(&mut meter, &limits, queries), [long, None, rate, names, None]);
    }
}
