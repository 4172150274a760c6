//! `matchLabels` and `matchExpressions` of a document.

use std::collections::BTreeSet;

use model::{Labels, Source};

use crate::selector::{LabelSelector, Operator, Requirement};
use crate::spec::fields::{At, Check};

/// A selector as it was written.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    /// `matchLabels`.
    pub labels: Vec<Requirement>,
    /// `matchExpressions`.
    pub expressions: Vec<Requirement>,
}

/// What the keys of labels begin with that Cilium leaves out of identities unless it is told
/// otherwise.
const LEFT_OUT: &[&str] = &[
    "annotation",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-completion-index",
    "controller-revision-hash",
    "controller-uid",
    "etcd_node",
    "io.kubernetes",
    "k8s.io",
    "kubernetes.io",
    "pod-template-generation",
    "pod-template-hash",
    "statefulset.kubernetes.io/pod-name",
    "topology.kubernetes.io",
];

impl Written {
    /// Warns of labels of pods that mean something here and nothing in Cilium.
    pub(super) fn warn_of_labels_left_out(&self, check: &mut Check, at: &At<'_>) {
        let is_left_out = |own: &&Requirement| {
            matches!(own.source, Source::Any | Source::Kubernetes)
                && !own.key.starts_with(Labels::NAMESPACE)
                && (LEFT_OUT.iter().any(|known| own.key.starts_with(known))
                    || own.key.contains("beta.kubernetes.io"))
        };
        if let Some(own) = self.labels.iter().chain(&self.expressions).find(is_left_out) {
            let message = format!(
                "asks for `{}`, which Cilium leaves out of pods' labels unless told otherwise: \
                 there no pod has it",
                own.key
            );
            check.warn(at, message);
        }
    }

    /// Warns of a selector of the world by a label that addresses there do not always have in Cilium.
    pub(super) fn warn_of_world(&self, check: &mut Check, at: &At<'_>) {
        let is_world = |own: &Requirement| own.source == Source::Reserved && own.key == "world";
        if self.labels.iter().chain(&self.expressions).any(is_world) {
            let message = "asks for `reserved:world`, which in Cilium no address has in a cluster of \
                           both IPv4 and IPv6, but `world-ipv4` or `world-ipv6`; `toEntities: \
                           [world]` means the same everywhere";
            check.warn(at, message);
        }
    }

    pub(super) fn into_selector(self) -> LabelSelector {
        self.labels.into_iter().chain(self.expressions).collect()
    }
}

/// How the keys of a selector may be written.
#[derive(Clone, Copy)]
enum Keys {
    /// With a source and a colon before, or without.
    Sourced,
    /// Without a source.
    Plain,
}

/// Reads a selector of what has labels of several sources.
pub(super) fn read(check: &mut Check, at: &At<'_>) -> Option<Written> {
    read_keys(check, at, Keys::Sourced)
}

/// Reads a selector of objects that have their own labels only.
pub(super) fn read_unsourced(check: &mut Check, at: &At<'_>) -> Option<Written> {
    read_keys(check, at, Keys::Plain)
}

fn read_keys(check: &mut Check, at: &At<'_>, keys: Keys) -> Option<Written> {
    let fields = check.fields(at, &["matchExpressions", "matchLabels"])?;
    let mut written = Written::default();
    if let Some(labels) = check.present(&fields, "matchLabels") {
        for (key, value) in check.entries(&labels)? {
            check_key(check, &value, key, keys);
            let Some(text) = check.text(&value) else { continue };
            check_value(check, &value, text);
            written.labels.push(Requirement::label(key, text));
        }
    }
    if let Some(expressions) = check.present(&fields, "matchExpressions") {
        for expression in check.list(&expressions)? {
            written.expressions.extend(requirement(check, &expression, keys));
        }
    }
    Some(written)
}

fn requirement(check: &mut Check, at: &At<'_>, keys: Keys) -> Option<Requirement> {
    let fields = check.fields(at, &["key", "operator", "values"])?;
    let (key, operator) = (check.present(&fields, "key"), check.present(&fields, "operator"));
    let (Some(key_at), Some(operator_at)) = (key, operator) else {
        check.problem(at, "key and operator must be set");
        return None;
    };
    let (key, operator) = (check.text(&key_at)?, check.text(&operator_at)?);
    check_key(check, &key_at, key, keys);
    let mut values = BTreeSet::new();
    if let Some(list) = check.present(&fields, "values") {
        for value in check.list(&list)? {
            let text = check.text(&value)?;
            check_value(check, &value, text);
            values.insert(text.to_owned());
        }
    }
    let operator = match (operator, values.is_empty()) {
        ("In", false) => Operator::In(values),
        ("NotIn", false) => Operator::NotIn(values),
        ("Exists", true) => Operator::Exists,
        ("DoesNotExist", true) => Operator::DoesNotExist,
        ("In" | "NotIn", true) => {
            check.problem(fields.at("values"), format!("{operator} needs at least one value"));
            return None;
        }
        ("Exists" | "DoesNotExist", false) => {
            check.problem(fields.at("values"), format!("{operator} takes no values"));
            return None;
        }
        _ => {
            let message = format!("`{operator}` is none of In, NotIn, Exists, DoesNotExist");
            check.problem(&operator_at, message);
            return None;
        }
    };
    Some(Requirement::new(key, operator))
}

/// Checks a label key. Cilium writes the source of its labels before it, with a dot between, and
/// takes what is a Kubernetes label key then: up to 59 characters where no source is named.
fn check_key(check: &mut Check, at: &At<'_>, key: &str, keys: Keys) {
    let (source, rest) = match (keys, key.split_once(':')) {
        (Keys::Plain, _) => ("cidrgroup", key),
        (Keys::Sourced, Some((source, rest))) => {
            (if source.is_empty() { "any" } else { source }, rest)
        }
        (Keys::Sourced, None) => ("any", key),
    };
    if !is_key(&format!("{source}.{rest}")) {
        check.problem(
            at,
            format!(
                "`{key}` is no label key: up to 59 letters, digits, `-`, `_`, `.`, the last one a \
                 letter or digit, perhaps with a domain and `/` before"
            ),
        );
    } else if !matches!(source, "any" | "cidrgroup" | "k8s" | "node" | "reserved") {
        check.warn(at, "has a label source that no label here comes from, so it is never there");
    }
}

/// Whether Kubernetes takes this for the key of a label.
fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((domain, name)) => is_name(name, 63) && is_domain(domain),
        None => is_name(key, 63),
    }
}

fn check_value(check: &mut Check, at: &At<'_>, value: &str) {
    if !value.is_empty() && !is_name(value, 63) {
        check.problem(
            at,
            format!(
                "`{value}` is no label value: up to 63 letters, digits, `-`, `_`, `.`, first and \
                 last a letter or digit"
            ),
        );
    }
}

/// Whether this is the name part of a label key.
fn is_name(text: &str, max: usize) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= max
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

/// Whether this is the domain part of a label key.
fn is_domain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            is_name(label, 253) && label.bytes().all(|b| !b.is_ascii_uppercase() && b != b'_')
        })
}
