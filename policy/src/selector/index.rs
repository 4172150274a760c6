//! Many selectors, asked at once which of them match.
//!
//! A selector stands under the values of one of its `In` requirements, so that only selectors that
//! share a label with what is asked are looked at; the few without such a requirement are always
//! looked at.

use imbl::{HashMap, OrdMap, OrdSet};
use model::Labels;

use crate::counted::{Bag, Numbered};
use crate::selector::LabelSelector;

/// A multimap from selectors to values. A copy of it costs nothing.
#[derive(Clone, Debug)]
pub struct SelectorIndex<T: Ord> {
    selectors: Numbered<LabelSelector>,
    /// By the number of the selector.
    values: OrdMap<u32, Bag<T>>,
    by_label: HashMap<String, HashMap<String, OrdSet<u32>>>,
    others: OrdSet<u32>,
}

impl<T: Ord> Default for SelectorIndex<T> {
    fn default() -> Self {
        Self {
            selectors: Numbered::default(),
            values: OrdMap::new(),
            by_label: HashMap::new(),
            others: OrdSet::new(),
        }
    }
}

impl<T: Ord + Clone> SelectorIndex<T> {
    /// Adds a value under a selector; whether it is the first of its kind there.
    pub fn insert(&mut self, selector: &LabelSelector, value: T) -> bool {
        let (number, is_new) = self.selectors.acquire(selector.clone());
        if is_new {
            self.enter(selector, number);
        }
        self.values.entry(number).or_default().insert(value)
    }

    /// Takes one such value from under a selector; whether it was the last of its kind there.
    pub fn remove(&mut self, selector: &LabelSelector, value: &T) -> bool {
        let Some(number) = self.selectors.number(selector) else { return false };
        let Some(own) = self.values.get_mut(&number) else { return false };
        if !own.contains(value) {
            return false;
        }
        let was_last = own.remove(value);
        if self.selectors.release(number).is_some() {
            self.values.remove(&number);
            self.leave(selector, number);
        }
        was_last
    }

    fn enter(&mut self, selector: &LabelSelector, number: u32) {
        let Some((key, values)) = selector.narrowest() else {
            self.others.insert(number);
            return;
        };
        let by_value = self.by_label.entry(key.to_owned()).or_default();
        for value in values {
            by_value.entry(value.clone()).or_default().insert(number);
        }
    }

    fn leave(&mut self, selector: &LabelSelector, number: u32) {
        let Some((key, values)) = selector.narrowest() else {
            self.others.remove(&number);
            return;
        };
        let Some(by_value) = self.by_label.get_mut(key) else { return };
        for value in values {
            let Some(numbers) = by_value.get_mut(value) else { continue };
            numbers.remove(&number);
            if numbers.is_empty() {
                by_value.remove(value);
            }
        }
        if by_value.is_empty() {
            self.by_label.remove(key);
        }
    }

    /// The values whose selectors match, selector by selector.
    pub fn matching<'a>(&'a self, labels: &Labels) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let mut found: Vec<u32> = self.others.iter().copied().collect();
        for label in labels.iter() {
            let by_value = self.by_label.get(&label.key);
            let numbers = by_value.and_then(|by_value| by_value.get(&label.value));
            found.extend(numbers.into_iter().flatten());
        }
        found.sort_unstable();
        found.dedup();
        found.retain(|number| self.selectors.get(*number).is_some_and(|own| own.matches(labels)));
        let values = found.into_iter().filter_map(|number| self.values.get(&number));
        values.flat_map(Bag::iter)
    }

    /// The selectors.
    pub fn selectors(&self) -> impl Iterator<Item = &LabelSelector> {
        self.selectors.iter().map(|(_, selector)| &**selector)
    }

    /// Whether there is no selector.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use model::Label;
    use proptest::prelude::*;

    use super::*;
    use crate::selector::{Operator, Requirement};

    fn requirement() -> impl Strategy<Value = Requirement> {
        let values = prop::collection::btree_set("[xyz]", 1..3);
        let operator = prop_oneof![
            3 => values.clone().prop_map(Operator::In),
            1 => values.prop_map(Operator::NotIn),
            1 => Just(Operator::Exists),
            1 => Just(Operator::DoesNotExist),
        ];
        let key = prop::sample::select(vec!["a", "k8s:b", "c", "io.kubernetes.pod.namespace"]);
        (key, operator).prop_map(|(key, operator)| Requirement::new(key, operator))
    }

    fn selector() -> impl Strategy<Value = LabelSelector> {
        prop::collection::vec(requirement(), 0..4).prop_map(|all| all.into_iter().collect())
    }

    fn labels() -> impl Strategy<Value = Labels> {
        let key = prop::sample::select(vec!["a", "b", "c", "io.kubernetes.pod.namespace"]);
        prop::collection::vec((key, "[xyz]"), 0..4)
            .prop_map(|all| all.into_iter().map(|(k, v)| Label::kubernetes(k, v)).collect())
    }

    proptest! {
        #[test]
        fn finds_what_asking_each_selector_finds(
            selectors in prop::collection::vec(selector(), 0..12),
            gone in prop::collection::vec((selector(), any::<bool>()), 0..6),
            labels in labels(),
        ) {
            let mut index = SelectorIndex::default();
            for (selector, _) in &gone {
                prop_assert!(index.insert(selector, selectors.len()) || gone.len() > 1);
            }
            for (number, selector) in selectors.iter().enumerate() {
                prop_assert!(index.insert(selector, number));
            }
            for (selector, is_asked) in &gone {
                index.remove(selector, &selectors.len());
                prop_assert!(!is_asked || !index.remove(selector, &usize::MAX));
            }
            let mut found: Vec<usize> = index.matching(&labels).copied().collect();
            found.sort_unstable();
            let expected: Vec<usize> = (0..selectors.len())
                .filter(|&number| selectors[number].matches(&labels))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
