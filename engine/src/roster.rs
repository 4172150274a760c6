//! Numbers for things that come and go: each key keeps its number as long as something uses it,
//! and until it is known that nothing in force does.

use std::collections::HashMap;
use std::hash::Hash;

use identity::{Full, Numbers};
use model::{Digest, NumberKind};

use crate::tracked::Tracked;

/// What the numbers in use stand for, as the kernel's map has it.
pub(crate) type Record = Tracked<(NumberKind, u32), Digest>;

/// The numbers given to keys of one kind. Bounded by the range of its [`Numbers`].
///
/// Nothing depends on the map's order. Its keys are what people write, hence its slow hash.
#[derive(Debug)]
pub(crate) struct Roster<K> {
    kind: NumberKind,
    numbers: Numbers,
    assigned: HashMap<K, Assigned>,
    /// Keys that nothing used when this was noted.
    idle: Vec<K>,
}

/// The number of a key.
#[derive(Clone, Copy, Debug)]
struct Assigned {
    number: u32,
    digest: Digest,
    /// How many things use it.
    users: usize,
}

impl<K: Hash + Eq + Clone> Roster<K> {
    pub(crate) fn new(kind: NumberKind, numbers: Numbers) -> Self {
        Self { kind, numbers, assigned: HashMap::new(), idle: Vec::new() }
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

    /// The number of `key`, with one user more; `digest` is that of its meaning.
    pub(crate) fn acquire(
        &mut self,
        key: &K,
        digest: impl FnOnce() -> Digest,
        record: &mut Record,
    ) -> Result<u32, Full> {
        let known = match self.assigned.get_mut(key) {
            Some(known) => known,
            None => {
                let digest = digest();
                let number = self.numbers.acquire(&digest)?.number;
                let assigned = Assigned { number, digest, users: 0 };
                self.assigned.entry(key.clone()).or_insert(assigned)
            }
        };
        known.users += 1;
        if known.users == 1 {
            record.put((self.kind, known.number), known.digest);
        }
        Ok(known.number)
    }

    /// One user less. The number stays the key's until [`forget_idle`](Self::forget_idle).
    pub(crate) fn release(&mut self, key: &K, record: &mut Record) {
        let Some(known) = self.assigned.get_mut(key).filter(|known| known.users > 0) else {
            return;
        };
        known.users -= 1;
        if known.users == 0 {
            record.remove(&(self.kind, known.number));
            self.idle.push(key.clone());
        }
    }

    /// Has the number of a key in use stand for another key, which has none, with the same users;
    /// `digest` is that of its meaning. Whether that could be done.
    pub(crate) fn rename(&mut self, old: &K, new: K, digest: Digest, record: &mut Record) -> bool {
        let Some(known) = self.assigned.get(old).copied().filter(|known| known.users > 0) else {
            return false;
        };
        if self.assigned.contains_key(&new) || !self.numbers.rename(known.number, digest) {
            return false;
        }
        self.assigned.remove(old);
        self.assigned.insert(new, Assigned { digest, ..known });
        record.put((self.kind, known.number), digest);
        true
    }

    /// Gives up the numbers of keys that nothing uses: nothing in force refers to them.
    pub(crate) fn forget_idle(&mut self) {
        for key in std::mem::take(&mut self.idle) {
            let Some(known) = self.assigned.get(&key).filter(|known| known.users == 0) else {
                continue;
            };
            self.numbers.release(known.number);
            self.assigned.remove(&key);
        }
    }

    /// Nothing uses anything, as far as is known.
    pub(crate) fn release_all(&mut self) {
        self.idle = self.assigned.keys().cloned().collect();
        self.assigned.values_mut().for_each(|known| known.users = 0);
    }

    pub(crate) fn number(&self, key: &K) -> Option<u32> {
        self.assigned.get(key).map(|known| known.number)
    }

    /// The same, if something uses it.
    pub(crate) fn number_in_use(&self, key: &K) -> Option<u32> {
        self.assigned.get(key).filter(|known| known.users > 0).map(|known| known.number)
    }

    /// All keys with their numbers, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, u32)> {
        self.assigned.iter().map(|(key, known)| (key, known.number))
    }
}
