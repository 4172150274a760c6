//! Labels of pods and namespaces, with the source that Cilium puts before the key.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Where a label comes from; the part before the colon in `k8s:app=web`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// `k8s`: from a Kubernetes object.
    Kubernetes,
    /// `reserved`: one of the fixed identities.
    Reserved,
    /// `any`: in a selector, a label of any source.
    Any,
    /// Another source: `node` for the labels of a node; others are legal in a document, and no
    /// label here has them.
    Other(String),
}

/// One label, `source:key=value`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// The key, without its source.
    pub key: String,
    /// Where the label comes from.
    pub source: Source,
    /// The value, empty where there is none.
    pub value: String,
}

/// A set of labels, ordered by key. A clone is the same set until one of the two is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<BTreeSet<Label>>);

impl Source {
    /// Splits `k8s:app` into its source and key; a key without a colon is of source `any`.
    pub fn split(key: &str) -> (Self, &str) {
        match key.split_once(':') {
            Some((source, rest)) => (Self::parse(source), rest),
            None => (Self::Any, key),
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "k8s" => Self::Kubernetes,
            "reserved" => Self::Reserved,
            "any" | "" => Self::Any,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The source as it stands before the colon.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Kubernetes => "k8s",
            Self::Reserved => "reserved",
            Self::Any => "any",
            Self::Other(other) => other,
        }
    }
}

impl Label {
    /// A label of a Kubernetes object.
    pub fn kubernetes(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), source: Source::Kubernetes, value: value.into() }
    }

    /// A label of a node.
    pub fn node(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), source: Source::Other("node".to_owned()), value: value.into() }
    }
}

impl Labels {
    /// The key under which a pod carries its namespace's name.
    pub const NAMESPACE: &'static str = "io.kubernetes.pod.namespace";
    /// What stands before a namespace's own label keys when a pod carries them.
    pub const NAMESPACE_LABELS: &'static str = "io.cilium.k8s.namespace.labels";

    /// Adds a label.
    pub fn insert(&mut self, label: Label) {
        Arc::make_mut(&mut self.0).insert(label);
    }

    /// The values that stand under `key`, from `source` ([`Source::Any`]: from all).
    pub fn values<'a>(
        &'a self,
        source: &'a Source,
        key: &'a str,
    ) -> impl Iterator<Item = &'a str> + 'a {
        let from = Label { key: key.to_owned(), source: Source::Kubernetes, value: String::new() };
        self.0
            .range(from..)
            .take_while(move |label| label.key == key)
            .filter(move |label| *source == Source::Any || label.source == *source)
            .map(|label| label.value.as_str())
    }

    /// All labels, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Label> {
        self.0.iter()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a clone of it is still somewhere.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl FromIterator<Label> for Labels {
    fn from_iter<I: IntoIterator<Item = Label>>(labels: I) -> Self {
        Self(Arc::new(labels.into_iter().collect()))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source.as_str(), self.key)?;
        match (self.key.is_empty(), self.value.is_empty()) {
            (_, true) => Ok(()),
            (true, false) => f.write_str(&self.value),
            (false, false) => write!(f, "={}", self.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_values_by_source_and_key() {
        let labels: Labels = [
            Label::kubernetes("app", "web"),
            Label { key: "host".into(), source: Source::Reserved, value: String::new() },
        ]
        .into_iter()
        .collect();

        let values = |key: &str| {
            let (source, key) = Source::split(key);
            labels.values(&source, key).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(values("app"), ["web"]);
        assert_eq!(values("any:app"), ["web"]);
        assert_eq!(values("k8s:app"), ["web"]);
        assert_eq!(values("reserved:app"), Vec::<String>::new());
        assert_eq!(values("reserved:host"), [""]);
        assert_eq!(values("ap"), Vec::<String>::new());
    }
}
