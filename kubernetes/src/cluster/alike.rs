//! Values that many objects have alike, each held once.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use model::Labels;

/// So many values are let pile up before those that nobody holds are looked for.
const FEW: usize = 1024;

/// A value whose clones are the same in memory.
pub(super) trait Shared: Clone + Eq + Hash {
    /// Whether there is a clone of it.
    fn is_shared(&self) -> bool;
}

impl Shared for Labels {
    fn is_shared(&self) -> bool {
        Labels::is_shared(self)
    }
}

impl<T: Eq + Hash> Shared for Arc<T> {
    fn is_shared(&self) -> bool {
        Arc::strong_count(self) > 1
    }
}

/// The values that are held somewhere, and at most as many again, or a few, that no longer are.
#[derive(Debug)]
pub(super) struct Alike<T> {
    known: HashSet<T>,
    prune_at: usize,
}

impl<T> Default for Alike<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), prune_at: FEW }
    }
}

impl<T: Shared> Alike<T> {
    /// The value that equals this one and was the first to come.
    pub fn share(&mut self, value: T) -> T {
        if let Some(known) = self.known.get(&value) {
            return known.clone();
        }
        if self.known.len() >= self.prune_at {
            self.known.retain(Shared::is_shared);
            self.prune_at = FEW.max(2 * self.known.len());
        }
        self.known.insert(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_is_held_once() {
        let mut alike = Alike::default();
        let (first, second) = (alike.share(Arc::new(7)), alike.share(Arc::new(7)));
        assert!(Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&first, &alike.share(Arc::new(8))));
    }

    #[test]
    fn what_nobody_holds_is_let_go_of_in_time() {
        let mut alike = Alike::default();
        let held = alike.share(Arc::new(0));
        for value in 1..10 * FEW as u32 {
            alike.share(Arc::new(value));
            assert!(alike.known.len() <= FEW, "{value}");
        }
        assert!(Arc::ptr_eq(&held, &alike.share(Arc::new(0))));
    }
}
