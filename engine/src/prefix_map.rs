//! Longest-prefix match over a map that is copied for nothing.
//!
//! One hash look-up for each length in use: few, beside that of single addresses.

use std::collections::BTreeMap;

use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;
use model::Prefix;
use rustc_hash::FxBuildHasher;

/// A persistent hash map, for keys that no stranger chooses.
pub(crate) type SharedMap<K, V> = GenericHashMap<K, V, FxBuildHasher, DefaultSharedPtr>;

/// Values by prefix.
#[derive(Clone, Debug)]
pub(crate) struct PrefixMap<V> {
    values: SharedMap<Prefix, V>,
    /// How many prefixes there are of each length, by family.
    lengths: [BTreeMap<u8, usize>; 2],
}

impl<V> Default for PrefixMap<V> {
    fn default() -> Self {
        Self { values: SharedMap::default(), lengths: Default::default() }
    }
}

impl<V: Clone> PrefixMap<V> {
    pub(crate) fn insert(&mut self, prefix: Prefix, value: V) {
        if self.values.insert(prefix, value).is_none() {
            *self.lengths[family(prefix)].entry(prefix.length()).or_default() += 1;
        }
    }

    pub(crate) fn remove(&mut self, prefix: Prefix) {
        if self.values.remove(&prefix).is_none() {
            return;
        }
        let lengths = &mut self.lengths[family(prefix)];
        let length = prefix.length();
        match lengths.get_mut(&length) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(lengths.remove(&length)),
        }
    }

    pub(crate) fn get(&self, prefix: Prefix) -> Option<&V> {
        self.values.get(&prefix)
    }

    /// The value of the longest prefix that contains all of `prefix`.
    pub(crate) fn longest(&self, prefix: Prefix) -> Option<&V> {
        let lengths = self.lengths[family(prefix)].range(..=prefix.length()).rev();
        lengths.map(|(length, _)| *length).find_map(|length| {
            let wider = Prefix::new(prefix.address(), length)?;
            self.values.get(&wider)
        })
    }
}

fn family(prefix: Prefix) -> usize {
    usize::from(prefix.address().is_ipv6())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    fn prefix() -> impl Strategy<Value = Prefix> {
        (0..16u32, 28..=32u8).prop_map(|(last, length)| {
            Prefix::new(IpAddr::V4(Ipv4Addr::from_bits(0xcb00_7100 + last)), length).unwrap()
        })
    }

    proptest! {
        #[test]
        fn finds_what_looking_at_every_prefix_finds(
            steps in prop::collection::vec((prefix(), prop::option::of(0..9u8)), 0..40),
            asked in prefix(),
        ) {
            let (mut map, mut model) = (PrefixMap::default(), BTreeMap::new());
            for (prefix, value) in steps {
                match value {
                    Some(value) => {
                        map.insert(prefix, value);
                        model.insert(prefix, value);
                    }
                    None => {
                        map.remove(prefix);
                        model.remove(&prefix);
                    }
                }
                let containing = model.iter().filter(|(own, _)| own.contains(asked));
                let expected = containing.max_by_key(|(own, _)| own.length());
                prop_assert_eq!(map.longest(asked), expected.map(|(_, value)| value));
            }
        }
    }
}
