//! Collections that a table is made of: they share what they have with their copies, so that a copy
//! costs nothing, and they know how often each thing was put in, so that it can be taken out again.

use std::hash::Hash;
use std::sync::Arc;

use imbl::{HashMap, OrdMap, OrdSet};

/// Things, each as often as it was put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bag<T: Ord>(OrdMap<T, usize>);

impl<T: Ord> Default for Bag<T> {
    fn default() -> Self {
        Self(OrdMap::new())
    }
}

impl<T: Ord + Clone> Bag<T> {
    /// Puts one in; whether it is the first of its kind.
    pub(crate) fn insert(&mut self, item: T) -> bool {
        let count = self.0.entry(item).or_default();
        *count += 1;
        *count == 1
    }

    /// Takes one out; whether it was the last of its kind.
    pub(crate) fn remove(&mut self, item: &T) -> bool {
        match self.0.get_mut(item) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            Some(_) => self.0.remove(item).is_some(),
            None => false,
        }
    }

    pub(crate) fn contains(&self, item: &T) -> bool {
        self.0.contains_key(item)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each kind once, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.keys()
    }
}

/// Things by a number that each keeps as long as it is in use. Freed numbers are given out again.
#[derive(Clone, Debug)]
pub(crate) struct Numbered<T> {
    numbers: HashMap<Arc<T>, u32>,
    all: OrdMap<u32, (Arc<T>, usize)>,
    free: OrdSet<u32>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), all: OrdMap::new(), free: OrdSet::new() }
    }
}

impl<T: Hash + Eq> Numbered<T> {
    /// The number of a thing, with one user more; and whether that is the first.
    pub(crate) fn acquire(&mut self, thing: impl Into<Arc<T>>) -> (u32, bool) {
        let thing = thing.into();
        if let Some(&number) = self.numbers.get(&thing) {
            if let Some((_, users)) = self.all.get_mut(&number) {
                *users += 1;
            }
            return (number, false);
        }
        let number = match self.free.remove_min() {
            Some(number) => number,
            None => u32::try_from(self.all.len()).expect("no memory holds as many rules"),
        };
        self.numbers.insert(Arc::clone(&thing), number);
        self.all.insert(number, (thing, 1));
        (number, true)
    }

    /// One user less; the thing, if that was the last.
    pub(crate) fn release(&mut self, number: u32) -> Option<Arc<T>> {
        let (_, users) = self.all.get_mut(&number)?;
        *users -= 1;
        if *users > 0 {
            return None;
        }
        let (thing, _) = self.all.remove(&number)?;
        self.numbers.remove(&thing);
        self.free.insert(number);
        Some(thing)
    }

    pub(crate) fn number(&self, thing: &T) -> Option<u32> {
        self.numbers.get(thing).copied()
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Arc<T>> {
        self.all.get(&number).map(|(thing, _)| thing)
    }

    /// All things with their numbers, in the order of these.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Arc<T>)> {
        self.all.iter().map(|(number, (thing, _))| (*number, thing))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_in_a_bag_as_long_as_it_was_taken_out_less_often_than_put_in() {
        let mut bag = Bag::default();
        assert!(bag.insert('a') && !bag.insert('a') && bag.insert('b'));
        let before = bag.clone();
        assert!(!bag.remove(&'a') && bag.contains(&'a'));
        assert!(bag.remove(&'a') && !bag.remove(&'a') && !bag.contains(&'a'));
        assert_eq!(bag.iter().collect::<String>(), "b");
        assert_eq!(before.iter().collect::<String>(), "ab", "a copy stays as it was");
    }

    #[test]
    fn a_number_is_free_again_when_its_last_user_gives_it_up() {
        let mut numbered = Numbered::default();
        assert_eq!(numbered.acquire("a"), (0, true));
        assert_eq!(numbered.acquire("b"), (1, true));
        assert_eq!(numbered.acquire("a"), (0, false));
        assert_eq!(numbered.release(0), None);
        assert_eq!(numbered.release(0).as_deref(), Some(&"a"));
        assert_eq!((numbered.release(0), numbered.number(&"a")), (None, None));
        assert_eq!(numbered.acquire("c"), (0, true));
        assert_eq!(numbered.acquire("d"), (2, true));
        assert!(!numbered.is_empty());
    }
}
