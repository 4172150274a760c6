//! Maps of what should be in force that know where it is not yet.
//!
//! A change costs what it touches: what differs is noted as it is made, and never searched for.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Desired values by key, and what is in force instead of those that may differ.
#[derive(Clone, Debug)]
pub(crate) struct Tracked<K, V> {
    desired: BTreeMap<K, V>,
    /// What is in force, of every key where that may not be what is desired.
    unsettled: BTreeMap<K, Option<V>>,
}

impl<K, V> Default for Tracked<K, V> {
    fn default() -> Self {
        Self { desired: BTreeMap::new(), unsettled: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, V: PartialEq + Clone> Tracked<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.desired.get(key)
    }

    /// What should be in force.
    pub(crate) fn desired(&self) -> &BTreeMap<K, V> {
        &self.desired
    }

    pub(crate) fn put(&mut self, key: K, value: V) {
        if self.desired.get(&key) == Some(&value) {
            return;
        }
        let old = self.desired.insert(key.clone(), value);
        self.unsettled.entry(key).or_insert(old);
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(old) = self.desired.remove(key) {
            self.unsettled.entry(key.clone()).or_insert(Some(old));
        }
    }

    /// What is in force of a key.
    pub(crate) fn realised(&self, key: &K) -> Option<&V> {
        match self.unsettled.get(key) {
            Some(realised) => realised.as_ref(),
            None => self.desired.get(key),
        }
    }

    /// What is in force of the keys in a range.
    pub(crate) fn realised_in(&self, range: RangeInclusive<K>) -> BTreeMap<K, V> {
        let desired = self.desired.range(range.clone());
        let mut all: BTreeMap<K, V> =
            desired.map(|(key, own)| (key.clone(), own.clone())).collect();
        for (key, old) in self.unsettled.range(range) {
            match old {
                Some(old) => drop(all.insert(key.clone(), old.clone())),
                None => drop(all.remove(key)),
            }
        }
        all
    }

    /// Whether nothing is in force.
    pub(crate) fn realised_is_empty(&self) -> bool {
        let missing = self.unsettled.iter();
        let missing = missing.filter(|(key, old)| old.is_none() && self.desired.contains_key(*key));
        let left = self
            .unsettled
            .iter()
            .any(|(key, old)| old.is_some() && !self.desired.contains_key(key));
        !left && missing.count() == self.desired.len()
    }

    /// Puts a value that is written at once.
    pub(crate) fn amend(&mut self, key: K, value: V) {
        self.unsettled.remove(&key);
        self.desired.insert(key, value);
    }

    /// The values to put in force, with those in force now.
    pub(crate) fn puts(&self) -> impl Iterator<Item = (&K, &V, Option<&V>)> {
        self.unsettled.iter().filter_map(|(key, old)| {
            let new = self.desired.get(key)?;
            (old.as_ref() != Some(new)).then_some((key, new, old.as_ref()))
        })
    }

    /// The keys to take out of force, with their values.
    pub(crate) fn removals(&self) -> impl Iterator<Item = (&K, &V)> {
        self.unsettled.iter().filter_map(|(key, old)| {
            let old = old.as_ref()?;
            (!self.desired.contains_key(key)).then_some((key, old))
        })
    }

    /// What is desired is in force.
    pub(crate) fn settle(&mut self) {
        self.unsettled.clear();
    }

    /// This is in force, whatever is desired.
    pub(crate) fn resync(&mut self, realised: &BTreeMap<K, V>) {
        self.unsettled.clear();
        for (key, value) in realised {
            if self.desired.get(key) != Some(value) {
                self.unsettled.insert(key.clone(), Some(value.clone()));
            }
        }
        let missing = self.desired.keys().filter(|key| !realised.contains_key(*key));
        self.unsettled.extend(missing.map(|key| (key.clone(), None)));
    }

    /// Nothing is desired any more; what is in force stays known.
    pub(crate) fn clear(&mut self) {
        for (key, value) in std::mem::take(&mut self.desired) {
            self.unsettled.entry(key).or_insert(Some(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, u8),
        Remove(u8),
        Amend(u8, u8),
        Settle,
        Clear,
        Resync(BTreeMap<u8, u8>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..6u8, 0..3u8).prop_map(|(key, value)| Step::Put(key, value)),
            4 => (0..6u8).prop_map(Step::Remove),
            1 => (0..6u8, 0..3u8).prop_map(|(key, value)| Step::Amend(key, value)),
            1 => Just(Step::Settle),
            1 => Just(Step::Clear),
            1 => prop::collection::btree_map(0..6u8, 0..3u8, 0..6).prop_map(Step::Resync),
        ]
    }

    proptest! {
        #[test]
        fn puts_and_removals_lead_from_what_is_in_force_to_what_is_desired(
            steps in prop::collection::vec(step(), 0..40),
        ) {
            let mut tracked = Tracked::default();
            let (mut desired, mut realised) = (BTreeMap::new(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Put(key, value) => {
                        tracked.put(key, value);
                        desired.insert(key, value);
                    }
                    Step::Remove(key) => {
                        tracked.remove(&key);
                        desired.remove(&key);
                    }
                    Step::Amend(key, value) => {
                        tracked.amend(key, value);
                        desired.insert(key, value);
                        realised.insert(key, value);
                    }
                    Step::Settle => {
                        tracked.settle();
                        realised = desired.clone();
                    }
                    Step::Clear => {
                        tracked.clear();
                        desired.clear();
                    }
                    Step::Resync(dump) => {
                        tracked.resync(&dump);
                        realised = dump;
                    }
                }
                prop_assert_eq!(tracked.desired(), &desired);
                prop_assert!((0..6).all(|key| tracked.realised(&key) == realised.get(&key)));
                let part = realised.range(2..=4).map(|(key, value)| (*key, *value)).collect();
                prop_assert_eq!(tracked.realised_in(2..=4), part);
                let mut reached = realised.clone();
                for (key, new, old) in tracked.puts() {
                    prop_assert_eq!(old, realised.get(key));
                    prop_assert!(old != Some(new));
                    reached.insert(*key, *new);
                }
                for (key, old) in tracked.removals() {
                    prop_assert_eq!(Some(old), realised.get(key));
                    reached.remove(key);
                }
                prop_assert_eq!(&reached, &desired);
            }
        }
    }
}
