//! Label selectors: `matchLabels` and `matchExpressions`.

use std::collections::BTreeSet;
use std::fmt;

use model::{Label, Labels, Source};

mod index;

pub use index::SelectorIndex;

/// A conjunction of requirements; the empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelSelector {
    requirements: BTreeSet<Requirement>,
}

/// What one key's values must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    /// The key, without its source.
    pub key: String,
    /// Where the label must come from.
    pub source: Source,
    /// The condition.
    pub operator: Operator,
}

/// A condition on the values of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// One of these.
    In(BTreeSet<String>),
    /// None of these; absent will do.
    NotIn(BTreeSet<String>),
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
}

impl LabelSelector {
    /// The selector that requires nothing.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Whether labels fulfil every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether nothing is required.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The key and values of the requirement to carry a label that tells most selectors apart: any
    /// but the namespace's, which all selectors of a namespace share. What the selector matches
    /// carries one of them.
    pub fn narrowest(&self) -> Option<(&str, &BTreeSet<String>)> {
        self.requirements()
            .filter_map(|Requirement { key, source, operator }| match operator {
                Operator::In(values) => Some((source, key.as_str(), values)),
                Operator::NotIn(_) | Operator::Exists | Operator::DoesNotExist => None,
            })
            .min_by_key(|(source, key, values)| {
                (*key == Labels::NAMESPACE, **source == Source::Reserved, values.len())
            })
            .map(|(_, key, values)| (key, values))
    }

    /// The requirements, in order.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.requirements.iter()
    }

    /// The same selector with one requirement more.
    #[must_use]
    pub fn and(mut self, requirement: Requirement) -> Self {
        self.requirements.insert(requirement);
        self
    }
}

impl FromIterator<Requirement> for LabelSelector {
    fn from_iter<I: IntoIterator<Item = Requirement>>(requirements: I) -> Self {
        Self { requirements: requirements.into_iter().collect() }
    }
}

impl Requirement {
    /// The requirement that `key`, perhaps with its source before it, has the value.
    pub fn label(key: &str, value: impl Into<String>) -> Self {
        Self::new(key, Operator::In([value.into()].into()))
    }

    /// A requirement on `key`, perhaps with its source before it.
    pub fn new(key: &str, operator: Operator) -> Self {
        let (source, key) = Source::split(key);
        Self { key: key.to_owned(), source, operator }
    }

    /// Whether labels fulfil it.
    pub fn matches(&self, labels: &Labels) -> bool {
        let mut values = labels.values(&self.source, &self.key);
        match &self.operator {
            Operator::In(wanted) => values.any(|value| wanted.contains(value)),
            Operator::NotIn(unwanted) => !values.any(|value| unwanted.contains(value)),
            Operator::Exists => values.next().is_some(),
            Operator::DoesNotExist => values.next().is_none(),
        }
    }
}

impl From<&Label> for Requirement {
    /// The requirement that this very label is there.
    fn from(label: &Label) -> Self {
        Self {
            key: label.key.clone(),
            source: label.source.clone(),
            operator: Operator::In([label.value.clone()].into()),
        }
    }
}

impl fmt::Display for LabelSelector {
    /// Writes as `kubectl` does: `any:app=web,any:tier in (a,b)`. The same text means the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = format_args!("{}:{}", self.source.as_str(), self.key);
        match &self.operator {
            Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", join(values)),
            Operator::In(values) => write!(f, "{key} in ({})", join(values)),
            Operator::NotIn(values) => write!(f, "{key} notin ({})", join(values)),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

fn join(values: &BTreeSet<String>) -> String {
    values.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        let reserved = Label { key: "host".into(), source: Source::Reserved, value: String::new() };
        [Label::kubernetes("app", "web"), Label::kubernetes("tier", ""), reserved]
            .into_iter()
            .collect()
    }

    fn set(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn operators_follow_kubernetes() {
        let matches =
            |key: &str, operator: Operator| Requirement::new(key, operator).matches(&labels());
        assert!(matches("app", Operator::In(set(&["db", "web"]))));
        assert!(!matches("app", Operator::In(set(&["db"]))));
        assert!(matches("app", Operator::NotIn(set(&["db"]))));
        assert!(!matches("app", Operator::NotIn(set(&["web"]))));
        assert!(matches("absent", Operator::NotIn(set(&["web"]))));
        assert!(matches("tier", Operator::Exists) && !matches("absent", Operator::Exists));
        assert!(!matches("tier", Operator::DoesNotExist));
        assert!(matches("absent", Operator::DoesNotExist));
    }

    #[test]
    fn a_source_before_the_key_counts() {
        let matches = |key: &str| Requirement::label(key, "web").matches(&labels());
        assert!(matches("app") && matches("any:app") && matches("k8s:app"));
        assert!(!matches("reserved:app") && !matches("container:app"));
        assert!(Requirement::new("reserved:host", Operator::Exists).matches(&labels()));
        assert!(!Requirement::new("k8s:host", Operator::Exists).matches(&labels()));
    }

    #[test]
    fn all_requirements_must_hold_and_none_selects_everything() {
        let selector = LabelSelector::everything().and(Requirement::label("app", "web"));
        assert!(LabelSelector::everything().matches(&labels()) && selector.matches(&labels()));
        assert!(!selector.and(Requirement::label("tier", "x")).matches(&labels()));
    }

    #[test]
    fn is_shown_as_kubectl_shows_it() {
        let selector: LabelSelector = [
            Requirement::label("k8s:app", "web"),
            Requirement::new("tier", Operator::NotIn(set(&["b", "a"]))),
            Requirement::new("x", Operator::DoesNotExist),
            Requirement::new("y", Operator::Exists),
        ]
        .into_iter()
        .collect();
        assert_eq!(selector.to_string(), "k8s:app=web,any:tier notin (a,b),!any:x,any:y");
    }
}
