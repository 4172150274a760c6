//! A bounded map of what is dear to make. When it is full, what was put in first goes.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Values by key.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    capacity: usize,
    entries: Mutex<Entries<K, V>>,
}

#[derive(Debug)]
struct Entries<K, V> {
    values: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Clone + Eq + Hash, V: Clone> Cache<K, V> {
    pub fn new(capacity: usize) -> Self {
        let entries = Entries { values: HashMap::new(), order: VecDeque::new() };
        Self { capacity: capacity.max(1), entries: Mutex::new(entries) }
    }

    /// The value of a key, if it is there and still `good`.
    pub fn find(&self, key: &K, good: impl Fn(&V) -> bool) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.values.get(key).filter(|value| good(value)).cloned()
    }

    /// Puts a value in.
    pub fn put(&self, key: K, value: V) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.values.insert(key.clone(), value).is_some() {
            return;
        }
        entries.order.push_back(key);
        if entries.order.len() > self.capacity
            && let Some(oldest) = entries.order.pop_front()
        {
            entries.values.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_gives_way() {
        let cache = Cache::new(2);
        for key in [1, 2, 1, 3] {
            cache.put(key, key * 10);
        }
        assert_eq!([1, 2, 3].map(|key| cache.find(&key, |_| true)), [None, Some(20), Some(30)]);
        assert_eq!(cache.find(&2, |_| false), None);
    }
}
