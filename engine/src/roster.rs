//! Numbers for things that come and go: each key keeps its number as long as it is wanted.

use std::collections::{BTreeMap, BTreeSet};

use identity::{Full, Numbers};
use model::Digest;

/// The numbers given to keys of one kind. Bounded by the range of its [`Numbers`].
#[derive(Debug)]
pub(crate) struct Roster<K> {
    numbers: Numbers,
    assigned: BTreeMap<K, (u32, Digest)>,
}

impl<K: Ord + Clone> Roster<K> {
    pub(crate) fn new(numbers: Numbers) -> Self {
        Self { numbers, assigned: BTreeMap::new() }
    }

    /// Holds the number of a meaning that an earlier daemon recorded. One that does not fit (the
    /// range was configured smaller since) is not kept: the meaning then gets another number.
    pub(crate) fn restore(&mut self, number: u32, digest: Digest) {
        let _ = self.numbers.restore(number, digest);
    }

    /// Gives up the restored numbers that nothing has asked for.
    pub(crate) fn release_unclaimed(&mut self) {
        self.numbers.release_unclaimed();
    }

    /// The number of `key`, and the digest of its meaning, which is made once.
    pub(crate) fn assign(
        &mut self,
        key: &K,
        digest: impl FnOnce() -> Digest,
    ) -> Result<(u32, Digest), Full> {
        if let Some(known) = self.assigned.get(key) {
            return Ok(*known);
        }
        let digest = digest();
        let number = self.numbers.acquire(&digest)?.number;
        self.assigned.insert(key.clone(), (number, digest));
        Ok((number, digest))
    }

    pub(crate) fn number(&self, key: &K) -> Option<u32> {
        self.assigned.get(key).map(|(number, _)| *number)
    }

    /// Gives up all numbers but the `live` ones.
    pub(crate) fn retain_numbers(&mut self, live: &BTreeSet<u32>) {
        self.assigned.retain(|_, (number, _)| {
            let keep = live.contains(number);
            if !keep {
                self.numbers.release(*number);
            }
            keep
        });
    }

    /// All keys with their numbers and digests.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, u32, Digest)> {
        self.assigned.iter().map(|(key, (number, digest))| (key, *number, *digest))
    }
}
