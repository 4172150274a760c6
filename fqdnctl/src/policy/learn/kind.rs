//! Which pods are of one kind: those with the same labels, less the ones that a pod gets for itself
//! or for one version of what made it.

use std::collections::BTreeMap;

use model::Labels;

use super::tree::Tree;

/// Labels that the next pod of the same kind does not have.
const FLEETING: [&str; 12] = [
    "app.kubernetes.io/version",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-completion-index",
    "batch.kubernetes.io/job-name",
    "controller-revision-hash",
    "controller-uid",
    "helm.sh/chart",
    "job-name",
    "pod-template-generation",
    "pod-template-hash",
    "statefulset.kubernetes.io/pod-name",
];
/// What stands before the keys of labels that no pod's own document has.
const DERIVED: [&str; 2] = ["io.cilium.k8s.", "io.kubernetes.pod."];
/// Labels that say what a pod is, the best first.
const TELLING: [&str; 4] = ["app.kubernetes.io/name", "app", "k8s-app", "name"];

/// The pods of a namespace that have some labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
}

impl Kind {
    /// From labels as flows have them, `k8s:app=web`; none if they are no pod's.
    pub fn read(labels: &[String]) -> Option<Self> {
        let own = labels.iter().filter_map(|label| label.strip_prefix("k8s:"));
        let own: Vec<(&str, &str)> =
            own.map(|label| label.split_once('=').unwrap_or((label, ""))).collect();
        let (_, namespace) = own.iter().find(|(key, _)| *key == Labels::NAMESPACE)?;
        let lasts = |key: &str| {
            !FLEETING.contains(&key) && !DERIVED.iter().any(|start| key.starts_with(start))
        };
        let lasting = own.iter().filter(|(key, _)| lasts(key));
        let labels = lasting.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Some(Self { namespace: (*namespace).to_owned(), labels: labels.collect() })
    }

    /// Whether its pods include those of another kind.
    pub fn covers(&self, other: &Self) -> bool {
        let has = |(key, value): (&String, &String)| other.labels.get(key) == Some(value);
        self.namespace == other.namespace && self.labels.iter().all(has)
    }

    /// What the pods are called in short, if a label says it.
    pub fn title(&self) -> Option<&str> {
        TELLING.iter().find_map(|key| self.labels.get(*key)).map(String::as_str)
    }

    /// The selector of a policy, as one of this namespace writes it.
    pub fn selector(&self, namespace: &str) -> Tree {
        let own = self.labels.iter().map(|(key, value)| (key.clone(), Tree::text(value)));
        let mut labels: Vec<(String, Tree)> = own.collect();
        if self.namespace != namespace {
            labels.push((format!("k8s:{}", Labels::NAMESPACE), Tree::text(&self.namespace)));
        }
        if labels.is_empty() {
            return Tree::map([]);
        }
        Tree::map([("matchLabels", Tree::Map(labels))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_the_labels_that_last() {
        let labels = [
            "k8s:app=web",
            "k8s:pod-template-hash=5d4f",
            "k8s:io.kubernetes.pod.namespace=prod",
            "k8s:io.cilium.k8s.policy.cluster=default",
            "k8s:helm.sh/chart=web-1.2.3",
            "any:other=1",
        ]
        .map(str::to_owned);
        let kind = Kind::read(&labels).unwrap();
        assert_eq!((kind.labels.len(), kind.title()), (1, Some("web")));
        assert_eq!(kind.selector("prod").yaml(), "matchLabels:\n  app: web\n");
        assert_eq!(
            kind.selector("staging").yaml(),
            "matchLabels:\n  app: web\n  k8s:io.kubernetes.pod.namespace: prod\n"
        );
        assert_eq!(Kind::read(&["reserved:host".to_owned()]), None);
    }
}
