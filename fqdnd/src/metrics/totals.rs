//! Sums over endpoints that come and go: what was counted of one that is gone stays counted.
//!
//! Without this a sum would fall when a pod ends, which a reader takes for a restart from nothing
//! and counts everything that is left once more.

use std::collections::BTreeMap;
use std::hash::Hash;

use model::EndpointId;
use rustc_hash::FxHashMap;

/// Sums by key over all endpoints, since the first reading.
pub struct Totals<K> {
    /// What each endpoint's own counts were when they were last read.
    last: Option<FxHashMap<(EndpointId, K), u64>>,
    sums: BTreeMap<K, u64>,
}

impl<K> Default for Totals<K> {
    fn default() -> Self {
        Self { last: None, sums: BTreeMap::new() }
    }
}

impl<K: Copy + Ord + Hash> Totals<K> {
    /// Takes in what the endpoints' own counts are now. What they were at first is no business of
    /// this daemon; a count that has fallen is of an endpoint that took over the number, and has
    /// begun from nothing.
    pub fn take(&mut self, counts: impl IntoIterator<Item = ((EndpointId, K), u64)>) {
        let now: FxHashMap<(EndpointId, K), u64> = counts.into_iter().collect();
        if let Some(last) = &self.last {
            for (key, count) in &now {
                let before = last.get(key).copied().unwrap_or(0);
                let grown = count.checked_sub(before).unwrap_or(*count);
                *self.sums.entry(key.1).or_default() += grown;
            }
        }
        self.last = Some(now);
    }

    /// The sum at one key.
    pub fn of(&self, key: K) -> u64 {
        self.sums.get(&key).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_never_falls_and_begins_with_the_daemon() {
        let mut totals = Totals::default();
        let at = |endpoint, count| ((EndpointId(endpoint), 'a'), count);
        let mut after = |counts: &[_]| {
            totals.take(counts.iter().copied());
            totals.of('a')
        };
        assert_eq!(after(&[at(1, 100)]), 0);
        assert_eq!(after(&[at(1, 103), at(2, 5)]), 8);
        assert_eq!(after(&[at(2, 6)]), 9, "one that is gone stays counted");
        assert_eq!(after(&[at(2, 2)]), 11, "one that began from nothing counts whole");
        assert_eq!(totals.of('b'), 0);
    }
}
