//! Many selectors, asked at once which of them match.
//!
//! A selector stands under the values of one of its `In` requirements, so that only selectors that
//! share a label with what is asked are looked at; the few without such a requirement are always
//! looked at.

use model::Labels;
use rustc_hash::FxHashMap;

use crate::selector::LabelSelector;

/// A multimap from selectors to values.
#[derive(Clone, Debug)]
pub struct SelectorIndex<T> {
    entries: Vec<(LabelSelector, Vec<T>)>,
    known: FxHashMap<LabelSelector, usize>,
    by_label: FxHashMap<String, FxHashMap<String, Vec<usize>>>,
    others: Vec<usize>,
}

impl<T> Default for SelectorIndex<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            known: FxHashMap::default(),
            by_label: FxHashMap::default(),
            others: Vec::new(),
        }
    }
}

impl<T> SelectorIndex<T> {
    /// Adds a value under a selector.
    pub fn insert(&mut self, selector: &LabelSelector, value: T) {
        if let Some(&entry) = self.known.get(selector) {
            self.entries[entry].1.push(value);
            return;
        }
        let entry = self.entries.len();
        self.entries.push((selector.clone(), vec![value]));
        self.known.insert(selector.clone(), entry);
        let Some((key, values)) = selector.narrowest() else {
            self.others.push(entry);
            return;
        };
        let by_value = self.by_label.entry(key.to_owned()).or_default();
        for value in values {
            by_value.entry(value.clone()).or_default().push(entry);
        }
    }

    /// The values whose selectors match, in the order of their selectors' first insertion.
    pub fn matching<'a>(&'a self, labels: &Labels) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let mut found = self.others.clone();
        for label in labels.iter() {
            let by_value = self.by_label.get(&label.key);
            found.extend(
                by_value.and_then(|by_value| by_value.get(&label.value)).into_iter().flatten(),
            );
        }
        found.sort_unstable();
        found.dedup();
        found.retain(|entry| self.entries[*entry].0.matches(labels));
        found.into_iter().flat_map(|entry| self.entries[entry].1.iter())
    }

    /// The selectors, in the order of their first insertion.
    pub fn selectors(&self) -> impl Iterator<Item = &LabelSelector> {
        self.entries.iter().map(|(selector, _)| selector)
    }

    /// Whether there is no selector.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
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
            labels in labels(),
        ) {
            let mut index = SelectorIndex::default();
            for (number, selector) in selectors.iter().enumerate() {
                index.insert(selector, number);
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
